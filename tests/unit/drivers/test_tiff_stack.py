"""Movies in TIFF, written here with tifffile, whole and damaged, and a real one."""

import struct
import sys

import numpy as np
import pytest
import tifffile
import zarr
from movies import assert_shows
from tiff_movies import TYX, lost, make_movie, read, write

from streamtrack.errors import SourceError
from streamtrack_drivers.tiff_stack import TiffSource
from streamtrack_drivers.zarr_movie import ZarrSource


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
