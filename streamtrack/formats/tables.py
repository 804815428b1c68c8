"""Tables of tracks: Parquet and CSV, ours or trackpy's, read into one shape."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from streamtrack import __version__
from streamtrack.columns import column_from, metadata_of
from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.formats.calibration import ORIGIN, beside, from_texts, to_texts
from streamtrack.formats.geff import read_geff
from streamtrack.formats.napari import read_napari
from streamtrack.formats.ptc_xml import read_ptc
from streamtrack.formats.text_tables import IN_LENGTHS, read_text_table
from streamtrack.formats.trackmate_xml import read_trackmate
from streamtrack.formats.tracks import by_track, per_px
from streamtrack.formats.xml_file import root_tag
from streamtrack.types import Column

_CSV_DECIMALS = dict.fromkeys(("y", "x", "y_um", "x_um", "z_um"), 4) | {"time_s": 9}
_COPIES = 5
"""Of a table, while it is read, checked, sorted and written."""
_TOO_LARGE = 2.0**62
_MOST_SAID = 300
"""Characters of the names that a message lists."""


def read_tracks(path: str | Path, *, pixel_size_um: float | None = None) -> pd.DataFrame:
    """Read a table of detections or tracks.

    Parameters
    ----------
    path
        A ``.parquet`` or text file (``.csv``, ``.tsv``, ``.txt``) with columns ``frame, y, x`` and, where the rows are
        linked, ``particle``, in any order; TrackMate's spots (CSV), its files and its export of tracks (XML);
        ThunderSTORM's localisations (CSV); napari's points and tracks (CSV, ``.npy``); an ``.xml`` file of the Particle
        Tracking Challenge; a GEFF folder. Instead of ``y, x`` there may be ``y_um, x_um`` or those in another unit.
    pixel_size_um
        How large a pixel is, for positions in micron; goes before what the file says, or the report beside it.

    Returns
    -------
    pandas.DataFrame
        ``frame`` and ``particle`` int64, ``y, x`` float64 in px, other columns and the order of the rows as they are.
        Where the file has tracks that divide, ``parent`` is the track that a track came out of, -1 for none. ``attrs``
        has what the file or the run's report beside it knows: ``pixel_size_um``, ``frame_interval_s``, ``origin_y_um``,
        ``origin_x_um``, ``source``, ``shape``, ``level``, ``frames``, and of the columns that engine and measures added
        ``units``, and ``classes``, the names of what a column holds the numbers of; by column.

    Raises
    ------
    UnknownPixelSizeError
        If positions are in a unit of length, and nobody says how large a pixel is.
    ConfigError
        If the file cannot be read, lacks a column, or has a frame or particle that is not a whole number or a position
        that is not finite.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"cannot read {path}: its name must end in {', '.join(_READERS)}")
    with foreign_errors(ConfigError, f"cannot read {path} as {path.suffix[1:]}"):
        if not path.exists() or path.is_dir() != (reader is read_geff):
            raise ConfigError(f"cannot read {path}: there is no such {'folder' if reader is read_geff else 'file'}")
        table = _checked(_in_px(reader(path, pixel_size_um), path, pixel_size_um), path)
        given = {} if pixel_size_um is None else {"pixel_size_um": pixel_size_um}
        table.attrs.update({**beside(path), **{str(name): said for name, said in table.attrs.items()}, **given})
        return table if pixel_size_um is None else _placed_anew(table)


def memory_of(path: Path) -> int:
    """Return about how many bytes of memory it takes to read a table and write it anew: all of it is there at once."""
    with suppress(OSError, pa.ArrowException):
        if path.suffix.lower() == ".parquet":
            about = pa.parquet.read_metadata(path)
            return _COPIES * 8 * int(about.num_rows) * int(about.num_columns)
        return _COPIES * path.stat().st_size
    return 0


def _read_xml(path: Path, pixel_size_um: float | None) -> pd.DataFrame:
    read = read_trackmate if root_tag(path) == "TrackMate" else read_ptc
    return read(path, pixel_size_um)


def _in_px(table: pd.DataFrame, path: Path, pixel_size_um: float | None) -> pd.DataFrame:
    """Return the table with y and x in px, where they are in a unit by their metadata, or by their names."""
    units = table.attrs.get("units", {})
    known = beside(path) | table.attrs | ({} if pixel_size_um is None else {"pixel_size_um": pixel_size_um})
    if {"y", "x"} <= {*table.columns}:
        said = {name: units[name] for name in ("y", "x") if name in units}
        if said:
            table.attrs["units"] = {name: unit for name, unit in units.items() if name not in said}
        scales = {name: per_px(unit, known.get("pixel_size_um"), path) for name, unit in said.items()}
        return table.assign(**{name: table[name] * scale for name, scale in scales.items()})
    unit = next((unit for unit, names in IN_LENGTHS.items() if {*names} <= {*table.columns}), None)
    if unit is None:
        return table
    scale, names = per_px(unit, known.get("pixel_size_um"), path), IN_LENGTHS[unit]
    origin = [known.get(key, 0.0) / known["pixel_size_um"] if unit == "um" else 0.0 for key in ORIGIN]
    places = (table[name] * scale - at for name, at in zip(names, origin, strict=True))
    return table.assign(**dict(zip("yx", places, strict=True)))


def _placed_anew(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its places in um, if it has them, by the pixel size in ``attrs``."""
    size = table.attrs["pixel_size_um"]
    origin = {name: table.attrs.get(key, 0.0) for name, key in zip("yx", ORIGIN, strict=True)}
    places = {f"{axis}_um": table[axis] * size + at for axis, at in origin.items() if f"{axis}_um" in table}
    return table.assign(**places)


def one_stream(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the table; raises ConfigError where it holds several streams, whose frames would be taken for one."""
    several = [axis for axis in "pcz" if "t" in table and axis in table and table[axis].nunique() > 1]
    if several:
        known = ((axis, ", ".join(map(str, sorted(table[axis].dropna().unique())[:8]))) for axis in several)
        what = "; ".join(f"{axis} is {values}" for axis, values in known)
        example = " and ".join(f"{axis} == {table[axis].min()}" for axis in several)
        cure = f"track one, or keep its rows, in pandas table.query('{example}').to_parquet(...)"
        raise ConfigError(f"{name} holds several streams ({what}), which would be taken for one movie: {cure}")
    return table


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write tracks or detections as ``streamtrack track`` does: by frame, then particle, with units and classes.

    Parameters
    ----------
    table
        Columns ``frame, particle, y, x`` (px); others are kept. Detections have no ``particle``. The units are taken
        from ``attrs``.
    path
        The Parquet file.

    Raises
    ------
    ConfigError
        If the table does not hold tracks in 2D; see :func:`streamtrack.formats.tracks.by_track`.
    OSError
        If the file cannot be written.
    """
    rows = pa.Table.from_pandas(_by_frame(table), preserve_index=False)
    schema = _with_about(rows, table.attrs).with_metadata({"streamtrack_version": __version__} | to_texts(table.attrs))
    pa.parquet.write_table(rows.cast(schema), path)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write tracks or detections under trackpy's column names, sorted by frame, then particle.

    Parameters
    ----------
    table
        Columns ``frame, particle, y, x`` (px), which come first and with 4 decimals; others are kept. Detections have
        no ``particle``.
    path
        The CSV file.

    Raises
    ------
    ConfigError
        If the table does not hold tracks in 2D; see :func:`streamtrack.formats.tracks.by_track`.
    OSError
        If the file cannot be written.
    """
    _by_frame(table).round(_CSV_DECIMALS).to_csv(path, index=False, lineterminator="\n")


def _by_frame(table: pd.DataFrame) -> pd.DataFrame:
    if "particle" not in table:
        return table.sort_values("frame", kind="stable")
    first = ["frame", "particle", "y", "x"]
    tracks = by_track(table).sort_values(["frame", "particle"])
    return tracks[[*first, *(name for name in tracks.columns if name not in first)]]


def _read_parquet(path: Path, pixel_size_um: float | None) -> pd.DataFrame:
    with pa.parquet.ParquetFile(path) as file:
        rows = file.read()
    return _with_attrs(rows, path)


def read_first_rows(path: Path, most: int) -> tuple[pd.DataFrame, int]:
    """Return the first rows of a Parquet table that a run wrote, as `read_tracks` does, and how many there are in all.

    Parameters
    ----------
    path
        The table.
    most
        Groups of rows are read whole; at least one is, and then as many as have no more rows than this together.

    Raises
    ------
    ConfigError
        As `read_tracks`.
    """
    with foreign_errors(ConfigError, f"cannot read {path}"), pa.parquet.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        n_groups = max(1, int(np.searchsorted(np.cumsum(sizes), most, "right")))
        rows = file.read_row_groups(range(min(n_groups, len(sizes))))
        table = _checked(_with_attrs(rows, path), path)
        known = dict(table.attrs)
        table.attrs.update(beside(path))
        table.attrs.update(known)
        return table, int(file.metadata.num_rows)


def _with_attrs(rows: pa.Table, path: Path) -> pd.DataFrame:
    _check_names(rows.column_names, path)
    table: pd.DataFrame = rows.to_pandas().reset_index(drop=True)
    metadata = {name.decode(): text.decode() for name, text in (rows.schema.metadata or {}).items()}
    table.attrs.clear()
    table.attrs.update(from_texts(metadata) | about_columns(rows.schema))
    return table


def about_columns(schema: pa.Schema) -> dict[str, Any]:
    """Return units and classes of the columns that have them."""
    columns = [column_from(field.name, field.metadata) for field in schema]
    units = {column.name: column.unit for column in columns if column.unit}
    classes = {column.name: list(column.classes) for column in columns if column.classes}
    return {name: said for name, said in (("units", units), ("classes", classes)) if said}


def _with_about(rows: pa.Table, attrs: dict[Any, Any]) -> pa.Schema:
    """Return the schema of a table with units and classes of its columns."""
    units, classes = attrs.get("units", {}), attrs.get("classes", {})
    columns = [Column(name, units.get(name, ""), tuple(classes.get(name, ()))) for name in rows.column_names]
    return pa.schema([field.with_metadata(metadata_of(each)) for field, each in zip(rows.schema, columns, strict=True)])


def _check_names(names: list[Any], path: Path) -> None:
    twice = {str(name) for name in names if names.count(name) > 1}
    if twice & {"frame", "particle", "y", "x"}:
        raise ConfigError(f"{path} has the column(s) {', '.join(sorted(twice))} twice; keep one each")


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    missing = [name for name in ("frame", "y", "x") if name not in table.columns]
    if missing:
        has = ", ".join(map(str, table.columns))
        has = f"{has[:_MOST_SAID]} ..." if len(has) > _MOST_SAID else has or "none"
        raise ConfigError(f"{path} lacks the column(s) {', '.join(missing)} (it has: {has}); rename its columns")
    columns = {name: _finite(table[name], path) for name in ("y", "x")}
    columns |= {name: _whole(table[name], path) for name in ("frame", "particle") if name in table.columns}
    return table.assign(**columns)


def _finite(column: "pd.Series[Any]", path: Path) -> "pd.Series[Any]":
    if column.dtype.kind not in "iufO":
        raise ConfigError(f"{path} has {column.dtype} in its column {column.name}; give numbers")
    numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
    _refuse(~np.isfinite(numbers.to_numpy()), column, path, "which is no finite number")
    return numbers


def _whole(column: "pd.Series[Any]", path: Path) -> "pd.Series[Any]":
    exact = pd.api.types.is_integer_dtype(column) and not column.hasnans  # past 2^53 floats have holes
    numbers = column if exact else _finite(column, path)
    _refuse(numbers.astype(np.float64).abs().to_numpy() >= _TOO_LARGE, column, path, "which is too large")
    whole = numbers.astype(np.int64)
    _refuse((whole != numbers).to_numpy(), column, path, "which is no whole number")
    return whole


def _refuse(bad: NDArray[np.bool_], column: "pd.Series[Any]", path: Path, why: str) -> None:
    """Raise ConfigError where a row is bad."""
    if bad.any():
        row = int(bad.argmax())
        said = f"{column.name} = {str(column.iloc[row])[:50]} in row {row + 1}"
        raise ConfigError(f"{path} has {said}, {why} ({bad.sum()} such rows); drop or mend them")


Reader = Callable[[Path, float | None], pd.DataFrame]
"""Takes a path and how large a pixel is, um."""

_READERS: dict[str, Reader] = {
    ".parquet": _read_parquet,
    **dict.fromkeys((".csv", ".tsv", ".txt"), read_text_table),
    ".xml": _read_xml,
    ".npy": read_napari,
    ".geff": read_geff,
}
