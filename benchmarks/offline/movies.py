"""Movies for a batch: how many, of what size, and what is in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from streamtrack.simulation import Movie, MovieSettings
from streamtrack.types import Pixels

SEED = 90_300


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    movies, frames, side_px
        The simulated movies: how many, of how many frames, of what side.
    pairs
        How often each measurement with one worker stands beside one with two.
    memory_frames
        Length of the movie through which memory is watched.
    short_movies
        How many movies of a few frames.
    table_rows
        Lengths of the tables that are made.
    far_frames, far_side_px
        The movie that is read from a server.
    """

    movies: int
    frames: int
    side_px: int
    pairs: int
    memory_frames: int
    short_movies: int
    table_rows: tuple[int, ...]
    far_frames: int
    far_side_px: int


FULL = Size(8, 96, 256, 5, 100_000, 200, (1_000_000, 50_000_000), 96, 512)
QUICK = Size(2, 16, 128, 1, 2_000, 4, (250_000, 1_000_000), 16, 128)


def simulated(size: Size) -> list[Movie]:
    """Return movies of vesicles (SNR 4, 500 particles per 512x512 px) that no training has seen."""
    sides = {"height_px": size.side_px, "width_px": size.side_px}
    return [
        Movie(MovieSettings("vesicle", 4.0, 500.0, size.frames, **sides, seed=SEED + n)) for n in range(size.movies)
    ]


def far_away(size: Size) -> Pixels:
    """Return the frames of the movie that is read from a server."""
    sides = {"height_px": size.far_side_px, "width_px": size.far_side_px}
    return pixels_of(Movie(MovieSettings("vesicle", 4.0, 500.0, size.far_frames, **sides, seed=SEED + size.movies)))


def pixels_of(movie: Movie) -> Pixels:
    """Return the frames of a movie, uint16, shape (F, H, W)."""
    return np.stack([movie.noisy(index).astype(np.uint16) for index in range(len(movie))])


def truth_of(movie: Movie) -> list[NDArray[np.float64]]:
    """Return where the particles are, px, shape (N, 2) for each frame."""
    return [
        movie.tracks.loc[movie.tracks["frame"] == index, ["y", "x"]].to_numpy(np.float64) for index in range(len(movie))
    ]


def store(folder: Path, movies: Sequence[Pixels]) -> tuple[list[Path], Path]:
    """Write movies as zarr, a chunk a frame, and all of them once more as a long one; return the paths."""
    paths = [folder / f"movie_{n}.zarr" for n in range(len(movies))]
    long = folder / "long.zarr"
    for path, pixels in zip([*paths, long], [*movies, np.concatenate(movies)], strict=True):
        zarr.create_array(path, data=pixels, chunks=(1, *pixels.shape[1:]))
    return paths, long
