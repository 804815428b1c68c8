"""Movies that a run records: one, or of several streams one each."""

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from streamtrack.sinks.files import sink_errors, stream_name
from streamtrack.sinks.raw_movie import RawMovie
from streamtrack.types import Frame, SourceInfo, Stream


class StreamMovies:
    """Records frames into one movie, or into one for each stream.

    Parameters
    ----------
    folder
        Of the run.
    source
        What is recorded.
    movie, streams
        Name of the movie, and of the folder for those of several streams.
    n_levels
        As in `RawMovie`.
    """

    def __init__(self, folder: Path, source: SourceInfo, movie: str, streams: str, n_levels: int = 1) -> None:
        self._folder, self._source, self._n_levels = folder, source, n_levels
        self._movie, self._streams = movie, streams
        self._movies: dict[Stream, RawMovie] = {}
        self._left_out: defaultdict[Stream, list[tuple[int, int]]] = defaultdict(list)

    def add(self, frame: Frame) -> None:
        """Record a frame; raises SinkError."""
        movie = self._movies.get(frame.stream)
        if movie is None:
            movie = self._movies[frame.stream] = self._begin(frame)
        movie.add(frame)

    def leave_out(self, frame: Frame) -> None:
        """Note a frame that is not recorded because somebody wanted so; the movie's ``left_out`` has it."""
        spans = self._left_out[frame.stream]
        if spans and spans[-1][1] == frame.index - 1:
            spans[-1] = (spans[-1][0], frame.index)
        else:
            spans.append((frame.index, frame.index))

    def flush(self) -> None:
        """Let readers see all that was recorded so far; raises SinkError."""
        for movie in self._movies.values():
            movie.flush()

    def close(self) -> None:
        """Finish all movies; raises SinkError."""
        with ExitStack() as closing:
            while self._movies:
                stream, movie = self._movies.popitem()
                spans = self._left_out[stream]
                n_left_out = sum(last - first + 1 for first, last in spans)
                closing.callback(movie.close, {"left_out": spans, "n_left_out": n_left_out} if spans else {})

    def _begin(self, frame: Frame) -> RawMovie:
        path, source = self._folder / self._movie, self._source
        if source.streams is not None:
            with sink_errors(self._folder / self._streams):
                (self._folder / self._streams).mkdir(exist_ok=True)
            path = self._folder / self._streams / f"{stream_name(frame.stream)}.ome.zarr"
            source = of_stream(source, frame.stream)
        return RawMovie(path, source, frame.index, self._n_levels)


def of_stream(source: SourceInfo, stream: Stream) -> SourceInfo:
    """Return what is known of one stream of several."""
    return replace(source, name=f"{source.name}: {stream}", origin_um=stream.origin_um, z_um=stream.z_um)
