"""What a run shows of itself: the newest result of each stream, and what was found in the frames before."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.types import FrameResult

TAIL_FRAMES = 200
"""Frames whose places are kept, for the tails of tracks."""
MOST_POINTS = 100_000
"""Places handed over at a time; of crowds, tails are shorter."""


class Recent:
    """The newest results of one stream. One thread adds, another one reads; neither waits for the other."""

    def __init__(self) -> None:
        self._results: deque[FrameResult] = deque(maxlen=1)
        self._found: deque[tuple[int, NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]]
        self._found = deque(maxlen=TAIL_FRAMES)

    def add(self, result: FrameResult) -> None:
        """Take the result of the next frame."""
        self.add_places(result)
        self._results.append(result)

    def add_places(self, result: FrameResult) -> None:
        """Take the places only: what is shown stays."""
        found = result.detections
        self._found.append((result.frame.index, found.y, found.x, result.tracks.particle))

    def newest(self) -> FrameResult | None:
        """Return the newest result, None before the first."""
        return self._results[-1] if self._results else None

    def since(self, index: int, until: int) -> tuple[list[tuple[int, int]], NDArray[np.float32], NDArray[np.int32]]:
        """Return what was found after one frame and up to another.

        Returns
        -------
        frames
            Index of each frame, and how many particles it has.
        places
            Shape (2, N), float32, px: y, x, one frame after the other.
        particles
            Shape (N,), int32: their tracks, -1 for none.
        """
        chosen = [each for each in self._found.copy() if index < each[0] <= until]
        while len(chosen) > 1 and sum(len(each[1]) for each in chosen) > MOST_POINTS:
            chosen = chosen[len(chosen) // 2 :]
        if not chosen:
            return [], np.empty((2, 0), np.float32), np.empty(0, np.int32)
        places = np.stack([np.concatenate([each[axis] for each in chosen]) for axis in (1, 2)])
        particles = np.concatenate([each[3] for each in chosen]).astype(np.int32)
        return [(each[0], len(each[1])) for each in chosen], places.astype(np.float32), particles


def measured(result: FrameResult) -> Mapping[str, NDArray[np.float32]]:
    """Return all that is known of a frame's N particles, by which a view may colour them: (N,) each."""
    found, tracks = result.detections, result.tracks
    columns: dict[str, Any] = {"score": found.score, "mass": found.mass, "sigma": found.sigma, **found.extra}
    columns["existence"] = tracks.existence
    if (motion := tracks.motion) is not None:
        columns["age_frames"] = motion.age_frames
        columns["speed_px_s"] = np.hypot(*motion.velocity_px_s.T)
        columns["displacement_px"] = motion.displacement_px
        columns["diffusion_px2_s"] = motion.diffusion_px2_s
        columns["mode"] = motion.modes.argmax(axis=1) if len(motion.modes) else np.empty(0)
    return {name: np.ascontiguousarray(column, dtype=np.float32) for name, column in columns.items()}
