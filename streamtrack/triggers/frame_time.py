"""Durations on the frames' own clock, so that a replay decides as the live run did."""

import math

TOLERANCE_S = 1e-6
"""Durations are compared to a microsecond: ten intervals of 0.1 s shall be 1 s."""


class FrameTime:
    """A clock that follows ``Frame.time_s`` but never goes back.

    Cameras' clocks start over: a step backwards counts as no time, and what comes after it counts again. So does a time
    that is not finite.
    """

    def __init__(self) -> None:
        self._offset_s = self._now_s = 0.0

    def now_s(self, time_s: float) -> float:
        """Return the time of the next frame, given its ``time_s``."""
        if math.isfinite(time_s):
            self._offset_s = max(self._offset_s, self._now_s - time_s)
            self._now_s = max(self._now_s, time_s + self._offset_s)  # the sum is rounded
        return self._now_s


def has_passed(duration_s: float, since_s: float, now_s: float) -> bool:
    """Return whether a duration is over."""
    return now_s - since_s >= duration_s - TOLERANCE_S
