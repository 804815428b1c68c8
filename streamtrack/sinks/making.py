"""Tables out of the stream that a run leaves, or that it closes: in memory that does not grow with their length.

The stream is read several times, a batch at a time. Of what a linker said later of earlier rows only that is held which
concerns the rows that are read next; of the confirmed tracks, a bit each.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from streamtrack.errors import SinkError
from streamtrack.files import remove_file
from streamtrack.run_folder import UNFINISHED_NAME
from streamtrack.sinks.files import replacing, sink_errors
from streamtrack.sinks.frame_table import make_frames
from streamtrack.sinks.revisions import joined, taken
from streamtrack.sinks.row_groups import GROUP_ROWS, row_groups
from streamtrack.sinks.stream import Extent, read_batches, read_schema
from streamtrack.sinks.table_rows import (
    DETECTION_COLUMNS,
    PARENT,
    TRACK_COLUMNS,
    extra_of,
    is_known,
    is_of_several,
    revised,
    split,
)
from streamtrack.types import CONFIRMED, Revision, SourceInfo

TABLES = ("detections.parquet", "tracks.parquet", "tracks.csv")

_CSV_DECIMALS = 4
_CSV_ROUNDED = ("y", "x", "score", "sigma", "existence", "directed", "y_um", "x_um", "z_um")
_CSV_TIME_DECIMALS = 9
_PAGE_BITS = 16
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Recovered:
    """What could be recovered.

    Attributes
    ----------
    source
        What was tracked.
    extent
        Frames, and what is damaged; rows that revise others count as rows.
    n_detections
        Rows of ``detections.parquet``.
    """

    source: SourceInfo
    extent: Extent
    n_detections: int


def recover(folder: Path) -> Recovered:
    """Make the tables of a run whose process died from the stream that it left.

    The stream is deleted, unless a part of it cannot be read.

    Parameters
    ----------
    folder
        The folder of the run. Its process must have ended.

    Returns
    -------
    Recovered
        All but the last second.

    Raises
    ------
    SinkError
        If there is no readable stream, or the tables cannot be written.
    """
    recovered = make_tables(folder, lambda schema, extent: None)
    with suppress(SinkError):  # the other tables are what counts
        make_frames(folder)
    return recovered


def make_tables(folder: Path, check: Callable[[pa.Schema, Extent], None]) -> Recovered:
    """Make the tables from the stream, once ``check`` has had a look at what it holds; then delete it.

    Raises
    ------
    SinkError
        If ``check`` does, or the tables cannot be written; the stream is as it was.
    """
    partial = folder / UNFINISHED_NAME
    schema = read_schema(partial)
    _check_columns(schema, partial)
    extent = Extent()
    stream = _Rows(partial, extent)
    check(schema, extent)
    described = schema.with_metadata({**_described(schema), b"frames": str(extent.n_frames).encode()})
    with ExitStack() as stack:
        detections, parquet, csv = (stack.enter_context(replacing(folder / name)) for name in TABLES)
        confirmed, parents = _Tracks(), _Parents()
        n_rows = _write_detections(detections, described, map(parents.look, stream.revised()), confirmed)
        rows = (parents.told(_rows_on_tracks(batch, confirmed)) for batch in stream.revised())
        _write_tracks(parquet, csv, described, rows)
    if not extent.lost_bytes:
        with suppress(PermissionError):  # another program holds it: the tables are complete all the same
            remove_file(partial)
    return Recovered(_source_of(schema), extent, n_rows)


class _Rows:
    """The rows of a stream.

    Parameters
    ----------
    partial
        The stream, which is read once for this; a short one is kept.
    extent
        Filled by that.
    """

    def __init__(self, partial: Path, extent: Extent) -> None:
        self._partial = partial
        self._kept: list[pa.RecordBatch] = []
        lasts, firsts = [], []
        for batch in read_batches(partial, extent):
            if extent.n_rows <= GROUP_ROWS:
                self._kept.append(batch)
            rows, revision = split(batch)
            lasts.append(rows.column("frame")[-1].as_py() if len(rows) else -1)
            firsts.append(int(revision.frame_index.min(initial=_NEVER)))
        self._is_kept = extent.n_rows <= GROUP_ROWS
        if not self._is_kept:
            self._kept.clear()
        from_here = np.minimum.accumulate(np.array(firsts, np.int64)[::-1])[::-1]
        self._needed = np.searchsorted(from_here, np.array(lasts, np.int64), "right").tolist()
        """How many batches there are from the first to the last one that revises rows of each, or of earlier ones."""

    def revised(self) -> Iterator[pa.RecordBatch]:
        """Yield the detections with the tracks that they belong to in the end."""
        batches, ahead, n_ahead, known = self._batches(), self._batches(), 0, Revision.none()
        for n_needed in self._needed:
            more = [self._next(ahead)[1] for _ in range(n_ahead, n_needed)]
            n_ahead = max(n_ahead, n_needed)
            if more:
                known = joined([known, *more])
                known = taken(known, np.argsort(known.frame_index, kind="stable"))  # what was said later stays behind
            rows, _ = self._next(batches)
            yield revised(rows, known)
            known = _after(known, rows)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        return iter(self._kept) if self._is_kept else read_batches(self._partial)

    def _next(self, batches: Iterator[pa.RecordBatch]) -> tuple[pa.RecordBatch, Revision]:
        batch = next(batches, None)
        if batch is None:
            raise SinkError(f"{self._partial} was changed while tables were made of it: do nothing else with it")
        return split(batch)


def _after(revision: Revision, rows: pa.RecordBatch) -> Revision:
    """Return what it says of frames behind these rows."""
    if not len(rows) or not len(revision):
        return revision
    done = np.searchsorted(revision.frame_index, rows.column("frame")[-1].as_py(), "right")
    return taken(revision, slice(int(done), None))


class _Tracks:
    """Numbers of tracks; a bit for each in pages of those that follow each other."""

    def __init__(self) -> None:
        self._pages: dict[int, NDArray[np.uint8]] = {}

    def add(self, numbers: NDArray[np.int64]) -> None:
        """Take numbers from 0."""
        numbers = np.unique(numbers)
        for page in np.unique(numbers >> _PAGE_BITS).tolist():
            flags = self._flags(page)
            flags[numbers[numbers >> _PAGE_BITS == page] & (1 << _PAGE_BITS) - 1] = True
            self._pages[page] = np.packbits(flags)

    def hold(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of each number whether it was taken; shape as given."""
        held = np.zeros(len(numbers), np.bool_)
        pages = numbers >> _PAGE_BITS
        for page in np.unique(pages).tolist():
            if page in self._pages:
                here = np.flatnonzero(pages == page)
                held[here] = self._flags(page)[numbers[here] & (1 << _PAGE_BITS) - 1]
        return held

    def _flags(self, page: int) -> NDArray[np.bool_]:
        packed = self._pages.get(page)
        return np.zeros(1 << _PAGE_BITS, np.bool_) if packed is None else np.unpackbits(packed).view(np.bool_)


class _Parents:
    """Which track came out of which: said of a track from when it is known, and true from its beginning."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}

    def look(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Take what rows say; return them."""
        if PARENT in rows.schema.names:
            particle, parent = (rows.column(name).to_numpy() for name in ("particle", PARENT))
            said = parent >= 0
            self._of.update(zip(particle[said].tolist(), parent[said].tolist(), strict=True))
        return rows

    def told(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows with the parent of each track, -1 for none."""
        if PARENT not in rows.schema.names:
            return rows
        place = rows.schema.get_field_index(PARENT)
        parents = [self._of.get(particle, -1) for particle in rows.column("particle").to_pylist()]
        return rows.set_column(place, rows.schema.field(PARENT), pa.array(parents, pa.int64()))


def _described(schema: pa.Schema) -> dict[bytes, bytes]:
    """Return the metadata that the tables share with the stream."""
    return {key: value for key, value in (schema.metadata or {}).items() if key not in (b"source_info", b"run")}


def _source_of(schema: pa.Schema) -> SourceInfo:
    """Return what a stream says of its source; streams of older versions have the name only."""
    metadata = schema.metadata or {}
    with suppress(ValueError, TypeError, KeyError):
        known = json.loads(metadata.get(b"source_info", b"{}"))
        return SourceInfo.from_json(known)
    return SourceInfo(metadata.get(b"source", b"not known").decode(), (0, 0), "uint16")


def _check_columns(schema: pa.Schema, partial: Path) -> None:
    if not is_known(schema):
        writer = (schema.metadata or {}).get(b"streamtrack_version", b"of unknown version").decode()
        raise SinkError(
            f"{partial} has other columns than this version's; recover it with its own, streamtrack {writer}"
        )


def _write_detections(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], confirmed: _Tracks) -> int:
    """Write all rows, and take the confirmed tracks; return how many rows they are."""
    n_rows = 0
    schema = _part(schema, DETECTION_COLUMNS)
    if PARENT in schema.names:
        schema = schema.remove(schema.get_field_index(PARENT))
    with sink_errors(path), pa.parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for group in row_groups(map(_with_indices, batches)):
            writer.write_table(group.select(schema.names))
            particle, existence = group["particle"].to_numpy(), group["existence"].to_numpy()
            confirmed.add(particle[(existence >= CONFIRMED) & (particle >= 0)])
            n_rows += len(group)
    return n_rows


def _rows_on_tracks(batch: pa.RecordBatch, tracks: _Tracks) -> pa.RecordBatch:
    """Return the rows that belong to one of ``tracks``, by frame, then particle."""
    frame, particle = batch.column("frame").to_numpy(), batch.column("particle").to_numpy()
    rows = np.flatnonzero(tracks.hold(particle))
    return batch.take(pa.array(rows[np.lexsort((particle[rows], frame[rows]))]))


def _write_tracks(parquet: Path, csv: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    schema = _part(schema, TRACK_COLUMNS)
    options = pa.csv.WriteOptions(include_header=False)
    with (
        sink_errors(parquet.parent),
        pa.parquet.ParquetWriter(parquet, schema, write_page_checksum=True) as writer,
        pa.OSFile(str(csv), "wb") as file,
    ):
        file.write((",".join(schema.names) + "\n").encode())
        for group in row_groups(map(_with_indices, batches)):
            tracks = group.select(schema.names)
            writer.write_table(tracks)
            pa.csv.write_csv(_rounded(tracks), file, options)


def _part(schema: pa.Schema, columns: tuple[str, ...]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in (*columns, *extra_of(schema))], schema.metadata)


def _with_indices(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows with the frames' indices, where of several streams numbers stood for them."""
    if not is_of_several(batch.schema):
        return batch
    return batch.set_column(batch.schema.get_field_index("frame"), "frame", batch.column("t"))


def _rounded(group: pa.Table) -> pa.Table:
    """Return the table with float64 of few decimals, which Arrow prints as short as they are.

    Masses, velocities and diffusion coefficients, whose size is not known, keep their digits.
    """
    decimals = dict.fromkeys(_CSV_ROUNDED, _CSV_DECIMALS) | {"time_s": _CSV_TIME_DECIMALS}
    for name in [name for name in decimals if name in group.column_names]:
        values = np.round(group[name].to_numpy().astype(np.float64), decimals[name])
        group = group.set_column(group.column_names.index(name), name, pa.array(values, from_pandas=True))
    return group
