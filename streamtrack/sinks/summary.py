"""A row a track: how long it is, how far and how fast it went, how it diffuses.

Made of ``tracks.parquet`` when the run closes, some tracks at a time, so that no table is too long for it.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from streamtrack.errors import SinkError
from streamtrack.sinks.by_track import tracks_of
from streamtrack.sinks.files import check_folder, replacing, sink_errors, with_partials
from streamtrack.types import FrameResult, SourceInfo

TRACKS = "tracks.parquet"
SUMMARIES = ("tracks_summary.parquet", "tracks_summary.csv")
SPILLED = "tracks_summary.partial.rows"
ROWS_AT_ONCE = 500_000
"""Some 150 bytes of memory each; a single track may have more."""
MOST_LAGS = 10
"""Of the mean square displacement, in frames; and a quarter of the track at most."""
_PLACE = ("c", "z", "p")
_CSV_DECIMALS = 6

Columns = Mapping[str, NDArray[Any]]


class SummarySink:
    """Writes ``tracks_summary.parquet`` and ``tracks_summary.csv``; needs the sink ``tables`` in the same run.

    ======================  =====================================================================================
    ``particle``            number of the track
    ``detections``          how many it has
    ``start_frame``         its first frame; ``end_frame`` its last, ``duration`` the time between them
    ``net_displacement_px`` distance from its first place to its last
    ``path_px``             length of its path
    ``mean_speed``          path by duration, px per time unit
    ``confinement_ratio``   net displacement by path: 1 is straight
    ``diffusion``           diffusion coefficient, px^2 per time unit, by the covariance of steps (Vestergaard,
                            Blainey & Flyvbjerg, Phys. Rev. E 89 (2014) 022726): localisation errors do not bias it,
                            so that it scatters around 0 for a particle that stands still
    ``alpha``               exponent of the mean square displacement against time, fitted over the first lags: 1
                            diffuses freely, 2 goes straight, less is hindered; from 8 detections on
    ``mean_mass``           mean intensity, camera counts
    ======================  =====================================================================================

    The time unit is that of the tracks, ``s`` or ``frame`` (in the Parquet file's metadata). Where pixel size and
    interval are known there are ``net_displacement_um, path_um, mean_speed_um_s, diffusion_um2_s`` as well, and in a
    movie of several streams ``c, z, p``. What a track is too short for is null.
    """

    critical = False
    needs_pixels = False
    files = (*with_partials(*SUMMARIES), SPILLED)

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Remember the folder; raises SinkError."""
        check_folder(folder)
        self._folder = folder

    def wants_denoised(self, frame_index: int) -> bool:
        """Return False."""
        return False

    def write(self, result: FrameResult) -> None:
        """Do nothing: tracks may be revised until the end."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Write the tables; raises SinkError, also where there are no tracks to summarise."""
        summarise(self._folder)


def summarise(folder: Path) -> None:
    """Write the summaries of the tracks in a run's folder; raises SinkError, also where there are none."""
    tracks = folder / TRACKS
    if not tracks.is_file():
        raise SinkError(f"{tracks} is not there to be summarised: the run needs the sink 'tables', too")
    with ExitStack() as stack:
        parquet, csv = (stack.enter_context(replacing(folder / name)) for name in SUMMARIES)
        with sink_errors(folder / SUMMARIES[0]):
            _write(summaries(tracks), parquet, csv)


def summaries(tracks: Path, rows_at_once: int = ROWS_AT_ONCE) -> Iterator[pa.Table]:
    """Yield tables with a row for each track of a run's ``tracks.parquet``, by number; raises OSError."""
    with pq.ParquetFile(tracks) as file:
        schema = file.schema_arrow
        names = ["particle", "frame", "y", "x", "mass", *(name for name in ("time_s", *_PLACE) if name in schema.names)]
        known = schema.metadata or {}
        yield _table({name: np.empty(0) for name in names}, known)
        for rows in tracks_of(file, names, rows_at_once, tracks.with_name(SPILLED)):
            yield _table(rows, known)


def _table(rows: Columns, known: Mapping[bytes, bytes]) -> pa.Table:
    columns: dict[str, NDArray[Any]] = summarised(rows, float(known.get(b"frame_interval_s", b"1")))
    if b"pixel_size_um" in known:
        pixel_um = float(known[b"pixel_size_um"])
        columns |= {f"{name}_um": columns[f"{name}_px"] * pixel_um for name in ("net_displacement", "path")}
        if known.get(b"time_unit") == b"s":
            columns["mean_speed_um_s"] = columns["mean_speed"] * pixel_um
            columns["diffusion_um2_s"] = columns["diffusion"] * pixel_um**2
    kept = {key: value for key, value in known.items() if key in (b"time_unit", b"pixel_size_um", b"source", b"level")}
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()}, metadata=kept)


def summarised(rows: Columns, interval: float = 1.0) -> dict[str, NDArray[Any]]:
    """Return what `SummarySink` tells, shape (T,) each.

    Parameters
    ----------
    rows
        ``particle, frame, y, x, mass`` and, where known, ``time_s, c, z, p``, shape (N,) each, in any order.
    interval
        Between two frames, where there is no ``time_s``.
    """
    order = np.lexsort((rows["frame"], rows["particle"]))
    particle, frame = (rows[name][order].astype(np.int64) for name in ("particle", "frame"))
    y, x, mass = (rows[name][order].astype(np.float64) for name in ("y", "x", "mass"))
    time = rows["time_s"][order] if "time_s" in rows else frame * interval
    first = np.flatnonzero(np.diff(particle, prepend=-1))
    n = np.diff(first, append=len(particle))
    last, track = first + n - 1, np.repeat(np.arange(len(first)), n)
    steps = np.hypot(np.diff(y), np.diff(x))
    path = _sums(track[1:], steps, len(n), np.diff(track) == 0)
    net, duration = np.hypot(y[last] - y[first], x[last] - x[first]), time[last] - time[first]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "particle": particle[first],
            "detections": n,
            "start_frame": frame[first],
            "end_frame": frame[last],
            "duration": duration,
            "net_displacement_px": net,
            "path_px": path,
            "mean_speed": np.where(duration > 0, path / duration, np.nan),
            "confinement_ratio": np.where(path > 0, net / path, np.nan),
            "diffusion": _diffusion(track, frame, time.astype(np.float64), y, x, len(n)),
            "alpha": _alpha(mean_square_displacements(track, frame, y, x, len(n)), n),
            "mean_mass": _sums(track, mass, len(n)) / n,
            **{name: rows[name][order][first] for name in _PLACE if name in rows},
        }


def _sums(
    track: NDArray[np.intp], values: NDArray[np.float64], n: int, of: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return the sum of the values of each track."""
    if of is not None:
        track, values = track[of], values[of]
    return np.bincount(track, values, n).astype(np.float64)


def _diffusion(
    track: NDArray[np.intp],
    frame: NDArray[np.int64],
    time: NDArray[np.float64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    n: int,
) -> NDArray[np.float64]:
    """Return the covariance estimate from steps of one frame, mean of both axes; NaN without two steps in a row."""
    of, dt = track[1:], np.diff(time)
    follows = (np.diff(track) == 0) & (np.diff(frame) == 1)
    twice = follows[1:] & follows[:-1]
    squares, products = np.zeros(n), np.zeros(n)
    for along in (np.diff(y), np.diff(x)):
        squares += _sums(of, along**2, n, follows) / 2
        products += _sums(of[1:], along[1:] * along[:-1], n, twice) / 2
    n_steps, n_pairs = _sums(of, np.ones(len(of)), n, follows), _sums(of[1:], np.ones(len(twice)), n, twice)
    interval = _sums(of, dt, n, follows) / n_steps
    estimate: NDArray[np.float64] = (squares / n_steps / 2 + products / n_pairs) / interval
    return estimate


def mean_square_displacements(
    track: NDArray[np.intp], frame: NDArray[np.int64], y: NDArray[np.float64], x: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Return the time-averaged ones of each track, shape (lags, T), px^2; NaN where there is no such pair of frames."""
    msd = np.full((MOST_LAGS, n), np.nan)
    with np.errstate(invalid="ignore"):
        for lag in range(1, min(MOST_LAGS, len(track) - 1) + 1):
            pairs = (track[lag:] == track[:-lag]) & (frame[lag:] - frame[:-lag] == lag)
            square = (y[lag:] - y[:-lag]) ** 2 + (x[lag:] - x[:-lag]) ** 2
            of = track[lag:]
            msd[lag - 1] = _sums(of, square, n, pairs) / _sums(of, np.ones(len(of)), n, pairs)
    return msd


def _alpha(msd: NDArray[np.float64], n_detections: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the slope of log MSD against log lag; NaN for tracks of less than 8 detections, or that stand still."""
    lag = np.arange(1, MOST_LAGS + 1)[:, None]
    used = (lag <= np.maximum(n_detections // 4, 2)) & (msd > 0) & (n_detections >= 8)
    n_used = used.sum(axis=0)
    log_lag, log_msd = np.where(used, np.log(lag), 0.0), np.log(msd, out=np.zeros_like(msd), where=used)
    log_lag = np.where(used, log_lag - log_lag.sum(axis=0) / n_used, 0.0)
    slope = (log_lag * log_msd).sum(axis=0) / (log_lag**2).sum(axis=0)
    return np.where(n_used >= 2, slope, np.nan)


def _write(tables: Iterator[pa.Table], parquet: Path, csv: Path) -> None:
    head = next(tables)
    schema = pa.schema([_field(name) for name in head.schema.names], head.schema.metadata)
    options = pyarrow.csv.WriteOptions(include_header=False)
    with pq.ParquetWriter(parquet, schema) as writer, csv.open("wb") as file:
        file.write((",".join(schema.names) + "\n").encode())
        for table in tables:
            table = table.cast(schema)
            writer.write_table(table)
            pyarrow.csv.write_csv(_rounded(table), file, options)


def _field(name: str) -> pa.Field:
    whole = name in ("particle", "detections", "start_frame", "end_frame", *_PLACE)
    return pa.field(name, pa.int64() if whole else pa.float64())


def _rounded(table: pa.Table) -> pa.Table:
    columns = [
        pa.compute.round(column, _CSV_DECIMALS) if pa.types.is_floating(column.type) else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.schema.names)
