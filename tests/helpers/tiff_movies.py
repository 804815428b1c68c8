"""Movies to write as TIFF, how they are read, and whether every frame shows what was written."""

import numpy as np
import tifffile

from streamtrack.types import LostFrame
from streamtrack_drivers.tiff_stack import TiffSource

TYX = {"axes": "TYX"}


def make_movie(shape=(8, 64, 60), dtype="uint16", seed=0):
    """Return a movie of noise, in which no two frames are alike."""
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


def write(path, movie, **options):
    """Write with one call of tifffile; return the path."""
    tifffile.imwrite(path, movie, photometric="minisblack", **options)
    return path


def read(path, **settings):
    """Return what the source says of a file, and its frames, lost ones too."""
    source = TiffSource(path=path, **settings)
    items = list(source.frames())
    source.close()
    assert source.info.n_frames == len(items)
    return source.info, items


def lost(items):
    """Return the causes of lost frames, by index."""
    return {item.index: item.cause for item in items if isinstance(item, LostFrame)}
