"""Movies in numpy's own files."""

import numpy as np
import pytest

from streamtrack.errors import SourceError
from streamtrack.registry import source_from_text
from streamtrack.types import LostFrame
from streamtrack_drivers.numpy_movie import NumpySource

MOVIE = np.random.default_rng(0).integers(1, 200, (8, 40, 48)).astype("uint16")


def read(path, **settings):
    source = NumpySource(path=path, **settings)
    items = list(source.frames())
    source.close()
    assert source.info.n_frames == len(items)
    return items


def save(path, array, **options):
    np.save(path, array, **options)
    return path


@pytest.mark.parametrize(
    "stored",
    [MOVIE, MOVIE.astype("u1"), MOVIE.astype(">u2"), MOVIE.astype("f4"), MOVIE.astype("f8"), np.asfortranarray(MOVIE)],
    ids=["u2", "u1", "big-endian", "f4", "f8", "Fortran"],
)
def test_every_frame_is_read(tmp_path, stored):
    path = save(tmp_path / "m.npy", stored)
    assert source_from_text(str(path))["kind"] == "numpy"
    for item, image in zip(read(path), stored, strict=True):
        np.testing.assert_array_equal(item.pixels, image)


def test_an_image_is_a_movie_of_one_frame_and_axes_are_said(tmp_path):
    assert len(read(save(tmp_path / "i.npy", MOVIE[0]))) == 1
    path = save(tmp_path / "c.npy", MOVIE.reshape(4, 2, 40, 48))
    with pytest.raises(SourceError, match="ambiguous: say what they are, for example --axes TCYX"):
        NumpySource(path=path)
    items = read(path, axes="TCYX", channel=1)
    np.testing.assert_array_equal([item.pixels for item in items], MOVIE[1::2])


def test_pixels_stay_when_the_file_is_closed(tmp_path):
    source = NumpySource(path=save(tmp_path / "m.npy", MOVIE))
    frame = next(source.frames())
    source.close()
    (tmp_path / "m.npy").unlink()
    np.testing.assert_array_equal(frame.pixels, MOVIE[0])


@pytest.mark.parametrize("share", [0.3, 0.5, 0.99])
def test_what_was_cut_off_is_lost(tmp_path, share):
    path = save(tmp_path / "m.npy", MOVIE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    n = (path.stat().st_size - 128) // MOVIE[0].nbytes
    items = read(path)
    assert [item.index for item in items] == list(range(8))
    np.testing.assert_array_equal([item.pixels for item in items[:n]], MOVIE[:n])
    assert {item.cause for item in items[n:]} == {f"missing part: the file is cut off after {n} of 8"}
    assert all(isinstance(item, LostFrame) for item in items[n:])


class Trap:
    """Would end the tests if it were ever unpickled."""

    def __reduce__(self):
        return exit, (7,)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: save(path, np.array([Trap()] * 2000, object), allow_pickle=True),
            "Python objects, which are never",
        ),
        (lambda path: np.savez(path.open("wb"), MOVIE), "several arrays: save the one to track with numpy.save"),
        (lambda path: save(path, MOVIE.astype("i4")), "int32"),
        (lambda path: save(path, MOVIE.astype("c8")), "complex64"),
        (lambda path: save(path, np.array(7)), "none of its images is whole"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "its header is cut off"),
        (lambda path: path.write_bytes(b"nothing"), "no file of numpy.save"),
        (lambda path: path.write_bytes(b""), "no file of numpy.save"),
        (lambda path: path.mkdir(), "no ordinary file"),
        (lambda path: None, "no such file"),
    ],
)
def test_what_is_no_movie_is_refused_in_one_line(tmp_path, write, message):
    path = tmp_path / "m.npy"
    write(path)
    with pytest.raises(SourceError, match=message) as refused:
        NumpySource(path=path)
    assert len(str(refused.value).splitlines()) == 1
