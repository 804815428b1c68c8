"""What was said of each frame as a whole, and how long it took: ``frames.parquet``.

As with the other tables, rows go into an Arrow stream while the run lasts, and the table is made of it in the end.
"""

import math
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from streamtrack.columns import metadata_of
from streamtrack.files import remove_file
from streamtrack.sinks.files import replacing, sink_errors
from streamtrack.sinks.row_groups import row_groups
from streamtrack.sinks.serial import place_of
from streamtrack.sinks.stream import Extent, StreamWriter, read_batches, read_schema
from streamtrack.sinks.table_rows import STREAM_COLUMNS
from streamtrack.types import FrameResult, SourceInfo

FRAMES = "frames.parquet"
FRAMES_PARTIAL = "frames.partial.arrows"

_COUNTS = (("frame", pa.int64()), ("time_s", pa.float64()), ("detections", pa.int64()), ("tracks", pa.int64()))
_STAGES = {
    "queue_ms": ("grabbed", "dequeued"),
    "detect_ms": ("dequeued", "detected"),
    "link_ms": ("detected", "linked"),
    "measure_ms": ("linked", "measured"),
    "decide_ms": ("measured", "decided"),
    "total_ms": ("grabbed", "decided"),
}
"""Between which stamps each stage is."""


class FrameTable:
    """The stream of a run's frames.

    Parameters
    ----------
    path
        Of the stream, not there yet.
    source
        With the run's columns.
    metadata
        What the table says of the run.
    """

    def __init__(self, path: Path, source: SourceInfo, metadata: dict[str, str]) -> None:
        self._several = source.streams is not None
        places = [pa.field(each.name, pa.int64(), metadata=metadata_of(each)) for each in STREAM_COLUMNS]
        self._values = [column.name for column in source.frame_columns]
        said = [pa.field(each.name, pa.float64(), metadata=metadata_of(each)) for each in source.frame_columns]
        stages = [pa.field(name, pa.float32()) for name in _STAGES]
        self._schema = pa.schema(
            [*(pa.field(*each) for each in _COUNTS), *said, *stages, *(places if self._several else ())], metadata
        )
        self._pending: list[tuple[float | int | None, ...]] = []
        self._stream = StreamWriter(path, self._schema)

    def add(self, result: FrameResult) -> None:
        """Take the row of a frame."""
        frame, values = result.frame, result.values
        counts = (frame.index, frame.time_s, len(result.detections), result.tracks.n_live)
        said = (_known(values.get(name, math.nan)) for name in self._values)
        took = ((getattr(result.stamps, to) - getattr(result.stamps, of)) / 1e6 for of, to in _STAGES.values())
        place = place_of(result) if self._several else ()
        self._pending.append((*counts, *said, *took, *place))

    def flush(self) -> None:
        """Write the rows that are held back; raises OSError."""
        if not self._pending:
            return
        columns = [
            pa.array(column, field.type)
            for column, field in zip(zip(*self._pending, strict=True), self._schema, strict=True)
        ]
        rows = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        self._stream.add(rows, int(self._pending[0][0] or 0), int(self._pending[-1][0] or 0), len(rows))
        self._pending.clear()

    def close(self) -> None:
        """Mark the end of the stream; raises OSError."""
        self._stream.close()

    def abandon(self) -> None:
        """Close the stream without a mark."""
        self._stream.abandon()


def make_frames(folder: Path) -> None:
    """Make the table from what can be read of the stream, and delete that if it was all; nothing where there is none.

    Raises SinkError where the table cannot be written.
    """
    partial = folder / FRAMES_PARTIAL
    if not partial.exists():
        return
    schema, extent = read_schema(partial), Extent()
    with (
        replacing(folder / FRAMES) as path,
        sink_errors(path),
        pyarrow.parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer,
    ):
        for group in row_groups(read_batches(partial, extent)):
            writer.write_table(group)
    if extent.lost_bytes:
        return
    with suppress(PermissionError):  # another program holds it: the table is complete all the same
        remove_file(partial)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
