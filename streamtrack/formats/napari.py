"""Tracks for napari's Tracks layer, which no file that napari opens by itself can fill.

Beside a movie that is open in napari, type into its console (the positions are px, as the movie's)::

    import numpy; viewer.add_tracks(numpy.load("tracks.napari.npy"))

To drag and drop instead, write ``geff`` and install the plug-in napari-geff.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from streamtrack.formats.tracks import by_track


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
