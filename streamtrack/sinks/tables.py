"""Detections and tracks as tables: Parquet for programs, CSV for people.

While a run lasts, every row goes into one Arrow stream, ``detections.partial.arrows``, which survives whatever happens
to the process (`streamtrack.sinks.stream`). The tables are made from it when the run closes, or by `recover`
(`streamtrack.sinks.making`).

The stream is only ever appended to. Where the linker thinks better of a track, a row says which detection of which
frame now belongs to which; it comes into effect when the tables are made.
"""

import concurrent.futures.thread  # noqa: F401  # pyarrow imports pandas late, which needs it; it cannot be imported at exit
import json
import secrets
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa

from streamtrack import __version__
from streamtrack.clock import monotonic_ns
from streamtrack.errors import SinkError
from streamtrack.plain import plain
from streamtrack.run_folder import KEPT_NAMES, UNFINISHED_NAME
from streamtrack.sinks.files import check_folder, sink_errors, with_partials
from streamtrack.sinks.frame_table import FRAMES, FRAMES_PARTIAL, FrameTable, make_frames
from streamtrack.sinks.making import TABLES, make_tables
from streamtrack.sinks.places import place_columns, placed
from streamtrack.sinks.serial import Serial
from streamtrack.sinks.stream import Extent, StreamWriter
from streamtrack.sinks.table_rows import STREAM_COLUMNS, Frames, batch_of, schema_of
from streamtrack.types import FrameResult, SourceInfo

PARTIAL = UNFINISHED_NAME

_FLUSH_NS = 500_000_000
"""Half of what a kill may cost: a busy machine needs the rest to write it down."""
_FLUSH_ROWS = 65_536


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

    Where the linker knows of divisions, the track tables have ``parent``, the track that a track came out of, -1 for
    none.

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
        """Make the tables and delete the stream; raises SinkError, and then the stream is there for `recover`.

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
        make_tables(self._folder, self._checked)
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
