"""The linker of streamtrack: online, one frame at a time, nothing to tune."""

from collections.abc import Mapping
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError, LinkerError
from streamtrack.linking.assignment import NONE, assign
from streamtrack.linking.calibration import MotionCalibration, RunningMean
from streamtrack.linking.gating import candidates, empty_grid
from streamtrack.linking.imm_filter import MODELS, Floats, Motion, Rates, correct, gains, gates, predict
from streamtrack.linking.track_table import TrackTable
from streamtrack.types import Detections, TrackUpdate

FALSE_FRACTION, LIFETIME_FRAMES = 0.05, 50.0
"""Share of false detections, and how long particles stay in view. No settings: links hardly depend on them."""

CROWD_MEMORY_FRAMES = 20.0
"""The density of detections is a mean over about this many frames, or that of this frame where it is higher."""

LEAST_EXISTENCE = 0.003
"""A track less probable than this is given up."""


class ImmLinker:
    """Links by motion-model filters, probabilities of existence and a sparse optimal assignment.

    Every track follows its particle with three motion models (Brownian, directed, tethered). A detection is linked
    where that is more probable than a new particle or a false detection, all detections of a frame at once. So
    there is no search range to choose. The Brownian step, the share of each motion model and the density of
    detections are learnt from the movie. Steps are counted in frames, by ``frame_index``; lost frames are predicted
    across.

    Parameters
    ----------
    detection_probability
        Probability that a particle is detected in a frame.
    localisation_px
        Standard deviation of a detection's position per axis.
    step_px
        Brownian step per frame and axis; None to learn it.
    max_misses
        A track ends when its particle was not seen in more than this many frames in a row, lost frames included.

    Raises
    ------
    ConfigError
        A setting is out of its range.

    Notes
    -----
    Sources: :mod:`streamtrack.linking.imm_filter`, :mod:`streamtrack.linking.assignment`.
    """

    def __init__(
        self,
        *,
        detection_probability: float = 0.95,
        localisation_px: float = 0.3,
        step_px: float | None = None,
        max_misses: int = 3,
    ) -> None:
        _check("detection_probability", detection_probability, 0 < detection_probability < 1, "between 0 and 1")
        _check("localisation_px", localisation_px, 0 < localisation_px < np.inf, "finite and above 0")
        _check("step_px", step_px, step_px is None or 0 < step_px < np.inf, "finite and above 0, or left out")
        _check("max_misses", max_misses, max_misses >= 0, "0 or more")
        self._detection_probability = detection_probability
        self._localisation_px = localisation_px
        self._step_px = step_px
        self._max_misses = max_misses
        self._start_over((0, 0))

    def _start_over(self, shape: tuple[int, int]) -> None:
        self._area_px = shape[0] * shape[1]
        self._cells = empty_grid(shape)
        self._tracks = TrackTable()
        self._calibration = MotionCalibration(self._step_px, self._localisation_px)
        self._crowd = RunningMean(0.0, 0.0, CROWD_MEMORY_FRAMES)
        self._last_index: int | None = None
        self._ignored = 0

    @property
    def info(self) -> Mapping[str, Any]:
        """Settings, what was learnt so far, and how many detections were ignored for a coordinate not finite."""
        return {
            "linker": "imm",
            "numba": numba.__version__,
            "detection_probability": self._detection_probability,
            "localisation_px": self._localisation_px,
            "step_px": self._step_px,
            "max_misses": self._max_misses,
            "learnt_step_px": self._calibration.step_px,
            "learnt_speed_px": self._calibration.speed_px,
            "learnt_motion": dict(zip(MODELS, self._calibration.prior.tolist(), strict=True)),
            "ignored_detections": self._ignored,
        }

    def prepare(self, shape: tuple[int, int]) -> None:
        """Make ready for frames of (H, W) px: compile what is not compiled yet, forget everything from before."""
        self._start_over(shape)
        position = np.array([0.0], np.float32)
        for index in range(2):
            self.update(Detections(position, position, position, position), index, float(index))
        self._start_over(shape)

    def update(self, detections: Detections, frame_index: int, time_s: float) -> TrackUpdate:
        """Link the detections of the next frame.

        Parameters
        ----------
        detections
            Anywhere, also outside the image. Those with a coordinate that is not finite get no track and are counted.
        frame_index
            Rises; a gap means frames without information.
        time_s
            Not used: steps are counted in frames.

        Raises
        ------
        LinkerError
            ``frame_index`` does not rise, or ``prepare`` was not called.
        """
        steps = self._steps_to(frame_index)
        usable = np.flatnonzero(np.isfinite(detections.y) & np.isfinite(detections.x))
        self._ignored += len(detections) - len(usable)
        rates, motion = self._rates(len(usable)), self._calibration.motion
        skipped = self._skip(steps - 1)
        detection_of = self._follow(
            detections.y[usable].astype(np.float64), detections.x[usable].astype(np.float64), steps, motion, rates
        )

        tracks = self._tracks.live
        particle = np.full(len(detections), NONE, np.int64)
        existence = np.zeros(len(detections), np.float32)
        linked = detection_of != NONE
        known = usable[detection_of[linked]]
        particle[known], existence[known] = tracks["particle"][linked], tracks["existence"][linked]
        given_up = self._tracks.end((tracks["misses"] > self._max_misses) | (tracks["existence"] < LEAST_EXISTENCE))
        new = usable[particle[usable] == NONE]
        existence[new] = first = rates.birth / (rates.birth + rates.clutter)
        particle[new] = self._tracks.start(detections.y[new], detections.x[new], motion, first)
        return TrackUpdate(particle, existence, np.concatenate((skipped, given_up)), len(self._tracks.live))

    def _steps_to(self, frame_index: int) -> int:
        """Return how many frames on this one is; 1 for the first."""
        if not self._area_px:
            raise LinkerError("the linker does not know the frames' size: call prepare(shape) before update()")
        last, self._last_index = self._last_index, frame_index
        if last is None:
            return 1
        if frame_index <= last:
            self._last_index = last
            raise LinkerError(
                f"frame {frame_index} came after frame {last}: frame indices must rise; a new movie needs a new linker"
            )
        return frame_index - last

    def _rates(self, n_detections: int) -> Rates:
        """Take in how many detections there are, and return what happens how often."""
        self._crowd.add(n_detections, 1.0)
        density = max(float(self._crowd.value), n_detections, 1.0) / self._area_px
        return Rates(
            detection=self._detection_probability,
            survival=1.0 - 1.0 / LIFETIME_FRAMES,
            clutter=FALSE_FRACTION * density,
            birth=(1.0 - FALSE_FRACTION) * density / LIFETIME_FRAMES,
        )

    def _skip(self, lost: int) -> NDArray[np.int64]:
        """Count lost frames as misses, and return the ids of the tracks that end thereby."""
        if not lost:
            return np.empty(0, np.int64)
        self._tracks.live["misses"] += lost
        return self._tracks.end(self._tracks.live["misses"] > self._max_misses)

    def _follow(self, y: Floats, x: Floats, steps: int, motion: Motion, rates: Rates) -> NDArray[np.int64]:
        """Carry the live tracks on to this frame's detections; return the detection of each, -1 where it has none."""
        tracks = self._tracks.live
        predict(tracks, motion, rates.survival, steps)
        start, detection = candidates(gates(tracks, motion, rates), y, x, self._cells)
        gain = gains(tracks, motion, rates, start, detection, y, x)
        detection_of = assign(start, detection, gain, len(y))
        self._calibration.learn(correct(tracks, motion, rates, detection_of, y, x))
        return detection_of


def _check(name: str, value: float | None, in_range: bool, wanted: str) -> None:
    if not in_range:
        raise ConfigError(f"{name} is {value}: it must be {wanted}")
