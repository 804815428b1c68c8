"""A source for frames that somebody else pulls: they are pushed in, and never keep the pusher waiting."""

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.clock import monotonic_ns
from streamtrack.errors import SourceError, one_line
from streamtrack.types import Frame, LostFrame, SourceInfo
from streamtrack_drivers.micromanager.numbering import RECEIVED_TAG, ImageTimes, Numbering, image_number
from streamtrack_drivers.micromanager.streams import NOWHERE, OneStream, Where

WAKE_S = 0.5
NOT_HANDED_OVER = "not handed over by the acquisition"
QUEUE_FULL = "tap queue full"


@dataclass(slots=True)
class _Lost:
    """A run of lost frames: one entry however long, so that a queue of them stays small."""

    first: int
    last: int
    cause: str


class PushedSource:
    """Frames of an acquisition that runs elsewhere in this process.

    Parameters
    ----------
    info
        What is known of the frames.
    capacity
        Frames held at most; further ones are lost, and counted, until there is room.
    one
        Says which images are frames of the movie; by default all, as long as they are of one stream.
    """

    def __init__(self, info: SourceInfo, capacity: int, one: OneStream | None = None) -> None:
        self._static = info
        self._capacity = capacity
        self._one = one or OneStream()
        self._numbering, self._times = Numbering(), ImageTimes()
        self._queue: deque[Frame | _Lost] = deque()
        self._n_frames = self._late = 0
        self._changed = threading.Condition()
        self._over = False
        self._error = ""
        self.started = threading.Event()
        """Set when somebody asks for the first frame."""

    @property
    def info(self) -> SourceInfo:
        """As given; ``details``: which stream, and counts of sequences after the first and of images left out."""
        counts = {"restarts": self._numbering.restarts, "after_the_end": self._late, "left_out": self._one.left_out}
        details = {"stream": self._one.stream, **counts}
        return SourceInfo(
            self._static.name,
            self._static.shape,
            self._static.dtype,
            live=True,
            pixel_size_um=self._static.pixel_size_um,
            clock="host",
            details=details,
        )

    def push(self, image: NDArray[Any], tags: Mapping[str, Any], where: Where = NOWHERE, asked: Any = None) -> None:
        """Take the next image; returns at once and never raises. What does not fit the run is counted as lost.

        Parameters
        ----------
        image
            Shape and dtype as announced. It is not copied: leave it as it is from now on.
        tags
            ``ImageNumber`` and ``TimeReceivedByCore`` are used where they are there.
        where
            Stream, time point and time.
        asked
            What the user's function is asked about.
        """
        grabbed_ns = monotonic_ns()
        try:
            if self._over:
                self._late += 1
            elif self._one.takes(where, asked):
                self._take(image, tags, where, grabbed_ns)
            else:
                self._numbering.skip(image_number(tags))
        except SourceError as error:
            self.fail(str(error))
        except Exception as error:  # an exception here would abort the acquisition
            self.fail(f"an image could not be taken, {type(error).__name__}: {one_line(error)}")

    def begin(self, *, planned: bool) -> None:
        """Say that an acquisition begins: its clock starts anew, and if it is planned its time points count from 0."""
        self._times.begin()
        if planned:
            self._numbering.begin()

    def fail(self, why: str) -> None:
        """End the run with an error; images that wait or still come are dropped."""
        with self._changed:
            self._error = self._error or why
        self.close()

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield what was pushed, in order, until `finish` or `close`; raises SourceError after `fail`."""
        self.started.set()
        while (item := self._next()) is not None:
            if isinstance(item, Frame):
                yield item
            else:
                yield from (LostFrame(index, item.cause) for index in range(item.first, item.last + 1))

    def finish(self) -> None:
        """Say that no image will come any more; those that wait are still delivered."""
        try:
            self._one.end()
        except SourceError as error:
            self._error = self._error or str(error)
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def close(self) -> None:
        """End a running ``frames()``; images that wait or still come are dropped. May be called twice."""
        with self._changed:
            self._queue.clear()
        self.finish()

    def _take(self, image: NDArray[Any], tags: Mapping[str, Any], where: Where, grabbed_ns: int) -> None:
        received = tags.get(RECEIVED_TAG) if isinstance(tags, Mapping) else None
        with self._changed:
            *missed, index = self._numbering.place(image_number(tags), where.t)
            if missed:
                self._lose(missed[0], missed[-1], NOT_HANDED_OVER)
            cause = self._misfit(image)
            if cause:
                self._lose(index, index, cause)
            else:
                time_s = self._times.time_s(received, grabbed_ns, where.taken_s)
                self._queue.append(Frame(index, np.ascontiguousarray(image), grabbed_ns, time_s))
                self._n_frames += 1
            self._changed.notify()

    def _next(self) -> Frame | _Lost | None:
        with self._changed:
            while not self._queue:
                if self._over and self._error:
                    raise SourceError(self._error)
                if self._over:
                    return None
                self._changed.wait(WAKE_S)
            item = self._queue.popleft()
            self._n_frames -= isinstance(item, Frame)
            return item

    def _misfit(self, image: NDArray[Any]) -> str:
        if not isinstance(image, np.ndarray):
            return f"not an image but {type(image).__name__}"
        if image.shape != self._static.shape or image.dtype != self._static.dtype:
            return f"the image is {image.shape} {image.dtype}, not {self._static.shape} {self._static.dtype}"
        return QUEUE_FULL if self._n_frames >= self._capacity else ""

    def _lose(self, first: int, last: int, cause: str) -> None:
        newest = self._queue[-1] if self._queue else None
        crowded = len(self._queue) > 4 * self._capacity
        if isinstance(newest, _Lost) and (newest.cause == cause or crowded):
            newest.last = last
        else:
            self._queue.append(_Lost(first, last, cause))
