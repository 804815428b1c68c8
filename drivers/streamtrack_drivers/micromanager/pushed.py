"""The images of an acquisition that runs elsewhere in this process, as a source: those of one stream, numbered."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from streamtrack.clock import monotonic_ns
from streamtrack.errors import SourceError, described
from streamtrack.feed import Feed
from streamtrack.types import ONE_STREAM, Frame, LostFrame, SourceInfo, Stream, Values
from streamtrack_drivers.micromanager.numbering import RECEIVED_TAG, ImageTimes, Numbering, image_number
from streamtrack_drivers.micromanager.streams import NOWHERE, AllStreams, OneStream, Where


class PushedSource:
    """A `Feed` that is pushed images with Micro-Manager's tags.

    Parameters
    ----------
    info
        What is known of the frames.
    capacity
        Frames held at most; further ones are lost, and counted, until there is room.
    one
        Says which images are frames of the movie; by default all, as long as they are of one stream.
    """

    def __init__(self, info: SourceInfo, capacity: int, one: OneStream | AllStreams | None = None) -> None:
        self._one = one or OneStream()
        self._feed = Feed(
            info.shape,
            info.dtype,
            name=info.name,
            pixel_size_um=info.pixel_size_um,
            capacity=capacity,
            several_streams=isinstance(self._one, AllStreams),
            frame_columns=info.frame_columns,
        )
        self._numberings: dict[Stream, Numbering] = {}
        self._planned, self._times = False, ImageTimes()
        self._placing = threading.Lock()
        self.started = self._feed.started
        """Set when somebody asks for the first frame."""

    @property
    def info(self) -> SourceInfo:
        """As given; ``details``: which stream, and counts of sequences after the first and of images left out."""
        known = self._feed.info
        restarts = max((each.restarts for each in list(self._numberings.values())), default=0)
        counts = {"restarts": restarts, **known.details, "left_out": self._one.left_out}
        return replace(known, details={"stream": self._one.stream, **counts})

    def push(
        self,
        image: NDArray[Any],
        tags: Mapping[str, Any],
        where: Where = NOWHERE,
        asked: Any = None,
        values: Values = MappingProxyType({}),
    ) -> None:
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
        values
            What is said of the image.
        """
        grabbed_ns = monotonic_ns()
        try:
            with self._placing:
                if self._feed.is_over:
                    self._feed.push(image)  # counts it
                elif self._one.takes(where, asked):
                    self._take(image, tags, where, grabbed_ns, values)
                else:
                    self._numbering(ONE_STREAM).skip(image_number(tags))
        except SourceError as error:
            self.fail(str(error))
        except Exception as error:  # an exception here would abort the acquisition
            self.fail(f"an image could not be taken, {described(error)}")

    def begin(self, *, planned: bool) -> None:
        """Say that an acquisition begins: its clock starts anew, and if it is planned its time points count from 0."""
        self._times.begin()
        self._planned = planned
        for numbering in self._numberings.values() if planned else ():
            numbering.begin()

    def fail(self, why: str) -> None:
        """End the run with an error; images that wait or still come are dropped."""
        self._feed.fail(why)

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield what was pushed, in order, until `finish` or `close`; raises SourceError after `fail`."""
        return self._feed.frames()

    def finish(self) -> None:
        """Say that no image will come any more; those that wait are still delivered."""
        try:
            self._one.end()
        except SourceError as error:
            self.fail(str(error))
        self._feed.finish()

    def close(self) -> None:
        """End a running ``frames()``; images that wait or still come are dropped. May be called twice."""
        self._feed.close()

    def _take(
        self, image: NDArray[Any], tags: Mapping[str, Any], where: Where, grabbed_ns: int, values: Values
    ) -> None:
        received = tags.get(RECEIVED_TAG) if isinstance(tags, Mapping) else None
        stream = self._one.of(where)
        number = image_number(tags) if stream is ONE_STREAM else None  # they count the images of all streams
        index = self._numbering(stream).place(number, where.t)[-1]
        self._feed.push(image, index, self._times.time_s(received, grabbed_ns, where.taken_s), stream, values)

    def _numbering(self, stream: Stream) -> Numbering:
        numbering = self._numberings.get(stream)
        if numbering is None:
            numbering = self._numberings[stream] = Numbering()
            if self._planned:
                numbering.begin()
        return numbering
