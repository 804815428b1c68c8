"""Worker threads behind the loop: each takes what is meant for it from a bounded queue of its own."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from streamtrack.channel import Channel, ChannelClosed, Policy, Put
from streamtrack.clock import monotonic_ns
from streamtrack.errors import described
from streamtrack.latency import LatencyHistogram
from streamtrack.protocols import Sink
from streamtrack.sinks.revisions import joined
from streamtrack.types import FrameResult, Revision
from streamtrack.waiting import joined_within

T = TypeVar("T")

SINK_QUEUE = 64
"""Frames that may wait for a sink; at 100 frames/s it may pause for 0.6 s without harm."""
STUCK_S = 60.0
"""A worker that takes nothing for so long has failed."""
POLL_S = 0.5
"""How often a waiting worker, or a producer waiting for one, looks whether the world has changed."""


class Worker(ABC, Generic[T]):
    """A thread that takes items from a channel of its own until it is closed; an exception ends it and is kept."""

    def __init__(self, name: str, capacity: int, policy: Policy) -> None:
        self.name = name
        self.error: str | None = None
        self.busy = LatencyHistogram()
        self.dropped = 0
        self.channel: Channel[T] = Channel(capacity, policy, self._count_drop)
        self._thread = threading.Thread(target=self._run, name=f"streamtrack-{name}", daemon=True)

    def start(self) -> None:
        """Begin to take items."""
        self._thread.start()

    def offer(self, item: T) -> None:
        """Queue an item; with policy ``block`` wait for room, until the worker counts as stuck."""
        give_up_ns = monotonic_ns() + int(STUCK_S * 1e9)
        while self.channel.put(item, POLL_S) is Put.TIMED_OUT:
            if monotonic_ns() > give_up_ns:
                self._fail(TimeoutError(f"took nothing for {STUCK_S:g} s"))

    def finish(self, timeout_s: float, leave: Callable[[], bool] = lambda: False) -> None:
        """Let the worker empty its queue and finish; one that does not is named in ``error`` and left behind.

        It is also left behind as soon as ``leave()``.
        """
        self.channel.close()
        if not joined_within(self._thread, POLL_S if self.error else timeout_s, leave):
            self.error = self.error or ("left unfinished" if leave() else f"still busy after {timeout_s:g} s")
            self.channel.fail(self.error)

    @abstractmethod
    def handle(self, item: T) -> None:
        """Deal with one item."""

    def idle(self) -> None:
        """Run when nothing has come for a while."""

    def end(self) -> None:
        """Run once in the worker's thread after its last item, also after a failure."""

    def _run(self) -> None:
        try:
            self._drain()
        except Exception as error:
            self._fail(error)
        try:
            self.end()
        except Exception as error:
            self._fail(error)

    def _drain(self) -> None:
        while True:
            try:
                item = self.channel.get(POLL_S)
            except TimeoutError:
                self.idle()
                continue
            except ChannelClosed:
                return
            started = monotonic_ns()
            self.handle(item)
            self.busy.add(monotonic_ns() - started)

    def _fail(self, error: Exception) -> None:
        self.error = self.error or described(error)
        self.channel.fail(self.error)

    def _count_drop(self, item: T, cause: str) -> None:
        self.dropped += 1


class SinkWorker(Worker[FrameResult]):
    """Writes results; those that found its queue full are counted, and their revisions passed on with the next."""

    def __init__(self, name: str, sink: Sink, policy: Policy) -> None:
        super().__init__(name, SINK_QUEUE, policy)
        self.sink = sink
        self._owed: list[Revision] = []
        """What results that were dropped said of frames that were not."""

    def offer(self, item: FrameResult) -> None:
        """Queue a result, with the revisions of those that were dropped before it."""
        if self._owed:
            revised = joined([*self._owed, item.tracks.revised])
            item = replace(item, tracks=replace(item.tracks, revised=revised))
            self._owed.clear()
        super().offer(item)

    def _count_drop(self, item: FrameResult, cause: str) -> None:
        super()._count_drop(item, cause)
        if len(item.tracks.revised):
            self._owed.append(item.tracks.revised)

    def handle(self, item: FrameResult) -> None:
        """Write one result."""
        self.sink.write(item)

    def idle(self) -> None:
        """Have the sink write down what it holds."""
        self.sink.flush()

    def end(self) -> None:
        """Finish the files."""
        self.sink.close()

    def tell(self, report: Mapping[str, Any]) -> bool:
        """Tell the sink, in the caller's thread, how the run ended; return whether it failed."""
        try:
            self.sink.tell(report)  # type: ignore[attr-defined]
        except Exception as error:
            self._fail(error)
        return self.error is not None

    def outcome(self) -> dict[str, Any]:
        """Return what was written and what was not, for the report."""
        counts = self.channel.counts
        return {"frames": counts.got, "dropped": counts.dropped, "error": self.error, "critical": self.sink.critical}
