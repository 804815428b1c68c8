"""The rows of the stream that the tables are made of, and what they say later of earlier ones."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamtrack.columns import column_from, metadata_of
from streamtrack.sinks.revisions import apply, joined, taken
from streamtrack.types import MOTION_MODES, Column, Detections, Revision, TrackUpdate

Frames = list[tuple[int, Detections, TrackUpdate]]
"""Of each frame: index, detections, tracks."""

MOTION_COLUMNS = ("vy", "vx", "diffusion", "directed")
DETECTION_COLUMNS = ("frame", "y", "x", "score", "sigma", "mass")
TRACK_COLUMNS = ("frame", "particle", "y", "x", "mass", "score", "sigma", "existence", *MOTION_COLUMNS)
INDEX = "index"
"""Unit of columns of whole numbers."""
PARENT = "parent"
"""Column of the track that a track came out of, of linkers that know."""
STREAM_COLUMNS = tuple(Column(name, INDEX) for name in "tczp")
"""Which time, channel, plane and position a row is of, where the movie has several streams."""
_REVISION_COLUMNS = ("frame", "detection", "particle", "existence")
"""Of a row that revises an earlier one; all others are null in it. ``detection``, the place among the detections of
the frame, is null in rows that do not revise."""
_INTEGERS = ("frame", "particle", "detection")
_DOUBLES = ("y_um", "x_um", "z_um", "time_s")
"""A stage's position and a clock's time have more digits than single precision."""
_USUAL = (*TRACK_COLUMNS, "detection")


def schema_of(columns: Iterable[Column]) -> pa.Schema:
    """Return the schema of the rows of a run that measures these columns besides the usual ones."""
    usual = [pa.field(name, pa.int64() if name in _INTEGERS else pa.float32()) for name in _USUAL]
    return pa.schema([*usual, *(pa.field(each.name, _type(each), metadata=metadata_of(each)) for each in columns)])


def _type(column: Column) -> pa.DataType:
    if column.name in _DOUBLES:
        return pa.float64()
    return pa.int64() if column.unit == INDEX else pa.float32()


def extra_of(schema: pa.Schema) -> list[str]:
    """Return the names of the columns besides the usual ones."""
    return [name for name in schema.names if name not in _USUAL]


def is_known(schema: pa.Schema) -> bool:
    """Return whether these are rows of this version's: the usual columns, and numbers behind them."""
    return bool(schema.equals(schema_of(column_from(name, schema.field(name).metadata) for name in extra_of(schema))))


def is_of_several(schema: pa.Schema) -> bool:
    """Return whether these are rows of several streams."""
    names = [each.name for each in STREAM_COLUMNS]
    return all(name in schema.names and schema.field(name).type == pa.int64() for name in names)


def batch_of(frames: Frames, schema: pa.Schema) -> pa.RecordBatch:
    """Return the rows of whole frames, then what these frames revise: one batch, so that no cut comes in between."""
    revised = joined(tracks.revised for *_, tracks in frames)
    corrections = [getattr(revised, name) for name in Revision.__slots__]
    said, later = pa.table(_said(frames, extra_of(schema))), pa.table(corrections, _REVISION_COLUMNS)
    rows = pa.concat_tables([said, later], promote_options="default")  # nulls where one of them lacks a column
    batches = rows.select(schema.names).cast(schema).combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema)


def split(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Revision]:
    """Return the detections of a batch, and a copy of what it revises: 28 bytes each that do not keep the batch."""
    n_detections = rows.column("detection").null_count
    later = rows.slice(n_detections).select(_REVISION_COLUMNS)
    return rows.slice(0, n_detections), Revision(*(column.to_numpy().copy() for column in later.columns))


def revised(rows: pa.RecordBatch, revision: Revision) -> pa.RecordBatch:
    """Return detections with the tracks that they belong to in the end; ``revision`` is by frame."""
    if not len(rows):
        return rows
    frame = rows.column("frame").to_numpy()
    tracks = {name: rows.column(name).to_numpy().copy() for name in ("particle", "existence")}
    start, stop = np.searchsorted(revision.frame_index, (frame[0], frame[-1] + 1))
    apply(taken(revision, slice(start, stop)), frame, **tracks)
    for name, values in tracks.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pa.array(values))
    return rows


def _said(frames: Frames, extra: list[str]) -> dict[str, pa.Array]:
    """Return all detections of these frames, their tracks as they are said first; NaN is null but in the usual ones."""
    motion = np.concatenate([_motion(tracks) for *_, tracks in frames])
    columns: dict[str, NDArray[Any]] = {
        "frame": np.repeat([index for index, *_ in frames], [len(detections) for _, detections, _ in frames])
    }
    for name in ("y", "x", "mass", "score", "sigma"):
        columns[name] = np.concatenate([getattr(detections, name) for _, detections, _ in frames])
    for name in ("particle", "existence"):
        columns[name] = np.concatenate([getattr(tracks, name) for *_, tracks in frames])
    measured = {name: np.concatenate([_extra(detections, name) for _, detections, _ in frames]) for name in extra}
    measured |= {name: motion[:, i] for i, name in enumerate(MOTION_COLUMNS)}
    nan_is_null = {name: pa.array(values, from_pandas=True) for name, values in measured.items()}
    return {name: pa.array(values) for name, values in columns.items()} | nan_is_null


def _extra(detections: Detections, name: str) -> NDArray[np.float32]:
    """Return a column; NaN where a frame lacks it, which happens only to sinks that are used by themselves."""
    found = detections.extra.get(name)
    return np.full(len(detections), np.nan, np.float32) if found is None else found


def _motion(tracks: TrackUpdate) -> NDArray[np.float32]:
    """Return what ``MOTION_COLUMNS`` name, shape (N, 4); NaN where it is not known."""
    motion = tracks.motion
    if motion is None:
        return np.full((len(tracks.particle), len(MOTION_COLUMNS)), np.nan, np.float32)
    directed = motion.modes[:, MOTION_MODES.index("directed")]
    return np.column_stack([motion.velocity_px_s, motion.diffusion_px2_s, directed])
