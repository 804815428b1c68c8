"""TIFF files of many writers with damaged structure: each frame is true, or lost; or the movie is refused.

Only what is around the pixels is damaged: of a changed pixel nobody can know.
"""

import struct

import numpy as np
import pytest
import tifffile
from tiff_files import WRITERS, random_movie

from streamtrack.errors import StreamtrackError
from streamtrack.types import Frame
from streamtrack_drivers.tiff_stack import TiffSource

MOVIE = random_movie()
TAGS = {256, 257, 258, 259, 262, 270, 273, 277, 278, 279, 317, 322, 323, 324, 325, 339, 51123}


def cut(data, places, rng):
    del data[rng.randrange(len(data)) :]


def flip_bits(data, places, rng):
    for place in rng.sample(places, rng.choice((1, 1, 2, 4))):
        data[place] ^= 1 << rng.randrange(8)


def scribble(data, places, rng):
    at = rng.randrange(len(places))
    for place in places[at : at + rng.choice((1, 2, 4, 8, 32))]:
        data[place] = rng.randrange(256)


def blank(data, places, rng):
    at = rng.randrange(len(places))
    for place in places[at : at + rng.choice((2, 4, 12, 64))]:
        data[place] = 0


def swap(data, places, rng):
    """Swap the bytes of two places, often tags or parts of them."""
    size = rng.choice((2, 4, 8, 12))
    one, other = (rng.randrange(len(places)) for _ in range(2))
    for here, there in zip(places[one : one + size], places[other : other + size], strict=False):
        data[here], data[there] = data[there], data[here]


def exaggerate(data, places, rng):
    """Put a type, count or value that is far too large or too small into a tag that counts."""
    order = "<" if data[:2] == b"II" else ">"
    tags = [i for i, at in enumerate(places[:-20]) if struct.unpack_from(f"{order}H", data, at)[0] in TAGS]
    number = rng.choice((0, 1, 2**31 - 1, 2**32 - 1, len(data), len(data) - 1, rng.randrange(2**16)))
    at = rng.choice(tags) + rng.choice((2, 4, 8, 12))
    for place, byte in zip(places[at:], struct.pack(f"{order}I", number), strict=False):
        data[place] = byte


def places_without_pixels(path):
    """Return the places of the bytes that are no pixels."""
    with tifffile.TiffFile(path) as tif:
        spans = [span for page in tif.pages for span in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if len(spans) == 1:  # one directory for all
        spans = [(spans[0][0], MOVIE.nbytes)]
    pixels = (range(start, start + count) for start, count in spans)
    return sorted(set(range(path.stat().st_size)).difference(*pixels))


def read(path):
    source = TiffSource(path=path)
    items = list(source.frames())
    source.close()
    assert source.info.n_frames == len(items)
    return items


@pytest.mark.inputs(8 * len(WRITERS))
def test_frames_of_a_damaged_tiff_are_true_or_lost(seed, rng, outcome, tmp_path):
    path = tmp_path / "m.tif"
    list(WRITERS.values())[seed % len(WRITERS)](path, MOVIE)
    places, data = places_without_pixels(path), bytearray(path.read_bytes())
    rng.choice((cut, flip_bits, flip_bits, scribble, blank, swap, exaggerate))(data, places, rng)
    path.write_bytes(data)
    items = outcome(lambda: read(path))
    if isinstance(items, StreamtrackError):
        return
    frames = [item for item in items if isinstance(item, Frame)]
    assert [item.index for item in items] == sorted({item.index for item in items})
    assert all(np.array_equal(frame.pixels, MOVIE[frame.index]) for frame in frames)
    assert len(frames) == len(MOVIE) or len(frames) < len(items)
