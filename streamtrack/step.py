"""What happens to one frame: detect, link, measure, decide. No threads, no files: the definition of truth.

Live runs and replays call the same step; given the same frames it returns the same results.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtrack.clock import Clock, monotonic_ns
from streamtrack.errors import EngineError
from streamtrack.measures.tracks import TrackMeasures
from streamtrack.protocols import Engine, Linker, Measure, ToldShifts
from streamtrack.search_area import SearchArea, mask_unseen
from streamtrack.stage_moves import Expected, StageWatch, known
from streamtrack.triggers.rule import Rule
from streamtrack.triggers.view import TrackViews
from streamtrack.types import Command, Detections, Frame, FrameResult, Pixels, Stamps, TrackUpdate, Values


class Found(NamedTuple):
    """What an engine found in a frame.

    Attributes
    ----------
    pixels, masked_pixels
        What the engine was shown (`mask_unseen`).
    began_ns
        When it was.
    """

    pixels: Pixels
    masked_pixels: int
    detections: Detections
    denoised: NDArray[np.float32] | None
    began_ns: int


class Detector:
    """Shows frame after frame to an engine, which is reset wherever one does not follow the one before."""

    def __init__(self, engine: Engine, clock: Clock = monotonic_ns) -> None:
        self._engine, self._clock = engine, clock
        self._next_index: int | None = None

    def __call__(self, frame: Frame, *, denoise: bool) -> Found:
        """Return what is in a frame; errors of the engine pass through."""
        began = self._clock()
        pixels, masked_pixels = mask_unseen(frame.pixels)
        if frame.index != self._next_index:
            self._engine.reset()
        detections, denoised = self._engine.detect(pixels, denoise=denoise)
        self._next_index = frame.index + 1
        return Found(pixels, masked_pixels, detections, denoised, began)


class Step:
    """Take frames in order; return what became of each.

    Parameters
    ----------
    engine, linker
        Already prepared for the source's frames. An engine with a method ``see`` has seen them elsewhere: it is asked
        for what a `Detector` would return.
    rules
        Prepared, too. Asked in order.
    wants_denoised
        Tells whether anyone needs the denoised image of the frame of this index.
    measures
        By name; already prepared.
    area
        Where particles are looked for, by default everywhere.
    stage
        What is known of the stage, where the run moves it or frames say where it is.
    """

    def __init__(
        self,
        engine: Engine,
        linker: Linker,
        rules: Sequence[Rule] = (),
        wants_denoised: Callable[[int], bool] = lambda index: False,
        clock: Clock = monotonic_ns,
        measures: Mapping[str, Measure] = MappingProxyType({}),
        area: SearchArea | None = None,
        stage: StageWatch | None = None,
    ) -> None:
        self._see: Callable[..., Found] = getattr(engine, "see", None) or Detector(engine, clock)
        self._columns, self._frame_columns = names_declared(engine)
        self._measures = TrackMeasures(measures) if measures else None
        self._linker = linker
        self._area = area
        self._stage = stage
        self._rules = tuple(rules)
        shown = {(rule.confirmed, rule.where) for rule in rules}
        self._views = {(confirmed, where): TrackViews(confirmed=confirmed, where=where) for confirmed, where in shown}
        self._wants_denoised = wants_denoised
        self._clock = clock

    def __call__(self, frame: Frame) -> FrameResult:
        """Detect, link, measure and decide; errors of the plug-ins pass through."""
        pixels, masked_pixels, detections, denoised, dequeued = self._see(
            frame, denoise=self._wants_denoised(frame.index)
        )
        detected = self._clock()
        if detections.extra.keys() != self._columns or detections.frame_values.keys() != self._frame_columns:
            self._refuse(detections)
        if self._area is not None:
            detections = self._area.of(detections)
        of_stage: Values = {} if self._stage is None else self._expect(self._stage.at(frame))
        tracks = self._linker.update(detections, frame.index, frame.time_s)
        if tracks.parent is not None or tracks.z_um is not None:
            said = {"parent": tracks.parent, "z_smoothed_um": tracks.z_um}
            extra: dict[str, Any] = {**detections.extra, **{k: v for k, v in said.items() if v is not None}}
            detections = replace(detections, extra=extra)
        linked = measured = self._clock()
        if self._measures is not None:
            detections = self._measures.add(pixels, detections, tracks)
            measured = self._clock()
        values = {**frame.values, **of_stage, **detections.frame_values}
        commands = self._decide(frame, detections, tracks, values) if self._rules else ()
        stamps = Stamps(frame.grabbed_ns, dequeued, detected, linked, measured, self._clock())
        return FrameResult(frame, detections, tracks, commands, stamps, denoised, masked_pixels, values)

    def _expect(self, expected: Expected) -> Values:
        """Tell the linker how far the image went with the stage; return where that is."""
        if isinstance(self._linker, ToldShifts):
            self._linker.expect_shift(expected.shift_px, expected.possible_px)
        return known(expected.stage_um)

    def _decide(self, frame: Frame, detections: Detections, tracks: TrackUpdate, values: Values) -> tuple[Command, ...]:
        views = {shown: view.of(detections, tracks, values) for shown, view in self._views.items()}
        commands: list[Command] = []
        for rule in self._rules:
            commands.extend(rule.commands(frame, views[rule.confirmed, rule.where], self._clock()))
        return tuple(commands)

    def _refuse(self, detections: Detections) -> None:
        """Raise EngineError: tables and rules would miss what the engine said, or find something else."""
        given = sorted([*detections.extra, *detections.frame_values])
        declared = sorted(self._columns | self._frame_columns)
        raise EngineError(f"the engine gave the columns {given}, but declares {declared} in columns and frame_columns")


def names_declared(engine: Engine) -> tuple[set[str], set[str]]:
    """Return the names of what an engine measures of each detection, and of each frame."""
    columns, frame_columns = (getattr(engine, name, ()) for name in ("columns", "frame_columns"))
    return {column.name for column in columns}, {column.name for column in frame_columns}
