"""Axes and selections: whatever the stored order, the frames are those of numpy indexing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrack.errors import SourceError
from streamtrack_drivers.axes import (
    MovieView,
    duration_s,
    length_um,
    naming,
    resolve_axes,
    square_pixel_um,
)

SIZES = {"T": st.integers(1, 5), "C": st.integers(1, 3), "Z": st.integers(1, 3)}
SIZES |= {"Y": st.integers(32, 34), "X": st.integers(32, 34)}


@st.composite
def stored_movies(draw):
    """Draw an array with its axes in any order, and a selection that is valid for it."""
    axes = draw(st.sets(st.sampled_from("TCZ")).map(lambda some: [*sorted(some), "Y", "X"]).flatmap(st.permutations))
    shape = tuple(draw(SIZES[axis]) for axis in axes)
    size = dict(zip(axes, shape, strict=True))
    channel = draw(st.integers(0, size.get("C", 1) - 1))
    z = draw(st.integers(0, size.get("Z", 1) - 1) | st.just("max"))
    first = draw(st.integers(0, size.get("T", 1) - 1))
    last = draw(st.integers(first + 1, size.get("T", 1)))
    return "".join(axes), np.arange(np.prod(shape)).reshape(shape), channel, z, range(first, last)


@given(stored_movies())
def test_frames_equal_numpy_indexing(movie):
    axes, array, channel, z, frames = movie
    view = MovieView.select(
        axes, array.shape, channel=channel, z=z, frames=f"{frames.start}:{frames.stop}", channel_names=()
    )
    missing = [axis for axis in "TCZ" if axis not in axes]
    full = array.reshape((1,) * len(missing) + array.shape)
    tczyx = full.transpose([("".join(missing) + axes).index(axis) for axis in "TCZYX"])
    expected = tczyx[frames.start : frames.stop, channel]
    expected = expected.max(axis=1) if z == "max" else expected[:, z]

    assert view.frames == frames
    assert view.frame_shape == expected.shape[1:]
    images = view.images(array[view.key(frames.start, frames.stop)])
    np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize(
    ("override", "names", "shape", "axes"),
    [
        (None, None, (64, 64), "YX"),
        (None, None, (9, 64, 64), "TYX"),
        ("zcyx", ["t", "c", "y", "x"], (3, 2, 64, 64), "ZCYX"),
        (None, ["t", "c", "z", "y", "x"], (9, 2, 3, 64, 64), "TCZYX"),
        (None, ["X", "Y", "time"], (64, 64, 9), "XYT"),
        (None, ["Channel", "frame", "y", "x"], (2, 9, 64, 64), "CTYX"),
        (None, list("QYX"), (9, 64, 64), "TYX"),
        (None, list("ptcyx"), (2, 9, 1, 64, 64), "PTCYX"),
        (None, list("TRYX"), (9, 2, 64, 64), "TPYX"),
        (None, ["position", "time", "channel", "z", "y", "x"], (1, 9, 1, 1, 64, 64), "PTCZYX"),
        (None, ["laser", "angle", "t", "y", "x"], (1, 1, 9, 64, 64), "??TYX"),
        (None, ["time", "row", "column"], (9, 64, 64), "TYX"),
        (None, ["dim_0", "dim_1", "dim_2"], (9, 64, 64), "TYX"),
        (None, ["", "y", "x"], (9, 64, 64), "TYX"),
        ("TYX", list("abcde"), (1, 9, 1, 64, 64), "?T?YX"),
        ("TPYX", None, (9, 2, 64, 64), "TPYX"),
    ],
)
def test_axes_come_from_the_user_then_the_metadata_then_the_number_of_axes(override, names, shape, axes):
    assert resolve_axes(override, names, shape) == axes


@pytest.mark.parametrize(
    ("override", "names", "shape", "message"),
    [
        (None, None, (9, 2, 64, 64), r"shape \(9, 2, 64, 64\) without axis names is ambiguous.* --axes TCYX$"),
        (None, None, (9, 2, 3, 64, 64), "ambiguous.* --axes TCZYX$"),
        (None, None, (64,), "ambiguous"),
        (None, list("prtcyx"), (2, 3, 9, 2, 64, 64), "axes named p, r, t, c, y, x .* --axes PTCZYX$"),
        (None, list("abptczyx"), (2,) * 6 + (64, 64), "ambiguous: save the part to track as an array of its own$"),
        (None, list("QQYX"), (3, 9, 64, 64), "axes named Q, Q, Y, X .*ambiguous.* --axes TCYX$"),
        (None, ["time", "lat", "lon"], (9, 64, 64), "axes named time, lat, lon .* --axes TYX$"),
        (None, ["y", "x"], (9, 64, 64), "axes named y, x of shape"),
        ("TYX", None, (9, 2, 64, 64), r"axes 'TYX' do not fit the shape \(9, 2, 64, 64\)"),
        ("TTYX", None, (9, 2, 64, 64), "axes 'TTYX' do not fit"),
        ("TCZX", None, (9, 2, 64, 64), "axes 'TCZX' do not fit"),
        ("TQYX", None, (9, 2, 64, 64), "axes 'TQYX' do not fit"),
    ],
)
def test_doubtful_axes_are_refused_with_an_example(override, names, shape, message):
    with pytest.raises(SourceError, match=message):
        resolve_axes(override, names, shape)


def select(axes, shape, *, channel=None, z=None, frames=None, channel_names=()):
    return MovieView.select(axes, shape, channel=channel, z=z, frames=frames, channel_names=channel_names)


@pytest.mark.parametrize(("channel", "index"), [(1, 1), ("1", 1), ("GFP", 0), ("0", 0), ("2", 2)])
def test_a_channel_is_chosen_by_index_or_label(channel, index):
    view = select("TCYX", (9, 3, 64, 64), channel=channel, channel_names=["GFP", "DIC", ""])
    assert view.channel == index


def test_a_label_that_looks_like_an_index_goes_before_the_index():
    assert select("CYX", (2, 64, 64), channel="1", channel_names=["1", "2"]).channel == 0


def test_a_single_channel_and_plane_need_no_choice():
    view = select("TCZYX", (9, 1, 1, 64, 48))
    assert (view.channel, view.z, view.frame_shape) == (0, 0, (64, 48))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, "the movie has 3 channels: choose one with --channel, of 0 \\(GFP\\), 1 \\(DIC\\), 2$"),
        ({"channel": 3}, "there is no channel 3: choose one with --channel, of 0 \\(GFP\\), 1 \\(DIC\\), 2$"),
        ({"channel": -1}, "there is no channel -1"),
        ({"channel": "RFP"}, "there is no channel 'RFP'"),
        ({"channel": 0}, "the movie has 4 z planes: choose one with --z 0 to 3, or --z max$"),
        ({"channel": 0, "z": 4}, "there is no z plane 4: choose one with --z 0 to 3, or --z max$"),
        ({"channel": 0, "z": -1}, "there is no z plane -1"),
        ({"channel": 0, "z": 0, "frames": "3"}, "frames '3' is not a range: give --frames A:B, .* --frames 0:9$"),
        ({"channel": 0, "z": 0, "frames": "1:9:2"}, "frames '1:9:2' is not a range"),
        ({"channel": 0, "z": 0, "frames": "5:5"}, "frames '5:5' selects none of the 9 frames"),
        ({"channel": 0, "z": 0, "frames": "20:30"}, "frames '20:30' selects none of the 9 frames"),
    ],
)
def test_a_wrong_choice_is_answered_with_the_right_ones(choice, message):
    with pytest.raises(SourceError, match=message):
        select("TCZYX", (9, 3, 4, 64, 64), **choice, channel_names=["GFP", "DIC"])


def test_planes_that_may_be_time_points_are_pointed_out():
    with pytest.raises(SourceError, match=r"200 z planes: .*\(or --axes TYX if they are time points\)$"):
        select("ZYX", (200, 64, 64))


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ("2:5", range(2, 5)),
        (":3", range(3)),
        ("7:", range(7, 9)),
        ("-2:", range(7, 9)),
        ("0:-1", range(8)),
        ("5:99", range(5, 9)),
        (" 1 : 2 ", range(1, 2)),
        (":", range(9)),
        (None, range(9)),
    ],
)
def test_a_range_of_frames_is_a_python_slice(frames, expected):
    assert select("TYX", (9, 64, 64), frames=frames).frames == expected


@pytest.mark.parametrize(
    ("axes", "shape", "message"),
    [
        ("TYX", (0, 64, 64), r"the image is empty \(axes TYX, shape \(0, 64, 64\)\)"),
        ("TYX", (9, 0, 64), "the image is empty"),
        ("TYX", (9, 31, 64), "frames of 31 x 64 px are too small: at least 32 x 32 px"),
        ("YXT", (64, 31, 9), "frames of 64 x 31 px are too small"),
    ],
)
def test_empty_and_tiny_images_are_refused(axes, shape, message):
    with pytest.raises(SourceError, match=message):
        select(axes, shape)


@pytest.mark.parametrize("unit", ["um", "micrometer", "µm", "\N{GREEK SMALL LETTER MU}m", "\\u00B5m", "Micron"])
def test_a_micrometre_has_many_names(unit):
    assert length_um("0.11", unit) == 0.11


@pytest.mark.parametrize(
    ("value", "unit", "um"), [(110, "nm", 0.11), (1, "angstrom", 1e-4), (2, "millimeter", 2000.0), (1, "inch", 25400.0)]
)
def test_lengths_are_converted(value, unit, um):
    assert length_um(value, unit) == pytest.approx(um)


@pytest.mark.parametrize("unit", ["pixel", "", None, 3])
def test_a_length_without_a_known_unit_is_unknown(unit):
    assert length_um(1, unit) is None


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), None, "wide", [1]])
def test_a_length_that_is_not_a_positive_number_is_unknown(value):
    assert length_um(value, "um") is None


@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [(50, "ms", 0.05), (2, "minute", 120.0), (0.5, "sec", 0.5), (1, "h", 3600.0), (1, "frame", None), (0, "s", None)],
)
def test_durations_are_converted_or_unknown(value, unit, seconds):
    assert duration_s(value, unit) == (None if seconds is None else pytest.approx(seconds))


def test_pixels_that_are_not_square_have_no_single_size():
    assert square_pixel_um(0.11, 0.110001) == 0.110001
    assert square_pixel_um(0.11, 0.22) is None
    assert square_pixel_um(None, 0.22) is None


def test_errors_name_the_file_on_one_line():
    path = Path("a movie.zarr")
    with pytest.raises(SourceError, match=r"^a movie\.zarr: too small$"), naming(path):
        raise SourceError("too small")
    with pytest.raises(SourceError, match=r"^a movie\.zarr: cannot be read: .*denied"), naming(path):
        raise PermissionError(13, "Permission denied")
