"""Tracks what a pymmcore-plus acquisition records, and lets triggers add events to it."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any

import useq
from numpy.typing import NDArray
from pydantic import ValidationError

from streamtrack.errors import MicroscopeError
from streamtrack_drivers.micromanager.tap import Tap

POLL_S = 0.02
MAX_ADDED = 10_000
"""Events that may wait at a time: what a rule adds faster than the camera can record is refused."""


class MdaTap(Tap):
    """A run that is fed by ``core.mda``.

    As in::

        with MdaTap("run.toml", out="results", core=core) as tap:
            core.run_mda(tap.events(useq.MDASequence(time_plan={"interval": 0, "loops": 1000})), block=True)

    Frames are handed over within ``frameReady`` and not copied; see `Tap` for the rest. An acquisition whose triggers
    add no events can be run as ever, ``core.run_mda(sequence)``; it then keeps its hardware sequences.

    Parameters
    ----------
    run, out, core, **settings
        As for `Tap`; the core is a ``CMMCorePlus``.
    only
        Says of an event whether its frames belong to the movie; by default all do.
    """

    def __init__(
        self, run: Any, out: Any, *, core: Any, only: Callable[[useq.MDAEvent], bool] | None = None, **settings: Any
    ) -> None:
        self._core, self._only = core, only
        self._added: SimpleQueue[useq.MDAEvent] = SimpleQueue()
        self._open = self._connected = False
        super().__init__(run, out, core=core, **settings)
        core.mda.events.frameReady.connect(self._on_frame)
        self._connected = True

    def events(self, initial: Iterable[useq.MDAEvent], hold_s: float = 1.0) -> Iterator[useq.MDAEvent]:
        """Yield the events to run: those that triggers add, as soon as they are there, and the initial ones between.

        Events that were added together are recorded as a burst, in a hardware sequence where the devices can.

        Parameters
        ----------
        initial
            The acquisition as it was planned, event by event.
        hold_s
            How long to wait for further events after the last one.
        """
        self._open = True
        try:
            for event in initial:
                yield from self._burst()
                yield event
            while self._wait_for_added(hold_s):
                yield from self._burst()
        finally:
            self._open = False

    def close(self) -> None:
        """As `Tap.close`; the core stays as it is."""
        if self._connected:
            self._connected = False
            self._core.mda.events.frameReady.disconnect(self._on_frame)
        super().close()

    def _on_frame(self, image: NDArray[Any], event: useq.MDAEvent, metadata: Mapping[str, Any]) -> None:
        tags = metadata.get("camera_metadata") or {}
        if self._only is None or self._only(event):
            self._push(image, tags)
        else:
            self._source.skip(tags)

    def _add_event(self, event: Mapping[str, Any]) -> None:
        if not self._open:
            cure = "start it with core.run_mda(tap.events(...)), and with a longer hold_s if it has ended already"
            raise MicroscopeError(f"the acquisition takes no events: {cure}")
        if self._added.qsize() >= MAX_ADDED:
            raise MicroscopeError(f"{MAX_ADDED} added events wait already: the rule adds them faster than they can run")
        try:
            self._added.put(useq.MDAEvent(**event))
        except ValidationError as error:
            raise MicroscopeError(f"not an event: {error.errors()[0]['msg']}") from error

    def _burst(self) -> Iterator[useq.MDAEvent]:
        together = [self._added.get() for _ in range(self._added.qsize())]
        engine = self._core.mda.engine
        yield from engine.event_iterator(together)

    def _wait_for_added(self, hold_s: float) -> bool:
        """Wait until an event was added; False if none came in time, or the acquisition was cancelled."""
        give_up = time.monotonic() + hold_s
        while self._added.empty():
            if time.monotonic() > give_up or not self._core.mda.is_running():
                return False
            time.sleep(POLL_S)
        return True
