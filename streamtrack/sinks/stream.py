"""The Arrow stream that a run's rows go into while it lasts: readable up to its last batch whatever happens.

A batch holds the rows of whole frames and is written in one call. Its metadata have the number of frames and a checksum
of all values: the file format itself would take a flipped bit for a number. Any Arrow reader can read the stream.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from streamtrack.errors import SinkError

_MARKER = b"\xff\xff\xff\xff"
"""Before the length of every message."""
_MOST_METADATA = 1 << 20
_SEARCH_BYTES = 1 << 20
_BROKEN = (pa.ArrowException, OSError, EOFError, MemoryError, ValueError, KeyError)
"""What Arrow raises on bytes that are no message; ``OSError`` for most."""


class StreamWriter:
    """Writes a stream; raises OSError.

    Parameters
    ----------
    path
        A file that is not there yet.
    schema
        Of all batches.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._header = _header(schema)
        self._n_frames = self._n_rows = 0
        self._file = FileIO(path, "x")  # unbuffered: what is written, the system has
        try:
            self._write(self._header)
        except OSError:
            self.abandon()  # Windows deletes no file that is open
            raise

    @property
    def written(self) -> tuple[int, int]:
        """Frames and rows so far."""
        return self._n_frames, self._n_rows

    def add(self, rows: pa.RecordBatch, first: int, last: int, n_frames: int) -> None:
        """Write the rows of ``n_frames`` frames, of which these are the first and the last."""
        n_bytes = pa.ipc.read_message(rows.serialize()).body.size
        about = {"frames": n_frames, "frames_before": self._n_frames, "first": first, "last": last, "bytes": n_bytes}
        metadata = {name: str(value) for name, value in about.items()}
        metadata["crc32"] = str(_checksum(rows, metadata))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema) as stream:
            stream.write_batch(rows, custom_metadata=metadata)
        whole = sink.getvalue().to_pybytes()
        self._write(whole[len(self._header) : -len(_MARKER) - 4])
        self._n_frames += n_frames
        self._n_rows += len(rows)

    def close(self) -> None:
        """Mark the end of the stream, and close the file."""
        try:
            self._write(_MARKER + bytes(4))
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Close the file without a mark."""
        with suppress(OSError):
            self._file.close()

    def _write(self, data: bytes) -> None:
        """Write all or nothing: a batch by half would spoil those after it."""
        before = self._file.tell()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError:
            with suppress(OSError):
                self._file.truncate(before)
                self._file.seek(before)
            raise


@dataclass(slots=True)
class Extent:
    """What a stream holds, and what of it cannot be read.

    Attributes
    ----------
    first, last
        Frames; None where no batch says so, as in streams of older versions.
    lost_frames
        Those known to be in ``lost_bytes``.
    end
        Behind the last batch that could be read: of a stream that grows, where to go on. What is lost of such a one is
        known at its end only.
    """

    n_frames: int = 0
    n_rows: int = 0
    first: int | None = None
    last: int | None = None
    lost_bytes: int = 0
    lost_frames: int = 0
    end: int = 0


def read_schema(path: Path) -> pa.Schema:
    """Return a stream's schema; raises SinkError."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return stream.schema
    except _BROKEN as error:
        raise SinkError(f"{path} is missing or holds nothing readable; there is nothing to recover") from error


def read_batches(path: Path, extent: Extent | None = None) -> Iterator[pa.RecordBatch]:
    """Yield every batch that is as it was written; what is between them, or behind them, is passed over and counted.

    Parameters
    ----------
    path
        The stream.
    extent
        Filled while the batches are read. With that of an earlier call only those behind it are read.
    """
    extent = Extent() if extent is None else extent
    header = _header(read_schema(path))
    with pa.OSFile(str(path)) as file:
        place = good = max(extent.end, len(header))
        while place < file.size():
            try:
                batch, about, end = _read_message(file, place, header)
            except _BROKEN:
                place = _next_marker(file, place + 8)
                continue
            extent.lost_bytes += place - good
            place = good = extent.end = end
            if batch is not None:
                _note(extent, about, batch)
                yield batch
                del batch  # before there is room for the next one
        extent.lost_bytes += place - good


def _header(schema: pa.Schema) -> bytes:
    data: bytes = schema.serialize().to_pybytes()
    return data


def _read_message(file: pa.NativeFile, place: int, header: bytes) -> tuple[pa.RecordBatch | None, dict[str, str], int]:
    """Return the batch at a place of a file, what it says of itself, and where it ends; None at the end mark.

    Raises one of ``_BROKEN`` on anything else than what was written there.
    """
    file.seek(place)
    marker, length = file.read(4), file.read(4)
    if (marker, length) == (_MARKER, bytes(4)) and place + 8 == file.size():
        return None, {}, place + 8
    if marker != _MARKER or not 0 < struct.unpack("<i", length)[0] <= _MOST_METADATA:
        raise ValueError("no message")
    file.seek(place)
    with pa.ipc.open_stream(pa.PythonFile(_Behind(header, file), "r")) as stream:
        batch, metadata = stream.read_next_batch_with_custom_metadata()
    end = file.tell()
    n_bytes = end - place - 8 - struct.unpack("<i", length)[0]
    batch.validate(full=True)
    about = {key.decode(): value.decode() for key, value in (metadata or {}).items()}
    if about:  # older versions said nothing
        crc = int(about.pop("crc32"))
        if crc != _checksum(batch, about) or n_bytes != int(about["bytes"]):
            raise ValueError("not as it was written")
    return batch, about, end


class _Behind:
    """A stream's header and then one of its messages, as a file for Arrow: which takes them without another copy."""

    closed = False

    def __init__(self, header: bytes, file: pa.NativeFile) -> None:
        self._header, self._file = header, file

    def read(self, n_bytes: int) -> bytes:
        part, self._header = self._header[:n_bytes], self._header[n_bytes:]
        return part or bytes(self._file.read(n_bytes))

    def read_buffer(self, n_bytes: int) -> pa.Buffer:
        if self._header:
            return pa.py_buffer(self.read(n_bytes))
        if n_bytes > self._file.size() - self._file.tell():
            raise ValueError("longer than the file")
        return self._file.read_buffer(n_bytes)

    def close(self) -> None:
        """Leave the file open."""


def _note(extent: Extent, about: dict[str, str], batch: pa.RecordBatch) -> None:
    """Count a batch, and the frames that are missing before it."""
    extent.n_rows += len(batch)
    if not about:
        return
    extent.lost_frames = int(about["frames_before"]) - extent.n_frames
    extent.n_frames += int(about["frames"])
    extent.first = int(about["first"]) if extent.first is None else extent.first
    extent.last = int(about["last"])


def _next_marker(file: pa.NativeFile, place: int) -> int:
    """Return the next place where a message may begin, at a multiple of 8 bytes; the end of the file if none may."""
    size: int = file.size()
    while place < size:
        file.seek(place)
        data = file.read(_SEARCH_BYTES)
        pairs = np.frombuffer(data[: len(data) - len(data) % 8], "<i4").reshape(-1, 2)
        found = np.flatnonzero((pairs[:, 0] == -1) & (pairs[:, 1] >= 0) & (pairs[:, 1] <= _MOST_METADATA))
        if len(found):
            return place + 8 * int(found[0])
        place += _SEARCH_BYTES
    return size


def _checksum(batch: pa.RecordBatch, about: dict[str, str]) -> int:
    """Return a checksum of all values of a batch and of what it says of itself, however Arrow lays them out."""
    crc = zlib.crc32(repr(sorted(about.items())).encode())
    for column in batch.columns:
        valid = np.ones(len(column), np.bool_)
        if column.null_count:
            valid, column = column.is_valid().to_numpy(zero_copy_only=False), column.fill_null(0)
        crc = zlib.crc32(np.packbits(valid).data, crc)
        crc = zlib.crc32(np.ascontiguousarray(column.to_numpy(zero_copy_only=False)).data, crc)
    return crc
