"""From the stamps of every frame to the figures that are quoted."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.latency import percentiles

TOTAL = "total"


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """When each frame of a measurement passed each stage.

    Attributes
    ----------
    index
        Shape (N,), int64: which of the camera's frames, from 0, rising. A number that is left out was never processed.
    stamps_ns
        Shape (N, S + 1), int64: begin of the first stage and end of each.
    stages
        S names.
    n_due
        Frames that the camera had, those that were never processed included.
    interval_ns
        From frame to frame of the camera; None where it waited for the loop.
    """

    index: NDArray[np.int64]
    stamps_ns: NDArray[np.int64]
    stages: tuple[str, ...]
    n_due: int
    interval_ns: int | None = None

    def __len__(self) -> int:
        return len(self.index)

    def durations_ms(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Yield every stage, and all of them together where there are several, with the durations (N,)."""
        durations = np.diff(self.stamps_ns, axis=1) / 1e6
        yield from zip(self.stages, durations.T, strict=True)
        if len(self.stages) > 1:
            yield TOTAL, (self.stamps_ns[:, -1] - self.stamps_ns[:, 0]) / 1e6

    def split(self, n_warm_up: int) -> tuple["Timeline", "Timeline"]:
        """Return the camera's first frames, and the others."""
        k = int(np.searchsorted(self.index, n_warm_up))
        first = replace(self, index=self.index[:k], stamps_ns=self.stamps_ns[:k], n_due=min(n_warm_up, self.n_due))
        rest = replace(self, index=self.index[k:], stamps_ns=self.stamps_ns[k:], n_due=max(self.n_due - n_warm_up, 0))
        return first, rest


def summarise(timeline: Timeline, n_warm_up: int) -> dict[str, Any]:
    """Return the figures of a measurement, its first ``n_warm_up`` camera frames apart.

    Returns
    -------
    dict
        ``warm_up``: their number and the longest; ``processed``, ``due`` and ``dropped`` frames after them;
        ``frames_per_s`` from the first of them to the last; ``stages_ms``: `percentiles` of each stage and of their
        sum; for a camera also ``interval_ms``, ``deadline_misses`` (frames that took longer than the interval, dropped
        ones not among them) and ``camera_late_ms``, how much later than due frames were there: figures of a measurement
        whose camera was late are worth less.
    """
    first, rest = timeline.split(n_warm_up)
    figures: dict[str, Any] = {
        "warm_up": {"frames": first.n_due, "max_ms": round(float(_total_ms(first).max(initial=0)), 4)},
        "due": rest.n_due,
        "processed": len(rest),
        "dropped": rest.n_due - len(rest),
        "frames_per_s": _rate(rest),
        "stages_ms": {stage: percentiles(ms) for stage, ms in rest.durations_ms()},
    }
    if timeline.interval_ns is not None:
        figures |= {
            "interval_ms": timeline.interval_ns / 1e6,
            "deadline_misses": int(np.count_nonzero(_total_ms(rest) > timeline.interval_ns / 1e6)),
            "camera_late_ms": percentiles(_late_ms(timeline, timeline.interval_ns)),
        }
    return figures


def _total_ms(timeline: Timeline) -> NDArray[np.float64]:
    return np.asarray((timeline.stamps_ns[:, -1] - timeline.stamps_ns[:, 0]) / 1e6)


def _rate(timeline: Timeline) -> float | None:
    if len(timeline) < 2:
        return None
    ends = timeline.stamps_ns[:, -1]
    return round(float((len(timeline) - 1) / (ends[-1] - ends[0]) * 1e9), 3)


def _late_ms(timeline: Timeline, interval_ns: int) -> NDArray[np.float64]:
    """Return how much later than its moment each frame was there; the earliest one of all sets the grid."""
    begun = timeline.stamps_ns[:, 0] - timeline.index * interval_ns
    return np.asarray((begun - begun.min(initial=np.iinfo(np.int64).max)) / 1e6)
