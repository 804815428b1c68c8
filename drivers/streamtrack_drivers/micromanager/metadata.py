"""What comes with an image of a camera sequence, and what it tells: when it was received, which frames are missing.

Cameras and drivers that lose frames do not say so. The core numbers the images of a sequence; a number that is not the
one before plus one is a loss. Cores before MMCore 12.5 start again at 0 when the buffer is cleared, so that a number
that goes back is a loss, too, whose extent only the time can tell.
"""

import ctypes
import math
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

NUMBER_TAG = "ImageNumber"
RECEIVED_TAG = "TimeReceivedByCore"
OLDEST = timedelta(minutes=10)
"""An image that seems to have waited longer was not: the computer's clock was set, or summer time has ended."""
PACE_WEIGHT = 0.1
"""Share of the newest interval in the average."""
FILETIME_1970 = 116_444_736_000_000_000
"""Windows counts 100 ns since 1601."""


def _windows_now() -> datetime:
    """Return local time; to the microsecond, where ``datetime.now`` moves in steps of 15.6 ms before Python 3.13."""
    filetime = ctypes.c_uint64()
    ctypes.windll.kernel32.GetSystemTimePreciseAsFileTime(ctypes.byref(filetime))  # type: ignore[attr-defined,unused-ignore]
    seconds, microseconds = divmod((filetime.value - FILETIME_1970) // 10, 1_000_000)
    return datetime.fromtimestamp(seconds).replace(microsecond=microseconds)


wall_clock = _windows_now if sys.platform == "win32" and sys.version_info < (3, 13) else datetime.now
"""Local time, as fine as the stamps of the core."""


def image_number(metadata: Any) -> int | None:
    """Return the number of an image in its sequence, None where the core gave none.

    ``metadata`` is a ``pymmcore.Metadata``.
    """
    if not metadata.HasTag(NUMBER_TAG):
        return None
    text = metadata.GetSingleTag(NUMBER_TAG).GetValue()
    return int(text) if text.isdecimal() else None


def waited_ns(metadata: Any, now: datetime) -> int | None:
    """Return how long an image has been in the core's buffer; None where that is not known.

    The core stamps with local wall-clock time, which may jump: only what is plausible counts.
    """
    if not metadata.HasTag(RECEIVED_TAG):
        return None
    try:
        waited = now - datetime.fromisoformat(metadata.GetSingleTag(RECEIVED_TAG).GetValue())
    except ValueError:
        return None
    return waited // timedelta(microseconds=1) * 1000 if timedelta(0) <= waited < OLDEST else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image belongs.

    Attributes
    ----------
    index
        Of the frame, from 0.
    lost
        Frames missing right before it.
    estimated
        Whether ``lost`` is an estimate from the time.
    """

    index: int
    lost: int
    estimated: bool


class FrameCounter:
    """Turns the image numbers of one or more sequences into frame indices that count what is missing.

    Parameters
    ----------
    interval_s
        First guess of the time between two frames.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.next_index = 0
        self._paced = False
        self._number: int | None = None
        self._time_s = -math.inf
        self._least_lost = 0

    def new_sequence(self) -> None:
        """Expect the first number of a new sequence; the frame that did not come counts as lost at least."""
        self._number = None
        self._least_lost = 1

    def place(self, number: int | None, time_s: float) -> Place:
        """Return where the next image belongs; ``time_s`` is when it was received."""
        lost, estimated = self._lost_before(number, time_s)
        if lost == 0:
            self._learn(time_s - self._time_s)
        self._number, self._time_s, self._least_lost = number, time_s, 0
        index = self.next_index + lost
        self.next_index = index + 1
        return Place(index, lost, estimated)

    def _lost_before(self, number: int | None, time_s: float) -> tuple[int, bool]:
        if self.next_index == 0:
            return number or 0, False
        if self._number is not None and number is not None and number > self._number:
            return number - self._number - 1, False
        if self._number is None and number is None and not self._least_lost:
            return 0, False  # a core that does not number
        return max(round((time_s - self._time_s) / self.interval_s) - 1, self._least_lost), True

    def _learn(self, interval_s: float) -> None:
        if not 0 < interval_s < math.inf:
            return
        weight = PACE_WEIGHT if self._paced else 1.0
        self.interval_s += weight * (interval_s - self.interval_s)
        self._paced = True
