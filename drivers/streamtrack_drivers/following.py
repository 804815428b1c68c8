"""Movies that another process still writes: when a frame is there, when it never will be, and when the movie is over.

A writer says nothing: shapes in metadata grow before the data or after them, and some promise at once what may never
come. What is there decides. A frame is there when its own data are whole; it is lost when later ones are there and it
is not, after a while in which it may still come, since some writers write several at a time. The movie is over when
nothing new came for as long as the user said.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from numpy.typing import NDArray

from streamtrack.clock import monotonic_ns
from streamtrack.errors import SourceError
from streamtrack.types import LostFrame
from streamtrack.waiting import set_within

GRACE_S = 1.0
"""How long a frame may come after later ones, and damaged data may become whole."""
MOST_PROMISED = 2**20
"""Of more frames than these that never came, one LostFrame stands for all: they were a plan without an end."""

_QUICKEST_S, _SLOWEST_S = 0.001, 0.02
_SHARE = 0.02
"""Waits are so much of the time since the last frame: one a minute is not looked for a thousand times a second."""
_LISTED_S = 0.25
_LISTING_SHARE = 20
"""A folder of a million chunks is listed at most in one part of so many."""

Opened = TypeVar("Opened")


class NotYetError(SourceError):
    """Nothing to read is there; a writer may still make it."""


class WrittenImage(NamedTuple):
    """A frame that is there.

    Attributes
    ----------
    pixels
        Shape (H, W).
    written_ns
        When they were written, on the loop's clock.
    time_s
        When it was exposed, where its writer says so.
    """

    pixels: NDArray[Any]
    written_ns: int
    time_s: float | None = None

    def after(self, last_s: float | None, interval_s: float) -> float:
        """Return when it was exposed; where that is not known, or not after the frame before, one interval later."""
        if self.time_s is not None and (last_s is None or self.time_s > last_s):
            return self.time_s
        return 0.0 if last_s is None else last_s + interval_s


class Growing(Protocol):
    """What is being written, as far as a reader sees it."""

    def look(self, index: int, *, at_the_end: bool = False) -> WrittenImage | str | None:
        """Return a frame; or why its data cannot be read, though they are there; or None where they are not.

        Asked again and again for the same frame, so must be cheap where nothing changed. ``at_the_end`` nothing more
        will come: what is not certain to be whole is.
        """
        ...

    def latest(self) -> int:
        """Return the index of the last frame of which anything is there, -1 for none. May take a while."""
        ...

    def promised(self) -> int:
        """Return how many frames the metadata speak of by now; raises SourceError where there are none any more."""
        ...


class Follower:
    """Yields the frames of a growing movie, each once, in order.

    Parameters
    ----------
    movie
        What grows.
    frames
        The first index, and where to stop; None for the end of the movie.
    idle_s
        How long nothing may come before the movie is over.
    part
        What a frame's data are called, in causes of loss.
    closed
        Set when nobody wants frames any more.
    """

    def __init__(
        self, movie: Growing, frames: tuple[int, int | None], idle_s: float, part: str, closed: threading.Event
    ) -> None:
        self._movie, self._idle_s, self._part, self._closed = movie, idle_s, part, closed
        self._first, self._stop = frames
        self._said, self._is_over = "", False
        self._news_s = time.monotonic()
        self._later, self._later_s = -1, 0.0
        self._list_s = 0.0

    def frames(self) -> Iterator[tuple[int, WrittenImage] | LostFrame]:
        """Yield each frame with its index, or as lost."""
        index = self._first
        self._news_s = time.monotonic()
        while self._stop is None or index < self._stop:
            found = self._wait_for(index)
            if self._closed.is_set():
                return
            if found is None:
                yield from self._promised(index)
                return
            yield LostFrame(index, found) if isinstance(found, str) else (index, found)
            index += 1

    def remarks(self) -> list[str]:
        """Return how it ended."""
        return [self._said] if self._said else []

    def _wait_for(self, index: int) -> WrittenImage | str | None:
        """Return a frame, why it is lost, or None where the movie is over."""
        began_s = time.monotonic()
        self._list_s = max(self._list_s, began_s + _LISTED_S)  # a frame that comes in time costs no listing
        while not (self._closed.is_set() or self._is_over):
            found = self._movie.look(index)
            now_s = time.monotonic()
            if isinstance(found, WrittenImage):
                self._news_s = now_s
                return found
            if self._is_passed(index, now_s):
                return found or f"missing {self._part}: later ones are there, it never came"
            if now_s - self._news_s > self._idle_s and now_s - began_s > min(GRACE_S, self._idle_s):
                self._is_over = True
            else:
                set_within(self._closed, min(max(_SHARE * (now_s - self._news_s), _QUICKEST_S), _SLOWEST_S))
        return self._movie.look(index, at_the_end=True) if self._is_over else None

    def _is_passed(self, index: int, now_s: float) -> bool:
        """Return whether a later frame has been there for a while."""
        if self._later <= index and now_s >= self._list_s:
            latest = self._movie.latest()
            took_s = time.monotonic() - now_s
            self._list_s = now_s + max(_LISTED_S, _LISTING_SHARE * took_s)
            if latest > self._later:
                self._later, self._later_s, self._news_s = latest, now_s, now_s
        return self._later > index and now_s - self._later_s > GRACE_S

    def _promised(self, index: int) -> Iterator[LostFrame]:
        """Yield what was promised and never came, and keep in mind how it ended."""
        promised = self._movie.promised()
        if max(promised, index) <= self._first:
            raise SourceError(f"no frame came within {self._idle_s:g} s: start its writer, or give --follow more")
        came = f"frame {index - 1} was the last" if index > self._first else "no frame came"
        self._said = f"followed until nothing new had come for {self._idle_s:g} s: {came}"
        if promised < index:
            self._said += f", though its metadata promise {promised} only"
        if promised <= index:
            return
        cause = f"never written: nothing new came for {self._idle_s:g} s"
        if promised - index > MOST_PROMISED:
            cause += f" (stands for all to {promised - 1})"
        self._said += f", though its metadata promise {promised} in all: was its writer stopped, or did it die?"
        last = index + 1 if promised - index > MOST_PROMISED else promised
        for lost in range(index, last if self._stop is None else min(last, self._stop)):
            if self._closed.is_set():
                return
            yield LostFrame(lost, cause)


def opened_within(idle_s: float, attempt: Callable[[], Opened]) -> Opened:
    """Return what is opened, once a writer has made it; raises the last SourceError where it does not.

    What has just come into being is given a moment to be described: some writers say the axes after the array is there.
    """
    end_s, is_new = time.monotonic() + idle_s, False
    while True:
        try:
            found = attempt()
            if not is_new:
                return found
            is_new = False
            time.sleep(GRACE_S)
        except NotYetError as error:
            if time.monotonic() > end_s:
                raise SourceError(f"{error}, as nothing came there within {idle_s:g} s") from error
            is_new = True
            time.sleep(_SLOWEST_S)


def check_there(metadata: Iterable[Path]) -> None:
    """Raise SourceError where a movie that was followed is gone: that nothing comes is not its end."""
    if not any(os.path.isfile(path) for path in metadata):
        raise SourceError("is not there any more: it was deleted or moved, or its disk cannot be reached")


def followed_frames(frames: str | None) -> tuple[int, int | None]:
    """Return first frame and stop of ``A:B``; raises SourceError where they count from an end that is not there yet."""
    first, _, last = (frames or ":").partition(":")
    if not all(end.strip().isdecimal() or not end.strip() for end in (first, last)) or ":" not in (frames or ":"):
        raise SourceError(
            f"frames {frames!r} cannot be followed: give A:B, counted from the start, or leave --frames out"
        )
    start, stop = int(first) if first.strip() else 0, int(last) if last.strip() else None
    if stop is not None and stop <= start:
        raise SourceError(f"frames {frames!r} selects no frame: give A:B with A before B")
    return start, stop


def on_the_loops_clock(mtimes_ns: Sequence[int]) -> int:
    """Return when the last of some files was written; a clock that is set meanwhile makes it wrong."""
    return monotonic_ns() - max(0, time.time_ns() - max(mtimes_ns))
