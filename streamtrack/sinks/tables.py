"""Detections and tracks as tables: Parquet for programs, CSV for people.

While a run lasts, every row goes into one Arrow stream, ``detections.partial.arrows``, which stays readable up to its
last batch whatever happens to the process. The tables are made from it when the run closes, or by :func:`recover`.

The stream is only ever appended to. Where the linker thinks better of a track, a row says which detection of which
frame now belongs to which; it comes into effect when the tables are made.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
from numpy.typing import NDArray

from streamtrack import __version__
from streamtrack.clock import monotonic_ns
from streamtrack.errors import SinkError
from streamtrack.files import remove_file
from streamtrack.run_folder import UNFINISHED_NAME
from streamtrack.sinks.files import check_folder, replacing, sink_errors, with_partials
from streamtrack.sinks.revisions import apply, joined, taken
from streamtrack.types import CONFIRMED, MOTION_MODES, Detections, FrameResult, Revision, SourceInfo, TrackUpdate

TABLES = ("detections.parquet", "tracks.parquet", "tracks.csv")
PARTIAL = UNFINISHED_NAME

_DETECTION_COLUMNS = ("frame", "y", "x", "score", "sigma", "mass")
_MOTION_COLUMNS = ("vy", "vx", "diffusion", "directed")
_TRACK_COLUMNS = ("frame", "particle", "y", "x", "mass", "score", "sigma", "existence", *_MOTION_COLUMNS)
_REVISION_COLUMNS = ("frame", "detection", "particle", "existence")
"""Of a row that revises an earlier one; all others are null in it. ``detection``, the place among the detections of
the frame, is null in rows that do not revise."""
_INTEGERS = ("frame", "particle", "detection")
_SCHEMA = pa.schema(
    [(name, pa.int64() if name in _INTEGERS else pa.float32()) for name in (*_TRACK_COLUMNS, "detection")]
)
_FLUSH_NS = 1_000_000_000
_FLUSH_ROWS = 65_536
_GROUP_ROWS = 262_144
_CSV_DECIMALS = 4
_CSV_ROUNDED = ("y", "x", "score", "sigma", "existence", "directed")


class TableSink:
    """Writes ``detections.parquet``, ``tracks.parquet`` and ``tracks.csv``.

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

    ``particle`` and ``existence`` are the linker's last word, revisions of earlier frames included, and decide which
    tracks are confirmed. The last four columns are what was known of the track when the frame was linked, and stay so
    when a detection changes tracks; with a linker that does not tell, they are null, in the CSV empty.

    The Parquet files carry ``streamtrack_version``, ``source`` and, where known, ``pixel_size_um`` and
    ``frame_interval_s`` as metadata of their schema. In the CSV positions, sigma and probabilities have at most
    4 decimals; the same results give the same bytes on every platform.

    Rows reach the operating system within a second while frames come, and then survive the end of the process.
    """

    critical = True
    files = (*with_partials(*TABLES), PARTIAL)

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Start the stream in ``folder``; raises SinkError."""
        check_folder(folder)
        self._folder = folder
        self._pending: list[tuple[int, Detections, TrackUpdate]] = []
        self._pending_rows = 0
        self._flushed_ns = monotonic_ns()
        self._failed = False
        self._schema = _SCHEMA.with_metadata(_metadata(source))
        with sink_errors(folder / PARTIAL):
            self._file = pa.OSFile(str(folder / PARTIAL), "wb")  # unbuffered: what is written, the system has
            self._stream = pa.ipc.new_stream(self._file, self._schema)
            # Arrow holds the schema back until the first batch: an empty one makes the file readable from now on.
            self._stream.write_batch(pa.RecordBatch.from_pylist([], self._schema))

    def wants_denoised(self, frame_index: int) -> bool:
        """Return False: tables need no image."""
        return False

    def write(self, result: FrameResult) -> None:
        """Take the rows of one frame; raises SinkError, and does so for good after the first failure."""
        if self._failed:
            raise SinkError(f"cannot write {self._folder / PARTIAL}: an earlier write failed; start a new run")
        self._pending.append((result.frame.index, result.detections, result.tracks))
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
        try:
            if not self._failed:
                self._flush()
                with sink_errors(self._folder / PARTIAL):
                    self._stream.close()
        finally:
            self._file.close()
        if not self._failed:
            _make_tables(self._folder, cut_short=False)

    def _flush(self) -> None:
        partial = self._folder / PARTIAL
        self._failed = True  # until proven otherwise: a batch written by half spoils the stream
        with sink_errors(partial):
            if not partial.exists():  # some systems let us write on into a deleted file
                raise FileNotFoundError("it was deleted during the run")
            if self._pending_rows:
                self._stream.write_batch(_batch(self._pending, self._schema))
        self._failed = False
        self._pending.clear()
        self._pending_rows = 0
        self._flushed_ns = monotonic_ns()


def recover(folder: Path) -> int:
    """Make the tables of a run whose process died from the stream that it left, and delete the stream.

    Parameters
    ----------
    folder
        The folder of the run. Its process must have ended.

    Returns
    -------
    int
        Number of detections recovered: all but those of about the last second.

    Raises
    ------
    SinkError
        If there is no readable stream, or the tables cannot be written.
    """
    return _make_tables(folder, cut_short=True)


def _metadata(source: SourceInfo) -> dict[str, str]:
    known = {"pixel_size_um": source.pixel_size_um, "frame_interval_s": source.frame_interval_s}
    return {"streamtrack_version": __version__, "source": source.name} | {
        name: repr(float(value)) for name, value in known.items() if value is not None
    }


def _batch(frames: list[tuple[int, Detections, TrackUpdate]], schema: pa.Schema) -> pa.RecordBatch:
    """Return the rows of whole frames, then what these frames revise: one batch, so that no cut comes in between."""
    revised = joined(tracks.revised for *_, tracks in frames)
    corrections = [getattr(revised, name) for name in Revision.__slots__]
    said, later = pa.table(_columns(frames)), pa.table(corrections, _REVISION_COLUMNS)
    rows = pa.concat_tables([said, later], promote_options="default")  # nulls where one of them lacks a column
    (batch,) = rows.select(schema.names).cast(schema).combine_chunks().to_batches()
    return batch


def _columns(frames: list[tuple[int, Detections, TrackUpdate]]) -> dict[str, pa.Array]:
    """Return all detections of these frames, their tracks as they are said first."""
    motion = np.concatenate([_motion(tracks) for *_, tracks in frames])
    columns: dict[str, NDArray[Any]] = {
        "frame": np.repeat([index for index, *_ in frames], [len(detections) for _, detections, _ in frames])
    }
    for name in ("y", "x", "mass", "score", "sigma"):
        columns[name] = np.concatenate([getattr(detections, name) for _, detections, _ in frames])
    for name in ("particle", "existence"):
        columns[name] = np.concatenate([getattr(tracks, name) for *_, tracks in frames])
    nan_is_null = {name: pa.array(motion[:, i], from_pandas=True) for i, name in enumerate(_MOTION_COLUMNS)}
    return {name: pa.array(values) for name, values in columns.items()} | nan_is_null


def _motion(tracks: TrackUpdate) -> NDArray[np.float32]:
    """Return what ``_MOTION_COLUMNS`` name, shape (N, 4); NaN where it is not known."""
    motion = tracks.motion
    if motion is None:
        return np.full((len(tracks.particle), len(_MOTION_COLUMNS)), np.nan, np.float32)
    directed = motion.modes[:, MOTION_MODES.index("directed")]
    return np.column_stack([motion.velocity_px_s, motion.diffusion_px2_s, directed])


def _make_tables(folder: Path, *, cut_short: bool) -> int:
    partial = folder / PARTIAL
    schema = _read_schema(partial)
    revision = _read_revision(partial, cut_short)

    def rows() -> Iterator[pa.RecordBatch]:
        return (_revised(batch, revision) for batch in _read(partial, cut_short))

    with ExitStack() as stack:
        detections, parquet, csv = (stack.enter_context(replacing(folder / name)) for name in TABLES)
        n_rows, confirmed = _write_detections(detections, schema, rows())
        _write_tracks(parquet, csv, schema, (_rows_on_tracks(batch, confirmed) for batch in rows()))
    with sink_errors(partial):
        remove_file(partial)
    return n_rows


def _read_schema(partial: Path) -> pa.Schema:
    try:
        with pa.OSFile(str(partial)) as file, pa.ipc.open_stream(file) as stream:
            schema = stream.schema
    except (OSError, pa.ArrowException) as error:
        raise SinkError(f"{partial} is missing or holds nothing readable; there is nothing to recover") from error
    if not schema.equals(_SCHEMA):
        writer = (schema.metadata or {}).get(b"streamtrack_version", b"of unknown version").decode()
        raise SinkError(
            f"{partial} has other columns than this version's; recover it with its own, streamtrack {writer}"
        )
    return schema


def _read(partial: Path, cut_short: bool) -> Iterator[pa.RecordBatch]:
    """Yield the batches, each of whole frames; a stream that was cut short ends before the first broken one."""
    with pa.OSFile(str(partial)) as file, pa.ipc.open_stream(file) as stream:
        while True:
            try:
                batch = stream.read_next_batch()
            except StopIteration:
                return
            except (OSError, pa.ArrowException) as error:
                if cut_short:
                    return
                raise SinkError(f"cannot read {partial} back; try 'streamtrack recover'") from error
            yield batch


def _read_revision(partial: Path, cut_short: bool) -> Revision:
    """Return all that was revised, by frame; of what concerns the same frame, the later comes behind."""
    revision = joined(_split(batch)[1] for batch in _read(partial, cut_short))
    return taken(revision, np.argsort(revision.frame_index, kind="stable"))


def _split(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Revision]:
    """Return the detections of a batch, and a copy of what it revises: 28 bytes each that do not keep the batch."""
    n_detections = batch.column("detection").null_count
    later = batch.slice(n_detections).select(_REVISION_COLUMNS)
    return batch.slice(0, n_detections), Revision(*(column.to_numpy().copy() for column in later.columns))


def _revised(batch: pa.RecordBatch, revision: Revision) -> pa.RecordBatch:
    """Return the detections of a batch with the tracks that they belong to in the end."""
    rows, _ = _split(batch)
    if not len(rows):
        return rows
    frame = rows.column("frame").to_numpy()
    tracks = {name: rows.column(name).to_numpy().copy() for name in ("particle", "existence")}
    start, stop = np.searchsorted(revision.frame_index, (frame[0], frame[-1] + 1))
    apply(taken(revision, slice(start, stop)), frame, **tracks)
    for name, values in tracks.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pa.array(values))
    return rows


def _write_detections(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> tuple[int, NDArray[np.int64]]:
    """Write all rows; return how many they are, and the confirmed tracks, sorted."""
    n_rows, confirmed = 0, [np.empty(0, np.int64)]
    schema = _part(schema, _DETECTION_COLUMNS)
    with sink_errors(path), pa.parquet.ParquetWriter(path, schema) as writer:
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
    schema = _part(schema, _TRACK_COLUMNS)
    options = pa.csv.WriteOptions(include_header=False)
    with (
        sink_errors(parquet.parent),
        pa.parquet.ParquetWriter(parquet, schema) as writer,
        pa.OSFile(str(csv), "wb") as file,
    ):
        file.write((",".join(_TRACK_COLUMNS) + "\n").encode())
        for group in _row_groups(batches):
            tracks = group.select(schema.names)
            writer.write_table(tracks)
            pa.csv.write_csv(_rounded(tracks), file, options)


def _part(schema: pa.Schema, columns: tuple[str, ...]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in columns], schema.metadata)


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Cut the rows into equal groups, so that the files do not depend on when batches were flushed."""
    held: list[pa.RecordBatch] = []
    n_held = 0
    for batch in batches:
        held.append(batch)
        n_held += len(batch)
        if n_held >= _GROUP_ROWS:
            rows = pa.Table.from_batches(held).combine_chunks()
            whole = n_held - n_held % _GROUP_ROWS
            yield from (rows.slice(start, _GROUP_ROWS) for start in range(0, whole, _GROUP_ROWS))
            held, n_held = rows.slice(whole).to_batches(), n_held - whole
    if n_held:
        yield pa.Table.from_batches(held).combine_chunks()


def _rounded(group: pa.Table) -> pa.Table:
    """Return the table with float64 of few decimals, which Arrow prints as short as they are.

    Masses, velocities and diffusion coefficients, whose size is not known, keep their digits.
    """
    for name in _CSV_ROUNDED:
        values = np.round(group[name].to_numpy().astype(np.float64), _CSV_DECIMALS)
        group = group.set_column(group.column_names.index(name), name, pa.array(values, from_pandas=True))
    return group
