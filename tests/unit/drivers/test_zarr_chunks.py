"""Chunks of zarr that are absent, lie about themselves, or lie in shards: a lost frame each, in bounded memory."""

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr

from streamtrack.errors import SourceError
from streamtrack.types import Frame, LostFrame
from streamtrack_drivers.zarr_movie import ZarrSource

MISSING = "missing chunk: the frame, or a part of it, was never written or is lost"
SHAPE = (8, 64, 64)
MOVIE = np.random.default_rng(0).poisson(100, SHAPE)


def create(path, chunks=(1, 64, 64), shape=SHAPE, dtype="uint16", **options):
    return zarr.create_array(path, shape=shape, chunks=chunks, dtype=dtype, **options)


def read(path):
    source = ZarrSource(path=path)
    items = list(source.frames())
    source.close()
    return items


def assert_lost_or_true(items, lost, movie=MOVIE):
    """These frames are lost; all others have the movie's pixels."""
    assert [item.index for item in items] == list(range(len(movie)))
    assert {item.index for item in items if isinstance(item, LostFrame)} == set(lost)
    for item in items:
        if isinstance(item, Frame):
            np.testing.assert_array_equal(item.pixels, movie[item.index])


@pytest.mark.parametrize("fill", [0, 7, -0.0, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("shards", [None, (4, 64, 64)])
def test_frames_never_written_are_lost_whatever_the_fill_value(tmp_path, fill, shards):
    array = create(tmp_path / "m.zarr", dtype="float32", shards=shards, fill_value=fill)
    for index in (0, 1, 4, 5, 6, 7):
        array[index] = MOVIE[index]
    items = read(tmp_path / "m.zarr")
    assert_lost_or_true(items, {2, 3})
    assert {item.cause for item in items if isinstance(item, LostFrame)} == {MISSING}


@pytest.mark.parametrize("shards", [None, (4, 64, 64), (1, 64, 64), (2, 32, 64)])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_frame_of_which_a_part_was_never_written_is_lost(tmp_path, zarr_format, shards):
    if zarr_format == 2 and shards:
        pytest.skip("shards came with format 3")
    array = create(tmp_path / "m.zarr", (1, 32, 32), shards=shards, zarr_format=zarr_format)
    array[:6] = MOVIE[:6]
    array[6, :32] = MOVIE[6, :32]
    array[7, :, :32] = MOVIE[7, :, :32]
    assert_lost_or_true(read(tmp_path / "m.zarr"), {6, 7})


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("n_frames", [1, 2])
def test_a_dark_frame_that_was_written_into_a_shard_is_a_frame(tmp_path, n_frames, location):
    movie = MOVIE.copy()
    movie[3] = 0
    codec = zarr.codecs.ShardingCodec(chunk_shape=(n_frames, 64, 64), index_location=location)
    array = zarr.create(
        store=tmp_path / "m.zarr",
        shape=SHAPE,
        chunks=(4, 64, 64),
        dtype="uint16",
        codecs=[codec],
        config={"write_empty_chunks": True},
    )
    array[:] = movie
    assert_lost_or_true(read(tmp_path / "m.zarr"), set(), movie)


def test_a_shard_is_as_good_as_its_chunks(tmp_path):
    """Each frame that can be had is had, though the shard is cut off, has a wrong index, or is not there."""
    array = create(tmp_path / "m.zarr", shards=(2, 64, 64), compressors=zarr.codecs.BloscCodec())
    array[:] = MOVIE
    shards = [tmp_path / "m.zarr" / "c" / str(place) / "0" / "0" for place in range(4)]
    content = [shard.read_bytes() for shard in shards]
    shards[0].write_bytes(content[0][:-1])  # the index is cut off
    shards[1].write_bytes(content[1][:100] + bytes(100) + content[1][200:])
    shards[2].unlink()
    index = content[3][-36:]
    shards[3].write_bytes(content[3][: -36 - 500] + index)  # the second chunk ends behind the index
    items = read(tmp_path / "m.zarr")
    lost = {item.index: item.cause for item in items if isinstance(item, LostFrame)}
    assert set(lost) >= {0, 1, 4, 5, 7}
    assert "checksum" in lost[0]
    assert lost[4] == MISSING
    assert 6 not in lost


@pytest.mark.parametrize("codec", ["blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma", None])
@pytest.mark.parametrize("filters", [(), (numcodecs.Delta(dtype="u2"),), (numcodecs.AsType("f8", "u2"),)])
def test_all_compressors_and_filters_of_format_2_are_read(tmp_path, codec, filters):
    compressor = codec and numcodecs.get_codec({"id": codec})
    create(tmp_path / "m.zarr", zarr_format=2, compressors=compressor, filters=filters)[:] = MOVIE
    assert_lost_or_true(read(tmp_path / "m.zarr"), set())


CODECS = {
    "none": (),
    "blosc": (zarr.codecs.BloscCodec(),),
    "zstd": (zarr.codecs.ZstdCodec(checksum=True),),
    "gzip": (zarr.codecs.GzipCodec(),),
    "crc32c": (zarr.codecs.Crc32cCodec(),),
    "blosc crc32c": (zarr.codecs.BloscCodec(), zarr.codecs.Crc32cCodec()),
    "gzip zstd": (zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec()),
}


@pytest.mark.parametrize("codecs", CODECS.values(), ids=CODECS.keys())
@pytest.mark.parametrize("shards", [None, (4, 64, 64)])
@pytest.mark.parametrize("order", [(), (zarr.codecs.TransposeCodec(order=(0, 2, 1)),)])
def test_all_codecs_of_format_3_are_read_in_any_shard(tmp_path, codecs, shards, order):
    create(tmp_path / "m.zarr", shards=shards, filters=order, compressors=codecs)[:] = MOVIE
    assert_lost_or_true(read(tmp_path / "m.zarr"), set())


@pytest.mark.parametrize("codecs", CODECS.values(), ids=CODECS.keys())
@pytest.mark.parametrize("change", [lambda length: length // 2, lambda length: length + 9, lambda length: 2**62])
def test_a_wrong_length_in_the_index_of_a_shard_shows_nothing_foreign(tmp_path, codecs, change):
    """Behind the chunk lies the next one, which no decoder may take for a part of it."""
    create(tmp_path / "m.zarr", shards=SHAPE, compressors=codecs)[:] = MOVIE
    shard = tmp_path / "m.zarr" / "c" / "0" / "0" / "0"
    content = shard.read_bytes()
    index = np.frombuffer(content[-132:-4], "<u8").reshape(8, 2).copy()
    index[3, 1] = change(int(index[3, 1]))
    checksum = google_crc32c.value(index.tobytes()).to_bytes(4, "little")
    shard.write_bytes(content[:-132] + index.tobytes() + checksum)
    items = read(tmp_path / "m.zarr")
    assert_lost_or_true(items, {item.index for item in items if isinstance(item, LostFrame)} & {3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (2**50, 64, 64)}, "claims 1125899906842624 frames: .* --frames A:B, 100000000 at most"),
        ({"shape": (4, 2**15, 2**16)}, "32768 x 65536 px are too large: cut out the part"),
        (
            {"shape": (4, 64, 64, 2**50), "chunks": (1, 64, 64, 1), "dimension_names": "tyxc"},
            "1125899906842624 channels: .*49, [.]{3}$",
        ),
        ({"chunks": (2**40, 64, 64)}, "chunks of shape .* are too large to be read: rewrite it"),
        ({"chunks": (1, 2**20, 2**20)}, "chunks of shape .* are too large to be read: rewrite it"),
        ({"shape": (4, 1024, 1024), "chunks": (1, 1, 1)}, "make 1048576 a frame, too many: rewrite it"),
        ({"chunks": (1, 64, 64), "shards": (2**50, 64, 64)}, "shards of .* chunks .* are not read: rewrite it"),
    ],
)
def test_a_shape_that_nobody_can_read_is_refused_at_once(tmp_path, options, message):
    create(tmp_path / "m.zarr", **options)
    with pytest.raises(SourceError, match=message):
        ZarrSource(path=tmp_path / "m.zarr")


def test_shards_within_shards_are_refused(tmp_path):
    inner = zarr.codecs.ShardingCodec(chunk_shape=(1, 64, 64))
    outer = zarr.codecs.ShardingCodec(chunk_shape=(2, 64, 64), codecs=[inner])
    zarr.create(store=tmp_path / "m.zarr", shape=SHAPE, chunks=(4, 64, 64), dtype="uint16", codecs=[outer])
    with pytest.raises(SourceError, match="shards within shards"):
        ZarrSource(path=tmp_path / "m.zarr")
