"""What happens to one frame: detect, link, decide. No threads, no files: the definition of truth.

Live runs and replays call the same step; given the same frames it returns the same results.
"""

from collections.abc import Callable, Sequence

import numpy as np

from streamtrack.clock import Clock, monotonic_ns
from streamtrack.protocols import Engine, Linker
from streamtrack.triggers.rule import Rule
from streamtrack.triggers.view import TrackViews
from streamtrack.types import Command, Detections, Frame, FrameResult, Pixels, Stamps, TrackUpdate


class Step:
    """Take frames in order; return what became of each.

    Parameters
    ----------
    engine, linker
        Already prepared for the source's frames. The engine is reset wherever a frame does not follow the one before.
    rules
        Asked in order.
    wants_denoised
        Tells whether anyone needs the denoised image of the frame of this index.
    """

    def __init__(
        self,
        engine: Engine,
        linker: Linker,
        rules: Sequence[Rule] = (),
        wants_denoised: Callable[[int], bool] = lambda index: False,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._engine = engine
        self._linker = linker
        self._rules = tuple(rules)
        self._views = {confirmed: TrackViews(confirmed=confirmed) for confirmed in {rule.confirmed for rule in rules}}
        self._wants_denoised = wants_denoised
        self._clock = clock
        self._next_index: int | None = None

    def __call__(self, frame: Frame) -> FrameResult:
        """Detect, link and decide; errors of the plug-ins pass through."""
        dequeued = self._clock()
        pixels, masked_pixels = mask_non_finite(frame.pixels)
        if frame.index != self._next_index:
            self._engine.reset()
        detections, denoised = self._engine.detect(pixels, denoise=self._wants_denoised(frame.index))
        detected = self._clock()
        self._next_index = frame.index + 1
        tracks = self._linker.update(detections, frame.index, frame.time_s)
        linked = self._clock()
        commands = self._decide(frame, detections, tracks) if self._rules else ()
        stamps = Stamps(frame.grabbed_ns, dequeued, detected, linked, self._clock())
        return FrameResult(frame, detections, tracks, commands, stamps, denoised, masked_pixels)

    def _decide(self, frame: Frame, detections: Detections, tracks: TrackUpdate) -> tuple[Command, ...]:
        views = {confirmed: view.of(detections, tracks) for confirmed, view in self._views.items()}
        commands: list[Command] = []
        for rule in self._rules:
            commands.extend(rule.commands(frame, views[rule.confirmed], self._clock()))
        return tuple(commands)


def mask_non_finite(pixels: Pixels) -> tuple[Pixels, int]:
    """Replace NaN and infinite pixels by the mean of the others, or by 0 where there are none.

    Returns the image, copied only when something had to be replaced, and how many pixels were.
    """
    if pixels.dtype != np.float32 or np.isfinite(pixels).all():
        return pixels, 0
    finite = np.isfinite(pixels)
    mean = pixels[finite].mean(dtype=np.float64) if finite.any() else 0.0
    return np.where(finite, pixels, np.float32(mean)), int(finite.size - np.count_nonzero(finite))
