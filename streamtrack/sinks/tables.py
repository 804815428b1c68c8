"""Detections and tracks as tables: Parquet for programs, CSV for people.

While a run lasts, every row goes into one Arrow stream, ``detections.partial.arrows``, which survives whatever happens
to the process (`streamtrack.sinks.stream`). The tables are made from it when the run closes, or by :func:`recover`.

The stream is only ever appended to. Where the linker thinks better of a track, a row says which detection of which
frame now belongs to which; it comes into effect when the tables are made.
"""

import concurrent.futures.thread  # noqa: F401  # pyarrow imports pandas late, which needs it; it cannot be imported at exit
import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from streamtrack import __version__
from streamtrack.clock import monotonic_ns
from streamtrack.errors import SinkError
from streamtrack.files import remove_file
from streamtrack.plain import plain
from streamtrack.run_folder import KEPT_NAMES, UNFINISHED_NAME
from streamtrack.sinks.files import check_folder, replacing, sink_errors, with_partials
from streamtrack.sinks.frame_table import FRAMES, FRAMES_PARTIAL, FrameTable, make_frames
from streamtrack.sinks.places import place_columns, placed
from streamtrack.sinks.revisions import joined, taken
from streamtrack.sinks.serial import Serial
from streamtrack.sinks.stream import Extent, StreamWriter, read_batches, read_schema
from streamtrack.sinks.table_rows import (
    DETECTION_COLUMNS,
    STREAM_COLUMNS,
    TRACK_COLUMNS,
    Frames,
    batch_of,
    extra_of,
    is_known,
    is_of_several,
    revised,
    schema_of,
    split,
)
from streamtrack.types import CONFIRMED, FrameResult, Revision, SourceInfo

TABLES = ("detections.parquet", "tracks.parquet", "tracks.csv")
PARTIAL = UNFINISHED_NAME

_FLUSH_NS = 500_000_000
"""Half of what a kill may cost: a busy machine needs the rest to write it down."""
_FLUSH_ROWS = 65_536
_GROUP_ROWS = 262_144
_CSV_DECIMALS = 4
_CSV_ROUNDED = ("y", "x", "score", "sigma", "existence", "directed", "y_um", "x_um", "z_um")
_CSV_TIME_DECIMALS = 9


class TableSink:
    """Writes ``detections.parquet``, ``tracks.parquet``, ``tracks.csv`` and ``frames.parquet``.

    ``detections.parquet`` has ``frame, y, x, score, sigma, mass`` of every detection, linked or not, frame by frame and
    best score first. The track tables have ``frame, particle, y, x, mass, score, sigma, existence, vy, vx, diffusion,
    directed``, the first five as in trackpy: all detections of those tracks that are confirmed at some frame, the ones
    before that frame included, sorted by frame, then particle.

    ===================  ====================================================================================
    ``y, x, sigma``      px; ``sigma`` is the standard deviation of the position along each axis
    ``mass``             camera counts
    ``score``            confidence that a particle is there, 0 to 1
    ``existence``        probability that the track follows a real particle
    ``vy, vx``           velocity, px/s
    ``diffusion``        diffusion coefficient, px^2/s; null where it is not known, as in a track's first frame
    ``directed``         probability of directed motion
    ===================  ====================================================================================

    Behind them are ``y_um, x_um, z_um, time_s``, those of them that the movie tells: the place with the image's origin
    (translation, or stage position), height of the plane, and when the frame was exposed.

    Of a movie of several streams all tables have the columns ``t, c, z, p`` at the end: ``t`` is the frame's index
    within its stream, as ``frame`` is; channel, z plane and position are indices, which the report names. Rows are in
    the order in which the frames came.

    Behind these all tables have the columns that the run's engine and measures add; their units, and the names of
    classes, are in the metadata of the field. What was not measured is null, in the CSV empty.

    ``frames.parquet`` has ``frame, time_s, detections, tracks`` of every frame that was processed (numbers, tracks that
    are followed), what engine and microscope said of it, and how long it took: ``queue_ms, detect_ms, link_ms,
    measure_ms, decide_ms, total_ms``. Where the run may move the stage, or frames say where it is, that is in
    ``stage_x_um, stage_y_um``, null where it moved; of moves by hand the run hears with its own next one.

    ``particle`` and ``existence`` are the linker's last word, revisions of earlier frames included, and decide which
    tracks are confirmed. The last four columns are what was known of the track when the frame was linked, and stay so
    when a detection changes tracks; with a linker that does not tell, they are null, in the CSV empty.

    The Parquet files carry, as metadata of their schema, ``streamtrack_version, source, level`` (of the pyramid that
    pixels are of, 0 the finest), ``shape`` (H, W), ``frames`` (how many were processed), ``time_unit`` (``s``, or
    ``frame`` where nobody knows how long one takes: velocities and diffusion are in it) and, where known,
    ``pixel_size_um``, ``frame_interval_s``, ``origin_y_um`` and ``origin_x_um`` (of the first pixel's centre; where
    streams differ, their columns have it). In the CSV positions, sigma and probabilities have at most 4 decimals; the
    same results give the same bytes on every platform.

    Rows reach the operating system within a second while frames come, and then survive the end of the process.
    """

    critical = True
    needs_pixels = False
    files = (*with_partials(*TABLES, FRAMES), PARTIAL, FRAMES_PARTIAL, *KEPT_NAMES)

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Start the stream in ``folder``; raises SinkError."""
        check_folder(folder)
        self._folder = folder
        self._pending: Frames = []
        self._pending_rows = 0
        self._flushed_ns = monotonic_ns()
        self._failed = False
        metadata = _metadata(source)
        self._serial = None if source.streams is None else Serial()
        self._source = source
        columns = (*source.columns, *place_columns(source), *(() if source.streams is None else STREAM_COLUMNS))
        self._schema = schema_of(columns).with_metadata({**metadata, "run": secrets.token_hex(8)})
        with sink_errors(folder / PARTIAL):
            self._stream = StreamWriter(folder / PARTIAL, self._schema)
        try:
            with sink_errors(folder / FRAMES_PARTIAL):
                self._frames = FrameTable(folder / FRAMES_PARTIAL, source, _shown(metadata))
        except SinkError:
            self._stream.abandon()
            raise

    def wants_denoised(self, frame_index: int) -> bool:
        """Return False: tables need no image."""
        return False

    def write(self, result: FrameResult) -> None:
        """Take the rows of one frame; raises SinkError, and does so for good after the first failure."""
        if self._failed:
            raise SinkError(f"cannot write {self._folder / PARTIAL}: an earlier write failed; start a new run")
        self._frames.add(result)
        result = replace(result, detections=placed(result.detections, result.frame, self._source))
        numbered = (
            self._serial.number(result) if self._serial else (result.frame.index, result.detections, result.tracks)
        )
        self._pending.append(numbered)
        self._pending_rows += len(result.detections) + len(result.tracks.revised)
        if self._pending_rows >= _FLUSH_ROWS or monotonic_ns() - self._flushed_ns >= _FLUSH_NS:
            self._flush()

    def flush(self) -> None:
        """Write the rows that are still held back; raises SinkError."""
        if self._pending and not self._failed:
            self._flush()

    def close(self) -> None:
        """Make the tables and delete the stream; raises SinkError, and then leaves the stream for :func:`recover`.

        After a failed write no table is made: it would lack frames.
        """
        if self._failed:
            return self._abandon()
        try:
            self._flush()
            with sink_errors(self._folder / PARTIAL):
                self._stream.close()
                self._frames.close()
        finally:
            self._abandon()
        _make_tables(self._folder, self._checked)
        make_frames(self._folder)

    def _abandon(self) -> None:
        self._stream.abandon()
        self._frames.abandon()

    def _flush(self) -> None:
        partial = self._folder / PARTIAL
        self._failed = True  # until proven otherwise
        with sink_errors(partial):
            if not (partial.exists() and (self._folder / FRAMES_PARTIAL).exists()):  # some let us write on into it
                raise FileNotFoundError("it was deleted during the run")
            if self._pending:
                frames = [index for index, *_ in self._pending]
                self._stream.add(batch_of(self._pending, self._schema), frames[0], frames[-1], len(frames))
        with sink_errors(self._folder / FRAMES_PARTIAL):
            self._frames.flush()
        self._failed = False
        self._pending.clear()
        self._pending_rows = 0
        self._flushed_ns = monotonic_ns()

    def _checked(self, schema: pa.Schema, extent: Extent) -> None:
        """Raise SinkError where what is read back is not what was written."""
        partial, written = self._folder / PARTIAL, self._stream.written
        if schema.metadata != self._schema.metadata:
            raise SinkError(f"{partial} was replaced during the run; the tables would be another run's")
        if (extent.n_frames, extent.n_rows) != written or extent.lost_bytes:
            raise SinkError(
                f"{partial} was damaged: of {written[0]} frames with {written[1]} rows {extent.n_frames} with "
                f"{extent.n_rows} can be read back; 'streamtrack recover {self._folder}' makes the tables of these"
            )


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
    recovered = _make_tables(folder, lambda schema, extent: None)
    with suppress(SinkError):  # the other tables are what counts
        make_frames(folder)
    return recovered


def _metadata(source: SourceInfo) -> dict[str, str]:
    known = {"pixel_size_um": source.pixel_size_um, "frame_interval_s": source.frame_interval_s}
    known |= dict(zip(("origin_y_um", "origin_x_um"), source.origin_um or (None, None), strict=True))
    return {
        "streamtrack_version": __version__,
        "source": source.name,
        "level": str(source.level),
        "shape": json.dumps(source.shape),
        "time_unit": source.time_unit,
        **{name: repr(float(value)) for name, value in known.items() if value is not None},
        "source_info": json.dumps(plain(asdict(source))),
    }


def _shown(metadata: dict[str, str]) -> dict[str, str]:
    """Return what tables say of a run; of its source, the most of it is in the report."""
    return {key: value for key, value in metadata.items() if key != "source_info"}


def _source_of(schema: pa.Schema) -> SourceInfo:
    """Return what a stream says of its source; streams of older versions have the name only."""
    metadata = schema.metadata or {}
    with suppress(ValueError, TypeError, KeyError):
        known = json.loads(metadata.get(b"source_info", b"{}"))
        return SourceInfo.from_json(known)
    return SourceInfo(metadata.get(b"source", b"not known").decode(), (0, 0), "uint16")


def _make_tables(folder: Path, check: Callable[[pa.Schema, Extent], None]) -> Recovered:
    """Make the tables from the stream, once ``check`` has had a look at what it holds."""
    partial = folder / PARTIAL
    schema = read_schema(partial)
    _check_columns(schema, partial)
    extent = Extent()
    revision = _read_revision(partial, extent)
    check(schema, extent)
    described = schema.with_metadata({**_described(schema), b"frames": str(extent.n_frames).encode()})

    def rows() -> Iterator[pa.RecordBatch]:
        return (revised(batch, revision) for batch in read_batches(partial))

    with ExitStack() as stack:
        detections, parquet, csv = (stack.enter_context(replacing(folder / name)) for name in TABLES)
        n_rows, confirmed = _write_detections(detections, described, rows())
        _write_tracks(parquet, csv, described, (_rows_on_tracks(batch, confirmed) for batch in rows()))
    if not extent.lost_bytes:
        with suppress(PermissionError):  # another program holds it: the tables are complete all the same
            remove_file(partial)
    return Recovered(_source_of(schema), extent, n_rows)


def _described(schema: pa.Schema) -> dict[bytes, bytes]:
    """Return the metadata that the tables share with the stream."""
    return {key: value for key, value in (schema.metadata or {}).items() if key not in (b"source_info", b"run")}


def _check_columns(schema: pa.Schema, partial: Path) -> None:
    if not is_known(schema):
        writer = (schema.metadata or {}).get(b"streamtrack_version", b"of unknown version").decode()
        raise SinkError(
            f"{partial} has other columns than this version's; recover it with its own, streamtrack {writer}"
        )


def _read_revision(partial: Path, extent: Extent) -> Revision:
    """Return all that was revised, by frame; of what concerns the same frame, the later comes behind."""
    revision = joined(split(batch)[1] for batch in read_batches(partial, extent))
    return taken(revision, np.argsort(revision.frame_index, kind="stable"))


def _write_detections(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> tuple[int, NDArray[np.int64]]:
    """Write all rows; return how many they are, and the confirmed tracks, sorted."""
    n_rows, confirmed = 0, [np.empty(0, np.int64)]
    schema = _part(schema, DETECTION_COLUMNS)
    with sink_errors(path), pa.parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for group in _row_groups(batches):
            writer.write_table(group.select(schema.names))
            particle, existence = group["particle"].to_numpy(), group["existence"].to_numpy()
            confirmed.append(np.unique(particle[(existence >= CONFIRMED) & (particle >= 0)]))
            n_rows += len(group)
    return n_rows, np.unique(np.concatenate(confirmed))


def _rows_on_tracks(batch: pa.RecordBatch, tracks: NDArray[np.int64]) -> pa.RecordBatch:
    """Return the rows that belong to one of ``tracks`` (sorted), by frame, then particle."""
    frame, particle = batch.column("frame").to_numpy(), batch.column("particle").to_numpy()
    rows = np.flatnonzero(np.searchsorted(tracks, particle, "right") > np.searchsorted(tracks, particle, "left"))
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
        for group in _row_groups(batches):
            tracks = group.select(schema.names)
            writer.write_table(tracks)
            pa.csv.write_csv(_rounded(tracks), file, options)


def _part(schema: pa.Schema, columns: tuple[str, ...]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in (*columns, *extra_of(schema))], schema.metadata)


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Cut the rows into equal groups, so that the files do not depend on when batches were flushed."""
    held: list[pa.RecordBatch] = []
    n_held = 0
    for batch in map(_with_indices, batches):
        held.append(batch)
        n_held += len(batch)
        if n_held >= _GROUP_ROWS:
            rows = pa.Table.from_batches(held).combine_chunks()
            whole = n_held - n_held % _GROUP_ROWS
            yield from (rows.slice(start, _GROUP_ROWS) for start in range(0, whole, _GROUP_ROWS))
            held, n_held = rows.slice(whole).to_batches(), n_held - whole
    if n_held:
        yield pa.Table.from_batches(held).combine_chunks()


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
