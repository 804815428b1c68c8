"""Tracks for napari's Tracks layer, which no file that napari opens by itself can fill.

Beside a movie that is open in napari, type into its console (the positions are px, as the movie's)::

    import numpy; viewer.add_tracks(numpy.load("tracks.napari.npy"))

To drag and drop instead, write ``geff`` and install the plug-in napari-geff, or write ``napari-points``: the points
alone, which napari opens by itself.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from streamtrack.errors import ConfigError
from streamtrack.formats.tracks import by_track

_COLUMNS = {4: ("particle", "frame", "y", "x"), 5: ("particle", "frame", "z", "y", "x")}


def write_napari(table: pd.DataFrame, path: Path) -> None:
    """Write the array that ``viewer.add_tracks`` takes.

    Parameters
    ----------
    table
        Columns ``frame, particle, y, x`` (px); others are not written.
    path
        The ``.npy`` file: shape (N, 4), float64, columns track, frame, y, x, sorted by track, then frame.

    Raises
    ------
    ConfigError
        If the table does not hold tracks in 2D; see :func:`streamtrack.formats.tracks.by_track`.
    OSError
        If the file cannot be written.
    """
    array = by_track(table)[["particle", "frame", "y", "x"]].to_numpy(np.float64)
    with path.open("wb") as file:  # by its name numpy would give it another ending
        np.save(file, array, allow_pickle=False)


def read_napari(path: Path, pixel_size_um: float | None = None) -> pd.DataFrame:
    """Read the data of a Tracks layer: shape (N, 4) or, with z, (N, 5), in the layer's pixels.

    ``pixel_size_um`` is not needed. Raises ConfigError where the array has another shape.
    """
    data = np.load(path, allow_pickle=False)
    if data.ndim != 2 or data.shape[1] not in _COLUMNS:
        raise ConfigError(f"{path} holds an array of shape {data.shape}; that of a Tracks layer is (N, 4) or (N, 5)")
    return pd.DataFrame(data, columns=_COLUMNS[data.shape[1]])


def write_napari_points(table: pd.DataFrame, path: Path) -> None:
    """Write the CSV that napari opens as points: ``axis-0`` to ``axis-2`` are frame, y, x; other columns follow.

    Raises as `write_napari` does.
    """
    names = {"frame": "axis-0", "y": "axis-1", "x": "axis-2"}
    points = by_track(table).rename(columns=names).rename_axis("index").reset_index()
    first = ["index", *names.values()]
    points = points[[*first, *(name for name in points if name not in first)]]
    points.to_csv(path, index=False, lineterminator="\n")


def write_napari_tracks(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV with the columns of a Tracks layer, ``ID, T, Y, X``; other columns follow.

    Raises as `write_napari` does.
    """
    names = {"particle": "ID", "frame": "T", "y": "Y", "x": "X"}
    tracks = by_track(table).rename(columns=names)
    tracks = tracks[[*names.values(), *(name for name in tracks if name not in names.values())]]
    tracks.to_csv(path, index=False, lineterminator="\n")
