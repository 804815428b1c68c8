"""Places images: which index, how many were missed before, and when it was.

Cameras and drivers that lose frames do not say so. The core numbers the images of a sequence; a number that is not the
one before plus one is a loss. Cores before MMCore 12.5 start again at 0 when the buffer is cleared: in a sequence of
our own (`FrameCounter`) a number that goes back is a loss, too, whose extent only the time can tell; a buffer cleared
before the third image was taken need not go back, and is not seen. An acquisition of somebody else's (`Numbering`) is
many sequences, and single snaps that have no number.
"""

import ctypes
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

NUMBER_TAG = "ImageNumber"
RECEIVED_TAG = "TimeReceivedByCore"
TAGS = (NUMBER_TAG, RECEIVED_TAG)
MAX_GAP = 100_000
"""A larger jump of the image number is not a loss but another way of counting."""
OLDEST = timedelta(minutes=10)
"""An image that seems to have waited longer was not: the computer's clock was set, or summer time has ended."""
MAX_AGE_S = 60.0
"""An image that would be older, or from the future, says that the computer's clock was set: it starts anew."""
PACE_WEIGHT = 0.1
"""Share of the newest interval in the average."""
FILETIME_1970 = 116_444_736_000_000_000
"""Windows counts 100 ns since 1601."""

_EPOCH = datetime(2000, 1, 1)


def image_number(tags: Any) -> int | None:
    """Return the number of an image in its sequence; None for a snap, or where the tag is no number."""
    number = str(tags.get(NUMBER_TAG)) if isinstance(tags, Mapping) else ""
    return int(number) if number.isdecimal() else None


def _windows_now() -> datetime:
    """Return local time; to the microsecond, where ``datetime.now`` moves in steps of 15.6 ms before Python 3.13."""
    filetime = ctypes.c_uint64()
    ctypes.windll.kernel32.GetSystemTimePreciseAsFileTime(ctypes.byref(filetime))  # type: ignore[attr-defined,unused-ignore]
    seconds, microseconds = divmod((filetime.value - FILETIME_1970) // 10, 1_000_000)
    return datetime.fromtimestamp(seconds).replace(microsecond=microseconds)


wall_clock = _windows_now if sys.platform == "win32" and sys.version_info < (3, 13) else datetime.now
"""Local time, as fine as the stamps of the core."""


def waited_ns(tags: Mapping[str, str], now: datetime) -> int | None:
    """Return how long an image has been in the core's buffer; None where that is not known.

    The core stamps with local wall-clock time, which may jump: only what is plausible counts.
    """
    try:
        waited = now - datetime.fromisoformat(tags[RECEIVED_TAG])
    except (KeyError, ValueError):
        return None
    return waited // timedelta(microseconds=1) * 1000 if timedelta(0) <= waited < OLDEST else None


@dataclass(frozen=True, slots=True)
class CountedFrame:
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

    def place(self, number: int | None, time_s: float) -> CountedFrame:
        """Return where the next image belongs; ``time_s`` is when it was received."""
        lost, estimated = self._lost_before(number, time_s)
        if lost == 0:
            self._learn(time_s - self._time_s)
        self._number, self._time_s, self._least_lost = number, time_s, 0
        index = self.next_index + lost
        self.next_index = index + 1
        return CountedFrame(index, lost, estimated)

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


class Numbering:
    """Turns time points or image numbers into indices that rise by one, and by more where images are missing.

    Time points are those of the acquisition's plan; they count where they are there. Image numbers start at 0 with
    every sequence of the camera, whatever it is of; single snaps have none.
    """

    def __init__(self) -> None:
        self._last_number: int | None = None
        self._last_t: int | None = None
        self._next = 0
        self.restarts = 0

    def begin(self) -> None:
        """Expect time point 0."""
        self.restarts += self._next > 0
        self._last_t = -1

    def place(self, number: int | None, t: int | None = None) -> range:
        """Return the indices that an image brings: its own is the last, those before it are lost."""
        lost = self._missed(number, self._last_number) if t is None else self._missed(t, self._last_t)
        self._last_t = self._last_t if t is None else t
        self.skip(number)
        indices = range(self._next, self._next + lost + 1)
        self._next = indices.stop
        return indices

    def skip(self, number: int | None) -> None:
        """Note an image that is none of the movie's: it takes no index and is not missed."""
        if number is not None:
            self._last_number = number

    def _missed(self, now: int | None, last: int | None) -> int:
        if now is None or last is None or now == last:  # a snap, the first one, or the same moment again
            return 0
        missed = now - last - 1
        if missed < 0:  # a new sequence: it began at 0
            self.restarts += 1
            missed = now
        return missed if missed <= MAX_GAP else 0


class ImageTimes:
    """When images were taken, in seconds of this process's monotonic clock; always rising.

    The core's stamp is free of the delay until an image arrives here, but it is the computer's wall clock, which may be
    set at any time. A snap has no stamp, but perhaps a time since its acquisition began. Else it is when it arrived.
    """

    def __init__(self) -> None:
        self._offset_s: dict[str, float] = {}
        self._last_s = float("-inf")

    def begin(self) -> None:
        """Say that the clock of the acquisition starts anew."""
        self._offset_s.pop("acquisition", None)

    def time_s(self, received: str | None, grabbed_ns: int, taken_s: float | None = None) -> float:
        """Return the time of an image.

        Parameters
        ----------
        received
            Tag ``TimeReceivedByCore``, for example ``"2026-11-21 00:55:37.462315"``.
        grabbed_ns
            When it arrived here.
        taken_s
            When it was taken, since the acquisition began.
        """
        grabbed_s = grabbed_ns / 1e9
        stamp_s = _stamp_s(received)
        if stamp_s is not None:
            time_s = self._here_s("core", stamp_s, grabbed_s)
        elif taken_s is not None:
            time_s = self._here_s("acquisition", taken_s, grabbed_s)
        else:
            time_s = grabbed_s
        self._last_s = max(time_s, self._last_s + 1e-6)
        return self._last_s

    def _here_s(self, clock: str, stamp_s: float, grabbed_s: float) -> float:
        """Return a time of another clock in that of this process: the first image says how they differ."""
        offset_s = self._offset_s.get(clock)
        if offset_s is None or not -MAX_AGE_S <= stamp_s + offset_s - grabbed_s <= 1.0:
            self._offset_s[clock] = offset_s = grabbed_s - stamp_s
        return stamp_s + offset_s


def _stamp_s(received: str | None) -> float | None:
    try:
        return (datetime.fromisoformat(received or "") - _EPOCH).total_seconds()
    except (ValueError, TypeError):
        return None
