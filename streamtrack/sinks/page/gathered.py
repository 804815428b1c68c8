"""What the page shows against time, in bounded memory however long the run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamtrack.types import CONFIRMED, FrameResult, Pixels

MOST_BINS = 400
"""Of a curve against time; when there are twice as many, neighbours become one."""
SCORE_EDGES = np.linspace(0.0, 1.0, 41)


class Curves:
    """Means of several values over bins of frames that are as long as need be."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._sums = np.zeros((2 * MOST_BINS, len(self._names)))
        self._counts = np.zeros_like(self._sums)
        self._bin = self._in_bin = 0
        self._per_bin = 1

    def add(self, values: Sequence[float]) -> None:
        """Take the values of one frame; NaN for what it has none of."""
        row = np.asarray(values, np.float64)
        there = np.isfinite(row)
        self._sums[self._bin] += np.where(there, row, 0.0)
        self._counts[self._bin] += there
        self._in_bin += 1
        if self._in_bin == self._per_bin:
            self._bin, self._in_bin = self._bin + 1, 0
            if self._bin == len(self._sums):
                self._halve()

    def means(self) -> dict[str, NDArray[np.float64]]:
        """Return the mean of each value in each bin, by name; NaN where it has none."""
        n = self._bin + (self._in_bin > 0)
        with np.errstate(invalid="ignore"):
            means = self._sums[:n] / self._counts[:n]
        return {name: means[:, at] for at, name in enumerate(self._names)}

    def _halve(self) -> None:
        for each in (self._sums, self._counts):
            each[:MOST_BINS] = each[::2] + each[1::2]
            each[MOST_BINS:] = 0.0
        self._bin, self._per_bin = MOST_BINS, 2 * self._per_bin


class Gathered:
    """Counts, intensities and scores of a run's frames."""

    def __init__(self) -> None:
        self.curves = Curves(("frame", "time_s", "detections", "confirmed", "mass", "image"))
        self.scores = np.zeros(len(SCORE_EDGES) - 1, np.int64)

    def add(self, result: FrameResult) -> None:
        """Take one frame."""
        found, tracks = result.detections, result.tracks
        n_confirmed = int(np.count_nonzero((tracks.particle >= 0) & (tracks.existence >= CONFIRMED)))
        mass = _mean(found.mass)
        image = _mean(result.frame.pixels)
        self.curves.add((result.frame.index, result.frame.time_s, len(found), n_confirmed, mass, image))
        self.scores += np.histogram(found.score, SCORE_EDGES)[0]


def _mean(values: "NDArray[np.float32] | Pixels") -> float:
    """Return the mean of what is finite, NaN where nothing is."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One frame of the short movie.

    Attributes
    ----------
    image
        Shape (h, w); one of its px is ``per_px`` of the frame's.
    y, x
        Shape (N,), px of the whole frame.
    particle
        Shape (N,): the track of each detection as it was known then, -1 for none.
    """

    index: int
    image: NDArray[np.float32]
    per_px: int
    y: NDArray[np.float32]
    x: NDArray[np.float32]
    particle: NDArray[np.int64]
