"""Which tracks triggers see."""

import numpy as np
from numpy.typing import NDArray

from streamtrack.types import CONFIRMED, Detections, LiveTracks, TrackMotion, TrackUpdate


class TrackViews:
    """Frame by frame, the tracks that have a detection.

    Parameters
    ----------
    confirmed
        Leave out tracks that are not confirmed, or not any more, in this frame.
    """

    def __init__(self, *, confirmed: bool) -> None:
        self._least_existence = CONFIRMED if confirmed else 0.0
        self._confirmed: set[int] | None = set() if confirmed else None

    def of(self, detections: Detections, update: TrackUpdate) -> LiveTracks:
        """Return the tracks of a frame; frames come in order."""
        rows = np.flatnonzero((update.particle >= 0) & (update.existence >= self._least_existence))
        appeared, ended = update.started, update.ended
        if self._confirmed is not None:
            appeared, ended = update.confirmed, _were_in(self._confirmed, update)
        return LiveTracks(
            update.particle[rows],
            detections.y[rows],
            detections.x[rows],
            update.existence[rows],
            appeared,
            ended,
            None if update.motion is None else _motion(update.motion, rows),
        )


def _were_in(confirmed: set[int], update: TrackUpdate) -> NDArray[np.int64]:
    """Keep the set of confirmed tracks that live; return those of them that ended."""
    confirmed.update(update.confirmed.tolist())
    ended = [particle for particle in update.ended.tolist() if particle in confirmed]
    confirmed.difference_update(ended)
    return np.array(ended, np.int64)


def _motion(motion: TrackMotion, rows: NDArray[np.intp]) -> TrackMotion:
    return TrackMotion(
        motion.age_frames[rows],
        motion.displacement_px[rows],
        motion.velocity_px_s.take(rows, axis=0),  # several times as fast as an index where there are columns
        motion.modes.take(rows, axis=0),
        motion.diffusion_px2_s[rows],
    )
