"""What writes tracks for other programs."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from streamtrack.files import patiently, remove_tree
from streamtrack.formats.geff import write_geff
from streamtrack.formats.napari import write_napari, write_napari_points, write_napari_tracks
from streamtrack.formats.ptc_xml import write_ptc, write_simple_tracks
from streamtrack.formats.tables import write_csv, write_parquet
from streamtrack.formats.text_exports import write_thunderstorm, write_trackmate_table
from streamtrack.formats.trackmate import write_trackmate
from streamtrack.metrics.ptc import fill_gaps


def _write_ptc(tracks: pd.DataFrame, path: Path) -> None:
    write_ptc(fill_gaps(tracks), path)


def _write_geff(tracks: pd.DataFrame, path: Path) -> None:
    """Write afresh each time that another program held one of the new files."""

    def write() -> None:
        remove_tree(path)
        write_geff(tracks, path)

    patiently(write)


WRITERS: Mapping[str, tuple[str, Callable[[pd.DataFrame, Path], None]]] = {
    "trackmate": (".trackmate.xml", write_trackmate),
    "trackmate-csv": (".trackmate.csv", write_trackmate_table),
    "trackmate-simple": (".tracks.xml", write_simple_tracks),
    "ptc": (".ptc.xml", _write_ptc),
    "napari": (".napari.npy", write_napari),
    "napari-points": (".points.csv", write_napari_points),
    "napari-tracks": (".tracks.csv", write_napari_tracks),
    "thunderstorm": (".thunderstorm.csv", write_thunderstorm),
    "geff": (".geff", _write_geff),
    "csv": (".csv", write_csv),
    "parquet": (".parquet", write_parquet),
}
"""Of each format: the ending of its files, and the function that writes one."""
