"""Movies that are in Python already: arrays, and anything that yields images."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.clock import monotonic_ns
from streamtrack.errors import ConfigError, SourceError, foreign_errors
from streamtrack.types import MIN_FRAME_PX, Frame, LostFrame, SourceInfo


class ArraySource:
    """A movie that is an array, or anything that yields images.

    Parameters
    ----------
    movie
        Shape (T, H, W): numpy, dask, zarr, or whatever else numpy takes slices of; or any iterable of images (H, W),
        each of which is copied. At least 32 x 32 px; uint8, uint16, float32, or float16 and float64, which become
        float32. A dask or zarr array is read chunk by chunk along its first axis.
    pixel_size_um, frame_interval_s
        None where they are not known.
    name
        What reports call it.

    Raises
    ------
    SourceError
        The array is no movie, or its dtype cannot be tracked.
    """

    def __init__(
        self,
        *,
        movie: Any,
        pixel_size_um: float | None = None,
        frame_interval_s: float | None = None,
        name: str = "array",
    ) -> None:
        self._closed = threading.Event()
        refuse_masked(movie)
        movie = np.asarray(movie) if isinstance(movie, memoryview) else movie
        self._blocks, shape, stored, n_frames = _array(movie) if hasattr(movie, "ndim") else _iterable(movie)
        if min(shape) < MIN_FRAME_PX:
            least = f"at least {MIN_FRAME_PX} x {MIN_FRAME_PX} px are needed"
            raise SourceError(f"frames of {shape[0]} x {shape[1]} px are too small: {least}; is the order (T, Y, X)?")
        self._dtype = frame_dtype(stored)
        self._info = SourceInfo(
            name,
            shape,
            self._dtype.name,
            n_frames,
            pixel_size_um=pixel_size_um,
            frame_interval_s=frame_interval_s,
            details={"stored_dtype": stored.str},
        )

    @property
    def info(self) -> SourceInfo:
        """What is known before the first frame; ``n_frames`` is None for an iterator."""
        return self._info

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield every image once, in order; one of another shape or dtype than the first is a lost frame."""
        interval_s = self._info.frame_interval_s or 1.0
        index = 0
        for block in self._blocks:
            for image in block:
                if self._closed.is_set():
                    return
                yield self._frame(index, image, index * interval_s)
                index += 1

    def close(self) -> None:
        """End a running ``frames()`` before its next frame."""
        self._closed.set()

    def _frame(self, index: int, image: NDArray[Any], time_s: float) -> Frame | LostFrame:
        if image.shape != self._info.shape or image.dtype.str != self._info.details["stored_dtype"]:
            first = f"{self._info.shape} {self._info.details['stored_dtype']}"
            return LostFrame(index, f"the image is {image.shape} {image.dtype.str}, the first one is {first}")
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which is masked later
            pixels = np.ascontiguousarray(image, dtype=self._dtype)
        return Frame(index, pixels, monotonic_ns(), time_s)


def refuse_masked(movie: Any) -> Any:
    """Return what was given; raises SourceError on a masked array: the mask would be lost without a word."""
    if isinstance(movie, np.ma.MaskedArray):
        raise SourceError("a masked array: fill what is masked first, for example movie.astype('float32').filled(nan)")
    return movie


def announced(shape: Any, dtype: Any) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Return what somebody says that images will be: height and width, px, and dtype; raises ConfigError."""
    if not (isinstance(shape, Sequence) and len(shape) == 2 and all(isinstance(side, Integral) for side in shape)):
        raise ConfigError(f"shape = {shape!r} is not that of an image: give (height, width) in whole px")
    with foreign_errors(ConfigError, f"dtype {dtype!r}"):
        return (int(shape[0]), int(shape[1])), np.dtype(dtype)


def frame_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which frames of an array are handed over: uint8, uint16 or float32, native byte order.

    float16 and float64 become float32, whose 24 bits hold any camera's counts. Other integers are refused, since
    only the user knows what their range means.

    Raises
    ------
    SourceError
        Pixels of this dtype are no image, or do not fit without loss.
    """
    native = stored.newbyteorder("=")
    if native in (np.uint8, np.uint16, np.float32):
        return native
    if native in (np.float16, np.float64):
        return np.dtype(np.float32)
    cure = "convert it to uint8, uint16 or float32"
    if native.kind in "iu":
        cure = "convert it, to uint16 if the values are 0 to 65535 (movie.astype('uint16')), to float32 otherwise"
    elif native.kind == "c":
        cure = "save its magnitude as float32 (abs(movie).astype('float32'))"
    elif native.kind == "b":
        cure = "that is a mask, not an image; give the movie it was made from"
    raise SourceError(f"pixels of dtype {native} cannot be tracked: {cure}")


_Opened = tuple[Iterable[Iterable[NDArray[Any]]], tuple[int, int], np.dtype[Any], int | None]
"""Blocks of images, shape and dtype of an image, number of images."""


def _array(movie: Any) -> _Opened:
    shape = tuple(int(side) for side in movie.shape)
    if len(shape) == 2:
        raise SourceError(f"an array of shape {shape} is one picture: streamtrack.detect(image) finds its particles")
    if len(shape) != 3:
        cure = "choose one channel, plane and position, for example movie[:, 0]"
        raise SourceError(f"an array of shape {shape} is not (T, Y, X): {cure}")
    if 0 in shape:
        raise SourceError(f"an array of shape {shape} holds no image")
    blocks = (np.asarray(movie[start:stop]) for start, stop in _spans(movie, shape[0]))
    return blocks, (shape[1], shape[2]), np.dtype(movie.dtype), shape[0]


def _spans(movie: Any, n_frames: int) -> Iterator[tuple[int, int]]:
    """Yield first and last (exclusive) of the frames that are read at once: those of a chunk, where there are any."""
    chunk = (getattr(movie, "chunks", None) or (1,))[0]
    lengths = chunk if isinstance(chunk, tuple) else [int(chunk)] * -(-n_frames // int(chunk))
    start = 0
    for length in lengths:
        yield start, min(start + int(length), n_frames)
        start += int(length)


def _iterable(movie: Any) -> _Opened:
    if not hasattr(movie, "__iter__") or isinstance(movie, str | bytes):
        raise SourceError(f"{type(movie).__name__} is no movie: give a path, an array (T, Y, X), or images one by one")
    images = iter(movie)
    with foreign_errors(SourceError, "the movie failed before its first image"):
        began = [np.array(image) for image in islice(images, 1)]
    if not began:
        raise SourceError("there is no image: the movie ended before its first frame")
    first = began[0]
    if first.ndim != 2:
        raise SourceError(f"the first image has the shape {first.shape}: give images of (Y, X)")
    n_frames = len(movie) if hasattr(movie, "__len__") else None
    return _one_by_one(first, images), (first.shape[0], first.shape[1]), first.dtype, n_frames


def _one_by_one(first: NDArray[Any], others: Iterator[Any]) -> Iterator[list[NDArray[Any]]]:
    yield [first]
    for image in others:
        yield [np.array(image)]  # a camera may hand over one buffer again and again
