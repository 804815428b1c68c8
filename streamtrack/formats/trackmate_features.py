"""Features of TrackMate's spots as columns of tables, and back: in its files and in its tables of spots alike."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from streamtrack.formats.lineages import OTHERS

SPOT_FEATURES = {  # name and dimension, as TrackMate declares them
    "QUALITY": ("Quality", "QUALITY"),
    "POSITION_X": ("X", "POSITION"),
    "POSITION_Y": ("Y", "POSITION"),
    "POSITION_Z": ("Z", "POSITION"),
    "POSITION_T": ("T", "TIME"),
    "FRAME": ("Frame", "NONE"),
    "RADIUS": ("Radius", "LENGTH"),
    "VISIBILITY": ("Visibility", "NONE"),
}
RADIUS_PX = 2.5
"""TrackMate draws each spot as a disc, whose size no point detector knows; this is about that of a point source."""

_WRITTEN = ("frame", "particle", *OTHERS, "y", "x", "z", "score", "y_um", "x_um", "time_s")
_UNITS = {"mass": "counts", "sigma": "px"}
DIMENSIONS = {"px": "LENGTH", "counts": "INTENSITY"}
_COLUMNS = {
    **{"FRAME": "frame", "TRACK_ID": "particle", "POSITION_Y": "y", "POSITION_X": "x", "POSITION_Z": "z"},
    **{"QUALITY": "score", "POSITION_T": "time_s"},
}
_OF_THE_DISPLAY = ("ID", "LABEL", "RADIUS", "VISIBILITY", "MANUAL_SPOT_COLOR")


def features_of(tracks: pd.DataFrame, attrs: Mapping[Any, Any]) -> dict[str, tuple[str, str]]:
    """Return the columns that become features, each with its name there and TrackMate's dimension of it."""
    units = _UNITS | attrs.get("units", {})
    others = [name for name in tracks.columns if name not in _WRITTEN and is_numeric_dtype(tracks[name])]
    named = {name: name.upper() for name in others if name.isidentifier() and name.upper() not in SPOT_FEATURES}
    return {name: (key, DIMENSIONS.get(units.get(name, ""), "NONE")) for name, key in named.items()}


def spots_of(tracks: pd.DataFrame, attrs: Mapping[Any, Any], origin_um: tuple[float, float]) -> pd.DataFrame:
    """Return what TrackMate says of each row: its own features, then the others, lengths in its unit.

    Parameters
    ----------
    tracks
        As `streamtrack.formats.tracks.by_track` returns them.
    attrs
        Those of the table; without ``pixel_size_um`` lengths are px, without ``frame_interval_s`` times are frames.
    origin_um
        Of the centre of the first pixel, y and x, where its unit is the micron.
    """
    size, interval = attrs.get("pixel_size_um", 1.0), attrs.get("frame_interval_s", 1.0)
    y0, x0 = origin_um if "pixel_size_um" in attrs else (0.0, 0.0)
    has_times = "time_s" in tracks and "frame_interval_s" in attrs and tracks["time_s"].notna().all()
    own = {
        "QUALITY": tracks["score"] if "score" in tracks else 1.0,
        "POSITION_X": tracks["x"] * size + x0,
        "POSITION_Y": tracks["y"] * size + y0,
        "POSITION_Z": 0.0,
        "POSITION_T": tracks["time_s"] if has_times else tracks["frame"] * interval,
        "FRAME": tracks["frame"],
        "RADIUS": RADIUS_PX * size,
        "VISIBILITY": 1,
    }
    others = {
        key: tracks[name].astype(np.float64) * (size if dimension == "LENGTH" else 1.0)
        for name, (key, dimension) in features_of(tracks, attrs).items()
    }
    return pd.DataFrame(own | others, index=tracks.index)


def table_of(
    spots: pd.DataFrame, dimensions: Mapping[str, str], per_px: float, origin_um: tuple[float, float], in_s: bool
) -> pd.DataFrame:
    """Return a table of what TrackMate says of spots; where some are on tracks, without those that are not.

    Parameters
    ----------
    spots
        A column for each feature, and ``TRACK_ID``, NaN for none.
    dimensions
        Of the features; those of the dimension ``LENGTH`` become px.
    per_px
        By what to multiply lengths to have them in px.
    origin_um
        In the unit of the file, y and x.
    in_s
        Whether times are in seconds.
    """
    if "TRACK_ID" in spots:
        linked = spots["TRACK_ID"].notna()
        spots = spots[linked] if linked.any() else spots.drop(columns="TRACK_ID")
    drop = [*_OF_THE_DISPLAY, *(() if in_s else ("POSITION_T",))]
    if "POSITION_Z" in spots and not spots["POSITION_Z"].any():
        drop.append("POSITION_Z")
    table = spots.drop(columns=drop, errors="ignore").reset_index(drop=True)
    lengths = [name for name in table if dimensions.get(str(name)) == "LENGTH"]
    y0, x0 = origin_um
    table = table.assign(POSITION_Y=table["POSITION_Y"] - y0, POSITION_X=table["POSITION_X"] - x0)
    for name in [*lengths, *(name for name in table if name in ("POSITION_X", "POSITION_Y", "POSITION_Z"))]:
        table[name] = table[name] * per_px
    table = table.rename(columns={name: _COLUMNS.get(str(name), str(name).lower()) for name in table})
    first = [name for name in ("frame", "particle", "y", "x", "z") if name in table]
    units = {str(name).lower(): "px" for name in lengths if str(name).lower() not in _UNITS}
    table = table[[*first, *(name for name in table if name not in first)]]
    table.attrs = {"units": units} if units else {}
    return table
