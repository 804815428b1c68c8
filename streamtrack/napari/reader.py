"""What napari asks when somebody opens a file or a folder."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamtrack.errors import StreamtrackError
from streamtrack.formats.tables import read_first_rows, read_tracks
from streamtrack.napari.layers import Layer, World, detections_layer, movie_layer, tracks_layer
from streamtrack.napari.run_layers import RunLayers, run_report
from streamtrack.report import REPORT_NAME

NOTHING: list[Any] = [(None,)]
"""What napari takes for: it was read, and there is nothing in it."""
MOVIE_END = ".ome.zarr"


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[Layer]] | None:
    """Return what reads a path; None for several, and for what is none of streamtrack's.

    Parameters
    ----------
    path
        A run's folder or its ``report.json``; ``tracks`` or ``detections`` as Parquet or CSV; a movie that a run wrote
        as OME-Zarr.
    """
    if not isinstance(path, str):
        return None
    place = Path(path)
    with suppress(StreamtrackError, OSError):
        if place.is_dir() and place.name.endswith(MOVIE_END):
            movie_layer(place, place.name)
            return _read_movie
        if place.is_dir() or place.name == REPORT_NAME:
            run_report(_folder(place))
            return _read_run
        if place.suffix == ".parquet":
            read_first_rows(place, 1)
        return _read_table if place.is_file() else None
    return None


def _read_run(path: str) -> list[Layer]:
    run = RunLayers(_folder(Path(path)))
    layers = run.layers()
    for remark in run.remarks:
        warnings.warn(remark, stacklevel=2)
    return layers or NOTHING


def _read_table(path: str) -> list[Layer]:
    table = read_tracks(path)
    make = tracks_layer if "particle" in table else detections_layer
    return _or_nothing(make(table, World.of(table.attrs), Path(path).stem))


def _read_movie(path: str) -> list[Layer]:
    return _or_nothing(movie_layer(Path(path), Path(path).name.removesuffix(MOVIE_END)))


def _or_nothing(layer: Layer | None) -> list[Layer]:
    return NOTHING if layer is None else [layer]


def _folder(place: Path) -> Path:
    return place if place.is_dir() else place.parent
