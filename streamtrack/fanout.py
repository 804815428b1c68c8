"""Carries results to sinks and commands to actuators, one worker thread each, so that none of them stalls the loop."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from streamtrack.channel import Channel, ChannelClosed, Policy, Put
from streamtrack.clock import Clock, monotonic_ns
from streamtrack.errors import SinkError
from streamtrack.metrics.latency import LatencyHistogram
from streamtrack.protocols import Actuator, Sink
from streamtrack.sinks.revisions import joined
from streamtrack.types import Command, FrameResult, Revision, SourceInfo

T = TypeVar("T")

SINK_QUEUE = 64
"""Frames that may wait for a sink; at 100 frames/s it may pause for 0.6 s without harm."""
COMMAND_QUEUE = 256
STUCK_S = 60.0
"""A worker that takes nothing for so long has failed."""
POLL_S = 0.5
"""How often a waiting worker, or a producer waiting for one, looks whether the world has changed."""


class _Worker(ABC, Generic[T]):
    """A thread that takes items from a channel of its own until it is closed; an exception ends it and is kept."""

    def __init__(self, name: str, capacity: int, policy: Policy) -> None:
        self.name = name
        self.error: str | None = None
        self.busy = LatencyHistogram()
        self.dropped = 0
        self.channel: Channel[T] = Channel(capacity, policy, self._count_drop)
        self._thread = threading.Thread(target=self._run, name=f"streamtrack-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, item: T) -> None:
        """Queue an item; with policy ``block`` wait for room, until the worker counts as stuck."""
        give_up_ns = monotonic_ns() + int(STUCK_S * 1e9)
        while self.channel.put(item, POLL_S) is Put.TIMED_OUT:
            if monotonic_ns() > give_up_ns:
                self._fail(TimeoutError(f"took nothing for {STUCK_S:g} s"))

    def finish(self, timeout_s: float) -> None:
        """Let the worker empty its queue and finish; one that does not is named in ``error`` and left behind."""
        self.channel.close()
        self._thread.join(POLL_S if self.error else timeout_s)
        if self._thread.is_alive():
            self.error = self.error or f"still busy after {timeout_s:g} s"
            self.channel.fail(self.error)

    @abstractmethod
    def handle(self, item: T) -> None: ...

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
                continue
            except ChannelClosed:
                return
            started = monotonic_ns()
            self.handle(item)
            self.busy.add(monotonic_ns() - started)

    def _fail(self, error: Exception) -> None:
        self.error = self.error or f"{type(error).__name__}: {error}"
        self.channel.fail(self.error)

    def _count_drop(self, item: T, cause: str) -> None:
        self.dropped += 1


class _SinkWorker(_Worker[FrameResult]):
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
        self.sink.write(item)

    def end(self) -> None:
        self.sink.close()

    def outcome(self) -> dict[str, Any]:
        counts = self.channel.counts
        return {"frames": counts.got, "dropped": counts.dropped, "error": self.error, "critical": self.sink.critical}


class _ActuatorWorker(_Worker[Command]):
    def __init__(self, name: str, actuator: Actuator, armed: bool, clock: Clock) -> None:
        super().__init__(name, COMMAND_QUEUE, Policy.DROP_NEWEST)
        self._actuator = actuator
        self._armed = armed
        self._clock = clock
        self.sent = self.stale = self.recorded = self.failed = 0
        self.last_failure: str | None = None
        self.latency = LatencyHistogram()

    def handle(self, item: Command) -> None:
        if not self._armed:
            self.recorded += 1
        elif self._clock() > item.valid_until_ns:
            self.stale += 1
        else:
            self._send(item)

    def end(self) -> None:
        self._actuator.close()

    def _send(self, command: Command) -> None:
        """Send one command; one that fails is counted and does not keep the next from being tried."""
        try:
            self._actuator.execute(command)
        except Exception as error:
            self.failed += 1
            self.last_failure = f"{type(error).__name__}: {error}"
            return
        self.sent += 1
        self.latency.add(self._clock() - command.decided_ns)

    def outcome(self) -> dict[str, Any]:
        return {
            "armed": self._armed,
            "sent": self.sent,
            "recorded": self.recorded,
            "stale": self.stale,
            "failed": self.failed,
            "dropped": self.dropped,
            "error": self.error or self.last_failure,
            "decided_to_done_ms": self.latency.summary_ms(),
        }


class Fanout:
    """The workers of all sinks and actuators of a run.

    Parameters
    ----------
    lossless
        Replay: a full sink makes the loop wait, so that every result is written. Live: the sink loses the result,
        and the loss is counted.
    armed
        Whether commands are sent; otherwise they are only counted.
    """

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        actuators: Mapping[str, Actuator],
        *,
        lossless: bool,
        armed: bool,
        clock: Clock = monotonic_ns,
    ) -> None:
        policy = Policy.BLOCK if lossless else Policy.DROP_NEWEST
        self._sinks = {name: _SinkWorker(name, sink, policy) for name, sink in sinks.items()}
        self._actuators = {name: _ActuatorWorker(name, a, armed, clock) for name, a in actuators.items()}
        self.unrouted = 0
        """Commands for an actuator that the run does not have."""

    def start(self, folder: Path, source: SourceInfo) -> None:
        """Open every sink, then start the workers; raises SinkError where a sink cannot open."""
        opened: list[Sink] = []
        try:
            for sink_worker in self._sinks.values():
                sink_worker.sink.open(folder, source)
                opened.append(sink_worker.sink)
        except OSError as error:
            raise SinkError(f"sink {sink_worker.name!r} cannot write into {folder}: {error}") from error
        finally:
            if len(opened) < len(self._sinks):
                for sink in opened:
                    sink.close()
        for worker in self._workers():
            worker.start()

    def wants_denoised(self, frame_index: int) -> bool:
        """Return whether any sink needs this frame's denoised image."""
        return any(worker.sink.wants_denoised(frame_index) for worker in self._sinks.values())

    def publish(self, result: FrameResult) -> None:
        """Hand commands to their actuators, then the result to every sink."""
        for command in result.commands:
            if command.actuator in self._actuators:
                self._actuators[command.actuator].offer(command)
            else:
                self.unrouted += 1
        for worker in self._sinks.values():
            worker.offer(result)

    def finish(self, timeout_s: float) -> None:
        """Let every worker finish what it was given; actuators, which make the hardware safe, come first."""
        for worker in self._workers():
            worker.finish(timeout_s)

    def _workers(self) -> "list[_Worker[Command] | _Worker[FrameResult]]":
        return [*self._actuators.values(), *self._sinks.values()]

    @property
    def critical_failure(self) -> str | None:
        """What broke the run: the first critical sink that failed, or None."""
        for worker in self._sinks.values():
            if worker.sink.critical and worker.error:
                return f"sink {worker.name!r} failed: {worker.error}"
        return None

    def outcome(self) -> dict[str, Any]:
        """Return the counters of every sink and actuator, for the report."""
        return {
            "sinks": {name: worker.outcome() for name, worker in self._sinks.items()},
            "actuators": {name: worker.outcome() for name, worker in self._actuators.items()},
            "unrouted_commands": self.unrouted,
            "write_ms": {name: worker.busy.summary_ms() for name, worker in self._sinks.items()},
        }
