"""NDTiff data sets, whole and damaged."""

import numpy as np
import pytest
import tiff_files

from streamtrack.errors import SourceError
from streamtrack.types import LostFrame
from streamtrack_drivers.paths import is_tiff
from streamtrack_drivers.tiff_stack import TiffSource

T, P, C, Z = 6, 2, 2, 3
MOVIE = np.random.default_rng(0).integers(1, 200, (T, P, C, Z, 40, 48)).astype("uint16")
CHANNELS = ("DAPI", "GFP")
SUMMARY = {"PixelSize_um": 0.11, "Interval_ms": 50, "StagePositions": [{"Label": "left"}, {"Label": "right"}]}


def images(n_times=T, **left_out):
    """Return the images of the movie with their axes, in an acquisition's order."""
    for t, p, c, z in np.ndindex(n_times, P, C, Z):
        axes = {"time": t, "position": p, "channel": CHANNELS[c], "z": z - 1}
        if any(axes[axis] != value for axis, value in left_out.items()) or not left_out:
            yield axes, MOVIE[t, p, c, z]


def said(axes):
    return {"ElapsedTime-ms": 50.0 * axes["time"] + 3, "PixelSizeUm": 0.11}


def write(folder, **options):
    return tiff_files.ndtiff(folder / "a", list(images()), summary=SUMMARY, said=said, **options)


def plain(folder, n=8, **options):
    """Write a data set of time points only."""
    return tiff_files.ndtiff(folder / "a", [({"time": t}, MOVIE[t % T, 0, 0, 0]) for t in range(n)], **options)


def read(path, **settings):
    source = TiffSource(path=path, **settings)
    items = list(source.frames())
    source.close()
    assert source.info.n_frames == len(items)
    frames = {item.index: item.pixels for item in items if not isinstance(item, LostFrame)}
    return frames, {item.index: item.cause for item in items if isinstance(item, LostFrame)}


@pytest.mark.parametrize("per_file", [1000, 5])
@pytest.mark.parametrize("named", ["", "NDTiff.index", "a_NDTiffStack.tif"])
def test_positions_channels_and_planes_are_chosen_by_name_or_index(tmp_path, per_file, named):
    path = write(tmp_path, per_file=per_file) / named
    assert is_tiff(str(path))
    for p, c, z in np.ndindex(P, C, Z):
        frames, lost = read(path, position=("left", "1")[p], channel=CHANNELS[c], z=z)
        assert not lost
        np.testing.assert_array_equal(list(frames.values()), MOVIE[:, p, c, z])


def test_scale_times_and_names_are_those_of_the_acquisition(tmp_path):
    source = TiffSource(path=write(tmp_path), position=0, channel="GFP", z=0)
    assert source.choices() == {"position": ["left", "right"], "channel": ["DAPI", "GFP"], "z": [""] * Z}
    assert (source.info.pixel_size_um, round(source.info.frame_interval_s, 9)) == (0.11, 0.05)
    np.testing.assert_allclose([frame.time_s for frame in source.frames()], np.arange(T) * 0.05 + 0.003)
    source.close()


def test_rows_and_columns_and_axes_of_ones_own_are_positions(tmp_path):
    grid = [({"time": t, "row": r, "column": c}, MOVIE[t, r, c, 0]) for t in range(T) for r in (0, 1) for c in (0, 1)]
    path = tiff_files.ndtiff(tmp_path / "a", grid)
    with pytest.raises(SourceError, match=r"4 positions: .* 0 \(column 0, row 0\)"):
        TiffSource(path=path)
    np.testing.assert_array_equal(list(read(path, position="column 1, row 0")[0].values()), MOVIE[:, 0, 1, 0])


def test_what_was_never_recorded_is_lost(tmp_path):
    path = tiff_files.ndtiff(tmp_path / "a", list(images(time=4)))
    frames, lost = read(path, position=1, channel=0, z=0)
    assert lost == {4: "never recorded: NDTiff.index does not name it"}
    assert sorted(frames) == [0, 1, 2, 3, 5]


def test_a_file_that_is_cut_off_loses_its_last_frames_for_one_cause(tmp_path):
    path = plain(tmp_path)
    file = path / "a_NDTiffStack.tif"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 5 // 8])
    frames, lost = read(file)
    assert set(lost.values()) == {"missing page: the file is cut off"}
    assert len(frames) in (4, 5)
    assert sorted([*frames, *lost]) == list(range(8))
    assert all(np.array_equal(pixels, MOVIE[t % T, 0, 0, 0]) for t, pixels in frames.items())


def test_a_file_that_is_missing_or_no_tiff_is_one_cause(tmp_path):
    path = plain(tmp_path, n=9, per_file=3)
    (path / "a_NDTiffStack_1.tif").unlink()
    (path / "a_NDTiffStack_2.tif").write_bytes(b"nothing")
    frames, lost = read(path)
    assert sorted(frames) == [0, 1, 2]
    assert [lost[t] for t in (3, 4, 5)] == ["missing file a_NDTiffStack_1.tif"] * 3
    assert all("unreadable file a_NDTiffStack_2.tif" in lost[t] for t in (6, 7, 8))


def test_the_first_file_may_be_missing(tmp_path):
    path = plain(tmp_path, per_file=3)
    (path / "a_NDTiffStack.tif").unlink()
    frames, lost = read(path)
    assert (sorted(frames), sorted(lost)) == ([3, 4, 5, 6, 7], [0, 1, 2])
    for file in path.glob("*.tif"):
        file.unlink()
    with pytest.raises(SourceError, match="none of its files is there"):
        TiffSource(path=path)


@pytest.mark.parametrize(
    ("n_bytes", "cause"),
    [(-10, "NDTiff.index is cut off"), (-1 * 72, "leaves out 1 images at the end of a_NDTiffStack.tif")],
)
def test_an_index_that_breaks_off_ends_in_a_lost_frame(tmp_path, n_bytes, cause):
    path = plain(tmp_path)
    index = path / "NDTiff.index"
    whole = index.read_bytes()
    n_entry = len(whole) // 8
    index.write_bytes(whole[: -n_entry if n_bytes < -10 else n_bytes])
    frames, lost = read(path)
    assert sorted(frames) == list(range(7))
    assert list(lost) == [7]
    assert cause in lost[7]


def test_an_index_with_room_for_more_is_whole(tmp_path):
    path = plain(tmp_path)
    with (path / "NDTiff.index").open("ab") as index:
        index.write(bytes(5000))
    assert not read(path)[1]


def test_files_that_the_index_does_not_name_are_a_lost_frame(tmp_path):
    path = plain(tmp_path)
    (path / "a_NDTiffStack_1.tif").write_bytes((path / "a_NDTiffStack.tif").read_bytes())
    assert read(path)[1] == {8: "NDTiff.index does not name a_NDTiffStack_1.tif, which lies beside it"}


def test_a_wrong_place_in_the_index_is_a_lost_frame(tmp_path):
    path = plain(tmp_path)
    index = bytearray((path / "NDTiff.index").read_bytes())
    n_entry = len(index) // 8
    at = [number * n_entry + index.index(b".tif") + 4 for number in (2, 5, 6)]
    index[at[0] : at[0] + 4] = (1000).to_bytes(4, "little")
    index[at[1] : at[1] + 4] = index[at[2] : at[2] + 4]
    (path / "NDTiff.index").write_bytes(index)
    frames, lost = read(path)
    assert lost[2] == "damaged page: not where NDTiff.index says"
    assert lost[5] == lost[6] == "damaged page: NDTiff.index names its place twice"
    assert len(frames) == 5


def test_without_its_index_nobody_knows_which_image_is_which(tmp_path):
    path = write(tmp_path)
    (path / "NDTiff.index").unlink()
    with pytest.raises(SourceError, match=r"index is missing.* copy NDTiff.index to it, or pass --axes TYX"):
        TiffSource(path=path)
    assert len(read(path, axes="TYX")[0]) == T * P * C * Z


def test_a_damaged_header_does_not_make_a_movie_of_one_file(tmp_path):
    path = plain(tmp_path, per_file=4)
    file = path / "a_NDTiffStack.tif"
    file.write_bytes(file.read_bytes()[:8] + bytes(12) + file.read_bytes()[20:])
    assert sorted(read(path)[0]) == list(range(8))


@pytest.mark.parametrize("content", [b"", b"nothing that could be an index"])
def test_an_index_of_nothing_is_refused(tmp_path, content):
    path = plain(tmp_path)
    (path / "NDTiff.index").write_bytes(content)
    with pytest.raises(SourceError, match=r"NDTiff.index cannot be used: it names no image"):
        TiffSource(path=path)


def test_the_full_resolution_of_a_pyramid_is_read(tmp_path):
    (tmp_path / "p").mkdir()
    images = [({"time": t, "row": 0, "column": 0}, MOVIE[t, 0, 0, 0]) for t in range(T)]
    tiff_files.ndtiff(tmp_path / "p" / "Full resolution", images)
    tiff_files.ndtiff(tmp_path / "p" / "Downsampled_x2", [(axes, image[::2, ::2]) for axes, image in images])
    np.testing.assert_array_equal(list(read(tmp_path / "p")[0].values()), MOVIE[:, 0, 0, 0])
