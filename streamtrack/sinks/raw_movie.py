"""Frames on disk as OME-Zarr 0.5, readable at every moment while they are being written.

A reader believes the array's shape, so that it is raised only after the chunks behind it are there: about once a
second and at the end. A process that is killed leaves a shorter movie, never one with frames that were not written.
zarr-python writes chunks within the shape only, and takes some times as long for a frame: here it makes the metadata,
and the chunks are written as the format says, one Blosc buffer per file.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs.blosc import Blosc  # type: ignore[import-untyped]
from zarr.codecs import BloscCodec

from streamtrack import __version__
from streamtrack.clock import monotonic_ns
from streamtrack.errors import SinkError
from streamtrack.sinks.files import replacing, sink_errors
from streamtrack.types import Frame, Pixels, SourceInfo

PUBLISH_NS = 1_000_000_000
"""How often readers get to see what is new."""
TIMES_PER_CHUNK = 4096


class RawMovie:
    """One OME-Zarr image of axes t, y, x that grows frame by frame.

    Place i along t is frame ``first + i`` of the run. A frame that did not come has no chunk: it reads as zeros, and
    this project's own source takes it for lost. Beside the image lies ``time_s``, shape (T,), float64: when each frame
    was exposed, by the clock that the attributes name; NaN for one that did not come. ``streamtrack`` in the group's
    attributes has ``source, clock, first_frame, complete`` and, once complete, ``missing``: first and last of each run
    of frames that did not come.

    Parameters
    ----------
    path
        A folder that does not exist yet.
    source
        What is recorded.
    first
        Index of the first frame.

    Raises
    ------
    SinkError
        The file system refuses it.
    """

    def __init__(self, path: Path, source: SourceInfo, first: int) -> None:
        self._path = path
        self._first = first
        self._next = first
        self._published = 0
        self._published_ns = 0
        self._times: list[tuple[int, float]] = []
        self._missing: list[tuple[int, int]] = []
        # Camera noise fills the low bits: bit by bit, LZ4 makes it as small as Zstandard does and takes half the time.
        self._codec = Blosc(cname="lz4", clevel=1, shuffle=Blosc.BITSHUFFLE)
        with sink_errors(path):
            self._group = zarr.create_group(path, attributes=_attributes(source, first))
            self._group.create_array(
                "0",
                shape=(0, *source.shape),
                chunks=(1, *source.shape),
                dtype=source.dtype,
                compressors=BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
                dimension_names=("t", "y", "x"),
                fill_value=0,
            )
            self._time_s = self._group.create_array(
                "time_s", shape=(0,), chunks=(TIMES_PER_CHUNK,), dtype="float64", fill_value=np.nan, compressors=None
            )
            self._metadata = json.loads((path / "0" / "zarr.json").read_text(encoding="utf-8"))
            (path / "0" / "c").mkdir()

    def add(self, frame: Frame) -> None:
        """Write a frame, whose index is above those before; raises SinkError."""
        place = frame.index - self._first
        with sink_errors(self._path):
            self._write_chunk(place, frame.pixels)
        if frame.index > self._next:
            self._missing.append((self._next, frame.index - 1))
        self._next = frame.index + 1
        self._times.append((place, frame.time_s))
        if monotonic_ns() - self._published_ns >= PUBLISH_NS:
            self._publish_if_possible()

    def flush(self) -> None:
        """Let readers see all that was written so far; raises SinkError."""
        if self._times:
            self._publish_if_possible()

    def close(self, about: Mapping[str, Any]) -> None:
        """Finish the movie and add ``about`` to its attributes; raises SinkError."""
        if self._times:
            self._publish()
        known = self._group.attrs["streamtrack"]
        assert isinstance(known, Mapping)
        with sink_errors(self._path):
            self._group.attrs["streamtrack"] = {**known, "complete": True, "missing": self._missing, **about}

    def _write_chunk(self, place: int, pixels: Pixels) -> None:
        folder = self._path / "0" / "c" / str(place)
        os.mkdir(folder)
        os.mkdir(folder / "0")
        with open(folder / "0" / "0", "wb") as file:
            file.write(self._codec.encode(np.ascontiguousarray(pixels)))

    def _publish_if_possible(self) -> None:
        """Publish, or wait for the next time where another program has the metadata open, as it may on Windows."""
        try:
            self._publish()
        except SinkError as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
        self._published_ns = monotonic_ns()

    def _publish(self) -> None:
        n = self._next - self._first
        times = np.full(n - self._published, np.nan)
        for place, time_s in self._times:
            times[place - self._published] = time_s
        with sink_errors(self._path):
            self._time_s.resize((n,))
            self._time_s[self._published :] = times
        self._metadata["shape"][0] = n
        path = self._path / "0" / "zarr.json"
        with replacing(path) as partial, sink_errors(path):
            partial.write_text(json.dumps(self._metadata, indent=2), encoding="utf-8")
        self._published = n
        self._times.clear()


def _attributes(source: SourceInfo, first: int) -> dict[str, Any]:
    """Return the attributes of OME-Zarr 0.5, and what it has no place for."""
    interval_s, pixel_um = source.frame_interval_s, source.pixel_size_um
    space: dict[str, str] = {"type": "space"} | ({"unit": "micrometer"} if pixel_um else {})
    time: dict[str, str] = {"type": "time"} | ({"unit": "second"} if interval_s else {})
    scale = [interval_s or 1.0, pixel_um or 1.0, pixel_um or 1.0]
    transformations = [
        {"type": "scale", "scale": scale},
        {"type": "translation", "translation": [first * scale[0], 0.0, 0.0]},
    ]
    multiscale = {
        "name": source.name,
        "axes": [{"name": "t", **time}, {"name": "y", **space}, {"name": "x", **space}],
        "datasets": [{"path": "0", "coordinateTransformations": transformations}],
    }
    recorded = {"source": source.name, "clock": source.clock, "first_frame": first, "complete": False}
    return {
        "ome": {"version": "0.5", "multiscales": [multiscale]},
        "streamtrack": {"version": __version__, **recorded},
    }
