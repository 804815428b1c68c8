"""A movie that is an array on disk, of whatever format: which of its images are frames, read some at a time."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamtrack.arrays import frame_dtype
from streamtrack.clock import monotonic_ns
from streamtrack.errors import SourceError, one_line
from streamtrack.types import Frame, LostFrame, SourceInfo
from streamtrack_drivers.axes import MovieView, resolve_axes

BLOCK_BYTES = 256 * 2**20
"""Most that is read at once; a single frame (with ``z="max"``: a single stack) is read whole in any case."""
BLOCK_FRAMES, SMALL_BLOCK_BYTES, BLOCK_CHUNKS = 16, 32 * 2**20, 4096
"""Chunks are read together up to so many frames, bytes, chunks: per call zarr costs as much as decoding a chunk."""
MAX_CHUNKS_PER_FRAME = 2**16
"""Each costs some kilobytes and a fifth of a millisecond."""


class MissingChunkError(Exception):
    """A chunk was never written, or is lost."""


class StoredArray(Protocol):
    """An array that is read in chunks of this shape; raises MissingChunkError for one that is not there."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        ...

    @property
    def chunks(self) -> tuple[int, ...]:
        """Of a chunk, along each axis."""
        ...

    def __getitem__(self, key: tuple[int | slice, ...], /) -> Any:
        """Return what a basic index selects, as an array of its own."""
        ...


ArrayT = TypeVar("ArrayT", bound=StoredArray)


@dataclass(frozen=True, slots=True)
class StoredImage(Generic[ArrayT]):
    """An array on disk and what the metadata around it says.

    Attributes
    ----------
    axis_names
        In stored order; None where nothing is known.
    channel_names
        May be empty, or have empty entries.
    origin_um
        Where the centre of the first pixel is, y and x.
    planes_um
        Height of the first z plane, and from each to the next.
    """

    array: ArrayT
    axis_names: Sequence[str] | None = None
    channel_names: Sequence[str] = ()
    pixel_size_um: float | None = None
    frame_interval_s: float | None = None
    origin_um: tuple[float, float] | None = None
    planes_um: tuple[float, float] | None = None


class StoredArraySource:
    """Frames of a chunked array on disk: what the sources of such formats have in common.

    Reads some frames at a time, whole chunks of them, so that a chunk that holds several frames is decoded once. When
    a chunk cannot be read, each of its frames is yielded as LostFrame and reading goes on.

    Parameters
    ----------
    image
        What to read; its array must raise for an absent chunk (`streamtrack_drivers.zarr_chunks.checked`).
    files
        What ``close`` has to close; taken over from the caller when everything is in order.
    part
        What the format calls a chunk, for the cause of a LostFrame.
    position_names
        Of the images beside it that are its other positions, and of itself.
    """

    def __init__(
        self,
        image: StoredImage[Any],
        *,
        path: Path | str,
        channel: int | str | None,
        z: int | Literal["max"] | None,
        frames: str | None,
        axes: str | None,
        position: int | str | None,
        details: Mapping[str, Any],
        files: ExitStack,
        part: str,
        position_names: Sequence[str] = (),
    ) -> None:
        array = image.array
        self._array, self._part = array, part
        self._dtype = frame_dtype(array.dtype)
        stored_axes = resolve_axes(axes, image.axis_names, array.shape)
        self._view = MovieView.select(
            stored_axes,
            array.shape,
            channel=channel,
            z=z,
            frames=frames,
            channel_names=image.channel_names,
            position=position,
        )
        self._info = SourceInfo(
            name=str(path),
            shape=self._view.frame_shape,
            dtype=self._dtype.name,
            n_frames=len(self._view.frames),
            pixel_size_um=image.pixel_size_um,
            frame_interval_s=image.frame_interval_s,
            origin_um=image.origin_um,
            z_um=_height_um(image.planes_um, self._view.z),
            details={"stored_dtype": array.dtype.str, "chunks": list(array.chunks), **self._view.details(), **details},
        )
        self._choices = self._view.choices(image.channel_names, position_names)
        self._chunks_per_frame = _chunks_per_frame(self._view, array.chunks)
        self._closed = threading.Event()
        self._reading = threading.Lock()
        self._files = files.pop_all()

    @property
    def info(self) -> SourceInfo:
        """What is known before the first frame."""
        return self._info

    def choices(self) -> Mapping[str, Sequence[str]]:
        """Return what there is along the axes of which ``channel`` and ``z`` choose one; ``"all"`` takes each."""
        return self._choices

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield every frame once, in order; ``index`` counts from the start of the whole movie."""
        for start, images in self._blocks():
            for index, image in enumerate(images, start):
                if self._closed.is_set():
                    return
                yield LostFrame(index, image) if isinstance(image, str) else self._frame(index, image)

    def indices(self) -> range:
        """Return the indices of all frames."""
        return self._view.frames

    def frame_at(self, index: int) -> Frame | LostFrame:
        """Return one frame."""
        images = self._read(index, index + 1)
        return LostFrame(index, images) if isinstance(images, str) else self._frame(index, images[0])

    def close(self) -> None:
        """Close the file, once the block that is being read is done."""
        self._closed.set()
        with self._reading:
            self._files.close()

    def _frame(self, index: int, image: NDArray[Any], written_ns: int | None = None) -> Frame:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which is masked later
            pixels = np.ascontiguousarray(image, dtype=self._dtype)
        interval_s = self._info.frame_interval_s or 1.0
        return Frame(index, pixels, monotonic_ns(), index * interval_s, written_ns=written_ns)

    def _blocks(self) -> Iterator[tuple[int, Sequence[NDArray[Any] | str]]]:
        """Yield the first index and the images, or causes of loss, of blocks of frames; in order."""
        view = self._view
        frame_bytes = view.pixels_per_frame * self._array.dtype.itemsize
        per_chunk = self._array.chunks[view.axes.index("T")] if "T" in view.axes else 1
        few = min(BLOCK_FRAMES, SMALL_BLOCK_BYTES // frame_bytes, BLOCK_CHUNKS // self._chunks_per_frame)
        per_block = max(per_chunk, few // per_chunk * per_chunk)
        most = max(1, BLOCK_BYTES // frame_bytes)
        for start, stop in cut(view.frames.start, view.frames.stop, per_block, most):
            images = self._read(start, stop)
            if isinstance(images, str):  # find the chunks that can be read
                for first, last in cut(start, stop, per_chunk, most):
                    images = self._read(first, last)
                    yield first, [images] * (last - first) if isinstance(images, str) else list(images)
            else:
                yield start, list(images)

    def _read(self, start: int, stop: int) -> NDArray[Any] | str:
        """Return images (n, H, W), or why they cannot be had."""
        with self._reading:
            if self._closed.is_set():
                return "closed"
            return self._outcome(lambda: self._array[self._view.key(start, stop)])

    def _outcome(self, read: Callable[[], Any]) -> NDArray[Any] | str:
        """Return images (n, H, W) of what is read, or why they cannot be had."""
        try:
            return self._view.images(np.asarray(read()))
        except MemoryError as error:
            raise SourceError(f"{self._info.name}: a frame takes more memory than there is") from error
        except Exception as error:  # whatever a codec raises on damaged bytes
            kind = "missing" if isinstance(error, MissingChunkError) else "unreadable"
            return f"{kind} {self._part}: {one_line(error)}"


def _height_um(planes_um: tuple[float, float] | None, z: int | Literal["max"]) -> float | None:
    return None if planes_um is None or z == "max" else planes_um[0] + z * planes_um[1]


def _chunks_per_frame(view: MovieView, chunks: tuple[int, ...]) -> int:
    """Return how many chunks have to be read for one frame; raises SourceError if that would take for ever."""
    needed = "ZYX" if view.z == "max" else "YX"
    sides = zip(view.axes, view.shape, chunks, strict=True)
    n_chunks = math.prod(-(-size // chunk) for axis, size, chunk in sides if axis in needed)
    if n_chunks > MAX_CHUNKS_PER_FRAME:
        raise SourceError(f"chunks of shape {chunks} make {n_chunks} a frame, too many: rewrite it with larger ones")
    return n_chunks


def cut(start: int, stop: int, multiple: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut a range at the multiples of a length, and into pieces of at most ``most``."""
    while start < stop:
        end = min(stop, (start // multiple + 1) * multiple, start + most)
        yield start, end
        start = end
