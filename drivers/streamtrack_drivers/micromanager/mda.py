"""Tracks what a pymmcore-plus acquisition records, and lets triggers add events to it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any

import useq
from numpy.typing import NDArray
from pydantic import ValidationError

from streamtrack.errors import MicroscopeError, SourceError, described
from streamtrack.stage_moves import STAGE_COLUMNS, known
from streamtrack.types import Column
from streamtrack_drivers.micromanager.streams import Labels, Stream, Where, camera
from streamtrack_drivers.micromanager.tap import Tap

POLL_S = 0.02
MAX_ADDED = 10_000
"""Events that may wait at a time: what a rule adds faster than the camera can record is refused."""
PLAN_S = 0.1
"""How long an acquisition is looked through before it begins."""


class MdaTap(Tap):
    """A run that is fed by ``core.mda``.

    As in::

        with MdaTap("run.toml", out="results", core=core) as tap:
            core.run_mda(tap.events(useq.MDASequence(time_plan={"interval": 0, "loops": 1000})), block=True)

    Frames are handed over within ``frameReady`` and not copied; see `Tap` for the rest. An acquisition whose triggers
    add no events can be run as ever, ``core.run_mda(sequence)``; it then keeps its hardware sequences.

    Frames have to be of one stream, chosen with ``only={"c": "GFP", "p": 0, "z": 0}`` where there are several. Events
    without an index belong to different streams when they set different channels or positions; those that triggers add
    may go elsewhere, and so may yours with an index: ``useq.MDAEvent(index={"t": 3}, x_pos=120)``.

    Parameters
    ----------
    run, out, core, **settings
        As for `Tap`; the core is a ``CMMCorePlus``, and a function given as ``only`` is asked about the MDAEvent.
    """

    def __init__(self, run: Any, out: Any, *, core: Any, **settings: Any) -> None:
        self._core = core
        self._added: SimpleQueue[useq.MDAEvent] = SimpleQueue()
        self._open = self._connected = False
        super().__init__(run, out, core=core, **settings)
        _connect(core.mda.events, "sequenceStarted", self._on_start)
        _connect(core.mda.events, "frameReady", self._on_frame)
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
        if isinstance(initial, useq.MDASequence):
            self._on_start(initial)
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
            self._core.mda.events.sequenceStarted.disconnect(self._on_start)
            self._core.mda.events.frameReady.disconnect(self._on_frame)
        super().close()

    def _frame_columns(self, core: Any) -> tuple[Column, ...]:
        return STAGE_COLUMNS if core.getXYStageDevice() else ()

    def _on_start(self, sequence: useq.MDASequence, _metadata: object = None) -> None:
        planned = bool(sequence.axis_order)
        self._source.begin(planned=planned)
        if not planned:
            return  # the stand-in for events that come one by one
        try:
            cameras = _cameras(self._core)
            whole = not any(position.sequence for position in sequence.stage_positions)
            self._one.plan({**_axes(sequence), "camera": cameras}, _streams(sequence, cameras), complete=whole)
        except SourceError as error:
            self._source.fail(str(error))
        except Exception as error:  # an exception here would end the acquisition
            self._source.fail(f"the acquisition cannot be read, {described(error)}")

    def _on_frame(self, image: NDArray[Any], event: useq.MDAEvent, metadata: Mapping[str, Any]) -> None:
        tags, place = metadata.get("camera_metadata") or {}, metadata.get("position") or {}
        values = known((place.get("x", math.nan), place.get("y", math.nan)))
        self._source.push(image, tags, _where(event, metadata), event, values)

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


def _connect(events: Any, name: str, slot: Callable[..., None]) -> None:
    """Have a slot called at once, where it is emitted: in a program with a window Qt would wait until that has time."""
    signal = getattr(events, name)
    if hasattr(events, "moveToThread"):  # a QObject
        from qtpy.QtCore import Qt

        signal.connect(slot, Qt.ConnectionType.DirectConnection)
    else:
        signal.connect(slot)


def _cameras(core: Any) -> list[Labels]:
    return [camera(n, core.getPhysicalCameraDevice(n)) for n in range(core.getNumberOfCameraChannels())]


def _axes(sequence: useq.MDASequence) -> dict[str, list[Labels]]:
    """Return what a plan has along each axis but time; what positions plan for themselves is left out."""
    sizes = {str(axis): size for axis, size in sequence.sizes.items() if size and axis != "t"}
    axes: dict[str, list[Labels]] = {axis: [(n,) for n in range(size)] for axis, size in sizes.items()}
    if "c" in axes:
        axes["c"] = [(each.config, n) for n, each in enumerate(sequence.channels)]
    if "p" in axes:
        axes["p"] = [(n, each.name) if each.name else (n,) for n, each in enumerate(sequence.stage_positions)]
    return axes


def _streams(sequence: useq.MDASequence, cameras: list[Labels]) -> Iterator[Stream]:
    """Yield the streams of one time point, as many as can be had in a short time."""
    give_up = time.monotonic() + PLAN_S
    for event in sequence.replace(time_plan=None):
        if time.monotonic() > give_up:
            return
        if event.action.type == "acquire_image":
            yield from ({**_stream(event), "camera": each} for each in cameras)


def _stream(event: useq.MDAEvent) -> dict[str, Labels]:
    stream: dict[str, Labels] = {str(axis): (at,) for axis, at in event.index.items() if axis not in ("t", "cam")}
    if not stream and "t" not in event.index and "streamtrack" not in event.metadata:
        stream = _place_um(event)
    if event.channel is not None:
        stream["c"] = (event.channel.config, *stream.get("c", ()))
    if event.pos_name:
        stream["p"] = (*stream.get("p", ()), event.pos_name)
    return stream


def _place_um(event: useq.MDAEvent) -> dict[str, Labels]:
    """Return where an event without an index goes: what it does not set stays as it is."""
    xy = [f"{axis} = {at:g}" for axis, at in (("x", event.x_pos), ("y", event.y_pos)) if at is not None]
    place: dict[str, Labels] = {"p": (", ".join(xy),)} if xy else {}
    return place if event.z_pos is None else {**place, "z": (f"{event.z_pos:g} um",)}


def _where(event: useq.MDAEvent, metadata: Mapping[str, Any]) -> Where:
    index = event.index
    t = index["t"] // _every(event) if "t" in index else None
    stream = {**_stream(event), "camera": camera(index.get("cam", 0), metadata.get("camera_device"))}
    # In hardware sequences it is made of the camera's ElapsedTime-ms, which is worse than the core's stamp.
    taken_ms = None if metadata.get("hardware_triggered") else metadata.get("runner_time_ms")
    return Where(stream, t, not index.keys() - {"cam"}, None if taken_ms is None else taken_ms / 1e3)


def _every(event: useq.MDAEvent) -> int:
    """Return how many time points there are for one of the event's channel."""
    if event.sequence is None or event.channel is None:
        return 1
    config = event.channel.config
    return next((channel.acquire_every for channel in event.sequence.channels if channel.config == config), 1)
