"""Movies of which each image is a TIFF file of its own."""

import numpy as np
import pytest
import tiff_files
import tifffile

from streamtrack.errors import SourceError
from streamtrack.types import Frame, LostFrame
from streamtrack_drivers.paths import is_tiff
from streamtrack_drivers.tiff_stack import TiffSource

MOVIE = np.random.default_rng(0).integers(1, 200, (12, 40, 48)).astype("uint16")


def write(folder, names):
    folder.mkdir()
    for name, image in names.items():
        tifffile.imwrite(folder / name, image, photometric="minisblack")
    return folder


def read(path, **settings):
    source = TiffSource(path=path, **settings)
    items = list(source.frames())
    source.close()
    assert source.info.n_frames == len(items)
    return items


def assert_shows(items, movie):
    assert [item.index for item in items] == list(range(len(movie)))
    for item in items:
        np.testing.assert_array_equal(item.pixels, movie[item.index])


@pytest.mark.parametrize(
    "name", ["img_channel000_position000_time{:09d}_z000.tif", "{}.tif", "cell 7 day 2_t{}.TIF", "a{:03d}.tiff"]
)
@pytest.mark.parametrize("first", [0, 1])
def test_numbers_in_names_are_time_points_in_natural_order(tmp_path, name, first):
    path = write(tmp_path / "m", {name.format(t + first): image for t, image in enumerate(MOVIE)})
    (path / "notes.txt").write_text("t")
    assert is_tiff(str(path))
    assert_shows(read(path), MOVIE)


def test_a_number_that_is_left_out_and_a_damaged_file_are_lost_frames(tmp_path):
    path = write(tmp_path / "m", {f"a_{t}.tif": image for t, image in enumerate(MOVIE) if t != 5})
    (path / "a_0.tif").write_bytes(b"nothing")
    items = read(path)
    lost = {item.index: item.cause for item in items if isinstance(item, LostFrame)}
    assert sorted(lost) == [0, 5]
    assert lost[5] == "missing file: its number is left out in the folder"
    assert "a_0.tif" in lost[0]
    assert all(np.array_equal(item.pixels, MOVIE[item.index]) for item in items if isinstance(item, Frame))


def test_every_second_number_and_dates_are_no_gaps(tmp_path):
    dates = np.cumsum(np.random.default_rng(1).integers(1000, 2000, len(MOVIE))) + 20260101000000
    for folder, numbers in (("even", range(10, 34, 2)), ("dates", dates)):
        path = write(tmp_path / folder, {f"{n}.tif": i for n, i in zip(numbers, MOVIE, strict=True)})
        assert_shows(read(path), MOVIE)
        remarks = TiffSource(path=path).remarks()
        said = f"numbered from {dates[0]} to {dates[-1]}, too far apart for frames: the 12 are taken in their order"
        assert [said in each for each in remarks] == ([True] if folder == "dates" else [])


def test_a_link_that_leads_nowhere_is_a_lost_frame(tmp_path):
    path = write(tmp_path / "m", {f"{t}.tif": image for t, image in enumerate(MOVIE)})
    for gone in (3, 11):
        (path / f"{gone}.tif").unlink()
        try:
            (path / f"{gone}.tif").symlink_to(tmp_path / "offline" / "x.tif")
        except OSError as error:
            pytest.skip(f"no links here: {error}")
    lost = {item.index: item.cause for item in read(path) if isinstance(item, LostFrame)}
    assert lost == {3: "missing file 3.tif", 11: "missing file 11.tif"}


def test_channels_and_positions_in_names_are_chosen(tmp_path):
    movie = MOVIE.reshape(3, 2, 2, 40, 48)
    names = {f"x_p{p}_t{t}_c{c + 1}.tif": movie[t, p, c] for t in range(3) for p in range(2) for c in range(2)}
    path = write(tmp_path / "m", names)
    with pytest.raises(SourceError, match="2 channels: choose one with --channel, of 0, 1"):
        TiffSource(path=path)
    assert_shows(read(path, position=1, channel=0), movie[:, 1, 0])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a_1.tif", "b_1.tif"], r"files of several kinds \(a_1.tif, b_1.tif\)"),
        (["1_1.tif", "2_2.tif"], "several numbers .* which one is the time is unknown"),
        (["a_1.tif", "a_01.tif"], "two files for one image"),
        (
            ["x_MMStack_Pos0.ome.tif", "x_MMStack_Pos1.ome.tif"],
            "folder of 2 stacks, and x_MMStack_Pos0",
        ),
        (
            ["x_MMStack_Pos0.ome.tif", "y_MMStack_Pos0.ome.tif"],
            r"2 acquisitions by Micro-Manager \(x, y\)",
        ),
        (["x_NDTiffStack.tif", "x_NDTiffStack_1.tif"], "a folder of NDTiff without its NDTiff.index"),
    ],
)
def test_a_folder_in_no_order_is_refused_in_one_line(tmp_path, names, message):
    with pytest.raises(SourceError, match=message):
        TiffSource(path=write(tmp_path / "m", dict.fromkeys(names, MOVIE[0])))


def test_a_folder_in_the_folder_is_meant_where_it_is_the_only_one(tmp_path):
    write(tmp_path / "Default", {f"{t}.tif": image for t, image in enumerate(MOVIE)})
    assert is_tiff(str(tmp_path))
    assert_shows(read(tmp_path), MOVIE)
    write(tmp_path / "Pos1", {"0.tif": MOVIE[0]})
    with pytest.raises(SourceError, match="2 folders of images: give one of them, Default, Pos1"):
        TiffSource(path=tmp_path)


def test_a_folder_of_stacks_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"folder of stacks \(a_1.tif has several images\): give one of its files"):
        TiffSource(path=write(tmp_path / "m", {"a_1.tif": MOVIE, "a_2.tif": MOVIE}))


@pytest.mark.parametrize("missing", [False, True])
def test_a_folder_by_micro_manager_has_the_positions_of_all_its_files(tmp_path, missing):
    movie, folder = MOVIE.reshape(2, 6, 40, 48), tmp_path / "m"
    folder.mkdir()
    planned = {"Frames": 6, "Positions": 2, "PixelSize_um": 0.11, "Interval_ms": 50}
    planned["StagePositions"] = [{"Label": "left"}, {"Label": "right"}]
    for p in range(2):
        places = [(0, 0, t, p) for t in range(6)]
        tiff_files.mmstack(folder / f"x_MMStack_Pos{p}.ome.tif", movie[p], places, planned=planned)
    assert_shows(read(folder / "x_MMStack_Pos1.ome.tif"), movie[1])
    if missing:
        (folder / "x_MMStack_Pos0.ome.tif").unlink()
        return assert_shows(read(folder), movie[1])
    with pytest.raises(SourceError, match=r"2 positions: choose one with --position, of 0 \(left\), 1 \(right\)"):
        TiffSource(path=folder)
    source = TiffSource(path=folder, position="right")
    source.close()
    assert (source.info.pixel_size_um, source.info.frame_interval_s) == (0.11, 0.05)
    return assert_shows(read(folder, position="right"), movie[1])
