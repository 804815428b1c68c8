"""Denoised frames as OME-Zarr."""

from dataclasses import replace
from pathlib import Path

from streamtrack.settings import checks_settings
from streamtrack.sinks.files import check_folder
from streamtrack.sinks.stream_movies import StreamMovies
from streamtrack.types import FrameResult, SourceInfo

MOVIE = "denoised.ome.zarr"
STREAMS = "denoised_streams"
"""Folder of the movies of all streams, where there are several."""
COARSEST_PX = 256
"""Longer side of the coarsest level: viewers show that at once."""


@checks_settings
class DenoisedSink:
    """Writes the denoised image of each frame into ``denoised.ome.zarr``, float32, in the camera's counts.

    Of an engine that gives another image than that, as ``density`` does, it writes this one.

    An image of OME-Zarr 0.5 with a pyramid of levels down to 256 px, as napari opens it; of several streams a movie
    each, as in ``denoised_streams/p0_c1_z0.ome.zarr``. It can be read while it grows. A frame that has no denoised
    image, because it was lost or because the engine gives none, leaves a gap: see
    `streamtrack.sinks.raw_movie.RawMovie`.

    Parameters
    ----------
    critical
        Whether a run that cannot write them has failed.
    """

    files = (f"{MOVIE}/", f"{STREAMS}/")

    def __init__(self, *, critical: bool = True) -> None:
        self.critical = critical

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Check the folder; raises SinkError."""
        check_folder(folder)
        denoised = replace(source, dtype="float32")
        self._movies = StreamMovies(folder, denoised, MOVIE, STREAMS, _n_levels(source.shape))

    def wants_denoised(self, frame_index: int) -> bool:
        """Return True: of every frame."""
        return True

    def write(self, result: FrameResult) -> None:
        """Write the frame's denoised image; raises SinkError."""
        if result.denoised is not None:
            self._movies.add(replace(result.frame, pixels=result.denoised))

    def flush(self) -> None:
        """Let readers see all that was written so far; raises SinkError."""
        self._movies.flush()

    def close(self) -> None:
        """Finish the movies; raises SinkError."""
        self._movies.close()


def _n_levels(shape: tuple[int, int]) -> int:
    n_levels = 1
    while max(shape) >> (n_levels - 1) > COARSEST_PX and min(shape) >> n_levels > 0:
        n_levels += 1
    return n_levels
