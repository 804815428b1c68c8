"""Tracks as GEFF, the graph exchange file format: a zarr group that many trackers and viewers read.

Specification and list of readers: https://live-image-tracking-tools.github.io/geff.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.formats.calibration import ORIGIN
from streamtrack.formats.lineages import OTHERS, branches_of, edges_of, lineage_of
from streamtrack.formats.tracks import UM, by_track, per_px

if TYPE_CHECKING:
    from geff import GeffMetadata

MEMBERS = {"nodes", "edges", ".zattrs", ".zgroup", "zarr.json"}
"""All that a GEFF folder holds at its top, in either version of zarr."""

_NO_GEFF = 'the package geff is not installed; run: pip install ".[geff]"'
_SAID_OTHERWISE = ("frame", "t", *OTHERS, "y_um", "x_um")
"""Columns that axes and edges hold."""


def write_geff(table: pd.DataFrame, path: Path) -> None:
    """Write tracks as a directed graph: a node per detection, an edge to the track's next one, over gaps too.

    The axes are ``t`` in frames, ``y`` and ``x`` in pixels, with the scale to seconds and micrometers, and the offset,
    where ``table.attrs`` has ``frame_interval_s``, ``pixel_size_um`` and the origin. ``particle`` is marked as the
    tracklet and, unless there is a column ``parent`` or ``merged_into``, as the lineage: a track's first node follows
    the last of its parent, and of those that merged into it. Nodes are numbered by track, then frame.

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
        raise ConfigError(_NO_GEFF) from error
    tracks = by_track(table)
    edges = edges_of(tracks)
    columns = _properties(tracks)
    lineage = "lineage" if any(name in tracks for name in OTHERS) else "particle"
    if lineage == "lineage":
        columns[lineage] = lineage_of(len(tracks), edges)
    properties: dict[str, Any] = {name: {"values": values, "missing": None} for name, values in columns.items()}
    write_arrays(path, np.arange(len(tracks)), properties, edges, {}, _metadata(table.attrs, lineage))


def read_geff(path: Path, pixel_size_um: float | None = None) -> pd.DataFrame:
    """Read the tracks of a graph.

    Parameters
    ----------
    path
        The folder.
    pixel_size_um
        How large a pixel is, for positions in a unit of length; goes before what the axes say.

    Returns
    -------
    pandas.DataFrame
        ``frame, particle, y, x`` (px), ``z`` where there is one, and the other numbers of the nodes; missing ones are
        NaN. Tracks are what is marked as the tracklet, otherwise the graph is cut where it divides or merges, and
        ``parent`` and ``merged_into`` say which track came out of which. ``attrs`` has the units of the axes.

    Raises
    ------
    ConfigError
        If it is no GEFF, has no axes of time, y and x, or the package geff is not installed.
    """
    try:
        from geff.core_io import read_to_memory
    except ImportError as error:
        raise ConfigError(_NO_GEFF) from error
    with foreign_errors(ConfigError, f"{path} is no GEFF that can be read"):
        graph = read_to_memory(path)
    axes = _axes(graph["metadata"], path)
    columns = {name: _values(stored) for name, stored in graph["node_props"].items() if stored["values"].ndim == 1}
    order = pd.Series(np.arange(len(graph["node_ids"])), graph["node_ids"])
    edges = order.reindex(np.asarray(graph["edge_ids"]).ravel()).to_numpy().reshape(-1, 2)
    table = pd.DataFrame(columns).rename(columns={axis.name: name for name, axis in axes.items()})
    tracklet = (graph["metadata"].track_node_props or {}).get("tracklet")
    branches = branches_of(table["frame"].to_numpy(), edges)
    if tracklet in table:
        table = table.rename(columns={tracklet: "particle"})
    else:
        table["particle"] = branches.particle
    table = table.assign(**branches.columns(table["particle"].to_numpy()))
    unit = {name: str(axis.unit or "") for name, axis in axes.items()}
    table.attrs.update(_known(axes))
    for name in [name for name in ("z", "y", "x") if name in axes]:
        table[name] *= per_px(unit[name], pixel_size_um or table.attrs.get("pixel_size_um"), path)
    return table if "z" in table and table["z"].any() else table.drop(columns="z", errors="ignore")


def _axes(metadata: "GeffMetadata", path: Path) -> dict[str, Any]:
    """Return the axes by the names that they have in our tables; raises ConfigError where one is missing."""
    axes = metadata.axes or []
    space = [axis for axis in axes if axis.type != "time" and axis.name.lower() in ("x", "y", "z")]
    found = {axis.name.lower(): axis for axis in space}
    times = [axis for axis in axes if axis.type == "time"]
    found |= {"frame": times[0]} if times else {}
    missing = {"frame", "y", "x"} - found.keys()
    if missing:
        raise ConfigError(f"{path} has no axes of time, y and x in its metadata; write it with axes t, y and x")
    return found


def _values(stored: Any) -> NDArray[Any]:
    """Return the values of a property, NaN where they are missing."""
    values, missing = np.asarray(stored["values"]), stored["missing"]
    return values if missing is None or not np.any(missing) else np.where(missing, np.nan, values.astype(np.float64))


def _known(axes: dict[str, Any]) -> dict[str, Any]:
    """Return what the axes say of pixels and frames."""
    known: dict[str, Any] = {}
    time, y, x = (axes[name] for name in ("frame", "y", "x"))
    if time.scale and str(time.scaled_unit or "").lower() in ("s", "second", "seconds"):
        known["frame_interval_s"] = float(time.scale)
    if x.scale and str(x.scaled_unit or "").lower() in UM:
        um = UM[str(x.scaled_unit).lower()]
        known["pixel_size_um"] = float(x.scale) * um
        offsets = {name: axis.offset for name, axis in zip(ORIGIN, (y, x), strict=True)}
        known |= {name: float(offset) * um for name, offset in offsets.items() if offset is not None}
    return known


def _properties(tracks: pd.DataFrame) -> dict[str, NDArray[Any]]:
    named = {"t": tracks["frame"], "particle": tracks["particle"], "y": tracks["y"], "x": tracks["x"]}
    others = tracks.columns.difference([*named, *_SAID_OTHERWISE])
    named |= {name: tracks[name] for name in others if _fits(name, tracks[name])}
    return {name: column.to_numpy() for name, column in named.items()}


def _fits(name: str, column: "pd.Series[Any]") -> bool:
    """Tell whether the column can become a property, which is a folder of that name."""
    return name.isidentifier() and column.dtype in (np.int32, np.int64, np.float32, np.float64)


def _metadata(units: dict[Any, Any], lineage: str) -> "GeffMetadata":
    from geff import GeffMetadata

    time = {"type": "time", "unit": "frame"}
    space = {"type": "space", "unit": "pixel"}
    y, x = ({"offset": units[name]} if name in units and "pixel_size_um" in units else {} for name in ORIGIN)
    if "frame_interval_s" in units:
        time |= {"scale": units["frame_interval_s"], "scaled_unit": "second"}
    if "pixel_size_um" in units:
        space |= {"scale": units["pixel_size_um"], "scaled_unit": "micrometer"}
    content = {
        "directed": True,
        "axes": [{"name": "t"} | time, {"name": "y"} | space | y, {"name": "x"} | space | x],
        "display_hints": {"display_horizontal": "x", "display_vertical": "y", "display_time": "t"},
        "node_props_metadata": {},
        "edge_props_metadata": {},
        "track_node_props": {"tracklet": "particle", "lineage": lineage},
    }
    return GeffMetadata.model_validate(content)
