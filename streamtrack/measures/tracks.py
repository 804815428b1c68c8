"""Has a run's measures measure: whom in which frame, and the mean over each track."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import MeasureError
from streamtrack.protocols import Measure
from streamtrack.track_memory import TrackMemory
from streamtrack.types import Detections, Pixels, TrackUpdate

Floats = NDArray[np.float32]


class TrackMeasures:
    """Adds the columns of all measures of a run; frames come in order.

    Parameters
    ----------
    measures
        By name, already prepared for the source's frames. Each is asked in turn.
    """

    def __init__(self, measures: Mapping[str, Measure]) -> None:
        self._measures = [_OneMeasure(name, measure) for name, measure in measures.items()]

    def add(self, pixels: Pixels, detections: Detections, tracks: TrackUpdate) -> Detections:
        """Return the detections with what was measured of them."""
        extra = dict(detections.extra)
        for measure in self._measures:
            extra |= measure.columns(pixels, detections, tracks)
        d = detections
        return Detections(d.y, d.x, d.score, d.mass, d.sigma, extra, d.frame_values)


class _OneMeasure:
    """A measure, and what is remembered of each track for it; forgotten when the track ends."""

    def __init__(self, name: str, measure: Measure) -> None:
        self._name, self._measure = name, measure
        self._names = [column.name for column in measure.columns]
        self._measured = TrackMemory(new=-1, dtype=np.int64)  # at which turn a track was last measured
        self._turn = 0
        self._means: _Means | None = None

    def columns(self, pixels: Pixels, detections: Detections, tracks: TrackUpdate) -> dict[str, Floats]:
        """Return each column of a frame: shape (N,), NaN where it was not measured."""
        self._measured.forget(tracks.ended)
        if self._means is not None:
            self._means.forget(tracks.ended)
        n = len(detections)
        values = self._values(pixels, detections, tracks.particle) if n else np.empty((0, len(self._names)), np.float32)
        if values.shape != (n, len(self._names)):
            wanted = f"{(n, len(self._names))} for its columns {', '.join(self._names)}"
            raise MeasureError(f"measure {self._name!r} gave values of shape {values.shape}, not {wanted}")
        return dict(zip(self._names, values.T, strict=True))

    def _values(self, pixels: Pixels, detections: Detections, particle: NDArray[np.int64]) -> Floats:
        measure, n = self._measure, len(detections)
        if measure.most_per_frame is None or n <= measure.most_per_frame:
            seen = measure.measure(pixels, detections, np.arange(n))
        else:
            rows = self._chosen(particle, measure.most_per_frame)
            some = measure.measure(pixels, detections, rows)
            seen = np.full((n, some.shape[1]), np.nan, np.float32)
            seen[rows] = some
        if measure.averages:
            self._means = self._means or _Means(seen.shape[1])
            seen = self._means.with_(seen, particle)
        return measure.values(seen)

    def _chosen(self, particle: NDArray[np.int64], most: int) -> NDArray[np.intp]:
        """Return the rows whose turn it is: tracks never measured, then those that have waited longest."""
        self._turn += 1
        last = self._measured.recall(particle)
        last[particle < 0] = self._turn  # on no track: only if there is time
        rows = np.sort(np.argsort(last, kind="stable")[:most])
        tracks = particle[rows][particle[rows] >= 0]
        self._measured.remember(tracks, np.full(len(tracks), self._turn))
        return rows


class _Means:
    """The mean of each of K quantities over the frames of a track in which it was measured."""

    def __init__(self, n_quantities: int) -> None:
        self._k = n_quantities
        self._memory = TrackMemory(new=np.zeros(2 * n_quantities), dtype=np.float64)

    def with_(self, seen: Floats, particle: NDArray[np.int64]) -> Floats:
        """Return the means (N, K) once this frame is in them; its own value where there is no track."""
        on_track = particle >= 0
        tracks, new = particle[on_track], seen[on_track].astype(np.float64)
        known = self._memory.recall(tracks)
        is_measured = np.isfinite(new)
        known[:, : self._k] += np.where(is_measured, new, 0.0)
        known[:, self._k :] += is_measured
        self._memory.remember(tracks, known)
        means = seen.copy()
        with np.errstate(invalid="ignore"):  # 0 / 0 where it was never measured
            means[on_track] = known[:, : self._k] / known[:, self._k :]
        return means

    def forget(self, ended: NDArray[np.int64]) -> None:
        """Drop tracks that ended."""
        self._memory.forget(ended)
