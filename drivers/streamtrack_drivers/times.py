"""When each frame was exposed, where a file says it of every plane."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

_AGREES = 0.1
"""Share by which a plan may differ from what came of it: cameras and clocks are a little off."""


class FrameTimes:
    """Times of a movie's frames, on the clock of its writer.

    Attributes
    ----------
    interval_s
        The median from one frame to the next.

    Parameters
    ----------
    index, time_s
        Shape (N,), both rising, N at least 2. Between them times are interpolated, beyond them they go on at the usual
        interval: frames there are lost, mostly.
    """

    def __init__(self, index: NDArray[np.int64], time_s: NDArray[np.float64]) -> None:
        self.interval_s = float(np.median(np.diff(time_s) / np.diff(index)))
        self._index, self._time_s = index, time_s

    def __getitem__(self, index: int) -> float:
        first, last = int(self._index[0]), int(self._index[-1])
        beyond = index - min(max(index, first), last)
        return float(np.interp(index, self._index, self._time_s)) + beyond * self.interval_s

    def against(self, planned_s: float | None) -> str | None:
        """Return what to say where the interval that was planned is another one."""
        if planned_s is None or abs(planned_s - self.interval_s) <= _AGREES * self.interval_s:
            return None
        said, came = f"the file says {planned_s:g} s per frame", f"its frames came every {self.interval_s:g} s (median)"
        return f"{said}, but {came}: their own times are used"


def frame_times(known: Mapping[int, float], frames: Iterable[int]) -> FrameTimes | None:
    """Return the times of these frames; None where too few are known, or they do not rise."""
    index = np.array([each for each in frames if each in known], np.int64)
    time_s = np.array([known[each] for each in index.tolist()], np.float64)
    return FrameTimes(index, time_s) if len(index) > 1 and (np.diff(time_s) > 0).all() else None
