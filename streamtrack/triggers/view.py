"""Which tracks triggers see."""

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from streamtrack.triggers.conditions import Condition
from streamtrack.types import CONFIRMED, Detections, LiveTracks, TrackMotion, TrackUpdate, Values

NONE_SAID: Values = MappingProxyType({})


class TrackViews:
    """Frame by frame, the tracks that have a detection.

    Parameters
    ----------
    confirmed
        Leave out tracks that are not confirmed, or not any more, in this frame.
    where
        Leave out tracks of which one of these does not hold in this frame.
    """

    def __init__(self, *, confirmed: bool, where: tuple[Condition, ...] = ()) -> None:
        self._least_existence = CONFIRMED if confirmed else 0.0
        self._where = where
        self._seen: set[int] | None = set() if confirmed or where else None

    def of(self, detections: Detections, update: TrackUpdate, frame_values: Values = NONE_SAID) -> LiveTracks:
        """Return the tracks of a frame; frames come in order."""
        measured = {"mass": detections.mass, "score": detections.score, "sigma": detections.sigma, **detections.extra}
        is_shown = (update.particle >= 0) & (update.existence >= self._least_existence)
        for condition in self._where:
            is_shown &= condition.holds(measured, frame_values)
        rows = np.flatnonzero(is_shown)
        particle = update.particle[rows]
        appeared, ended = update.started, update.ended
        if self._seen is not None:
            appeared = _came(self._seen, particle) if self._where else update.confirmed
            ended = _went(self._seen, appeared, ended)
        return LiveTracks(
            particle,
            detections.y[rows],
            detections.x[rows],
            update.existence[rows],
            appeared,
            ended,
            None if update.motion is None else _motion(update.motion, rows),
            {name: values[rows] for name, values in measured.items()},
            frame_values,
        )


def only(tracks: LiveTracks, particle: int | None) -> LiveTracks:
    """Return one of a frame's tracks, or none."""
    wanted = -1 if particle is None else particle
    rows = np.flatnonzero(tracks.particle == wanted)
    return LiveTracks(
        tracks.particle[rows],
        tracks.y[rows],
        tracks.x[rows],
        tracks.existence[rows],
        tracks.appeared[tracks.appeared == wanted],
        tracks.ended[tracks.ended == wanted],
        None if tracks.motion is None else _motion(tracks.motion, rows),
        {name: values[rows] for name, values in tracks.values.items()},
        tracks.frame_values,
    )


def _came(seen: set[int], particle: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the tracks that are shown for the first time."""
    return np.array([each for each in particle.tolist() if each not in seen], np.int64)


def _went(seen: set[int], appeared: NDArray[np.int64], ended: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep the set of tracks that were shown and live; return those of them that ended."""
    seen.update(appeared.tolist())
    gone = [particle for particle in ended.tolist() if particle in seen]
    seen.difference_update(gone)
    return np.array(gone, np.int64)


def _motion(motion: TrackMotion, rows: NDArray[np.intp]) -> TrackMotion:
    return TrackMotion(
        motion.age_frames[rows],
        motion.displacement_px[rows],
        motion.velocity_px_s.take(rows, axis=0),  # several times as fast as an index where there are columns
        motion.modes.take(rows, axis=0),
        motion.diffusion_px2_s[rows],
    )
