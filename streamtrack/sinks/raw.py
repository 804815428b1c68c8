"""Raw frames as OME-Zarr: all of them, or those around the commands of rules."""

import math
from collections import deque
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from streamtrack.errors import SinkError
from streamtrack.settings import checks_settings
from streamtrack.sinks.files import check_folder, sink_errors, stream_name
from streamtrack.sinks.raw_movie import RawMovie
from streamtrack.sinks.stream_movies import StreamMovies, of_stream
from streamtrack.types import Frame, FrameResult, SourceInfo, Stream

KIND = "raw"
"""Rules name the sink so: ``do = "raw"``."""
MOVIE = "raw.ome.zarr"
EVENTS = "events"
STREAMS = "raw_streams"
"""Folder of the movies of all streams, where there are several."""

MOST_HELD_BYTES = 2 * 10**9
"""Most memory for the frames before a command."""


@checks_settings
class RawSink:
    """Writes raw frames as they came to the loop, one file per frame.

    With ``when = "always"`` into ``raw.ome.zarr``; of several streams into one movie each, as in
    ``raw_streams/p0_c1_z0.ome.zarr``. With ``when = "commands"`` into one movie for each command that a rule gives with
    ``do = "raw"``: ``events/0001_frame123.ome.zarr`` has the frames around frame 123. Commands whose frames overlap
    share a movie; its attributes list them under ``commands``. What is recorded can be tracked again: see
    `streamtrack.sinks.raw_movie.RawMovie` for the format. Frames that the loop never got, because it was too slow for
    the camera, are not in it, and leave a gap. So do those that somebody had left out while the run ran; the movie's
    attributes have them, too.

    Parameters
    ----------
    when
        ``always`` or ``commands``.
    before, after
        Frames before a command's frame and after it. Those before are kept in memory.
    critical
        Whether a run that cannot record has failed.
    """

    def __init__(
        self,
        *,
        when: Literal["always", "commands"] = "always",
        before: Annotated[int, Field(ge=0)] = 50,
        after: Annotated[int, Field(ge=0)] = 100,
        critical: bool = True,
    ) -> None:
        self.critical = critical
        self._always = when == "always"
        self.files = (f"{MOVIE}/", f"{STREAMS}/") if self._always else (f"{EVENTS}/",)
        self._before, self._after = before, after
        self._numbers = count(1)
        self._recordings: dict[Stream, _Events] = {}
        self._told: deque[tuple[int, bool]] = deque()
        """Since when frames are written or left out: what `write` has not come to."""
        self._is_on = self._will_be_on = True

    @property
    def recording(self) -> bool | None:
        """Whether frames are written from now on; None where only those around commands are."""
        return self._will_be_on if self._always else None

    def record(self, on: bool, since_ns: int) -> None:
        """Write, or leave out, the frames that are decided after this time."""
        self._will_be_on = on
        self._told.append((since_ns, on))

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Check folder and memory; raises SinkError."""
        check_folder(folder)
        if not self._always:
            _check_memory(self._before, source)
        self._folder, self._source = folder, source
        self._movies = StreamMovies(folder, source, MOVIE, STREAMS)

    def wants_denoised(self, frame_index: int) -> bool:
        """Return False: raw frames only."""
        return False

    def write(self, result: FrameResult) -> None:
        """Record the frame, or hold it in case that a command comes; raises SinkError."""
        if self._always:
            while self._told and self._told[0][0] < result.stamps.decided:
                _, self._is_on = self._told.popleft()
            (self._movies.add if self._is_on else self._movies.leave_out)(result.frame)
            return
        stream = result.frame.stream
        recording = self._recordings.get(stream)
        if recording is None:
            recording = self._recordings[stream] = self._begin(stream)
        recording.write(result)

    def flush(self) -> None:
        """Let readers see all that was recorded so far; raises SinkError."""
        self._movies.flush()
        for recording in self._recordings.values():
            recording.flush()

    def close(self) -> None:
        """Finish the movies that are being recorded; raises SinkError."""
        with ExitStack() as closing:
            closing.callback(self._movies.close)
            while self._recordings:
                closing.callback(self._recordings.popitem()[1].close)

    def _begin(self, stream: Stream) -> "_Events":
        several = self._source.streams is not None
        source = of_stream(self._source, stream) if several else self._source
        suffix = f"_{stream_name(stream)}" if several else ""
        return _Events(self._folder, source, suffix, self._numbers, self._before, self._after)


class _Events:
    """The frames of a stream around commands: a movie for each event."""

    def __init__(
        self, folder: Path, source: SourceInfo, suffix: str, numbers: "count[int]", before: int, after: int
    ) -> None:
        self._folder, self._source, self._suffix, self._numbers = folder, source, suffix, numbers
        self._after = after
        self._held: deque[Frame] = deque(maxlen=before)
        """The last frames that are in no movie; references, never copies."""
        self._left = 0
        """Frames still to be recorded of the event."""
        self._movie: RawMovie | None = None
        self._commands: list[dict[str, Any]] = []

    def write(self, result: FrameResult) -> None:
        frame = result.frame
        rules = [command.rule for command in result.commands if command.actuator == KIND]
        movie = self._event_movie(frame.index, rules) if rules else self._movie
        if self._left and movie is not None:
            self._left -= 1
            movie.add(frame)
        else:
            self._hold(frame)

    def flush(self) -> None:
        if self._movie is not None:
            self._movie.flush()

    def close(self) -> None:
        movie, self._movie = self._movie, None
        self._held.clear()
        if movie is not None:
            movie.close({"commands": self._commands})

    def _event_movie(self, index: int, rules: list[str]) -> RawMovie:
        """Return the movie of this command, with the frames before it."""
        if self._movie is None:
            self._commands = []
            with sink_errors(self._folder / EVENTS):
                (self._folder / EVENTS).mkdir(exist_ok=True)
            path = self._folder / EVENTS / f"{next(self._numbers):04}_frame{index}{self._suffix}.ome.zarr"
            self._movie = RawMovie(path, self._source, self._held[0].index if self._held else index)
        while self._held:
            self._movie.add(self._held.popleft())
        self._commands += [{"frame": index, "rule": rule} for rule in rules]
        self._left = self._after + 1
        return self._movie

    def _hold(self, frame: Frame) -> None:
        if len(self._held) == self._held.maxlen:  # from now on, a new event would not follow the last without a gap
            movie, self._movie = self._movie, None
            if movie is not None:
                movie.close({"commands": self._commands})
        self._held.append(frame)


def _check_memory(before: int, source: SourceInfo) -> None:
    frame_bytes = math.prod(source.shape) * np.dtype(source.dtype).itemsize * max(len(source.streams or ()), 1)
    if before * frame_bytes > MOST_HELD_BYTES:
        raise SinkError(
            f"before = {before} frames of {source.shape[0]} x {source.shape[1]} px would hold "
            f"{before * frame_bytes / 1e9:.1f} GB in memory; set before = {MOST_HELD_BYTES // frame_bytes} or less"
        )
