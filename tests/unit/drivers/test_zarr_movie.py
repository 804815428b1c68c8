"""Movies in zarr, written here with zarr itself."""

import asyncio
import os
import shutil
import threading
import time

import numpy as np
import pytest
import zarr
from movies import assert_shows
from zarr.storage import LocalStore
from zarr_movies import make_movie, read, write_array

from streamtrack.errors import ConfigError, SourceError
from streamtrack.types import Frame
from streamtrack_drivers import stored_array, zarr_movie
from streamtrack_drivers.zarr_movie import ZarrSource


def write_ome(path, levels, axes, version, *, units=None, scales=None, transforms=(), channels=()):
    """Write an OME-Zarr image; ``scales`` has one list for each level."""
    zarr_format = {"0.4": 2, "0.5": 3}[version]
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    kinds = {"T": "time", "C": "channel"}
    described = [{"name": axis.lower(), "type": kinds.get(axis, "space")} for axis in axes]
    for axis in described:
        if axis["name"] in (units or {}):
            axis["unit"] = units[axis["name"]]
    scales = scales or [[1.0] * len(axes)] * len(levels)
    datasets = [
        {"path": f"level_{i}", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for i, scale in enumerate(scales)
    ]
    multiscale = {"axes": described, "datasets": datasets, "coordinateTransformations": list(transforms)}
    metadata = {"multiscales": [multiscale], "omero": {"channels": [{"label": label} for label in channels]}}
    group.attrs.update(metadata | {"version": "0.4"} if version == "0.4" else {"ome": metadata | {"version": "0.5"}})
    for dataset, movie in zip(datasets, levels, strict=True):
        chunks = tuple(n if axis in "YX" else 1 for axis, n in zip(axes, movie.shape, strict=True))
        group.create_array(dataset["path"], data=movie, chunks=chunks)
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_plain_arrays(tmp_path, zarr_format, dtype):
    movie = make_movie(dtype=dtype)
    info, items = read(write_array(tmp_path / "m.zarr", movie, zarr_format))
    assert (info.shape, info.dtype, info.n_frames, info.clock) == ((40, 48), dtype, 6, "nominal")
    assert info.pixel_size_um is None
    assert info.frame_interval_s is None
    assert info.details["format"] == f"zarr {zarr_format}"
    assert_shows(items, movie)
    assert [item.time_s for item in items] == [0, 1, 2, 3, 4, 5]
    assert all(item.pixels.dtype == dtype for item in items)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("stored", "dtype"), [(">u2", "uint16"), (">f4", "float32"), ("<f8", "float32")])
def test_foreign_byte_orders_and_widths_are_converted(tmp_path, zarr_format, stored, dtype):
    movie = make_movie(dtype=stored)
    info, items = read(write_array(tmp_path / "m.zarr", movie, zarr_format))
    assert info.dtype == dtype
    assert_shows(items, movie)
    assert all(item.pixels.dtype == np.dtype(dtype) and item.pixels.dtype.isnative for item in items)


def test_one_image_is_a_movie_of_one_frame(tmp_path):
    movie = make_movie((1, 40, 48))
    info, items = read(write_array(tmp_path / "m.zarr", movie[0]))
    assert info.n_frames == 1
    assert_shows(items, movie)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["TCZYX", "TZCYX", "CTYX", "TYX", "YX", "XYT", "ZXYCT"])
def test_ome_zarr_in_any_order_of_axes(tmp_path, version, axes):
    tczyx = make_movie((5, 2, 3, 40, 48))
    whole = tczyx[tuple(slice(None) if axis in axes else 0 for axis in "TCZYX")]
    stored = whole.transpose(["".join(a for a in "TCZYX" if a in axes).index(axis) for axis in axes])
    path = write_ome(tmp_path / "m.ome.zarr", [stored], axes, version, channels=["GFP", "DIC"])
    channel, z = (1 if "C" in axes else 0), (2 if "Z" in axes else 0)
    info, items = read(path, channel="DIC" if "C" in axes else None, z=2 if "Z" in axes else None)
    assert info.details["axes"] == axes
    assert_shows(items, tczyx[: None if "T" in axes else 1, channel, z])
    assert all(item.pixels.flags.c_contiguous for item in items)
    if "Z" in axes:
        _, items = read(path, channel=channel, z="max")
        assert_shows(items, tczyx[: None if "T" in axes else 1, channel].max(axis=1))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_have_their_own_pixels_and_pixel_size(tmp_path, version):
    fine, coarse = make_movie((4, 80, 96)), make_movie((4, 40, 48))
    path = write_ome(
        tmp_path / "m.zarr",
        [fine, coarse],
        "TYX",
        version,
        units={"t": "millisecond", "y": "nanometer", "x": "nanometer"},
        scales=[[1, 110, 110], [1, 220, 220]],
        transforms=[{"type": "scale", "scale": [50, 1, 1]}],
    )
    info, items = read(path)
    assert_shows(items, fine)
    assert info.pixel_size_um == pytest.approx(0.11)
    assert info.frame_interval_s == pytest.approx(0.05)
    assert [item.time_s for item in items] == pytest.approx([0, 0.05, 0.1, 0.15])
    info, items = read(path, level=1)
    assert_shows(items, coarse)
    assert info.pixel_size_um == pytest.approx(0.22)
    with pytest.raises(SourceError, match=r"no level 2: .* of 0 \(4, 80, 96\), 1 \(4, 40, 48\)$"):
        ZarrSource(path=path, level=2)
    with pytest.raises(ConfigError, match="level = -1 is not valid"):
        ZarrSource(path=path, level=-1)


def test_a_scale_without_a_unit_says_nothing(tmp_path):
    info, _ = read(write_ome(tmp_path / "m.zarr", [make_movie()], "TYX", "0.5", scales=[[2.0, 0.1, 0.1]]))
    assert (info.pixel_size_um, info.frame_interval_s) == (None, None)


def test_axis_names_of_format_3_and_of_xarray(tmp_path):
    movie = make_movie((2, 5, 40, 48))
    path = write_array(tmp_path / "v3.zarr", movie, dimension_names=["c", "t", "y", "x"])
    assert_shows(read(path, channel=1)[1], movie[1])
    path = write_array(tmp_path / "v2.zarr", movie, zarr_format=2)
    zarr.open_array(path).attrs["_ARRAY_DIMENSIONS"] = ["channel", "time", "y", "x"]
    assert_shows(read(path, channel=1)[1], movie[1])


def test_several_channels_are_listed_with_their_labels(tmp_path):
    path = write_ome(tmp_path / "m.zarr", [make_movie((3, 2, 40, 48))], "TCYX", "0.5", channels=["GFP", "DIC"])
    with pytest.raises(SourceError, match=r"2 channels: choose one with --channel, of 0 \(GFP\), 1 \(DIC\)$"):
        ZarrSource(path=path)


def test_several_positions_are_refused_and_the_cure_chooses_one(tmp_path):
    movie = make_movie((2, 5, 3, 40, 48))
    path = write_array(tmp_path / "m.zarr", movie, dimension_names=["p", "t", "c", "y", "x"])
    with pytest.raises(SourceError, match=r"2 positions: choose one with --position, of 0, 1$"):
        ZarrSource(path=path, channel=0)
    with pytest.raises(SourceError, match=r"no position 2: choose one with --position, of 0, 1$"):
        ZarrSource(path=path, channel=0, position=2)
    info, items = read(path, position=1, channel=2)
    assert_shows(items, movie[1, :, 2])
    assert info.details["position"] == 1


def test_an_image_in_a_group_is_chosen_by_its_index_or_path(tmp_path):
    movies = [make_movie((3, 40, 48), seed=seed) for seed in (0, 1)]
    group = zarr.open_group(tmp_path / "plate.zarr", mode="w")
    for name, movie in zip(("A/1", "B/2"), movies, strict=True):
        group.create_array(name, data=movie, dimension_names=["t", "y", "x"])
    with pytest.raises(SourceError, match=r"2 images: choose one with --position, by its name or 0 to 1, .* A/1 \(3"):
        ZarrSource(path=tmp_path / "plate.zarr")
    for position in (1, "B/2"):
        assert_shows(read(tmp_path / "plate.zarr", position=position)[1], movies[1])


def test_axes_of_length_1_have_no_part_in_it(tmp_path):
    movie = make_movie((5, 40, 48))
    names = ["p", "t", "c", "z", "laser", "y", "x"]
    path = write_array(tmp_path / "m.zarr", movie[None, :, None, None, None], dimension_names=names)
    assert_shows(read(path)[1], movie)


def test_the_axes_option_goes_before_the_metadata(tmp_path):
    movie = make_movie((5, 40, 48))
    path = write_array(tmp_path / "m.zarr", movie, dimension_names=["z", "y", "x"])
    with pytest.raises(SourceError, match=r"5 z planes: .*--axes TYX if they are time points"):
        ZarrSource(path=path)
    assert_shows(read(path, axes="TYX")[1], movie)


def test_a_range_keeps_the_numbers_of_the_whole_movie(tmp_path):
    movie = make_movie((9, 40, 48))
    info, items = read(write_array(tmp_path / "m.zarr", movie, chunks=(4, 40, 48)), frames="3:-1")
    assert info.n_frames == 5
    assert_shows(items, movie, [3, 4, 5, 6, 7])
    assert [item.time_s for item in items] == [3, 4, 5, 6, 7]


class WatchedStore(LocalStore):
    """Notes what happens to the chunks, and takes its time over each of them."""

    def __init__(self, path):
        super().__init__(path, read_only=True)
        self.events = []

    async def get(self, key, *args, **kwargs):
        value = await super().get(key, *args, **kwargs)
        if key.startswith("c/"):
            await asyncio.sleep(0.05)
            self.events.append(key)
        return value

    def close(self):
        super().close()
        self.events.append("closed")


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Return the store of a movie of 8 frames, 3 in a chunk, and put it under the next source."""
    store = WatchedStore(write_array(tmp_path / "m.zarr", make_movie((8, 40, 48)), chunks=(3, 40, 48)))
    monkeypatch.setattr(zarr_movie, "_open_store", lambda path: (store, ""))
    return store


def test_a_chunk_of_several_frames_is_read_once(watched):
    assert_shows(read(watched.root)[1], make_movie((8, 40, 48)))
    assert sorted(watched.events[:-1]) == ["c/0/0/0", "c/1/0/0", "c/2/0/0"]
    assert watched.events[-1] == "closed"


def test_close_waits_for_the_block_that_is_being_read(watched):
    source = ZarrSource(path=watched.root)
    items = []
    reader = threading.Thread(target=lambda: items.extend(source.frames()))
    reader.start()
    time.sleep(0.02)
    source.close()
    reader.join(5)
    assert watched.events[-1] == "closed"
    assert len(watched.events) in (1, 4)
    assert items == []


def test_a_damaged_chunk_costs_only_its_own_frames_though_chunks_are_read_together(tmp_path):
    movie = make_movie((8, 40, 48))
    path = write_array(tmp_path / "m.zarr", movie, chunks=(2, 40, 48))
    (path / "c" / "1" / "0" / "0").unlink()
    items = list(ZarrSource(path=path).frames())
    assert [item.index for item in items] == list(range(8))
    assert [item.index for item in items if not isinstance(item, Frame)] == [2, 3]


def test_a_block_never_grows_beyond_its_bound(tmp_path, monkeypatch):
    movie = make_movie((9, 40, 48))
    path = write_array(tmp_path / "m.zarr", movie, chunks=(9, 40, 48))
    monkeypatch.setattr(stored_array, "BLOCK_BYTES", 2 * movie[0].nbytes)
    source = ZarrSource(path=path)
    frames = list(source.frames())
    assert_shows(frames, movie)
    assert max(frame.pixels.base.shape[0] for frame in frames) == 2


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_an_array_that_grew_after_its_metadata_were_consolidated(tmp_path):
    movie = make_movie((4, 40, 48))
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    array = group.create_array("movie", data=movie[:2], chunks=(1, 40, 48))
    zarr.consolidate_metadata(tmp_path / "g.zarr")
    array.append(movie[2:])
    assert_shows(read(tmp_path / "g.zarr")[1], movie)


def test_a_group_with_one_image_stands_for_it(tmp_path):
    movie = make_movie()
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("deep/inside/movie", data=movie, chunks=(1, 40, 48))
    group.create_array("time", data=np.arange(6.0))
    info, items = read(tmp_path / "g.zarr")
    assert_shows(items, movie)
    assert info.details["array"] == "deep/inside/movie"
    assert_shows(read(tmp_path / "g.zarr" / "deep" / "inside" / "movie")[1], movie)


def test_a_series_of_bioformats2raw(tmp_path):
    movie = make_movie()
    zarr.open_group(tmp_path / "g.zarr", mode="w", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    write_ome(tmp_path / "g.zarr" / "0", [movie, movie[:, ::2, ::2]], "TYX", "0.4")
    assert_shows(read(tmp_path / "g.zarr")[1], movie)
    write_ome(tmp_path / "g.zarr" / "1", [movie[:3]], "TYX", "0.4")
    with pytest.raises(SourceError, match=r"holds 2 images: .*to the path, of 0 \(multiscale\), 1 \(multiscale\)$"):
        ZarrSource(path=tmp_path / "g.zarr")
    assert_shows(read(tmp_path / "g.zarr" / "1")[1], movie[:3])


def test_zip_files_and_paths_inside_them(tmp_path):
    movie = make_movie()
    write_ome(tmp_path / "m", [movie], "TYX", "0.5")
    write_array(tmp_path / "in_zip" / ".hidden" / "m.zarr", movie)
    one = shutil.make_archive(str(tmp_path / "one.zarr"), "zip", tmp_path / "m")
    deep = shutil.make_archive(str(tmp_path / "deep"), "zip", tmp_path / "in_zip")
    assert_shows(read(one)[1], movie)
    assert_shows(read(tmp_path / "deep.zip" / ".hidden" / "m.zarr")[1], movie)
    with pytest.raises(SourceError, match="no zarr array or group here"):
        ZarrSource(path=tmp_path / "deep.zip" / "elsewhere")
    os.remove(one)  # fails on Windows while the source has it open
    os.remove(deep)


@pytest.mark.parametrize("name", ["with space.zarr", "µ-Tubuli été.zarr", "trailing.zarr/", "[x] (1) & #2.zarr"])
def test_paths_that_people_use(tmp_path, monkeypatch, name):
    movie = make_movie()
    monkeypatch.chdir(tmp_path)
    write_array(tmp_path / name, movie)
    assert_shows(read(tmp_path / name)[1], movie)
    assert_shows(read(name)[1], movie)
    (tmp_path / "sub").mkdir()
    assert_shows(read(tmp_path / "sub" / ".." / name)[1], movie)


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    movie = make_movie()
    write_array(tmp_path / "m.zarr", movie)
    assert_shows(read("~/m.zarr")[1], movie)


def test_nan_and_infinite_pixels_are_handed_over(tmp_path):
    """Masking them is the loop's business, which counts them."""
    movie = make_movie(dtype="float64")
    movie[1, 2, 3], movie[1, 4, 5], movie[1, 6, 7] = np.nan, np.inf, 1e300
    _, items = read(write_array(tmp_path / "m.zarr", movie))
    assert np.isnan(items[1].pixels[2, 3])
    assert np.isinf(items[1].pixels[[4, 6], [5, 7]]).all()


def test_close_ends_a_running_iteration(tmp_path):
    source = ZarrSource(path=write_array(tmp_path / "m.zarr", make_movie(), chunks=(3, 40, 48)))
    frames = source.frames()
    assert next(frames).index == 0
    source.close()
    assert list(frames) == []
    assert list(source.frames()) == []


@pytest.mark.parametrize(("level", "z", "origin_um", "z_um"), [(0, 1, (7.0, -3.0), 14.0), (1, 0, (7.1, -2.9), 10.0)])
def test_the_place_is_that_of_the_level_and_of_the_image(tmp_path, level, z, origin_um, z_um):
    """Levels of 0.2 and 0.4 um in y and x, 4 um in z, the coarser one half a pixel on; in micrometer and nanometer."""
    path, levels = tmp_path / "m.ome.zarr", [make_movie((2, 3, 64, 64)), make_movie((2, 3, 32, 32))]
    units = {"z": "micrometer", "y": "micrometer", "x": "nanometer"}
    image = [{"type": "translation", "translation": [0.0, 10.0, 7.0, -3000.0]}]
    write_ome(path, levels, "TZYX", "0.5", units=units, scales=[[1, 4, 0.2, 200], [1, 4, 0.4, 400]], transforms=image)
    group = zarr.open_group(path)
    described = group.attrs["ome"]
    half = {"type": "translation", "translation": [0.0, 0.0, 0.1, 100.0]}
    described["multiscales"][0]["datasets"][1]["coordinateTransformations"].append(half)
    group.attrs["ome"] = described
    info, _ = read(path, level=level, z=z)
    assert info.origin_um == pytest.approx(origin_um)
    assert info.z_um == z_um
    assert info.pixel_size_um == pytest.approx(0.2 * 2**level)
    assert read(path, z="max")[0].z_um is None


def test_without_units_nobody_knows_the_place(tmp_path):
    path = write_ome(tmp_path / "m.ome.zarr", [make_movie()], "TYX", "0.4")
    assert read(path)[0].origin_um is None
