"""Arrays and iterables as movies: the same frames, in the same order, or a line that says why not."""

import dask.array
import numpy as np
import pytest
import zarr

from streamtrack.arrays import ArraySource, frame_dtype
from streamtrack.errors import SourceError
from streamtrack.testing.sources import SourceTests
from streamtrack.types import LostFrame

MOVIE = np.random.default_rng(0).integers(0, 200, (7, 40, 48)).astype(np.uint16)


class TestArraySource(SourceTests):
    def make_source(self, tmp_path):
        return ArraySource(movie=MOVIE)


def test_every_kind_of_movie_gives_the_same_frames(tmp_path):
    stored = zarr.create_array(tmp_path / "m.zarr", shape=MOVIE.shape, chunks=(3, 40, 48), dtype="uint16")
    stored[:] = MOVIE
    kinds = [MOVIE, dask.array.from_array(MOVIE, chunks=(2, 20, 48)), stored, list(MOVIE), iter(MOVIE)]
    for movie in kinds:
        frames = list(ArraySource(movie=movie).frames())
        assert [frame.index for frame in frames] == list(range(7))
        np.testing.assert_array_equal([frame.pixels for frame in frames], MOVIE)


def test_a_dask_movie_is_computed_chunk_by_chunk():
    computed = []

    def load(block, block_info=None):
        computed.append(block_info[0]["chunk-location"][0])
        return block

    movie = dask.array.from_array(MOVIE, chunks=(3, 40, 48)).map_blocks(load, dtype="uint16", meta=MOVIE[:0])
    frames = ArraySource(movie=movie).frames()
    next(frames)
    assert computed == [0]
    list(frames)
    assert sorted(computed) == [0, 1, 2]


def test_one_buffer_handed_over_again_and_again_is_copied():
    def camera():
        buffer = np.zeros((32, 32), np.uint8)
        for value in range(3):
            buffer[:] = value
            yield buffer

    assert [int(frame.pixels[0, 0]) for frame in list(ArraySource(movie=camera()).frames())] == [0, 1, 2]


def test_an_image_of_another_shape_or_dtype_is_a_lost_frame():
    images = [MOVIE[0], MOVIE[1][:, :40], MOVIE[2].astype(np.uint8), MOVIE[3]]
    items = list(ArraySource(movie=images).frames())
    assert [isinstance(item, LostFrame) for item in items] == [False, True, True, False]
    assert "the image is (40, 40)" in items[1].cause


@pytest.mark.parametrize(
    ("movie", "message"),
    [
        (MOVIE[0], "is one picture: streamtrack.detect"),
        (MOVIE[None], r"is not \(T, Y, X\): choose one channel"),
        (MOVIE[:0], "holds no image"),
        (MOVIE[:, :20], "too small"),
        (MOVIE.astype(np.int64), r"astype\('uint16'\)"),
        ([], "ended before its first frame"),
        ([MOVIE], "the first image has the shape"),
        (3, "int is no movie"),
    ],
)
def test_what_is_no_movie_is_refused_with_the_cure(movie, message):
    with pytest.raises(SourceError, match=message):
        ArraySource(movie=movie)


@pytest.mark.parametrize(
    ("stored", "handed_over"),
    [("u1", "uint8"), ("<u2", "uint16"), (">u2", "uint16"), (">f4", "float32"), ("f2", "float32"), (">f8", "float32")],
)
def test_pixels_become_a_dtype_that_engines_take(stored, handed_over):
    dtype = frame_dtype(np.dtype(stored))
    assert dtype.name == handed_over
    assert dtype.isnative


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ("?", "dtype bool cannot be tracked: that is a mask"),
        ("c8", r"dtype complex64 cannot be tracked: .*abs\(movie\)"),
        ("i2", r"dtype int16 cannot be tracked: .*astype\('uint16'\)"),
        (">u4", "dtype uint32 cannot be tracked: .*float32 otherwise$"),
        ("i8", "dtype int64 cannot"),
        ("U5", "cannot be tracked: convert it"),
        ("M8[s]", "cannot be tracked: convert it"),
    ],
)
def test_other_dtypes_are_refused_with_the_cure(stored, message):
    with pytest.raises(SourceError, match=message):
        frame_dtype(np.dtype(stored))
