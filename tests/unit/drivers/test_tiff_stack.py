"""Movies in TIFF, written here with tifffile, whole and damaged, and a real one."""

import struct
import sys

import numpy as np
import pytest
import tiff_files
import tifffile
import zarr

from streamtrack.errors import SourceError
from streamtrack.types import Frame, LostFrame
from streamtrack_drivers.tiff_stack import TiffSource
from streamtrack_drivers.zarr_movie import ZarrSource

TYX = {"axes": "TYX"}


def make_movie(shape=(8, 64, 60), dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


def write(path, movie, **options):
    tifffile.imwrite(path, movie, photometric="minisblack", **options)
    return path


def write_pages(path, movie, **options):
    """Write each image as a page of its own, without any metadata."""
    with tifffile.TiffWriter(path) as tif:
        for image in movie:
            tif.write(image, contiguous=False, metadata=None, **options)
    return path


def cut(path, share):
    """Cut a file off after a share of its length."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def read(path, **settings):
    source = TiffSource(path=path, **settings)
    items = list(source.frames())
    source.close()
    assert source.info.n_frames == len(items)
    return source.info, items


def lost(items):
    return {item.index: item.cause for item in items if isinstance(item, LostFrame)}


def assert_shows(items, movie, indices=None):
    """Every frame has the movie's pixels under its own index."""
    frames = [item for item in items if isinstance(item, Frame)]
    assert [frame.index for frame in frames] == list(range(len(movie)) if indices is None else indices)
    for frame in frames:
        np.testing.assert_array_equal(frame.pixels, movie[frame.index])


FORMATS = {
    "imagej": {"imagej": True, "metadata": TYX},
    "ome": {"ome": True, "metadata": TYX},
    "tifffile": {"metadata": TYX},
    "plain": {"metadata": None},
    "bigtiff": {"bigtiff": True, "metadata": TYX},
    "big-endian": {"byteorder": ">", "metadata": TYX},
    "zlib": {"ome": True, "compression": "zlib", "predictor": True, "metadata": TYX},
    "lzw": {"compression": "lzw", "metadata": TYX},
    "tiles": {"compression": "zstd", "tile": (32, 32), "metadata": TYX},
    "strips": {"rowsperstrip": 7, "metadata": TYX},
}


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_stacks_of_every_kind(tmp_path, options, dtype):
    movie = make_movie(dtype=dtype)
    info, items = read(write(tmp_path / "m.tif", movie, **options))
    assert (info.shape, info.dtype, info.n_frames, info.clock) == ((64, 60), dtype, 8, "nominal")
    assert_shows(items, movie)
    assert all(item.pixels.dtype == np.dtype(dtype) and item.pixels.dtype.isnative for item in items)


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_pages_without_metadata_are_time_points(tmp_path, compression):
    movie = make_movie()
    info, items = read(write_pages(tmp_path / "m.tif", movie, compression=compression))
    assert info.details["axes"] == "TYX"
    assert_shows(items, movie)


def test_one_page_is_a_movie_of_one_frame(tmp_path):
    movie = make_movie((1, 64, 60))
    info, items = read(write(tmp_path / "m.tif", movie[0]))
    assert info.n_frames == 1
    assert_shows(items, movie)


@pytest.mark.parametrize(
    ("axes", "options"),
    [
        ("TZCYX", {"imagej": True}),
        ("TZCYX", {"ome": True}),
        ("TCZYX", {"ome": True, "compression": "zlib"}),
        ("CTZYX", {"ome": True}),
        ("ZTCYX", {"ome": True}),
        ("CZTYX", {}),
    ],
)
def test_hyperstacks_in_any_order_of_axes(tmp_path, axes, options):
    tczyx = make_movie((4, 2, 3, 40, 48))
    path = write(
        tmp_path / "m.tif", tczyx.transpose(["TCZYX".index(axis) for axis in axes]), metadata={"axes": axes}, **options
    )
    info, items = read(path, channel=1, z=2)
    assert info.details["axes"] == axes
    assert_shows(items, tczyx[:, 1, 2])
    assert_shows(read(path, channel=0, z="max", frames="1:3")[1], tczyx[:, 0].max(axis=1), [1, 2])


def test_ome_channels_have_names(tmp_path):
    movie = make_movie((3, 2, 40, 48))
    metadata = {"axes": "TCYX", "Channel": {"Name": ["GFP", "DIC"]}}
    path = write(tmp_path / "m.ome.tif", movie, ome=True, metadata=metadata)
    assert_shows(read(path, channel="DIC")[1], movie[:, 1])
    with pytest.raises(SourceError, match=r"m\.ome\.tif: .* 2 channels: .* --channel, of 0 \(GFP\), 1 \(DIC\)$"):
        TiffSource(path=path)


def test_ome_pixel_size_and_interval(tmp_path):
    sizes = {"PhysicalSizeX": 110.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.11, "PhysicalSizeYUnit": "µm"}
    times = {"TimeIncrement": 50.0, "TimeIncrementUnit": "ms"}
    info, items = read(write(tmp_path / "m.ome.tif", make_movie(), ome=True, metadata=TYX | sizes | times))
    assert info.pixel_size_um == pytest.approx(0.11)
    assert info.frame_interval_s == pytest.approx(0.05)
    assert items[7].time_s == pytest.approx(0.35)


def test_imagej_pixel_size_and_interval(tmp_path):
    metadata = TYX | {"unit": "um", "finterval": 0.2}
    path = write(tmp_path / "m.tif", make_movie(), imagej=True, resolution=(1 / 0.13, 1 / 0.13), metadata=metadata)
    info, _ = read(path)
    assert info.pixel_size_um == pytest.approx(0.13, rel=1e-4)
    assert info.frame_interval_s == pytest.approx(0.2)


def test_resolution_without_a_unit_says_nothing(tmp_path):
    info, _ = read(write(tmp_path / "m.tif", make_movie(), resolution=(72, 72), resolutionunit="INCH", metadata=TYX))
    assert (info.pixel_size_um, info.frame_interval_s) == (None, None)


def test_planes_that_are_time_points(tmp_path):
    movie = make_movie()
    path = write(tmp_path / "m.tif", movie, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(SourceError, match=r"8 z planes: .*--z max \(or --axes TYX if they are time points\)$"):
        TiffSource(path=path)
    assert_shows(read(path, axes="TYX")[1], movie)


def test_four_dimensions_without_names_are_ambiguous(tmp_path):
    movie = make_movie((4, 2, 40, 48))
    path = write(tmp_path / "m.tif", movie)
    with pytest.raises(SourceError, match=r"axes named Q, Q, Y, X of shape \(4, 2, 40, 48\) .* --axes TCYX$"):
        TiffSource(path=path)
    assert_shows(read(path, axes="TCYX", channel=1)[1], movie[:, 1])


def test_colour_images_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", make_movie((4, 40, 48, 3), "uint8"), photometric="rgb")
    with pytest.raises(SourceError, match=r"is a colour image .*: save one colour as a grey stack"):
        TiffSource(path=tmp_path / "m.tif")


@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib", "predictor": True, "rowsperstrip": 7}, {"compression": "zstd", "tile": (32, 32)}],
    ids=["plain", "strips", "tiles"],
)
def test_three_and_four_images_are_no_colours_where_axes_say_so(tmp_path, n, options):
    movie = make_movie((n, 64, 60))
    tifffile.imwrite(tmp_path / "m.tif", movie, planarconfig="separate", photometric="rgb", **options)
    with pytest.raises(SourceError, match=r"grey stack, or say by --axes TYX that they are frames$"):
        TiffSource(path=tmp_path / "m.tif")
    assert_shows(read(tmp_path / "m.tif", axes="TYX")[1], movie)
    np.testing.assert_array_equal(read(tmp_path / "m.tif", axes="CYX", channel=2)[1][0].pixels, movie[2])


@pytest.mark.parametrize("name", ["m.tif", "m.ome.tif"])
def test_channels_that_were_written_as_colours_of_several_pages(tmp_path, name):
    movie = make_movie((5, 3, 64, 60))
    tifffile.imwrite(tmp_path / name, movie, photometric="rgb", planarconfig="separate")
    assert_shows(read(tmp_path / name, axes="TCYX", channel=1)[1], movie[:, 1])


def test_thumbnails_do_not_count_but_several_images_do(tmp_path):
    movie = make_movie()
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(movie, metadata=TYX, photometric="minisblack")
        tif.write(np.zeros((16, 16), "uint8"))
    assert_shows(read(path)[1], movie)
    with tifffile.TiffWriter(path, append=True) as tif:
        tif.write(make_movie((3, 40, 40)), metadata=TYX, photometric="minisblack")
    with pytest.raises(
        SourceError, match=r"holds 3 images \(TYX \(8, 64, 60\), YX \(16, 16\), TYX \(3, 40, 40\)\): save"
    ):
        TiffSource(path=path)


@pytest.mark.parametrize(
    ("movie", "message"),
    [
        (np.ones((3, 40, 48), bool), "dtype bool cannot be tracked"),
        (np.ones((3, 40, 48), "complex64"), "dtype complex64 cannot be tracked"),
        (np.ones((3, 40, 48), "int16"), "dtype int16 cannot be tracked"),
        (np.ones((3, 40, 20), "uint16"), "40 x 20 px are too small"),
    ],
)
def test_pixels_that_cannot_be_tracked(tmp_path, movie, message):
    with pytest.raises(SourceError, match=rf"m\.tif: .*{message}"):
        TiffSource(path=write(tmp_path / "m.tif", movie, metadata=TYX))


def test_wider_floats_become_float32(tmp_path):
    movie = make_movie(dtype="float64")
    info, items = read(write(tmp_path / "m.tif", movie, metadata=TYX))
    assert info.dtype == "float32"
    assert_shows(items, movie)


@pytest.mark.parametrize("options", [{"imagej": True}, {"bigtiff": True}, {"byteorder": ">"}])
def test_a_contiguous_stack_that_is_cut_off_keeps_what_is_there(tmp_path, options):
    movie = make_movie()
    _, items = read(cut(write(tmp_path / "m.tif", movie, metadata=TYX, **options), 0.6))
    assert_shows(items, movie, range(4))
    assert list(lost(items)) == [4, 5, 6, 7]
    assert set(lost(items).values()) == {"missing page: the file is cut off"}


def test_an_imagej_hyperstack_that_is_cut_off(tmp_path):
    movie = make_movie((6, 2, 40, 48))
    path = cut(write(tmp_path / "m.tif", movie, imagej=True, metadata={"axes": "TCYX"}), 0.45)
    _, items = read(path, channel=1)
    assert_shows(items, movie[:, 1], range(2))
    assert list(lost(items)) == [2, 3, 4, 5]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere its zeros are written")
def test_a_stack_of_more_than_4_gb_by_imagej(tmp_path):
    """Big-endian, one directory, both resolutions in one place; a sparse file."""
    movie, n, side = make_movie((2, 1024, 1024)), 2300, 1024
    text = f"ImageJ=1.54f\nimages={n}\nframes={n}\nunit=micron\nfinterval=0.05\n".encode() + b"\0"
    tags = [
        (256, 4, side),
        (257, 4, side),
        (258, 3, 16 << 16),
        (262, 3, 1 << 16),
        (270, 2, 10 + 12 * 11 + 4),
        (273, 4, 400),
    ]
    tags += [(277, 3, 1 << 16), (278, 3, side << 16), (279, 4, 2 * side**2), (282, 5, 392), (283, 5, 392)]
    data = struct.pack(">2sHIH", b"MM", 42, 8, len(tags))
    data += b"".join(
        struct.pack(">HHII", code, kind, len(text) if code == 270 else 1, value) for code, kind, value in tags
    )
    data += bytes(4) + text
    with (tmp_path / "m.tif").open("wb") as file:
        file.write(data.ljust(392, b"\0") + struct.pack(">II", 10_000_000, 1_000_000))
        for index in (0, n - 1):
            file.seek(400 + index * 2 * side**2)
            file.write(movie[index % 2].astype(">u2").tobytes())
    for frames, image in (("0:1", movie[0]), (f"{n - 1}:", movie[1])):
        info, (item,) = read(tmp_path / "m.tif", frames=frames)
        np.testing.assert_array_equal(item.pixels, image)
    assert (info.pixel_size_um, info.frame_interval_s) == (pytest.approx(0.1), 0.05)


def test_metadata_that_promise_more_pages_than_there_are(tmp_path):
    movie = make_movie()
    _, items = read(cut(write(tmp_path / "m.tif", movie, metadata=TYX, compression="zlib"), 0.6))
    assert_shows(items, movie, range(4))
    assert list(lost(items)) == [4, 5, 6, 7]


def test_ome_metadata_that_promise_more_pages_than_there_are(tmp_path):
    movie = make_movie()
    path = write(tmp_path / "m.ome.tif", movie, ome=True, metadata=TYX)
    tifffile.tiffcomment(path, tifffile.tiffcomment(path).replace('SizeT="8"', 'SizeT="9"'))
    _, items = read(path)
    assert_shows(items, movie, range(8))
    assert lost(items) == {8: "missing page: its OME-XML does not say where it is"}


def test_a_list_of_pages_that_is_cut_off_is_never_taken_for_a_whole_movie(tmp_path):
    movie = make_movie()
    path = cut(write_pages(tmp_path / "m.tif", movie), 0.6)
    info, items = read(path)
    assert_shows(items, movie, range(4))
    assert info.n_frames == 6
    assert lost(items)[5] == "the file is cut off after page 5: how many are missing is unknown"
    assert lost(read(path, frames="2:")[1]).keys() == {4, 5}
    assert lost(read(path, frames="0:4")[1]) == {}


@pytest.mark.parametrize("compression", ["zlib", "zstd", "lzma"])
def test_a_corrupt_page_is_a_lost_frame(tmp_path, compression):
    movie = make_movie()
    path = write(tmp_path / "m.tif", movie, compression=compression, metadata=TYX)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[3]
        start, count = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[start : start + count] = b"\xaa" * count
    path.write_bytes(data)
    _, items = read(path)
    assert list(lost(items)) == [3]
    assert lost(items)[3].startswith("unreadable page: ")
    assert_shows(items, movie, [0, 1, 2, 4, 5, 6, 7])


@pytest.mark.parametrize(
    "content", [b"", b"II", b"not a TIFF file at all", b"II*\0\x08\0\0\0", b"II*\0\x08\0\0\0\0\0\0\0\0\0"]
)
def test_files_that_are_not_tiff(tmp_path, content):
    (tmp_path / "m.tif").write_bytes(content)
    with pytest.raises(SourceError, match=r"m\.tif: (cannot be opened as TIFF|holds no image)") as raised:
        TiffSource(path=tmp_path / "m.tif")
    assert len(str(raised.value).splitlines()) == 1


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(SourceError, match=r"gone\.tif: no such file: check the path$"):
        TiffSource(path=tmp_path / "gone.tif")


def test_a_folder_that_is_called_like_a_file(tmp_path):
    (tmp_path / "m.tif").mkdir()
    with pytest.raises(SourceError, match=r"m\.tif: is a folder, not a TIFF file"):
        TiffSource(path=tmp_path / "m.tif")


@pytest.mark.parametrize("name", ["with space.tif", "µ-Tubuli été.tiff", "[x] (1) & #2.TIF"])
def test_paths_that_people_use(tmp_path, name):
    movie = make_movie()
    path = write(tmp_path / name, movie, metadata=TYX)
    assert_shows(read(path)[1], movie)
    assert_shows(read(str(path))[1], movie)
    path.unlink()  # fails on Windows if the source left it open


def test_close_ends_a_running_iteration(tmp_path):
    source = TiffSource(path=write(tmp_path / "m.tif", make_movie(), metadata=TYX))
    frames = source.frames()
    assert next(frames).index == 0
    source.close()
    assert list(frames) == []
    assert list(source.frames()) == []


def copies(movie, folder):
    """Yield paths of the same movie in every flavour of zarr."""
    for zarr_format in (2, 3):
        zarr.create_array(
            folder / f"v{zarr_format}.zarr", data=movie, chunks=(1, *movie.shape[1:]), zarr_format=zarr_format
        )
        yield folder / f"v{zarr_format}.zarr"
    axes = [{"name": "t", "type": "time"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    multiscales = [{"axes": axes, "datasets": [{"path": "0"}]}]
    for zarr_format, attributes in ((2, {"multiscales": multiscales}), (3, {"ome": {"multiscales": multiscales}})):
        group = zarr.open_group(
            folder / f"ome{zarr_format}.zarr", mode="w", zarr_format=zarr_format, attributes=attributes
        )
        group.create_array("0", data=movie, chunks=(16, *movie.shape[1:]))
        yield folder / f"ome{zarr_format}.zarr"


def test_real_telomeres_are_the_same_from_tiff_and_zarr(shared_data, tmp_path):
    path = shared_data / "timelapse_telomeres_2d.tif"
    info, items = read(path)
    assert (info.shape, info.dtype, info.n_frames) == ((133, 162), "uint16", 200)
    assert info.pixel_size_um == pytest.approx(0.11)
    assert info.frame_interval_s == pytest.approx(0.05)
    movie = tifffile.imread(path)
    assert_shows(items, movie)
    for copy in copies(movie, tmp_path):
        assert_shows(ZarrSource(path=copy).frames(), movie)


def test_real_telomeres_cut_in_half(shared_data, tmp_path):
    whole = shared_data / "timelapse_telomeres_2d.tif"
    half = tmp_path / "half.tif"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    _, items = read(half)
    assert len(items) == 200
    assert_shows(items, tifffile.imread(whole), range(100))


@pytest.mark.parametrize("position", [0, "1"])
def test_a_position_of_one_micro_manager_file_is_chosen(tmp_path, position):
    movie = make_movie((2, 8, 64, 60))
    planes, places = zip(*((movie[p, t], (0, 0, t, p)) for t in range(8) for p in (0, 1)), strict=True)
    path = tmp_path / "cells_1_MMStack.ome.tif"
    tiff_files.mmstack(path, np.array(planes), places, planned={"Frames": 8, "Positions": 2})
    with pytest.raises(SourceError, match=r"2 positions: choose one with --position, of 0, 1$"):
        TiffSource(path=path)
    assert_shows(read(path, position=position)[1], movie[int(position)])


def test_an_image_of_an_ome_tiff_is_chosen_by_its_index_or_name(tmp_path):
    movies = [make_movie(seed=seed) for seed in (0, 1)]
    path = tmp_path / "m.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for name, movie in zip(("left", "right"), movies, strict=True):
            tif.write(movie, photometric="minisblack", metadata={**TYX, "Name": name})
    with pytest.raises(SourceError, match=r"2 positions: choose one with --position, of 0 \(left\), 1 \(right\)$"):
        TiffSource(path=path)
    for position in (1, "right"):
        assert_shows(read(path, position=position)[1], movies[1])


def test_each_position_of_an_ome_tiff_in_several_files_is_in_its_own(tmp_path):
    movies = [make_movie(seed=seed) for seed in (0, 1)]
    names = ["m_p0.ome.tif", "m_p1.ome.tif"]
    xml = "".join(
        tiff_files.ome_xml(
            movie, f'<TiffData PlaneCount="8"><UUID FileName="{name}">urn:{name}</UUID></TiffData>', Type="uint16"
        )
        for movie, name in zip(movies, names, strict=True)
    ).partition("</OME><OME ")
    whole = xml[0] + xml[2].partition(">")[2]
    for movie, name in zip(movies, names, strict=True):
        tiff_files.ome_page_by_page(tmp_path / name, movie, whole.replace("<OME ", f'<OME UUID="urn:{name}" ', 1))
    for named in (*names, ""):
        for position in (0, 1):
            assert_shows(read(tmp_path / named, position=position)[1], movies[position])
    (tmp_path / "other.tif").write_bytes((tmp_path / names[0]).read_bytes())
    with pytest.raises(SourceError, match="holds files of several kinds"):
        TiffSource(path=tmp_path)


def with_times(movie, times_ms, **attributes):
    """Return OME-XML with a time for each plane."""
    planes = "".join(f'<Plane TheC="0" TheZ="0" TheT="{t}" DeltaT="{at}" DeltaTUnit="ms"/>' for t, at in times_ms)
    return tiff_files.ome_xml(movie, **attributes).replace("</Pixels>", f"{planes}</Pixels>")


REGULAR = [(t, 20.0 * t) for t in range(8)]


@pytest.mark.parametrize(
    ("times_ms", "said", "expected_s"),
    [
        (REGULAR, {}, np.arange(8) * 0.02),
        (REGULAR[:1] + REGULAR[4:6], {}, np.arange(8) * 0.02),
        ([(t, at + 60.0 * (t > 4)) for t, at in REGULAR], {}, np.arange(8) * 0.02 + 0.06 * (np.arange(8) > 4)),
        (REGULAR, {"TimeIncrement": 1000.0, "TimeIncrementUnit": "ms"}, np.arange(8) * 0.02),
        ([(t, 0.0) for t in range(8)], {"TimeIncrement": 50.0, "TimeIncrementUnit": "ms"}, np.arange(8) * 0.05),
    ],
    ids=["regular", "some", "pause", "wrong increment", "all zero"],
)
def test_times_of_planes_are_those_of_the_frames(tmp_path, times_ms, said, expected_s):
    movie = make_movie()
    tiff_files.ome_page_by_page(tmp_path / "m.ome.tif", movie, with_times(movie, times_ms, Type="uint16", **said))
    info, items = read(tmp_path / "m.ome.tif")
    np.testing.assert_allclose([frame.time_s for frame in items], expected_s, atol=1e-12)
    np.testing.assert_allclose(info.frame_interval_s, np.median(np.diff(expected_s)))


def test_the_place_of_the_stage_is_where_the_image_is(tmp_path):
    movie = make_movie()
    said = 'PositionX="1.5" PositionXUnit="mm" PositionY="-20" PositionYUnit="µm" PositionZ="300" PositionZUnit="nm"'
    planes = "".join(f'<Plane TheC="0" TheZ="0" TheT="{t}" {said}/>' for t in range(8))
    xml = tiff_files.ome_xml(movie, Type="uint16").replace("</Pixels>", f"{planes}</Pixels>")
    for name, unit, expected in (("known", "µm", ((-20.0, 1500.0), 0.3)), ("other", "reference frame", (None, 0.3))):
        text = xml.replace('YUnit="µm"', f'YUnit="{unit}"').encode("utf-8")
        tiff_files.ome_page_by_page(tmp_path / f"{name}.ome.tif", movie, text)
        info, _ = read(tmp_path / f"{name}.ome.tif")
        assert (info.origin_um, info.z_um) == expected
    stage = {"XPositionUm": 1500.0, "YPositionUm": -20.0, "ZPositionUm": 0.3}
    tiff_files.mmstack(tmp_path / "m.tif", movie, more=stage)
    info, _ = read(tmp_path / "m.tif")
    assert (info.origin_um, info.z_um) == ((-20.0, 1500.0), 0.3)


def test_a_planned_interval_that_was_not_kept_is_said(tmp_path):
    movie = make_movie()
    for planned_s, n_remarks in ((1, 1), (0.0201, 0)):
        xml = with_times(movie, REGULAR, TimeIncrement=planned_s, TimeIncrementUnit="s")
        tiff_files.ome_page_by_page(tmp_path / "m.ome.tif", movie, xml)
        source = TiffSource(path=tmp_path / "m.ome.tif")
        source.close()
        assert len(source.remarks()) == n_remarks
        assert all("says 1 s per frame, but its frames came every 0.02 s" in each for each in source.remarks())


def test_pages_of_micro_manager_say_when_they_were_exposed(tmp_path):
    tiff_files.mmstack(tmp_path / "m.tif", make_movie(), elapsed_ms=[30.0 * t + 7 for t in range(8)])
    info, items = read(tmp_path / "m.tif")
    np.testing.assert_allclose([frame.time_s for frame in items], np.arange(8) * 0.03 + 0.007)
    assert (info.clock, round(info.frame_interval_s, 6)) == ("camera", 0.03)
