"""The chunks of a zarr array one by one: found in their shards, whole, and decoded within bounds."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import google_crc32c
import imagecodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import StorePath, WrapperStore

from streamtrack.errors import SourceError
from streamtrack_drivers.stored_array import MissingChunkError

MAX_CHUNK_BYTES = 2**31
"""Of a chunk as an array; compressors take no more."""
MAX_INDEX = 2**22
"""Chunks of a shard, and chunks whose places are kept in memory."""

_ABSENT = 2**64 - 1  # in a shard's index
_MISSING = "the frame, or a part of it, was never written or is lost"
_BLOSC_HEADER = 16
_CRC_BYTES = 4
_SLACK_BYTES = 2**16
_IMAGECODECS = ("zstd", "gzip", "zlib", "bz2")

Bytes = NDArray[np.uint8]
Decode = Callable[[Bytes, Bytes], Bytes]
"""From encoded bytes and room for the result to the result; raises when there is not room enough."""


class DamagedChunkError(Exception):
    """A chunk is not what it should be."""


def checked(array: zarr.Array[Any], shape: Sequence[int] | None = None) -> zarr.Array[Any]:
    """Return the same array, read through a `ChunkReader`: reading it raises where a chunk is absent or damaged.

    Parameters
    ----------
    array
        As zarr opens it.
    shape
        Read chunks within this shape, whatever the metadata say: they may lag behind what is written, or run ahead.

    Raises
    ------
    SourceError
        The chunks are too large, or are stored in a way that is not known here.
    """
    layout = _layout(array, shape or array.shape)
    return zarr.Array(zarr.AsyncArray(layout.metadata, StorePath(ChunkReader(array, layout))))


class ChunkReader(WrapperStore[Store]):
    """The chunks of an array as they were before compression, each by itself, as the store of an array without shards.

    zarr makes frames of them. What it does not do is tell a chunk that is not there, in a store or in the index of a
    shard, from a dark one; here that raises `MissingChunkError`. And a damaged chunk may cost it any amount of memory,
    or give it foreign memory: decompressors allocate what a header claims, inflate whatever comes out, and Blosc reads
    on behind a buffer that is cut off (numcodecs 0.16.6, issue 228). Here no chunk, encoded or decoded, takes much more
    than its shape says.
    """

    supports_sync_io = False  # or a later zarr reads from the store below, past `get`

    def __init__(self, array: zarr.Array[Any], layout: "_Layout") -> None:
        super().__init__(array.store)
        self._prefix = f"{array.path}/" if array.path else ""
        self._layout = layout
        self._name = layout.shards.name if layout.shards else array.metadata.encode_chunk_key
        self._chunk_bytes = math.prod(array.chunks) * array.dtype.itemsize
        if self._chunk_bytes > MAX_CHUNK_BYTES:
            raise SourceError(f"chunks of shape {array.chunks} are too large to be read: rewrite it with smaller ones")
        # Filters may widen numbers to 8 bytes; what cannot be compressed grows by less than a sixteenth.
        self._most_bytes = (1 if layout.exact else 8) * self._chunk_bytes * 17 // 16 + _SLACK_BYTES
        self._indices: dict[str, NDArray[np.uint64]] = {}
        self._loading: dict[str, asyncio.Lock] = {}

    def name(self, place: tuple[int, ...]) -> str:
        """Return the key, below the array's, of the object that holds a chunk, by the chunk's place in the grid."""
        shards = self._layout.shards
        return self._name(tuple(at // n for at, n in zip(place, shards.per_shard, strict=True)) if shards else place)

    async def has(self, place: tuple[int, ...]) -> bool:
        """Return whether a chunk is there; raises DamagedChunkError where its shard has no whole index."""
        with suppress(MissingChunkError):
            name, _ = await self._find("/".join(["c", *map(str, place)]), default_buffer_prototype())
            return self._layout.shards is not None or await self._store.exists(name)
        return False

    def forget(self) -> None:
        """Read the indices of shards anew: there may be more in them by now."""
        self._indices.clear()

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return a chunk; raises `MissingChunkError`, `DamagedChunkError`, or what a decompressor raises."""
        if byte_range is not None:
            raise NotImplementedError("a chunk is read whole")
        name, place = await self._find(key, prototype)
        value = await super().get(name, prototype, place)
        if value is None:
            raise MissingChunkError(_MISSING)
        stored = value.as_numpy_array()
        self._check_length(stored, name, place)
        pixels = await asyncio.to_thread(self._decode, stored) if self._layout.decoders else stored
        if self._layout.exact and len(pixels) != self._chunk_bytes:
            raise DamagedChunkError(f"{name} has {len(pixels)} of {self._chunk_bytes} bytes of pixels")
        return prototype.buffer.from_array_like(pixels)

    async def _find(self, key: str, prototype: BufferPrototype) -> tuple[str, RangeByteRequest]:
        """Return the object that holds a chunk, and where in it the chunk lies."""
        shards = self._layout.shards
        if shards is None:
            return self._prefix + key, RangeByteRequest(0, self._most_bytes + 1)
        shard, within = shards.split(key)
        name = self._prefix + shard
        offset, length = (int(number) for number in (await self._index(shards, name, prototype))[within])
        if offset == length == _ABSENT:
            raise MissingChunkError(_MISSING)
        return name, RangeByteRequest(offset, offset + min(length, self._most_bytes + 1))

    async def _index(self, shards: "_Shards", name: str, prototype: BufferPrototype) -> NDArray[np.uint64]:
        """Return the index of a shard, which is read once."""
        async with self._loading.setdefault(name, asyncio.Lock()):  # of others meanwhile: on a network it takes a while
            try:
                if name not in self._indices:
                    value = await super().get(name, prototype, shards.index_range)
                    if value is None:
                        raise MissingChunkError(_MISSING)
                    if sum(index.size // 2 for index in self._indices.values()) > MAX_INDEX:
                        self._indices.clear()
                    self._indices[name] = shards.index(value.as_numpy_array(), name)
                return self._indices[name]
            finally:
                self._loading.pop(name, None)

    def _check_length(self, stored: Bytes, name: str, place: RangeByteRequest) -> None:
        if len(stored) > self._most_bytes:
            raise DamagedChunkError(f"{name} takes more than {self._most_bytes} bytes: its shape needs far less")
        if self._layout.shards and len(stored) < place.end - place.start:
            raise DamagedChunkError(f"{name} is cut off in its chunk at byte {place.start}")

    def _decode(self, data: Bytes) -> Bytes:
        for place, decode in reversed(list(enumerate(self._layout.decoders))):
            pixels = self._layout.exact and place == 0
            data = decode(data, np.empty(self._chunk_bytes if pixels else self._most_bytes, np.uint8))
        return data


@dataclass(frozen=True, slots=True)
class _Shards:
    """How the chunks of an array lie in shards.

    Attributes
    ----------
    per_shard
        Number of chunks along each axis.
    name
        From the place of a shard in the array to its key in the store.
    at_start, checksum
        Where the index is, and whether it ends with a CRC-32C.
    """

    per_shard: tuple[int, ...]
    name: Callable[[tuple[int, ...]], str]
    at_start: bool
    checksum: bool

    def split(self, key: str) -> tuple[str, tuple[int, ...]]:
        """Return the name of the shard that holds a chunk ``c/1/2/3``, and the place of the chunk in it."""
        place = [divmod(int(number), n) for number, n in zip(key.split("/")[1:], self.per_shard, strict=True)]
        return self.name(tuple(shard for shard, _ in place)), tuple(within for _, within in place)

    @property
    def index_range(self) -> ByteRequest:
        """Which bytes of a shard are the index."""
        n_bytes = 16 * math.prod(self.per_shard) + _CRC_BYTES * self.checksum
        return RangeByteRequest(0, n_bytes) if self.at_start else SuffixByteRequest(n_bytes)

    def index(self, data: Bytes, name: str) -> NDArray[np.uint64]:
        """Return offset and length of each chunk, shape (*per_shard, 2)."""
        entries = _without_crc32c(data, data) if self.checksum else data
        if len(entries) != 16 * math.prod(self.per_shard):
            raise DamagedChunkError(f"{name} is cut off: it has no whole index")
        return entries.view("<u8").reshape(*self.per_shard, 2)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How an array is stored.

    Attributes
    ----------
    metadata
        Of the array as it would be without shards and without what `decoders` undo.
    decoders
        In the order of encoding.
    exact
        Whether what comes out of them is the pixels, and not what filters made of them.
    """

    metadata: Any
    decoders: list[Decode]
    exact: bool
    shards: _Shards | None = None


def _layout(array: zarr.Array[Any], shape: Sequence[int]) -> _Layout:
    metadata: dict[str, Any] = {**array.metadata.to_dict(), "shape": list(shape)}
    shards = None if array.shards is None else _shards(array, metadata)
    if metadata["zarr_format"] == 2:
        left, decoders = _split_off([codec] if (codec := metadata["compressor"]) else [])
        metadata["compressor"] = left[0] if left else None
        exact = not (left or metadata["filters"])
    else:
        metadata["codecs"], decoders = _split_off(metadata["codecs"])
        names = {codec["name"] for codec in metadata["codecs"]}
        exact = names <= {"bytes", "transpose"}
        if "sharding_indexed" in names:
            raise SourceError("shards within shards, or behind other codecs, are not read: rewrite it without")
    return _Layout(type(array.metadata).from_dict(metadata), decoders, exact, shards)


def _shards(array: zarr.Array[Any], metadata: dict[str, Any]) -> _Shards:
    """Return how chunks lie in shards, and make of an array's metadata those of one whose chunks are the inner ones."""
    [sharding] = (codec["configuration"] for codec in metadata["codecs"])
    per_shard = tuple(shard // chunk for shard, chunk in zip(array.shards or (), array.chunks, strict=True))
    index_codecs = sharding["index_codecs"]
    names = [codec["name"] for codec in index_codecs]
    is_known = names in (["bytes"], ["bytes", "crc32c"]) and index_codecs[0]["configuration"]["endian"] == "little"
    if not is_known or math.prod(per_shard) > MAX_INDEX:
        raise SourceError(f"shards of {per_shard} chunks with an index of {names} are not read: rewrite it")
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = sharding["chunk_shape"]
    metadata["chunk_key_encoding"] = {"name": "default", "configuration": {"separator": "/"}}
    metadata["codecs"] = sharding["codecs"]
    return _Shards(per_shard, array.metadata.encode_chunk_key, sharding["index_location"] == "start", len(names) > 1)


def _split_off(codecs: Sequence[dict[str, Any]]) -> tuple[Sequence[dict[str, Any]], list[Decode]]:
    """Cut a list of codecs in two: those that zarr has to undo, and after them those that can be undone here."""
    decoders = [_decoder(codec) for codec in codecs]
    n_left = max((place for place, decode in enumerate(decoders, 1) if decode is None), default=0)
    return codecs[:n_left], [decode for decode in decoders[n_left:] if decode is not None]


def _decoder(codec: Mapping[str, Any]) -> Decode | None:
    """Return what undoes a codec, of either format of zarr, in a given room; None if it is not a common one."""
    name = str(codec.get("name", codec.get("id")))
    if name == "crc32c":
        return _without_crc32c
    common = name.removeprefix("numcodecs.")
    if common == "blosc":
        return _without_blosc
    if common == "lz4":
        return partial(_imagecodecs, partial(imagecodecs.lz4_decode, header=True))
    return partial(_imagecodecs, getattr(imagecodecs, f"{common}_decode")) if common in _IMAGECODECS else None


def _imagecodecs(decode: Callable[..., Any], data: Bytes, room: Bytes) -> Bytes:
    return np.asarray(decode(data, out=room))


def _without_blosc(data: Any, room: Any) -> Bytes:
    """Decode a Blosc buffer, whose decoder trusts the lengths in the header."""
    if len(data) < _BLOSC_HEADER:
        raise DamagedChunkError(f"it is cut off: {len(data)} of {_BLOSC_HEADER} bytes are there")
    n_decoded, _, n_encoded = (int(number) for number in data[4:_BLOSC_HEADER].view("<u4"))
    if len(data) < n_encoded:
        raise DamagedChunkError(f"it is cut off: {len(data)} of {n_encoded} bytes are there")
    if n_decoded > len(room):
        raise DamagedChunkError(f"it claims {n_decoded} bytes, for {len(room)}")
    return np.asarray(imagecodecs.blosc_decode(data, out=room))


def _without_crc32c(data: Bytes, room: Bytes) -> Bytes:
    """Return the bytes before their CRC-32C."""
    if google_crc32c.value(data[:-_CRC_BYTES]).to_bytes(_CRC_BYTES, "little") != data[-_CRC_BYTES:].tobytes():
        raise DamagedChunkError("its checksum is wrong")
    return data[:-_CRC_BYTES]
