"""Tracks as GEFF, the graph exchange file format: a zarr group that many trackers and viewers read.

Specification and list of readers: https://live-image-tracking-tools.github.io/geff.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamtrack.errors import ConfigError
from streamtrack.formats.tracks import by_track

if TYPE_CHECKING:
    from geff import GeffMetadata

MEMBERS = {"nodes", "edges", ".zattrs", ".zgroup", "zarr.json"}
"""All that a GEFF folder holds at its top, in either version of zarr."""


def write_geff(table: pd.DataFrame, path: Path) -> None:
    """Write tracks as a directed graph: a node per detection, an edge to the track's next one, over gaps too.

    The axes are ``t`` in frames, ``y`` and ``x`` in pixels, with the scale to seconds and micrometers where
    ``table.attrs`` has ``frame_interval_s`` and ``pixel_size_um``. ``particle`` is marked as the tracklet and the
    lineage. Nodes are numbered by track, then frame.

    Parameters
    ----------
    table
        Columns ``frame, particle, y, x`` (px). Other columns of numbers become properties of the nodes.
    path
        The folder, which must not exist; usually ``*.geff``.

    Raises
    ------
    ConfigError
        If the table does not hold tracks in 2D (see :func:`streamtrack.formats.tracks.by_track`), or the package geff
        is not installed.
    OSError
        If the folder cannot be written.
    """
    try:
        from geff.core_io import write_arrays
    except ImportError as error:
        raise ConfigError('the package geff is not installed; run: pip install ".[geff]"') from error
    tracks = by_track(table)
    node = np.arange(len(tracks))
    has_next = np.diff(tracks["particle"]) == 0
    edges = np.stack([node[:-1][has_next], node[1:][has_next]], axis=1)
    properties: dict[str, Any] = {
        name: {"values": values, "missing": None} for name, values in _properties(tracks).items()
    }
    write_arrays(path, node, properties, edges, {}, _metadata(table.attrs))


def _properties(tracks: pd.DataFrame) -> dict[str, NDArray[Any]]:
    named = {"t": tracks["frame"], "particle": tracks["particle"], "y": tracks["y"], "x": tracks["x"]}
    others = tracks.columns.difference([*named, "frame"])
    named |= {name: tracks[name] for name in others if _fits(name, tracks[name])}
    return {name: column.to_numpy() for name, column in named.items()}


def _fits(name: str, column: "pd.Series[Any]") -> bool:
    """Tell whether the column can become a property, which is a folder of that name."""
    return name.isidentifier() and column.dtype in (np.int32, np.int64, np.float32, np.float64)


def _metadata(units: dict[Any, Any]) -> "GeffMetadata":
    from geff import GeffMetadata

    time = {"type": "time", "unit": "frame"}
    space = {"type": "space", "unit": "pixel"}
    if "frame_interval_s" in units:
        time |= {"scale": units["frame_interval_s"], "scaled_unit": "second"}
    if "pixel_size_um" in units:
        space |= {"scale": units["pixel_size_um"], "scaled_unit": "micrometer"}
    content = {
        "directed": True,
        "axes": [{"name": "t"} | time, {"name": "y"} | space, {"name": "x"} | space],
        "display_hints": {"display_horizontal": "x", "display_vertical": "y", "display_time": "t"},
        "node_props_metadata": {},
        "edge_props_metadata": {},
        "track_node_props": {"tracklet": "particle", "lineage": "particle"},
    }
    return GeffMetadata.model_validate(content)
