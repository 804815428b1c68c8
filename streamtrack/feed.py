"""A source for frames that somebody else pulls: they are pushed in, and never keep the pusher waiting."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.arrays import announced, frame_dtype
from streamtrack.clock import monotonic_ns
from streamtrack.errors import ConfigError, SourceError
from streamtrack.types import ONE_STREAM, Column, Frame, LostFrame, SourceInfo, Stream, Values

WAKE_S = 0.5
NOT_HANDED_OVER = "not handed over"
QUEUE_FULL = "feed queue full"


@dataclass(slots=True)
class _Lost:
    """A run of lost frames: one entry however long, so that a queue of them stays small."""

    first: int
    last: int
    cause: str
    stream: Stream


class Feed:
    """Frames of a camera that your own program reads: push them in from any thread, track them in another.

    ::

        feed = streamtrack.Feed((512, 512), "uint16")
        camera.on_image = feed.push
        results = streamtrack.track(feed, "results")    # in a thread of its own; ends after feed.finish()

    Parameters
    ----------
    shape
        (H, W) of the images, px.
    dtype
        ``uint8``, ``uint16`` or ``float32``.
    name
        What reports call it.
    pixel_size_um, frame_interval_s
        None where they are not known.
    capacity
        Images held at most; further ones are lost, and counted, until there is room.
    several_streams
        Whether images of several positions, channels or planes will come: `push` says of each which.
    frame_columns
        What is said of each image. `streamtrack.stage_moves.STAGE_COLUMNS` say where the stage was: where the run has
        a microscope that knows how the image moves with it, tracks go on through its moves.

    Raises
    ------
    ConfigError
        If the shape is none, or the dtype.
    SourceError
        If images of this dtype cannot be tracked.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: str,
        *,
        name: str = "feed",
        pixel_size_um: float | None = None,
        frame_interval_s: float | None = None,
        capacity: int = 64,
        several_streams: bool = False,
        frame_columns: tuple[Column, ...] = (),
    ) -> None:
        size, stored = announced(shape, dtype)
        self._info = SourceInfo(
            name,
            size,
            frame_dtype(stored).name,
            live=True,
            pixel_size_um=pixel_size_um,
            frame_interval_s=frame_interval_s,
            clock="host",
            streams=() if several_streams else None,
            frame_columns=frame_columns,
        )
        self._capacity = capacity
        self._queue: deque[Frame | _Lost] = deque()
        self._n_frames = self._late = 0
        self._next: dict[Stream, int] = {}
        self._changed = threading.Condition()
        self._over = False
        self._error = ""
        self.started = threading.Event()
        """Set when somebody asks for the first frame."""

    @property
    def info(self) -> SourceInfo:
        """As given; ``details`` count the images that came after the end."""
        return replace(self._info, details={"after_the_end": self._late})

    @property
    def is_over(self) -> bool:
        """Whether no image is taken any more."""
        return self._over

    def push(
        self,
        image: NDArray[Any],
        index: int | None = None,
        time_s: float | None = None,
        stream: Stream = ONE_STREAM,
        values: Values = MappingProxyType({}),
    ) -> None:
        """Take the next image; returns at once. What does not fit the run is counted as lost.

        Parameters
        ----------
        image
            Shape and dtype as announced. It is not copied: leave it as it is from now on.
        index
            Its number, rising from 0; those left out are lost frames. By default one more than the last.
        time_s
            When it was exposed, s, rising; by default when it was pushed, by this computer's monotonic clock.
        stream
            Of a feed of several streams, which one it is of; each has indices of its own.
        values
            What the microscope says of it, by the names of the feed's ``frame_columns``.

        Raises
        ------
        ConfigError
            If the index does not rise.
        """
        grabbed_ns = monotonic_ns()
        with self._changed:
            if self._over:
                self._late += 1
                return
            expected = self._next.get(stream, 0)
            index = expected if index is None else int(index)
            if index < expected:
                raise ConfigError(f"index {index} does not rise: the last image was number {expected - 1}")
            if index > expected:
                self._lose(expected, index - 1, NOT_HANDED_OVER, stream)
            self._next[stream] = index + 1
            cause = self._misfit(image)
            if cause:
                self._lose(index, index, cause, stream)
            else:
                exposed_s = grabbed_ns / 1e9 if time_s is None else float(time_s)
                pixels = np.ascontiguousarray(image)
                self._queue.append(Frame(index, pixels, grabbed_ns, exposed_s, values, stream))
                self._n_frames += 1
            self._changed.notify()

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield what was pushed, in order, until `finish` or `close`; raises SourceError after `fail`."""
        self.started.set()
        while (item := self._take()) is not None:
            if isinstance(item, Frame):
                yield item
            else:
                yield from (LostFrame(each, item.cause, item.stream) for each in range(item.first, item.last + 1))

    def finish(self) -> None:
        """Say that no image will come any more; those that wait are still delivered."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def fail(self, why: str) -> None:
        """End the run with an error; images that wait or still come are dropped."""
        self._error = self._error or why
        self.close()

    def close(self) -> None:
        """End a running ``frames()``; images that wait or still come are dropped. May be called twice."""
        with self._changed:
            self._queue.clear()
        self.finish()

    def _take(self) -> Frame | _Lost | None:
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
        if image.shape != self._info.shape or image.dtype != self._info.dtype:
            return f"the image is {image.shape} {image.dtype}, not {self._info.shape} {self._info.dtype}"
        return QUEUE_FULL if self._n_frames >= self._capacity else ""

    def _lose(self, first: int, last: int, cause: str, stream: Stream) -> None:
        newest = self._queue[-1] if self._queue else None
        crowded = len(self._queue) > 4 * self._capacity
        follows = isinstance(newest, _Lost) and newest.stream == stream
        if isinstance(newest, _Lost) and follows and (newest.cause == cause or crowded):
            newest.last = last
        else:
            self._queue.append(_Lost(first, last, cause, stream))
