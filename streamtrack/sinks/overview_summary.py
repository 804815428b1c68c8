"""What the overview of a run shows, in bounded memory; drawn by `streamtrack.sinks.overview_figure`."""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamtrack.latency import LatencyHistogram
from streamtrack.types import CONFIRMED, FrameResult, Pixels, SourceInfo

STAGES = ("detect", "link", "whole")
"""Whose latency is shown; the whole frame begins when the camera gave it, in a movie on disk when its turn comes."""

_MAX_POINTS = 60_000  # more would be a tangle


@dataclass(frozen=True, slots=True, eq=False)
class PointSample:
    """Linked detections: shape (N,) each, in the order of frames."""

    frame: NDArray[np.int64]
    particle: NDArray[np.int64]
    existence: NDArray[np.float32]
    y: NDArray[np.float32]
    x: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def none(cls) -> "PointSample":
        """Return no point."""
        whole, real = np.empty(0, np.int64), np.empty(0, np.float32)
        return cls(whole, whole, real, real, real)


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What the picture shows.

    Attributes
    ----------
    shown
        The frame to show; None if there was no frame at all.
    n_lost
        Frames missing between the first and the last one.
    projection
        Maximum over all frames, shape (H, W), in the frames' dtype.
    points
        The linked detections; where ``all_points`` is False, the latest of them.
    lengths
        Number of confirmed tracks by their number of detections.
    latency
        Of each stage in `STAGES`.
    inside
        Which pixels were searched, shape (H, W); None for all.
    """

    source: SourceInfo
    n_frames: int
    n_lost: int
    n_detections: int
    shown: FrameResult | None
    projection: Pixels | None
    points: PointSample
    all_points: bool
    lengths: Counter[int]
    latency: dict[str, LatencyHistogram]
    inside: NDArray[np.bool_] | None = None


def no_latency() -> dict[str, LatencyHistogram]:
    """Return the latency of no frame."""
    return {stage: LatencyHistogram() for stage in STAGES}


class GatheredTracks:
    """The latest points of all tracks, and how long the tracks are."""

    def __init__(self) -> None:
        self.all_points = True
        self._recent: deque[PointSample] = deque()
        self._lengths = _TrackLengths()

    def add(self, points: PointSample, ended: list[int]) -> None:
        """Take the linked detections of later frames, and the tracks that ended in them."""
        self._lengths.add(points, ended)
        self._recent.append(points)
        while sum(map(len, self._recent)) - len(self._recent[0]) > _MAX_POINTS:
            self._recent.popleft()
            self.all_points = False

    def points(self) -> PointSample:
        """Return the points that are kept."""
        parts = [PointSample.none(), *self._recent]
        return PointSample(*(np.concatenate([getattr(part, name) for part in parts]) for name in PointSample.__slots__))

    def lengths(self) -> Counter[int]:
        """Return the number of confirmed tracks by their number of detections."""
        return self._lengths.histogram()


class _TrackLengths:
    """Counts the detections of every confirmed track; remembers live tracks only."""

    def __init__(self) -> None:
        self._live: dict[int, tuple[int, bool]] = {}
        self._ended: Counter[int] = Counter()

    def add(self, points: PointSample, ended: list[int]) -> None:
        particle, place, n_points = np.unique(points.particle, return_inverse=True, return_counts=True)
        existence = np.zeros(len(particle), np.float32)
        np.maximum.at(existence, place, points.existence)
        for key, n, confirmed in zip(
            particle.tolist(), n_points.tolist(), (existence >= CONFIRMED).tolist(), strict=True
        ):
            length, before = self._live.get(key, (0, False))
            self._live[key] = length + n, before or confirmed
        for key in ended:
            length, confirmed = self._live.pop(key, (0, False))
            self._ended[length] += confirmed

    def histogram(self) -> Counter[int]:
        live = Counter(length for length, confirmed in self._live.values() if confirmed)
        return self._ended + live
