"""Movies to write as zarr arrays, and how they are read."""

import numpy as np
import zarr

from streamtrack_drivers.zarr_movie import ZarrSource


def make_movie(shape=(6, 40, 48), dtype="uint16", seed=0):
    """Return a movie of noise, in which no two frames are alike."""
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


def write_array(path, movie, zarr_format=3, chunks=None, **options):
    """Write with a chunk for each frame, unless told otherwise; return the path."""
    chunks = chunks or (1,) * (movie.ndim - 2) + movie.shape[-2:]
    zarr.create_array(path, data=movie, chunks=chunks, zarr_format=zarr_format, **options)
    return path


def read(path, **settings):
    """Return what the source says of an array, and its frames, lost ones too."""
    source = ZarrSource(path=path, **settings)
    items = list(source.frames())
    source.close()
    return source.info, items
