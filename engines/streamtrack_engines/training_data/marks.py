"""Where somebody marked particles: tables by other programs, also without a column of frames, and label masks."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.formats.tables import read_tracks

TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".xml", ".parquet")

COLUMNS = ("image", "frame", "y", "x", "radius_px")
"""Of a table of marks: the image's name, None where the table does not say; from 0; px; px, NaN where nobody knows."""

_IMAGE_NAMES = ("image", "file", "filename", "file_name", "image_name", "label")
_RADIUS_NAMES = ("radius_px", "radius")
_TEXT = (".csv", ".tsv", ".txt")
_FIJI = {"", "Label", "Area", "Slice", "Type", "Counter"}
"""Columns of which Fiji's table of results has one; its first has no name."""
_LONGEST_HEADER = 100_000
_IMAGE_ENDINGS = (".tif", ".tiff", ".npy", ".npz", ".zarr", ".png")


def read_marks(path: Path, pixel_size_um: float | None = None) -> pd.DataFrame:
    """Read a table of points that somebody set.

    Parameters
    ----------
    path
        What `streamtrack.formats.tables.read_tracks` reads; or a text table without frames: napari's points in a
        single image, Fiji's results (positions from the first pixel's corner, slices from 1), or columns ``y, x``.
    pixel_size_um
        How large a pixel is, for positions in micron.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`.

    Raises
    ------
    ConfigError
        It cannot be read, lacks a column, or has a position that is no number.
    """
    table = _without_frames(path, pixel_size_um) if path.suffix.lower() in _TEXT else None
    if table is None:
        table = read_tracks(path, pixel_size_um=pixel_size_um)
    marks = pd.DataFrame({"image": None, "frame": table["frame"], "y": table["y"], "x": table["x"]})
    names = {str(name).strip().lower(): name for name in table}
    if column := next(
        (names[name] for name in _IMAGE_NAMES if name in names and _names_images(table[names[name]])), None
    ):
        marks["image"] = table[column].astype(str)
    radius = next((names[name] for name in _RADIUS_NAMES if name in names), None)
    marks["radius_px"] = np.nan if radius is None else pd.to_numeric(table[radius], errors="coerce")
    return marks


def _without_frames(path: Path, pixel_size_um: float | None) -> pd.DataFrame | None:
    """Return a text table that names no frame, or is Fiji's, as one with frames from 0; None for any other."""
    with foreign_errors(ConfigError, f"cannot read {path}"):
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            first = file.readline(_LONGEST_HEADER)
        separator = max(",;\t", key=first.count)
        names = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
        known = {name.lower() for name in names}
        is_napari = {"axis-0", "axis-1"} <= known and "axis-2" not in known
        is_fiji = {"X", "Y"} <= set(names) and not _FIJI.isdisjoint(names)
        if not (is_napari or is_fiji) and (not {"y", "x"} <= known or known & {"frame", "t"}):
            return None
        table = pd.read_csv(path, sep=separator, encoding="utf-8-sig", encoding_errors="replace", index_col=False)
    table.columns = pd.Index([name.lower() for name in names[: table.shape[1]]])
    y, x = (_numbers(table, name, path) for name in (("axis-0", "axis-1") if is_napari else ("y", "x")))
    if not is_napari and pixel_size_um is not None:
        y, x = y / pixel_size_um, x / pixel_size_um
    if "area" in table:  # Fiji's centroid of an area is from the first pixel's corner
        y, x = (each - np.where(_numbers(table, "area", path) > 0, 0.5, 0.0) for each in (y, x))
    counted = next((name for name in ("frame", "slice", "t") if name in table), None) if is_fiji else None
    frame = 0 if counted is None else _numbers(table, counted, path).astype(np.int64) - 1
    return table.drop(columns=["frame", "y", "x"], errors="ignore").assign(frame=frame, y=y, x=x)


def _numbers(table: pd.DataFrame, name: str, path: Path) -> "pd.Series[Any]":
    column = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
    bad = ~np.isfinite(column.to_numpy())
    if bad.any():
        raise ConfigError(f"{path} has no number for {name} in row {int(bad.argmax()) + 1}: drop or mend such rows")
    return column


def _names_images(column: "pd.Series[Any]") -> bool:
    """Return whether these are names of images, and not of classes or particles."""
    texts = column.astype(str).str.lower()
    return bool(len(texts)) and bool(texts.str.contains("|".join(f"\\{end}" for end in _IMAGE_ENDINGS)).all())


def marks_of_labels(labels: NDArray[Any], frame: int = 0) -> pd.DataFrame:
    """Return the centroid of each label of a mask (H, W), 0 being none, and the radius of the disc of its area.

    A mask of one label only says where there is something: each connected part of it counts.
    """
    from scipy.ndimage import label

    numbers = np.unique(labels)
    parts = label(labels)[0] if len(numbers[numbers != 0]) == 1 else np.unique(labels, return_inverse=True)[1]
    parts = np.asarray(parts).reshape(labels.shape)
    parts = np.where(labels == 0, 0, parts + (0 if len(numbers) and numbers[0] == 0 else 1))
    area = np.bincount(parts.ravel())
    row, column = np.indices(labels.shape)
    there = np.flatnonzero(area)[1:] if area[0] else np.flatnonzero(area)
    y, x = (np.bincount(parts.ravel(), each.ravel())[there] / area[there] for each in (row, column))
    return pd.DataFrame({"image": None, "frame": frame, "y": y, "x": x, "radius_px": np.sqrt(area[there] / np.pi)})
