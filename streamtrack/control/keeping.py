"""What is kept of the frames because somebody asked for it: snapshots, and the recording started and stopped."""

import csv
import io
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from streamtrack.clock import Clock, monotonic_ns
from streamtrack.control.requests import Made
from streamtrack.errors import ControlRefused
from streamtrack.files import partial_of, replace_file
from streamtrack.protocols import Recording, Sink
from streamtrack.sinks.files import sink_errors, stream_name
from streamtrack.types import FrameResult, SourceInfo

SNAPSHOTS = "snapshots"
"""Folder of the snapshots in the run's."""


class Keeping:
    """Keeps frames of a run.

    Parameters
    ----------
    folder
        Of the run.
    source
        What the frames are of.
    sinks
        Of the run.
    """

    def __init__(self, folder: Path, source: SourceInfo, sinks: Iterable[Sink], clock: Clock = monotonic_ns) -> None:
        self._folder, self._source, self._clock = folder, source, clock
        self._sink = next((sink for sink in sinks if isinstance(sink, Recording)), None)

    @property
    def recording(self) -> bool | None:
        """Whether frames are recorded; None where the run has nothing that records what it is told to."""
        return None if self._sink is None else self._sink.recording

    def record(self, on: object) -> Made:
        """Record, or leave out, the frames from now on. Called between two of them; raises ControlRefused."""
        if not isinstance(on, bool):
            raise ControlRefused(f"{on!r} is neither true nor false")
        if self._sink is None or self._sink.recording is None:
            raise ControlRefused('the run has no sink that records all frames: add [[sinks]] with kind = "raw"')
        before = self._sink.recording
        self._sink.record(on, self._clock())
        return Made(before, on)

    def snapshot(self, last: FrameResult | None) -> Made:
        """Write the newest frame as OME-TIFF and its detections as CSV, beside all snapshots that there are.

        Raises
        ------
        ControlRefused
            No frame has come yet.
        SinkError
            They cannot be written.
        """
        if last is None:
            raise ControlRefused("no frame has come yet")
        frame = last.frame
        suffix = "" if self._source.streams is None else f"_{stream_name(frame.stream)}"
        image, table = _image(last, self._source), _table(last)
        folder = self._folder / SNAPSHOTS
        with sink_errors(folder):
            folder.mkdir(exist_ok=True)
            taken = {path.name[:4] for path in folder.iterdir()}
            number = next(name for n in count(1) if (name := f"{n:04}") not in taken)
            path = folder / f"{number}_frame{frame.index}{suffix}.ome.tif"
            for each, content in ((folder / f"{path.name.removesuffix('.ome.tif')}.csv", table), (path, image)):
                partial = partial_of(each)
                with partial.open("xb") as file:
                    file.write(content)
                replace_file(partial, each)
        return Made(None, f"{SNAPSHOTS}/{path.name}")


def _image(result: FrameResult, source: SourceInfo) -> bytes:
    from tifffile import imwrite

    size = source.pixel_size_um
    scale = {} if size is None else {"PhysicalSizeY": size, "PhysicalSizeX": size}
    units = {f"{name}Unit": "µm" for name in scale}
    plane = {} if source.time_unit == "frame" else {"Plane": {"DeltaT": [result.frame.time_s], "DeltaTUnit": ["s"]}}
    content = io.BytesIO()
    name = f"{source.name}, frame {result.frame.index}"
    imwrite(content, result.frame.pixels, ome=True, metadata={"axes": "YX", "Name": name, **scale, **units, **plane})
    return content.getvalue()


def _table(result: FrameResult) -> bytes:
    found = result.detections
    names = ("y", "x", "score", "mass", "sigma")
    columns: dict[str, NDArray[Any]] = {name: getattr(found, name) for name in names}
    columns |= {**found.extra, "particle": result.tracks.particle}
    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["frame", *columns])
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    writer.writerows([result.frame.index, *row] for row in rows)
    return content.getvalue().encode()
