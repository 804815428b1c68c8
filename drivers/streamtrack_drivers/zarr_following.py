"""A zarr array that another process still writes: which of its chunks are there, by their files."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync
from zarr.storage import LocalStore

from streamtrack.errors import SourceError
from streamtrack_drivers.axes import MovieView
from streamtrack_drivers.following import WrittenImage, check_there, on_the_loops_clock
from streamtrack_drivers.stored_array import BLOCK_FRAMES, SMALL_BLOCK_BYTES
from streamtrack_drivers.zarr_chunks import ChunkReader, DamagedChunkError

_AGAIN_S = 0.1
"""How often what could not be read is tried again, changed or not: another program may have held the file."""
_METADATA = ("zarr.json", ".zarray")

Read = Callable[[int, int], "NDArray[Any] | str"]
"""Gives images of frames from A to B - 1, or why they cannot be had."""


class GrowingZarr:
    """Frames of an array that grows along T.

    A chunk of one frame is there when all its files are. One of several frames may be written once or anew with each of
    them, so that it is taken when a later one is there, or at the end; then frames after which it has nothing but its
    fill value were never written. A missing chunk is a lost frame, as in a movie that is complete.

    Parameters
    ----------
    array
        Read through a `ChunkReader`, for as many frames as may ever come.
    stored
        As zarr opened it.
    view
        Which images of it are frames.
    read
        How to read them.
    """

    def __init__(self, array: zarr.Array[Any], stored: zarr.Array[Any], view: MovieView, read: Read) -> None:
        if not isinstance(stored.store, LocalStore) or not isinstance(array.store, ChunkReader):
            raise SourceError("is in one file: only a folder can be followed while it is written")
        self._reader, self._view, self._read = array.store, view, read
        self._folder = Path(stored.store.root, *stored.path.split("/"))
        self._t = view.axes.index("T")
        self._per_chunk = array.chunks[self._t]
        self._fill = stored.fill_value
        self._shape = stored.shape
        self._is_sharded = stored.shards is not None
        self._chunks_per_file = (stored.shards or stored.chunks)[self._t] // self._per_chunk
        self._places = list(_places(view, array.chunks))
        few = min(BLOCK_FRAMES, SMALL_BLOCK_BYTES // (view.pixels_per_frame * stored.dtype.itemsize))
        self._most_ahead = max(1, few // self._per_chunk)
        self._block: dict[int, WrittenImage] = {}
        self._tried: tuple[int, Any] = (-1, None)
        self._tried_s = 0.0
        self._outcome: str | None = None

    def look(self, index: int, *, at_the_end: bool = False) -> WrittenImage | str | None:
        """Return a frame, why it cannot be read so far, or None where it is not there."""
        if index in self._block:
            return self._block.pop(index)
        chunk = index // self._per_chunk
        files = self._files(chunk)
        if files is None or not (self._has(chunk) if at_the_end else self._is_whole(chunk)):
            return None
        if self._tried != (chunk, files) or time.monotonic() - self._tried_s > _AGAIN_S or at_the_end:
            self._outcome = self._fetch(chunk, at_the_end)
            self._tried, self._tried_s = (chunk, files), time.monotonic()
        return self._block.pop(index, self._outcome)

    def latest(self) -> int:
        """Return the index of the last frame of which a chunk is there, -1 for none."""
        for file in sorted(self._listed(), reverse=True):
            for chunk in range((file + 1) * self._chunks_per_file - 1, file * self._chunks_per_file - 1, -1):
                if self._files(chunk) is not None and self._has(chunk):
                    return chunk * self._per_chunk
        return -1

    def promised(self) -> int:
        """Return the length in the array's own metadata; they go stale when consolidated. Raises SourceError."""
        check_there(self._folder / name for name in _METADATA)
        for name in _METADATA:
            with suppress(OSError, ValueError, KeyError, TypeError, IndexError):
                return int(json.loads((self._folder / name).read_bytes())["shape"][self._t])
        return int(self._shape[self._t])

    def _is_whole(self, chunk: int) -> bool:
        """Return whether nothing more will be written into a chunk that has begun."""
        if not self._has(chunk):
            return False
        return self._per_chunk == 1 or (self._files(chunk + 1) is not None and self._has(chunk + 1))

    def _has(self, chunk: int) -> bool:
        """Return whether a chunk, whose file is there, is in it."""
        if not self._is_sharded:
            return True
        self._reader.forget()
        with suppress(DamagedChunkError, OSError):
            return all(sync(self._reader.has(self._at(chunk, place))) for place in self._places)
        return False

    def _fetch(self, chunk: int, at_the_end: bool) -> str | None:
        """Read a chunk, and those after it that are there; return why it cannot be read."""
        n_chunks = 1
        while n_chunks < self._most_ahead and not at_the_end and self._is_next(chunk + n_chunks):
            n_chunks += 1
        start = chunk * self._per_chunk
        images = self._read(start, start + n_chunks * self._per_chunk)
        if isinstance(images, str) and n_chunks > 1:
            images = self._read(start, start + self._per_chunk)
        if isinstance(images, str):
            return images
        if at_the_end and self._per_chunk > 1:
            images = images[: _n_written(images, self._fill)]
        written_ns = [self._written_ns(chunk + at) for at in range(n_chunks)]
        self._block = {
            start + at: WrittenImage(image, written_ns[at // self._per_chunk]) for at, image in enumerate(images)
        }
        return None

    def _written_ns(self, chunk: int) -> int:
        return on_the_loops_clock([time_ns for time_ns, _ in self._files(chunk) or [(0, 0)]])

    def _is_next(self, chunk: int) -> bool:
        return self._files(chunk) is not None and self._is_whole(chunk)

    def _files(self, chunk: int) -> list[tuple[int, int]] | None:
        """Return when each file of a chunk's frames was written, and how long it is; None where one is missing."""
        found = []
        for place in self._places:
            try:
                state = os.stat(self._folder / self._reader.name(self._at(chunk, place)))
            except OSError:
                return None
            found.append((state.st_mtime_ns, state.st_size))
        return found

    def _at(self, chunk: int, place: tuple[int, ...]) -> tuple[int, ...]:
        return (*place[: self._t], chunk, *place[self._t + 1 :])

    def _listed(self) -> list[int]:
        """Return where along T there are files, or folders for them."""
        before, after = (self._reader.name(self._at(n * self._chunks_per_file, self._places[0])) for n in (0, 1))
        start = next(at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
        folder, _, prefix = before[:start].rpartition("/")
        rest = before[start + 1 :]
        ending = rest if "/" not in rest else rest.partition("/")[0]
        found = []
        with suppress(OSError):
            for name in os.listdir(self._folder / folder):
                number = name.removeprefix(prefix).removesuffix(ending)
                if name.startswith(prefix) and name.endswith(ending) and number.isdecimal():
                    found.append(int(number))
        return found


def _places(view: MovieView, chunks: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the places in the grid of chunks that make up a frame, T being 0."""
    along: list[Sequence[int]] = []
    for axis, index, size, chunk in zip(view.axes, view.key(0, 1), view.shape, chunks, strict=True):
        whole = isinstance(index, slice) and axis != "T"
        along.append(range(-(-size // chunk)) if whole else [0 if axis == "T" else int(index) // chunk])  # type: ignore[arg-type]
    yield from product(*along)


def _n_written(images: NDArray[Any], fill: Any) -> int:
    """Return how many of a chunk's frames come before those that are nothing but the fill value."""
    written = [at for at, image in enumerate(images, 1) if not _is_all(image, fill)]
    return written[-1] if written else 0


def _is_all(image: NDArray[Any], fill: Any) -> bool:
    value = 0 if fill is None else fill
    return bool(np.all(np.isnan(image))) if value != value else bool(np.all(image == value))
