"""What people met with movies in other programs, acted out by the scripts of ../shared/cases: each comes out right."""

import runpy
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from streamtrack import registry
from streamtrack.errors import SourceError
from streamtrack.types import Frame

CASES = Path(__file__).parents[3] / "shared" / "cases" / "public"


@pytest.fixture
def act(tmp_path, monkeypatch):
    """Run a script by its number; its folder and its names are given back."""

    def run(number):
        script = next(CASES.glob(f"{number}_*.py"), None)
        if script is None:
            pytest.skip("needs the scripts of ../shared/cases, which are not part of the repository")
        monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path)])
        return tmp_path, runpy.run_path(str(script), run_name="__main__")

    return run


def read(path, **settings):
    """Return the source's info, its frames by their index, how many were lost of which cause, and its remarks."""
    table = registry.source_from_text(str(path)) | settings
    source = registry.load("sources", table.pop("kind"))(**table)
    items = list(source.frames())
    source.close()
    lost = Counter(item.cause for item in items if not isinstance(item, Frame))
    remarks = source.remarks() if hasattr(source, "remarks") else []
    return source.info, {item.index: item for item in items if isinstance(item, Frame)}, lost, remarks


def assert_whole(read, movie, *, pixel_um=None, interval_s=None):
    info, frames, lost, _ = read
    assert not lost
    np.testing.assert_array_equal([frames[index].pixels for index in range(len(movie))], movie)
    assert pixel_um is None or info.pixel_size_um == pytest.approx(pixel_um)
    assert interval_s is None or info.frame_interval_s == pytest.approx(interval_s)


def test_01_two_positions_by_micro_manager(act):
    folder, script = act("01")
    for path in (folder, next(folder.glob("*.tif"))):
        with pytest.raises(SourceError, match="2 positions: choose one with --position, of 0, 1"):
            read(path)
        for position in (0, 1):
            movie = script["movie"](seed=position + 1)[0]
            assert_whole(read(path, position=position), movie, pixel_um=0.11, interval_s=0.05)


def test_02_a_burst_has_the_times_of_its_planes(act):
    folder, script = act("02")
    assert_whole(read(folder), script["movie"](n=20, seed=1)[0], pixel_um=0.11, interval_s=0.02)


def test_03_ndtiff(act):
    pytest.importorskip("ndstorage")
    folder, script = act("03")
    for channel, seed in (("DAPI", 1), ("GFP", 2), ("1", 2)):
        assert_whole(read(folder, channel=channel), script["movie"](seed=seed)[0], pixel_um=0.11, interval_s=0.05)


def test_04_a_tiff_of_another_name(act):
    folder, script = act("04")
    files = list(folder.glob("movie*"))
    assert len(files) == 5
    for path in files:
        as_said = {"axes": "TYX"} if ".ome." in path.name else {}  # its OME-XML has 12 channels
        assert_whole(read(path, **as_said), script["movie"](seed=1)[0])
    with pytest.raises(SourceError, match=r"12 channels: .*\(or --axes TYX if they are time points\)$"):
        read(folder / "movie.ome.tf2")


def test_05_an_ome_tiff_in_several_files(act):
    folder, script = act("05")
    movie = script["movie"](n=24, seed=1)[0]
    for path in (*(folder / "whole").iterdir(), folder / "whole"):
        assert_whole(read(path), movie, pixel_um=0.11, interval_s=0.05)
    for path in (*(folder / "second_missing").iterdir(), folder / "second_missing"):
        _, frames, lost, _ = read(path)
        assert lost == {"missing file exp_1.ome.tif": 8}
        assert sorted(frames) == [*range(8), *range(16, 24)]
    _, frames, lost, _ = read(folder / "renamed" / "cell7_1.ome.tif")
    assert lost == {"missing file exp_0.ome.tif": 8, "missing file exp_2.ome.tif": 8}
    np.testing.assert_array_equal([frame.pixels for frame in frames.values()], movie[8:16])


def test_13_encodings(act):
    folder, _ = act("13")
    movie, movie_8 = np.load(folder / "truth.npy"), np.load(folder / "truth8.npy")
    refused, lossy, partly = {"int16.tif", "uint32.tif"}, {"jpeg8.tif"}, {"one_page_other_size.tif"}
    files = {path.name: path for path in folder.glob("*.tif")}
    assert len(files) == 23
    for name in refused:
        with pytest.raises(SourceError, match="cannot be tracked: convert it"):
            read(files[name])
    for name in files.keys() - refused - lossy - partly:
        stored = movie_8 if "8.tif" in name else movie
        assert_whole(read(files[name]), stored)
    _, frames, lost, _ = read(files["one_page_other_size.tif"])
    assert (sorted(frames), list(lost)) == ([0, 1, 2, 4], ["page of another kind: height 80, not 96"])
    _, frames, _, _ = read(files["jpeg8.tif"])
    assert np.abs(frames[0].pixels.astype(int) - movie_8[0]).mean() < 1


def test_14_acquisitions_that_were_stopped(act):
    folder, _ = act("14")
    with pytest.raises(SourceError, match=r"3 acquisitions by Micro-Manager \(aborted_1, killed_1, twoch_1\)"):
        read(folder)
    expected = {
        "aborted": (12, {"never recorded: the acquisition ended after 12 of 20 images": 8}),
        "killed": (7, {"missing page: the file is cut off": 5}),
        "twoch": (11, {"never recorded: the acquisition ended after 23 of 40 images": 9}),
    }
    for name, (n, causes) in expected.items():
        settings = {"channel": 1} if name == "twoch" else {}
        _, frames, lost, _ = read(next(folder.glob(f"{name}*.tif")), **settings)
        np.testing.assert_array_equal([frame.pixels for frame in frames.values()], np.load(folder / "truth.npy")[:n])
        assert lost == causes


def test_15_axes_of_acquisitions(act):
    folder, script = act("15")
    movie, arrays = np.load(folder / "truth.npy"), {path.name: path for path in folder.glob("*.zarr")}
    assert len(arrays) == 11
    of_two = arrays.pop("p_t_c_y_x.zarr")
    with pytest.raises(SourceError, match="2 positions: choose one with --position, of 0, 1"):
        read(of_two)
    assert_whole(read(of_two, position=1), script["movie"](n=5, seed=2)[0])
    for path in arrays.values():
        assert_whole(read(path), movie)


def test_16_a_folder_of_images(act):
    folder, script = act("16")
    for path in (folder, folder / "Default"):
        assert_whole(read(path), script["movie"](seed=1)[0])


def test_18_ndtiff_that_is_not_whole(act):
    pytest.importorskip("ndstorage")
    folder, _ = act("18")
    for name, missing, cause in (
        ("cut_1", range(8, 12), "missing page: the file is cut off"),
        ("gap_1", (5,), "never recorded: NDTiff.index does not name it"),
    ):
        for path in (folder / name, next((folder / name).glob("*.tif"))):
            _, frames, lost, _ = read(path)
            assert lost == {cause: len(missing)}
            assert sorted(frames) == [index for index in range(12) if index not in missing]
            movie = np.load(folder / "truth.npy")
            assert all(np.array_equal(frame.pixels, movie[index]) for index, frame in frames.items())


@pytest.mark.parametrize(
    ("name", "pause_s", "n_remarks"), [("regular", 0, 0), ("pause", 0.06, 0), ("wrong_increment", 0, 1)]
)
def test_19_times_of_planes(act, name, pause_s, n_remarks):
    folder, _ = act("19")
    info, frames, _, remarks = read(folder / f"{name}.ome.tif")
    assert info.frame_interval_s == pytest.approx(0.02)
    steps = np.diff([frame.time_s for frame in frames.values()])
    np.testing.assert_allclose(steps, 0.02 + pause_s * (np.arange(19) == 9))
    assert len(remarks) == n_remarks


def test_21_levels_of_a_pyramid(act):
    folder, _ = act("21")
    for level in range(3):
        info, frames, lost, _ = read(folder / "movie.ome.zarr", level=level)
        assert (len(frames), sum(lost.values())) == (8, 0)
        assert (info.shape, info.pixel_size_um) == ((256 >> level, 256 >> level), pytest.approx(0.1 * 2**level))
