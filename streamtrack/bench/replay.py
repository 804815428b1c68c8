"""A movie in memory that comes as from a camera: at a rate, waiting for nobody; or as fast as it is taken."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from threading import Event

from streamtrack.bench.pacing import wait_until
from streamtrack.clock import monotonic_ns
from streamtrack.config import PluginConfig
from streamtrack.errors import SourceError
from streamtrack.protocols import FrameSource
from streamtrack.registry import build, source_from_text
from streamtrack.types import Frame, Pixels, SourceInfo

LOADED_FRAMES = 64


@dataclass(frozen=True, slots=True, eq=False)
class LoadedMovie:
    """Frames in memory, and what their source says of itself.

    They are played forwards, then backwards, and so on: particles never jump, as they would where a movie starts again.
    """

    info: SourceInfo
    pixels: tuple[Pixels, ...]

    def at(self, index: int) -> Pixels:
        """Return the frame that is shown at a place, 0 or more, of an endless movie."""
        last = len(self.pixels) - 1
        place = index % (2 * last) if last else 0
        return self.pixels[min(place, 2 * last - place)]


def load_movie(movie: str, n_frames: int = LOADED_FRAMES) -> LoadedMovie:
    """Load the first frames of a movie; raises ConfigError or SourceError.

    Parameters
    ----------
    movie
        What ``streamtrack track`` takes: a path or ``sim:...``.
    n_frames
        Most frames to load; lost ones are left out.
    """
    source: FrameSource = build("sources", PluginConfig(**source_from_text(movie))).instance
    try:
        frames = [each for each in islice(source.frames(), n_frames) if isinstance(each, Frame)]
    finally:
        source.close()
    if not frames:
        raise SourceError(f"none of the first {n_frames} frames of {movie} can be read: name another movie")
    return LoadedMovie(source.info, tuple(frame.pixels for frame in frames))


class ReplaySource:
    """Plays a movie from memory, forwards and backwards, at a camera's rate or as fast as it is taken.

    Parameters
    ----------
    movie
        What to play.
    n_frames
        How many frames to give.
    fps
        Frames per second, as from a camera that waits for nobody; None for a source that waits.
    """

    def __init__(self, *, movie: LoadedMovie, n_frames: int, fps: float | None = None) -> None:
        self._movie = movie
        self._n_frames = n_frames
        self._interval_ns = round(1e9 / fps) if fps else 0
        self._closed = Event()

    @property
    def info(self) -> SourceInfo:
        """As of the movie; ``live`` if there is a rate."""
        interval_s = self._interval_ns / 1e9 or self._movie.info.frame_interval_s
        return replace(
            self._movie.info,
            name=f"replay of {self._movie.info.name}",
            n_frames=self._n_frames,
            live=self._interval_ns > 0,
            frame_interval_s=interval_s,
            clock="nominal",
        )

    def frames(self) -> Iterator[Frame]:
        """Yield every frame when it is due, in order."""
        interval_s = self.info.frame_interval_s or 1.0
        start_ns = monotonic_ns()
        for index in range(self._n_frames):
            if not wait_until(start_ns + index * self._interval_ns, self._closed):
                return
            yield Frame(index, self._movie.at(index), monotonic_ns(), index * interval_s)

    def close(self) -> None:
        """End a running ``frames()``, also one that waits."""
        self._closed.set()
