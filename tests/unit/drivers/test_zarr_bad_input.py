"""Movies in zarr that are damaged, unfinished, or no movies at all."""

import json
import os

import numcodecs
import numpy as np
import pytest
import zarr
from movies import assert_shows
from zarr_movies import make_movie, read, write_array

from streamtrack.errors import SourceError
from streamtrack.types import LostFrame
from streamtrack_drivers.zarr_movie import ZarrSource

MISSING = "missing chunk: the frame, or a part of it, was never written or is lost"
CHUNK_FILE = {2: "{t}.{y}.{x}", 3: "c/{t}/{y}/{x}"}


def lost(items):
    return [(item.index, item.cause) for item in items if isinstance(item, LostFrame)]


def test_four_dimensions_without_names_are_ambiguous(tmp_path):
    movie = make_movie((5, 2, 40, 48))
    path = write_array(tmp_path / "m.zarr", movie)
    with pytest.raises(SourceError, match=r"m\.zarr: .*ambiguous: .* --axes TCYX$"):
        ZarrSource(path=path)
    assert_shows(read(path, axes="TCYX", channel=1)[1], movie[:, 1])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_missing_chunk_is_a_lost_frame(tmp_path, zarr_format):
    movie = make_movie()
    path = write_array(tmp_path / "m.zarr", movie, zarr_format)
    name = CHUNK_FILE[zarr_format].format(t=2, y=0, x=0)
    (path / name).unlink()
    info, items = read(path)
    assert info.n_frames == len(items) == 6
    assert lost(items) == [(2, MISSING)]
    assert_shows(items, movie, [0, 1, 3, 4, 5])


def test_one_missing_tile_loses_the_whole_frame(tmp_path):
    movie = make_movie()
    path = write_array(tmp_path / "m.zarr", movie, chunks=(1, 20, 24))
    (path / "c" / "4" / "1" / "0").unlink()
    _, items = read(path)
    assert lost(items) == [(4, MISSING)]
    assert_shows(items, movie, [0, 1, 2, 3, 5])


def test_a_missing_chunk_loses_all_its_frames(tmp_path):
    movie = make_movie((7, 40, 48))
    path = write_array(tmp_path / "m.zarr", movie, chunks=(3, 40, 48))
    (path / "c" / "1" / "0" / "0").unlink()
    _, items = read(path, frames="1:")
    assert lost(items) == [(i, MISSING) for i in (3, 4, 5)]
    assert_shows(items, movie, [1, 2, 6])


def test_a_chunk_of_another_channel_may_be_missing(tmp_path):
    movie = make_movie((3, 2, 40, 48))
    path = write_array(tmp_path / "m.zarr", movie, dimension_names=["t", "c", "y", "x"])
    (path / "c" / "1" / "0" / "0" / "0").unlink()
    assert lost(read(path, channel=0)[1]) == [(1, MISSING)]
    assert_shows(read(path, channel=1)[1], movie[:, 1])


def test_frames_that_were_never_written_are_lost(tmp_path):
    """An acquisition that stopped: the array is as long as planned, the chunks are not there."""
    array = zarr.create_array(tmp_path / "m.zarr", shape=(5, 40, 48), chunks=(1, 40, 48), dtype="uint16")
    array[:3] = 7
    _, items = read(tmp_path / "m.zarr")
    assert [index for index, _ in lost(items)] == [3, 4]


def test_a_dark_frame_that_was_written_is_a_frame(tmp_path):
    movie = make_movie()
    movie[2] = 0
    _, items = read(write_array(tmp_path / "m.zarr", movie, config={"write_empty_chunks": True}))
    assert_shows(items, movie)


DAMAGE = {
    "cut off": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "overwritten": lambda data: b"\xaa" * len(data),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("compressor", ["zstd", "blosc", "gzip"])
def test_a_corrupt_chunk_is_a_lost_frame(tmp_path, zarr_format, compressor, damage):
    codecs = {
        2: {"zstd": numcodecs.Zstd(), "blosc": numcodecs.Blosc(), "gzip": numcodecs.GZip()},
        3: {"zstd": zarr.codecs.ZstdCodec(), "blosc": zarr.codecs.BloscCodec(), "gzip": zarr.codecs.GzipCodec()},
    }
    movie = make_movie()
    path = write_array(tmp_path / "m.zarr", movie, zarr_format, compressors=codecs[zarr_format][compressor])
    file = path / CHUNK_FILE[zarr_format].format(t=2, y=0, x=0)
    file.write_bytes(damage(file.read_bytes()))
    _, items = read(path)
    [(index, cause)] = lost(items)
    assert index == 2
    assert cause.startswith("unreadable chunk: ")
    assert_shows(items, movie, [0, 1, 3, 4, 5])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("n_bytes", [8, 500])
def test_a_blosc_chunk_that_is_cut_off_never_reaches_the_codec(tmp_path, zarr_format, n_bytes):
    """Decompression would read on behind the buffer, where the rest may still lie from an earlier read."""
    codec = {2: numcodecs.Blosc(), 3: zarr.codecs.BloscCodec()}[zarr_format]
    path = write_array(tmp_path / "m.zarr", make_movie(), zarr_format, compressors=codec)
    name = CHUNK_FILE[zarr_format].format(t=2, y=0, x=0)
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[:n_bytes])
    expected = 16 if n_bytes < 16 else len(data)
    assert lost(read(path)[1]) == [(2, f"unreadable chunk: it is cut off: {n_bytes} of {expected} bytes are there")]


def test_bytes_behind_a_blosc_chunk_do_no_harm(tmp_path):
    movie = make_movie()
    path = write_array(tmp_path / "m.zarr", movie, compressors=zarr.codecs.BloscCodec())
    file = path / "c" / "2" / "0" / "0"
    file.write_bytes(file.read_bytes() + b"more")
    assert_shows(read(path)[1], movie)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_uncompressed_chunk_that_is_cut_off_is_a_lost_frame(tmp_path, zarr_format):
    movie = make_movie()
    path = write_array(tmp_path / "m.zarr", movie, zarr_format, compressors=None)
    file = path / CHUNK_FILE[zarr_format].format(t=0, y=0, x=0)
    file.write_bytes(file.read_bytes()[:-100])
    _, items = read(path)
    assert [index for index, _ in lost(items)] == [0]
    assert_shows(items, movie, [1, 2, 3, 4, 5])


def test_shards_missing_damaged_and_half_written(tmp_path):
    path = tmp_path / "m.zarr"
    movie = make_movie((12, 40, 48))
    array = zarr.create_array(path, shape=movie.shape, dtype="uint16", chunks=(1, 40, 48), shards=(3, 40, 48))
    array[:11] = movie[:11]
    (path / "c" / "0" / "0" / "0").unlink()
    shard = path / "c" / "1" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-10])
    _, items = read(path)
    missing, unreadable, unwritten = lost(items)[:3], lost(items)[3:6], lost(items)[6:]
    assert missing == [(i, MISSING) for i in (0, 1, 2)]
    assert [(i, cause.partition(":")[0]) for i, cause in unreadable] == [(i, "unreadable chunk") for i in (3, 4, 5)]
    assert unwritten == [(11, MISSING)]
    assert_shows(items, movie, [6, 7, 8, 9, 10])


def test_a_group_without_an_image_lists_what_is_inside(tmp_path):
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    with pytest.raises(SourceError, match=r"g\.zarr: holds no image: this zarr group has nothing inside$"):
        ZarrSource(path=tmp_path / "g.zarr")
    group.create_array("tracks/ids", data=np.arange(5))
    group.create_array("time", data=np.arange(6.0))
    with pytest.raises(
        SourceError, match=r"holds no image: this zarr group has time \(6,\), tracks/ids \(5,\) inside$"
    ):
        ZarrSource(path=tmp_path / "g.zarr")


def test_a_group_with_several_images_lists_them(tmp_path):
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    for name in ("cell_1", "cell_2"):
        group.create_array(name, data=make_movie())
    with pytest.raises(SourceError, match=r"2 images: .*path, of cell_1 \(6, 40, 48\), cell_2 \(6, 40, 48\)$"):
        ZarrSource(path=tmp_path / "g.zarr")
    assert_shows(read(tmp_path / "g.zarr" / "cell_2")[1], make_movie())


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(SourceError, match=r"gone\.zarr: no such file or folder: check the path$"):
        ZarrSource(path=tmp_path / "gone.zarr")


def test_a_path_that_the_system_refuses(tmp_path):
    with pytest.raises(SourceError, match=r"cannot be read|no such file"):
        ZarrSource(path=tmp_path / ("long" * 1000))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user whom permissions stop")
def test_what_may_not_be_read(tmp_path):
    movie = make_movie()
    path = write_array(tmp_path / "m.zarr", movie)
    (path / "c" / "1" / "0" / "0").chmod(0)
    assert [index for index, _ in lost(read(path)[1])] == [1]
    (path / "zarr.json").chmod(0)
    with pytest.raises(SourceError, match=r"cannot be opened as zarr: .*denied"):
        ZarrSource(path=path)


def test_a_file_that_is_not_zarr(tmp_path):
    (tmp_path / "m.zarr").write_text("not zarr")
    with pytest.raises(SourceError, match=r"m\.zarr: is a file, not a zarr folder or zip file: .*source 'tiff'$"):
        ZarrSource(path=tmp_path / "m.zarr")


def test_a_folder_that_is_not_zarr(tmp_path):
    with pytest.raises(SourceError, match=r"no zarr array or group here: give the folder that holds zarr\.json"):
        ZarrSource(path=tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"zarr_format": 3, "node_type": "array"}', '{"zarr_format": 9}', "\0"]
)
def test_broken_metadata_give_one_line(tmp_path, content):
    (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(SourceError) as raised:
        ZarrSource(path=tmp_path)
    assert len(str(raised.value).splitlines()) == 1
    assert str(raised.value).startswith(f"{tmp_path}: ")


def test_an_unknown_codec_is_named(tmp_path):
    path = write_array(tmp_path / "m.zarr", make_movie())
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["codecs"].append({"name": "secret"})
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(SourceError, match=r"cannot be opened as zarr: .*secret"):
        ZarrSource(path=path)


@pytest.mark.parametrize(
    "multiscales",
    [
        "words",
        [{}],
        [{"datasets": []}],
        [{"datasets": [{"path": "gone"}]}],
        [{"datasets": [{"path": "0"}], "axes": [1, 2, 3]}],
        [{"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": "x"}]}]}],
    ],
)
def test_broken_multiscales_give_one_line(tmp_path, multiscales):
    group = zarr.open_group(tmp_path / "g.zarr", mode="w", attributes={"ome": {"multiscales": multiscales}})
    group.create_array("0", data=make_movie())
    with pytest.raises(SourceError, match=r"broken multiscales|no level 0|ambiguous") as raised:
        ZarrSource(path=tmp_path / "g.zarr")
    assert len(str(raised.value).splitlines()) == 1


def test_a_plain_array_has_no_levels(tmp_path):
    with pytest.raises(SourceError, match="no level 1: this is a plain array"):
        ZarrSource(path=write_array(tmp_path / "m.zarr", make_movie()), level=1)


@pytest.mark.parametrize(
    ("movie", "message"),
    [
        (np.ones((6, 40, 48), bool), "dtype bool cannot be tracked"),
        (np.ones((6, 40, 48), "c8"), "dtype complex64 cannot be tracked"),
        (np.ones((6, 40, 48), "i4"), "dtype int32 cannot be tracked"),
        (np.ones((6, 31, 48), "u2"), "31 x 48 px are too small"),
        (np.ones((6, 40, 16), "u2"), "40 x 16 px are too small"),
    ],
)
def test_pixels_that_cannot_be_tracked(tmp_path, movie, message):
    with pytest.raises(SourceError, match=rf"m\.zarr: .*{message}"):
        ZarrSource(path=write_array(tmp_path / "m.zarr", movie))


@pytest.mark.parametrize("shape", [(0, 40, 48), (3, 0, 48)])
def test_arrays_without_pixels(tmp_path, shape):
    zarr.create_array(tmp_path / "m.zarr", shape=shape, dtype="uint16", chunks=(1, 40, 48))
    with pytest.raises(SourceError, match="the image is empty"):
        ZarrSource(path=tmp_path / "m.zarr")
