"""Tables in text files, as spreadsheets, trackpy, TrackMate and napari write them."""

import codecs
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from streamtrack.errors import ConfigError
from streamtrack.formats.tracks import per_px

NEEDED = ("frame", "particle", "y", "x")

_TRACKMATE = {"FRAME": "frame", "TRACK_ID": "particle", "POSITION_Y": "y", "POSITION_X": "x", "POSITION_Z": "z"}
_TRACKMATE_HEADS = 4
"""Rows before the numbers: names of the features, long and short, and their units."""
_NAPARI = {"axis-0": "frame", "axis-1": "y", "axis-2": "x"}


def read_text_table(path: Path, pixel_size_um: float | None) -> pd.DataFrame:
    """Read a table; separators are commas, semicolons, tabs or blanks, decimals have points or commas.

    Raises
    ------
    ConfigError
        It has a column twice, or positions in a unit of length and nobody says how large a pixel is.
    ValueError, OSError
        Whatever else pandas makes of it.
    """
    encoding = _encoding(path)
    with path.open(encoding=encoding) as file:
        first, second = (next(file, "") for _ in range(2))
    separator = _separator(first)
    form: dict[str, Any] = {"sep": separator, "encoding": encoding, "skipinitialspace": True}
    if separator != "," and re.search(r"\d,\d", second):
        form["decimal"] = ","
    names = [str(name).strip() for name in pd.read_csv(path, header=None, nrows=1, dtype=str, **form).iloc[0]]
    if {"FRAME", "POSITION_X", "POSITION_Y"} <= set(names):
        return _trackmate(path, form, pixel_size_um)
    table: pd.DataFrame = pd.read_csv(path, **form)
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first columns for an index then
        raise ConfigError(f"{path} has more fields in a row than names in its first line; name every column")
    if set(_NAPARI) <= set(names):
        return table.rename(columns=_NAPARI)[[*_NAPARI.values()]]
    return _named(table, names, path)


def _encoding(path: Path) -> str:
    """Return the encoding by the mark in front: Excel has two."""
    with path.open("rb") as file:
        head = file.read(2)
    return "utf-16" if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _separator(line: str) -> str:
    found = max("\t;,", key=line.count)
    return found if found in line else r"\s+" if " " in line.strip() else ","


def _named(table: pd.DataFrame, names: list[str], path: Path) -> pd.DataFrame:
    """Return the table under its own names, those that are needed in small letters and once."""
    known = {name.lower() for name in names}
    if {"frame", "y", "x"} <= known and known.isdisjoint(set(NEEDED) & set(names)):
        names = [name.lower() if name.lower() in NEEDED else name for name in names]
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


def _trackmate(path: Path, form: dict[str, Any], pixel_size_um: float | None) -> pd.DataFrame:
    """Read TrackMate's table of spots or of spots in tracks; spots outside all tracks are left out of tracks."""
    heads = pd.read_csv(path, header=None, nrows=_TRACKMATE_HEADS, dtype=str, **form).fillna("")
    has_units = len(heads) == _TRACKMATE_HEADS and heads.iloc[3].str.startswith("(").any()
    units = dict(zip(heads.iloc[0], heads.iloc[3].str.strip("()"), strict=True)) if has_units else {}
    table: pd.DataFrame = pd.read_csv(path, skiprows=range(1, _TRACKMATE_HEADS) if has_units else None, **form)
    table = table.rename(columns=_TRACKMATE)
    if "particle" in table:
        linked = table["particle"].notna()
        table = table[linked] if linked.any() else table.drop(columns="particle")
    names = [name for name in ("frame", "particle", "y", "x", "z") if name in table]
    spots: pd.DataFrame = table[names].reset_index(drop=True)
    places = [name for name in ("y", "x", "z") if name in names]
    spots[places] *= per_px(units.get("POSITION_X", ""), pixel_size_um, path)
    if "z" in spots and not spots["z"].any():
        spots = spots.drop(columns="z")
    spots.attrs.update(_interval(table, units))
    return spots


def _interval(table: pd.DataFrame, units: dict[str, str]) -> dict[str, float]:
    """Return the frame interval, where times are in seconds."""
    if "POSITION_T" not in table or not units.get("POSITION_T", "").startswith("s"):
        return {}
    later = table[table["frame"] > 0]
    interval_s = float(np.median(later["POSITION_T"] / later["frame"])) if len(later) else 0.0
    return {"frame_interval_s": interval_s} if interval_s > 0 else {}
