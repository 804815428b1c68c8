"""How much time lies between frames."""

import math

from streamtrack.errors import LinkerError

ADAPTATION = 0.02
"""Share of a new interval in the running mean; one that is longer than `OUTLIER` times the mean counts as that."""
OUTLIER = 2.0

LEAST_INTERVALS = 0.01
"""Two frames are never taken to be nearer in time than this."""


class FrameIntervals:
    """Counts frames and time, and learns the usual interval between two frames.

    Attributes
    ----------
    interval_s
        Usual time from one frame to the next; 1 until there are two.
    is_measured
        Whether there were two.
    last_index, last_s
        Of the frame before; None before the first.
    """

    def __init__(self) -> None:
        self.interval_s = 1.0
        self.last_index: int | None = None
        self.last_s = math.nan
        self.is_measured = False

    def advance(self, frame_index: int, time_s: float) -> tuple[int, float]:
        """Go on to a frame.

        Returns
        -------
        How many frames were lost before it, and the time since the last one in usual intervals: that of the clock or,
        where this stands still, runs back or is no number, one for each index.

        Raises
        ------
        LinkerError
            ``frame_index`` does not rise.
        """
        if self.last_index is None:
            self.last_index, self.last_s = frame_index, time_s
            return 0, 1.0
        frames, elapsed_s = frame_index - self.last_index, time_s - self.last_s
        if frames <= 0:
            raise LinkerError(
                f"frame {frame_index} came after frame {self.last_index}: frame indices must rise; "
                "a new movie needs a new linker"
            )
        self.last_index, self.last_s = frame_index, time_s
        if not 0 < elapsed_s < math.inf:
            return frames - 1, float(frames)
        self._learn(elapsed_s / frames)
        return frames - 1, max(elapsed_s / self.interval_s, LEAST_INTERVALS)

    def _learn(self, interval_s: float) -> None:
        if not self.is_measured:
            self.interval_s, self.is_measured = interval_s, True
        self.interval_s += ADAPTATION * (min(interval_s, OUTLIER * self.interval_s) - self.interval_s)
