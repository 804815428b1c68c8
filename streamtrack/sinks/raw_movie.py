"""Frames on disk as OME-Zarr 0.5, readable at every moment while they are being written.

A reader believes the array's shape, so that it is raised only after the chunks behind it are there: about once a
second and at the end. A process that is killed leaves a shorter movie, never one with frames that were not written.
zarr-python writes chunks within the shape only, and takes some times as long for a frame: here it makes the metadata,
and the chunks are written as the format says, one Blosc buffer per file.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs.blosc import Blosc  # type: ignore[import-untyped]
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from streamtrack import __version__
from streamtrack.clock import monotonic_ns
from streamtrack.files import patiently, replace_at_once, write_durably
from streamtrack.run_folder import MARK
from streamtrack.sinks.files import sink_errors
from streamtrack.types import Frame, SourceInfo

PUBLISH_NS = 1_000_000_000
"""How often readers get to see what is new."""
TIMES_PER_CHUNK = 4096
TIMES = "time_s"


class RawMovie:
    """One OME-Zarr image of axes t, y, x that grows frame by frame.

    Place i along t is frame ``first + i`` of the run. A frame that did not come has no chunk: it reads as zeros, and
    this project's own source takes it for lost. Beside the image lies ``time_s``, shape (T,), float64: when each frame
    was exposed, by the clock that the attributes name; NaN for one that did not come. ``streamtrack`` in the group's
    attributes has ``source, level, clock, first_frame, complete`` and, once complete, ``missing``: first and last of
    each run of frames that did not come, or were ``left_out``, which lists those, ``n_left_out`` in number, that
    somebody did not want to be recorded.

    Parameters
    ----------
    path
        A folder that does not exist yet.
    source
        What is recorded.
    first
        Index of the first frame.
    n_levels
        Of the pyramid: each further one has pixels twice as large, means of 2 x 2; what is left over at an odd border
        is not in them.

    Raises
    ------
    SinkError
        The file system refuses it.
    """

    def __init__(self, path: Path, source: SourceInfo, first: int, n_levels: int = 1) -> None:
        self._path = path
        self._first = first
        self._levels = tuple(map(str, range(n_levels)))
        self._next = first
        self._published = 0
        self._published_ns = 0
        self._times: dict[int, float] = {}
        """By place: those that are not published, and what is in the same chunk."""
        self._missing: list[tuple[int, int]] = []
        # Camera noise fills the low bits: bit by bit, LZ4 makes it as small as Zstandard does and takes half the time.
        self._codec = Blosc(cname="lz4", clevel=1, shuffle=Blosc.BITSHUFFLE)
        with sink_errors(path):
            path.mkdir()
            group = patiently(lambda: zarr.create_group(path, attributes=_attributes(source, first, self._levels)))
            for level, name in enumerate(self._levels):
                patiently(partial(_create_level, group, name, source, level))
            patiently(
                lambda: group.create_array(
                    TIMES,
                    shape=(0,),
                    chunks=(TIMES_PER_CHUNK,),
                    dtype="float64",
                    fill_value=np.nan,
                    compressors=None,
                )
            )
            members = (*self._levels, TIMES)
            self._metadata = {name: json.loads((path / name / "zarr.json").read_bytes()) for name in ("", *members)}
            for name in members:
                (path / name / "c").mkdir()

    def add(self, frame: Frame) -> None:
        """Write a frame, whose index is above those before; raises SinkError."""
        place = frame.index - self._first
        with sink_errors(self._path):
            pixels: NDArray[Any] = frame.pixels
            for level in self._levels:
                pixels = pixels if level == "0" else _halved(pixels)
                self._write_chunk(level, place, pixels)
        if frame.index > self._next:
            self._missing.append((self._next, frame.index - 1))
        self._next = frame.index + 1
        self._times[place] = frame.time_s
        if monotonic_ns() - self._published_ns >= PUBLISH_NS:
            self._publish_if_possible()

    def flush(self) -> None:
        """Let readers see all that was written so far; raises SinkError."""
        if self._next > self._first + self._published:
            self._publish_if_possible()

    def close(self, about: Mapping[str, Any]) -> None:
        """Finish the movie and add ``about`` to its attributes; raises SinkError."""
        with sink_errors(self._path):
            self._publish(write_durably)
            self._metadata[""]["attributes"][MARK] |= {"complete": True, "missing": self._missing, **about}
            self._write_metadata("", write_durably)

    def _write_chunk(self, level: str, place: int, pixels: NDArray[Any]) -> None:
        folder = self._path / level / "c" / str(place)
        os.mkdir(folder)
        os.mkdir(folder / "0")
        with open(folder / "0" / "0", "wb") as file:
            file.write(self._codec.encode(np.ascontiguousarray(pixels)))

    def _publish_if_possible(self) -> None:
        """Publish, or wait for the next time where another program has a file open, as it may on Windows."""
        with sink_errors(self._path), suppress(PermissionError):
            self._publish(replace_at_once)
        self._published_ns = monotonic_ns()

    def _publish(self, write: Callable[[Path, bytes], None]) -> None:
        """Raise all shapes, that of the finest images last, once all is there that they promise."""
        n = self._next - self._first
        for chunk in range(self._published // TIMES_PER_CHUNK, -(-n // TIMES_PER_CHUNK)):
            start = chunk * TIMES_PER_CHUNK
            times = [self._times.get(place, np.nan) for place in range(start, start + TIMES_PER_CHUNK)]
            write(self._path / TIMES / "c" / str(chunk), np.array(times, "<f8").tobytes())
        for name in (TIMES, *reversed(self._levels)):
            self._metadata[name]["shape"][0] = n
            self._write_metadata(name, write)
        self._published = n
        current = n - n % TIMES_PER_CHUNK
        self._times = {place: time_s for place, time_s in self._times.items() if place >= current}

    def _write_metadata(self, name: str, write: Callable[[Path, bytes], None]) -> None:
        write(self._path / name / "zarr.json", json.dumps(self._metadata[name], indent=2).encode())


def _create_level(group: zarr.Group, name: str, source: SourceInfo, level: int) -> None:
    shape = tuple(size // 2**level for size in source.shape)
    group.create_array(
        name,
        shape=(0, *shape),
        chunks=(1, *shape),
        dtype=source.dtype,
        compressors=BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
        dimension_names=("t", "y", "x"),
        fill_value=0,
    )


def _halved(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image of half the size, each pixel the mean of 2 x 2."""
    height, width = (size // 2 for size in image.shape)
    mean: NDArray[Any] = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
    return mean.astype(image.dtype, copy=False)


def _attributes(source: SourceInfo, first: int, levels: Sequence[str]) -> dict[str, Any]:
    """Return the attributes of OME-Zarr 0.5, and what it has no place for."""
    interval_s, pixel_um = source.frame_interval_s, source.pixel_size_um
    space: dict[str, str] = {"type": "space"} | ({"unit": "micrometer"} if pixel_um else {})
    time: dict[str, str] = {"type": "time"} | ({"unit": "second"} if interval_s else {})
    datasets = [
        {"path": name, "coordinateTransformations": _transformations(source, first, level)}
        for level, name in enumerate(levels)
    ]
    multiscale = {
        "name": source.name,
        "axes": [{"name": "t", **time}, {"name": "y", **space}, {"name": "x", **space}],
        "datasets": datasets,
    }
    recorded = {"source": source.name, "level": source.level, "clock": source.clock, "first_frame": first}
    return {
        "ome": {"version": "0.5", "multiscales": [multiscale]},
        MARK: {"version": __version__, **recorded, "complete": False, "members": [*levels, TIMES]},
    }


def _transformations(source: SourceInfo, first: int, level: int) -> list[dict[str, Any]]:
    """Return size and place of a level's first pixel, which reaches over several of the finest."""
    interval, pixel, times = source.frame_interval_s or 1.0, source.pixel_size_um or 1.0, 2**level
    y, x = (at + (times - 1) / 2 * pixel for at in source.origin_um or (0.0, 0.0))
    return [
        {"type": "scale", "scale": [interval, times * pixel, times * pixel]},
        {"type": "translation", "translation": [first * interval, y, x]},
    ]
