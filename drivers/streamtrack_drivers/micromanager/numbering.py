"""Places images of an acquisition: which index, how many were missed before, and when it was."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

MAX_GAP = 100_000
"""A larger jump of the image number is not a loss but another way of counting."""
MAX_AGE_S = 60.0
"""An image that would be older, or from the future, says that the computer's clock was set: it starts anew."""

_EPOCH = datetime(2000, 1, 1)


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
    """When images were received by the core, in seconds of this process's monotonic clock; always rising.

    The core's stamp is free of the delay until an image arrives here, but it is the computer's wall clock, which may be
    set at any time. Without a stamp it is when the image arrived.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._last_s = float("-inf")

    def time_s(self, received: str | None, grabbed_ns: int) -> float:
        """Return the time of an image.

        Parameters
        ----------
        received
            Tag ``TimeReceivedByCore``, for example ``"2026-11-21 00:55:37.462315"``.
        grabbed_ns
            When it arrived here.
        """
        grabbed_s = grabbed_ns / 1e9
        time_s = max(self._core_time_s(received, grabbed_s), self._last_s + 1e-6)
        self._last_s = time_s
        return time_s

    def _core_time_s(self, received: str | None, grabbed_s: float) -> float:
        try:
            stamp_s = (datetime.fromisoformat(received or "") - _EPOCH).total_seconds()
        except (ValueError, TypeError):
            return grabbed_s
        if self._offset_s is None or not -MAX_AGE_S <= stamp_s + self._offset_s - grabbed_s <= 1.0:
            self._offset_s = grabbed_s - stamp_s
        return stamp_s + self._offset_s


def image_number(tags: Mapping[str, Any]) -> int | None:
    """Return the number of an image in its sequence; None for a snap, or where the tag is not a number."""
    try:
        return int(tags["ImageNumber"])
    except (KeyError, TypeError, ValueError):
        return None
