"""Tables in text files, as spreadsheets, trackpy, TrackMate, ThunderSTORM and napari write them."""

import codecs
import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from streamtrack.errors import ConfigError
from streamtrack.formats.trackmate_features import SPOT_FEATURES, table_of
from streamtrack.formats.tracks import PX, UM, per_px

NEEDED = ("frame", "particle", "y", "x")
MOST_COLUMNS = 2000
"""A table of tracks has a row for each detection; what has more columns is an image, or lies on its side."""

_MOST_BEFORE = 100
"""Lines before the header."""
_MOST_LINE = 1_000_000
"""Characters of a line that may be a header."""
_TRACKMATE_HEADS = 4
"""Rows before the numbers: names of the features, long and short, and their units."""
_NAPARI_POINTS = {"axis-0": "frame", "axis-1": "y", "axis-2": "x"}
_NAPARI_POINTS_3D = {"axis-0": "frame", "axis-1": "z", "axis-2": "y", "axis-3": "x"}
_NAPARI_TRACKS = {"id": "particle", "t": "frame", "z": "z", "y": "y", "x": "x"}
_WITH_UNIT = re.compile(r"(\w+) ?[\[(](.+)[\])]")
IN_LENGTHS = {unit: (f"y_{unit}", f"x_{unit}") for unit in (*UM, *PX)}
"""Names of columns with positions in a unit."""
OFFSET_PX = 0.5
"""ThunderSTORM counts positions from the corner of the first pixel (its estimators/FullImageFitting.java)."""
_UNCERTAINTIES = ("uncertainty", "uncertainty_xy")


@dataclass(frozen=True, slots=True)
class _Form:
    """How a text file is written.

    Attributes
    ----------
    before
        Lines before the one with the names.
    names
        Of the columns, as they stand there.
    units
        Of the columns, where the line after the names has them; empty otherwise.
    """

    encoding: str
    separator: str
    decimal: str
    before: int
    names: list[str]
    units: dict[str, str]

    def read(self, path: Path, leave_out: int = 0) -> pd.DataFrame:
        """Return the rows after the header, without the first ones."""
        table: pd.DataFrame = pd.read_csv(
            path,
            sep=self.separator,
            encoding=self.encoding,
            decimal=self.decimal,
            skipinitialspace=True,
            skiprows=[*range(self.before), *range(self.before + 1, self.before + 1 + leave_out)],
        )
        if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first columns for an index then
            raise ConfigError(f"{path} has more fields in a row than names in its first line; name every column")
        return table


def read_text_table(path: Path, pixel_size_um: float | None) -> pd.DataFrame:
    """Read a table; separators are commas, semicolons, tabs or blanks, decimals have points or commas.

    Raises
    ------
    ConfigError
        It has a column twice, or positions in a unit of length and nobody says how large a pixel is.
    ValueError, OSError
        Whatever else pandas makes of it.
    """
    form = _form(path)
    known = {name.lower() for name in form.names}
    with_unit = {name.lower() for name, unit in _units(form.names) if unit}
    if _is_trackmate(form.names):
        return _trackmate(path, form, pixel_size_um)
    for names in (_NAPARI_POINTS_3D, _NAPARI_POINTS):
        if set(names) <= known:
            return _renamed(form.read(path), names).drop(columns="index", errors="ignore")
    if "frame" not in known and {"id", "t", "y", "x"} <= known:
        return _renamed(form.read(path), _NAPARI_TRACKS)
    if "frame" in known and {"y", "x"} <= with_unit - known:
        return _with_units(path, form, pixel_size_um)
    table = _named(form.read(path, leave_out=bool(form.units)), form.names, path)
    scales = {name: per_px(unit, pixel_size_um, path) for name, unit in form.units.items() if name in table}
    return table.assign(**{name: table[name] * scale for name, scale in scales.items()})


def _renamed(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Return the table with other names for some columns, however they are spelt."""
    return table.rename(columns={name: names.get(str(name).strip().lower(), name) for name in table})


def _form(path: Path) -> _Form:
    """Return how a file is written, by its first lines."""
    encoding = _encoding(path)
    lines = _first_lines(path, encoding)
    header = next((number for number, line in enumerate(lines) if _is_header(line)), 0)
    separator = _separator(lines[header])
    names = _fields(lines[header], separator)
    if len(names) > MOST_COLUMNS:
        raise ConfigError(f"{path} has {len(names)} columns; a table of tracks has a row for each detection: turn it")
    has_commas = separator != "," and any(re.search(r"\d,\d", line) for line in lines[header + 1 :])
    units = _unit_row(names, _fields("".join(lines[header + 1 : header + 2]), separator))
    return _Form(encoding, separator, "," if has_commas else ".", header, names, units)


def _unit_row(names: list[str], below: list[str]) -> dict[str, str]:
    """Return the units of y and x, if the line below the names has units."""
    said = {name.lower(): text.strip("()[] ") for name, text in zip(names, below, strict=False)}
    units = {name: said.get(name, "") for name in ("y", "x")}
    return units if all(unit.lower() in (*UM, *PX) for unit in units.values()) else {}


def _first_lines(path: Path, encoding: str) -> list[str]:
    """Return the first lines, at least one; raises ConfigError where one is too long for a table's."""
    lines: list[str] = []
    with path.open(encoding=encoding, newline="") as file:
        while len(lines) < _MOST_BEFORE and (line := file.readline(_MOST_LINE + 1)):
            if len(line) > _MOST_LINE:
                cure = "a table has a row for each detection: turn it"
                raise ConfigError(f"{path} has a line of more than {_MOST_LINE} characters; {cure}")
            lines.append(line)
    return lines or [""]


def _encoding(path: Path) -> str:
    """Return the encoding by the mark in front, Excel has two; without one UTF-8, or Latin-1 where it is not that."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        head = file.read(2)
        if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        try:
            decoder.decode(head)
            while block := file.read(2**20):
                decoder.decode(block)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8-sig"


def _separator(line: str) -> str:
    line = re.sub('"[^"]*"', "", line)
    found = max("\t;,", key=line.count)
    return found if found in line else r"\s+" if " " in line.strip() else ","


def _fields(line: str, separator: str) -> list[str]:
    line = line.strip("\r\n")
    if separator == r"\s+":
        return [field.strip('"') for field in re.findall(r'"[^"]*"|\S+', line)]
    return [field.strip() for field in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]


def _is_header(line: str) -> bool:
    """Return whether this line names the columns of a table of detections, and does not only speak of them."""
    if line.startswith("#"):
        return False
    names = _fields(line, _separator(line))
    known = {name.lower() for name in names} | {name.lower() for name, _ in _units(names)}
    places = [("y", "x"), *IN_LENGTHS.values()]
    needed = [*({"frame", *each} for each in places), {"t", "id", "y", "x"}, set(_NAPARI_POINTS)]
    return _is_trackmate(names) or any(each <= known for each in needed)


def _is_trackmate(names: list[str]) -> bool:
    return {"FRAME", "POSITION_X", "POSITION_Y"} <= set(names)


def _units(names: list[str]) -> list[tuple[str, str]]:
    """Return the names without their units in brackets, and the units, empty where there is none."""
    found = ((name, _WITH_UNIT.fullmatch(name)) for name in names)
    return [(match[1], match[2]) if match else (name, "") for name, match in found]


def _named(table: pd.DataFrame, names: list[str], path: Path) -> pd.DataFrame:
    """Return the table under its own names, those that are needed in small letters and once."""
    known = {name.lower() for name in names}
    places = next((each for each in (("y", "x"), *IN_LENGTHS.values()) if {"frame", *each} <= known), ())
    if places and known.isdisjoint(set(NEEDED) & set(names)):
        names = [name.lower() if name.lower() in (*NEEDED, *places) else name for name in names]
    keep = [number for number, name in enumerate(names) if not _is_again(table, names, number, path)]
    kept = table.iloc[:, keep].set_axis([names[number] for number in keep], axis=1)
    nameless = [number for number, name in enumerate(table.columns) if str(name).startswith("Unnamed: ")]
    return kept.loc[:, [number not in nameless for number in keep]]  # without the index, as pandas writes it


def _is_again(table: pd.DataFrame, names: list[str], number: int, path: Path) -> bool:
    """Return whether a column stands before with the same numbers, as an index that is a column, too."""
    before = names.index(names[number])
    if before == number or names[number] not in NEEDED:
        return False
    if not table.iloc[:, before].equals(table.iloc[:, number]):
        raise ConfigError(f"{path} has the column(s) {names[number]} twice; keep one each")
    return True


def _trackmate(path: Path, form: _Form, pixel_size_um: float | None) -> pd.DataFrame:
    """Read TrackMate's table of spots or of spots in tracks; spots outside all tracks are left out of tracks."""
    with path.open(encoding=form.encoding, newline="") as file:
        heads = [file.readline() for _ in range(form.before + _TRACKMATE_HEADS)]
    last = _fields(heads[-1], form.separator)
    has_units = len(last) == len(form.names) and any(unit.startswith("(") for unit in last)
    units = dict(zip(form.names, (unit.strip("()") for unit in last), strict=True)) if has_units else {}
    table = form.read(path, leave_out=_TRACKMATE_HEADS - 1 if has_units else 0)
    unit = units.get("POSITION_X", "")
    is_length = [name for name in table if unit and units.get(str(name)) == unit and not str(name).startswith("POS")]
    table = table[[name for name in table if name in SPOT_FEATURES or name == "TRACK_ID" or _is_numbers(table[name])]]
    scale = per_px(unit, pixel_size_um, path)
    in_s = units.get("POSITION_T", "").startswith("s")
    spots = table_of(table, dict.fromkeys(map(str, is_length), "LENGTH"), scale, (0.0, 0.0), in_s)
    spots.attrs.update(_interval(table, in_s))
    return spots


def _is_numbers(column: "pd.Series[Any]") -> bool:
    return column.dtype.kind in "iuf"


def _interval(table: pd.DataFrame, in_s: bool) -> dict[str, float]:
    """Return the frame interval, where times are in seconds."""
    if "POSITION_T" not in table or not in_s:
        return {}
    later = table[table["FRAME"] > 0]
    interval_s = float(np.median(later["POSITION_T"] / later["FRAME"])) if len(later) else 0.0
    return {"frame_interval_s": interval_s} if interval_s > 0 else {}


def _with_units(path: Path, form: _Form, pixel_size_um: float | None) -> pd.DataFrame:
    """Read a table that has its units beside the names; in square brackets they are ThunderSTORM's.

    ThunderSTORM counts frames from 1 and positions from the first pixel's corner. Its uncertainty is our ``sigma``.
    """
    table = form.read(path).set_axis([name for name, _ in _units(form.names)], axis=1)
    table = table.rename(columns={name: str(name).lower() for name in table if str(name).lower() in (*NEEDED, "z")})
    unit_of = {name.lower(): unit for name, unit in _units(form.names) if unit}
    is_thunderstorm = any(name.endswith("]") for name in form.names)
    for name in ("y", "x"):
        table[name] = table[name] * per_px(unit_of[name], pixel_size_um, path) - OFFSET_PX * is_thunderstorm
    if not is_thunderstorm:
        return table
    table["frame"] -= 1
    if "id" in table and (table["id"] == np.arange(1, len(table) + 1)).all():
        table = table.drop(columns="id")
    for name in [name for name in _UNCERTAINTIES if name in table and name in unit_of]:
        table[name] *= per_px(unit_of[name], pixel_size_um, path)
    return table.rename(columns=dict.fromkeys(_UNCERTAINTIES, "sigma"))
