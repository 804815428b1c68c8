"""Tracks as a TrackMate file: Fiji, Plugins > Tracking > Load a TrackMate file.

The schema is what TrackMate 7's reader asks for (``TmXmlReader.java``); without the sections ``Settings`` and
``DisplaySettings`` it shows the tracks on a blank image, with its defaults.
"""

from collections.abc import Iterator
from itertools import groupby, pairwise
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from streamtrack.formats.tracks import by_track

RADIUS_PX = 2.5
"""TrackMate draws each spot as a disc, whose size no point detector knows; this is about that of a point source."""

_VERSION = "7.14.0"
_SPOT_FEATURES = {  # name and dimension, as TrackMate declares them
    "QUALITY": ("Quality", "QUALITY"),
    "POSITION_X": ("X", "POSITION"),
    "POSITION_Y": ("Y", "POSITION"),
    "POSITION_Z": ("Z", "POSITION"),
    "POSITION_T": ("T", "TIME"),
    "FRAME": ("Frame", "NONE"),
    "RADIUS": ("Radius", "LENGTH"),
    "VISIBILITY": ("Visibility", "NONE"),
}
_WRITTEN = ("frame", "particle", "y", "x", "z", "score")
_UNITS = {"mass": "counts", "sigma": "px"}
_DIMENSIONS = {"px": "LENGTH", "counts": "INTENSITY"}
_EDGE_FEATURES = {"SPOT_SOURCE_ID": ("Source spot ID", "NONE"), "SPOT_TARGET_ID": ("Target spot ID", "NONE")}
_TRACK_FEATURES = {"TRACK_INDEX": ("Track index", "NONE"), "TRACK_ID": ("Track ID", "NONE")}
_INTEGERS = {"FRAME", "VISIBILITY", *_EDGE_FEATURES, *_TRACK_FEATURES}


def write_trackmate(table: pd.DataFrame, path: Path) -> None:
    """Write tracks for TrackMate.

    Positions are in micron and times in sec where ``table.attrs`` has ``pixel_size_um`` and ``frame_interval_s``, in
    pixel and frame otherwise. ``QUALITY`` is the column ``score``, or 1 without it; ``RADIUS`` is `RADIUS_PX`. Other
    columns of numbers become features of the spots, under their names in capitals; lengths in px are scaled as
    positions are, and of classes the numbers are written. Spots are numbered by track, then frame. A track of one spot
    has no edge, which TrackMate does not allow: its spot is written, the track is not.

    Parameters
    ----------
    table
        Columns ``frame, particle, y, x`` (px) and, if known, ``score``, and others.
    path
        The XML file.

    Raises
    ------
    ConfigError
        If the table does not hold tracks in 2D; see :func:`streamtrack.formats.tracks.by_track`.
    OSError
        If the file cannot be written.
    """
    tracks = by_track(table)
    space = "micron" if "pixel_size_um" in table.attrs else "pixel"
    time = "sec" if "frame_interval_s" in table.attrs else "frame"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'<?xml version="1.0" encoding="UTF-8"?>\n<TrackMate version="{_VERSION}">\n')
        file.write(f'<Model spatialunits="{space}" timeunits="{time}">\n')
        features = _features(tracks, table.attrs)
        file.writelines(_declarations(features))
        file.writelines(_all_spots(tracks, table.attrs, features))
        file.writelines(_all_tracks(tracks))
        file.write("</Model>\n</TrackMate>\n")


def _features(tracks: pd.DataFrame, attrs: dict[Any, Any]) -> dict[str, tuple[str, str]]:
    """Return the columns that become features, each with its name there and TrackMate's dimension of it."""
    units = _UNITS | attrs.get("units", {})
    others = [name for name in tracks.columns if name not in _WRITTEN and is_numeric_dtype(tracks[name])]
    named = {name: name.upper() for name in others if name.isidentifier() and name.upper() not in _SPOT_FEATURES}
    return {name: (key, _DIMENSIONS.get(units.get(name, ""), "NONE")) for name, key in named.items()}


def _declarations(features: dict[str, tuple[str, str]]) -> Iterator[str]:
    yield "<FeatureDeclarations>\n"
    of_spots = _SPOT_FEATURES | {key: (name, dimension) for name, (key, dimension) in features.items()}
    sections = {"SpotFeatures": of_spots, "EdgeFeatures": _EDGE_FEATURES, "TrackFeatures": _TRACK_FEATURES}
    for section, features in sections.items():
        yield f"<{section}>\n"
        for key, (name, dimension) in features.items():
            isint = "true" if key in _INTEGERS else "false"
            names = f'feature="{key}" name="{name}" shortname="{name}"'
            yield f'<Feature {names} dimension="{dimension}" isint="{isint}"/>\n'
        yield f"</{section}>\n"
    yield "</FeatureDeclarations>\n"


def _all_spots(tracks: pd.DataFrame, units: dict[Any, Any], features: dict[str, tuple[str, str]]) -> Iterator[str]:
    pixel_size, interval = units.get("pixel_size_um", 1.0), units.get("frame_interval_s", 1.0)
    spots = pd.DataFrame(
        {
            "id": tracks.index,
            "quality": tracks["score"] if "score" in tracks else 1.0,
            "x": tracks["x"] * pixel_size,
            "y": tracks["y"] * pixel_size,
            "t": tracks["frame"] * interval,
            "frame": tracks["frame"],
            "others": _others(tracks, features, pixel_size),
        }
    ).sort_values(["frame", "id"])
    yield f'<AllSpots nspots="{len(spots)}">\n'
    for frame, in_frame in groupby(spots.itertuples(index=False), attrgetter("frame")):
        yield f'<SpotsInFrame frame="{frame}">\n'
        for spot in in_frame:
            yield (
                f'<Spot ID="{spot.id}" name="ID{spot.id}" QUALITY="{spot.quality:.6g}" POSITION_X="{spot.x:.6f}" '
                f'POSITION_Y="{spot.y:.6f}" POSITION_Z="0" POSITION_T="{spot.t:.9g}" FRAME="{frame}" '
                f'RADIUS="{RADIUS_PX * pixel_size:.6g}" VISIBILITY="1"{spot.others}/>\n'
            )
        yield "</SpotsInFrame>\n"
    yield "</AllSpots>\n"


def _others(tracks: pd.DataFrame, features: dict[str, tuple[str, str]], pixel_size: float) -> list[str]:
    """Return the other features of each spot; one that was not measured has none."""
    texts = [""] * len(tracks)
    for name, (key, dimension) in features.items():
        values = tracks[name].to_numpy(np.float64) * (pixel_size if dimension == "LENGTH" else 1.0)
        for row in np.flatnonzero(np.isfinite(values)).tolist():
            texts[row] += f' {key}="{values[row]:.9g}"'
    return texts


def _all_tracks(tracks: pd.DataFrame) -> Iterator[str]:
    n_spots = tracks.groupby("particle")["particle"].transform("size")
    linked = tracks[n_spots > 1]
    yield "<AllTracks>\n"
    rows = zip(linked["particle"].tolist(), linked.index.tolist(), strict=True)
    for index, (particle, spots) in enumerate(groupby(rows, itemgetter(0))):
        yield f'<Track name="Track_{particle}" TRACK_ID="{particle}" TRACK_INDEX="{index}">\n'
        for (_, source), (_, target) in pairwise(spots):
            yield f'<Edge SPOT_SOURCE_ID="{source}" SPOT_TARGET_ID="{target}"/>\n'
        yield "</Track>\n"
    yield "</AllTracks>\n<FilteredTracks>\n"  # mandatory: the tracks that are shown
    yield from (f'<TrackID TRACK_ID="{particle}"/>\n' for particle in linked["particle"].unique())
    yield "</FilteredTracks>\n"
