"""Tracks as a TrackMate file: Fiji, Plugins > Tracking > Load a TrackMate file.

The schema is what TrackMate 7's reader asks for (``TmXmlReader.java``). It opens the image that ``ImageData`` names, in
its folder or beside the file; without one it shows the tracks on a blank image.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pandas as pd

from streamtrack import __version__
from streamtrack.formats.calibration import ORIGIN
from streamtrack.formats.lineages import edges_of, lineage_of
from streamtrack.formats.trackmate_features import RADIUS_PX, SPOT_FEATURES, features_of, spots_of
from streamtrack.formats.tracks import by_track

_VERSION = "7.14.0"
_EDGE_FEATURES = {"SPOT_SOURCE_ID": ("Source spot ID", "NONE"), "SPOT_TARGET_ID": ("Target spot ID", "NONE")}
_TRACK_FEATURES = {"TRACK_INDEX": ("Track index", "NONE"), "TRACK_ID": ("Track ID", "NONE")}
_INTEGERS = {"FRAME", "VISIBILITY", *_EDGE_FEATURES, *_TRACK_FEATURES}


def write_trackmate(table: pd.DataFrame, path: Path) -> None:
    """Write tracks for TrackMate.

    Positions are in micron and times in sec where ``table.attrs`` has ``pixel_size_um`` and ``frame_interval_s``, in
    pixel and frame otherwise. Those in micron have their origin where the movie has it; where it is a TIFF, which
    TrackMate opens, they are from the image's first pixel, as TrackMate's are. ``QUALITY`` is the column ``score``, or
    1 without it; ``RADIUS`` is `RADIUS_PX`. Other columns of numbers become features of the spots, under their names in
    capitals; lengths in px are scaled as positions are, of classes the numbers are written, and what was not measured
    is NaN. Spots are numbered by track, then frame. Columns ``parent`` and ``merged_into`` become edges: tracks and
    those that they came out of are one in TrackMate. A track of one spot has no edge, which TrackMate does not allow:
    its spot is written, the track is not.

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
    origin_um = _origin_um(table.attrs)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'<?xml version="1.0" encoding="UTF-8"?>\n<TrackMate version="{_VERSION}">\n')
        file.write(f"<Log>Tracked by streamtrack {__version__}</Log>\n")
        file.write(f'<Model spatialunits="{space}" timeunits="{time}">\n')
        file.writelines(_declarations(features_of(tracks, table.attrs)))
        file.writelines(_all_spots(spots_of(tracks, table.attrs, origin_um)))
        file.writelines(_all_tracks(tracks))
        file.write("</Model>\n")
        file.writelines(_settings(tracks, table.attrs, origin_um))
        file.write('<GUIState state="ConfigureViews"/>\n<DisplaySettings/>\n</TrackMate>\n')


def _origin_um(attrs: Mapping[Any, Any]) -> tuple[float, float]:
    """Return the origin of the positions, y and x: that of the image that TrackMate opens."""
    if Path(attrs.get("source", "")).suffix.lower() in (".tif", ".tiff"):
        return 0.0, 0.0
    y, x = (float(attrs.get(name, 0.0)) for name in ORIGIN)
    return y, x


def _declarations(features: dict[str, tuple[str, str]]) -> Iterator[str]:
    yield "<FeatureDeclarations>\n"
    of_spots = SPOT_FEATURES | {key: (name, dimension) for name, (key, dimension) in features.items()}
    sections = {"SpotFeatures": of_spots, "EdgeFeatures": _EDGE_FEATURES, "TrackFeatures": _TRACK_FEATURES}
    for section, declared in sections.items():
        yield f"<{section}>\n"
        for key, (name, dimension) in declared.items():
            isint = "true" if key in _INTEGERS else "false"
            names = f'feature="{key}" name="{name}" shortname="{name}"'
            yield f'<Feature {names} dimension="{dimension}" isint="{isint}"/>\n'
        yield f"</{section}>\n"
    yield "</FeatureDeclarations>\n"


def _all_spots(spots: pd.DataFrame) -> Iterator[str]:
    """Yield the spots, frame by frame; every one has every feature, which readers ask for."""
    spots = spots.sort_values("FRAME", kind="stable")
    yield f'<AllSpots nspots="{len(spots)}">\n'
    texts = {key: [_text(value) for value in spots[key].tolist()] for key in spots}
    texts |= {key: [f"{value:.6f}" for value in spots[key].tolist()] for key in ("POSITION_X", "POSITION_Y")}
    values = zip(*texts.values(), strict=True)
    said = (" ".join(f'{key}="{text}"' for key, text in zip(texts, row, strict=True)) for row in values)
    rows = zip(spots["FRAME"].tolist(), spots.index.tolist(), said, strict=True)
    for frame, in_frame in groupby(rows, itemgetter(0)):
        yield f'<SpotsInFrame frame="{frame}">\n'
        yield from (f'<Spot ID="{number}" name="ID{number}" {features}/>\n' for _, number, features in in_frame)
        yield "</SpotsInFrame>\n"
    yield "</AllSpots>\n"


def _text(value: float) -> str:
    """Return a number as Java reads it."""
    return f"{value:.9g}" if math.isfinite(value) else "NaN"


def _all_tracks(tracks: pd.DataFrame) -> Iterator[str]:
    """Yield what is connected, under the number of its first track."""
    edges = edges_of(tracks)
    lineage = lineage_of(len(tracks), edges)
    _, firsts = np.unique(lineage, return_index=True)
    number_of = tracks["particle"].to_numpy()[firsts]  # rows are sorted by track: the first is the oldest number
    edges = edges[np.argsort(number_of[lineage[edges[:, 0]]], kind="stable")]
    rows = zip(number_of[lineage[edges[:, 0]]].tolist(), edges.tolist(), strict=True)
    written = []
    yield "<AllTracks>\n"
    for index, (number, links) in enumerate(groupby(rows, itemgetter(0))):
        written.append(number)
        yield f'<Track name="Track_{number}" TRACK_ID="{number}" TRACK_INDEX="{index}">\n'
        for _, (source, target) in links:
            yield f'<Edge SPOT_SOURCE_ID="{source}" SPOT_TARGET_ID="{target}"/>\n'
        yield "</Track>\n"
    yield "</AllTracks>\n<FilteredTracks>\n"  # mandatory: the tracks that are shown
    yield from (f'<TrackID TRACK_ID="{number}"/>\n' for number in written)
    yield "</FilteredTracks>\n"


def _settings(tracks: pd.DataFrame, attrs: Mapping[Any, Any], origin_um: tuple[float, float]) -> Iterator[str]:
    """Yield the image, and settings as of spots that were set by hand: TrackMate misses any that is not there."""
    image = _image(tracks, attrs)
    y0, x0 = origin_um
    said = " ".join(f"{name}={quoteattr(str(value))}" for name, value in image.items())
    yield f'<Settings>\n<ImageData {said} xorigin="{x0!r}" yorigin="{y0!r}"/>\n'  # TrackMate looks for no origin
    ends = {"x": image["width"], "y": image["height"], "z": 1, "t": image["nframes"]}
    crop = " ".join(f'{axis}start="0" {axis}end="{size - 1}"' for axis, size in ends.items())
    yield f"<BasicSettings {crop}/>\n"
    yield f'<DetectorSettings DETECTOR_NAME="MANUAL_DETECTOR" RADIUS="{RADIUS_PX * image["pixelwidth"]:.6g}"/>\n'
    yield '<InitialSpotFilter feature="QUALITY" value="-1.0" isabove="true"/>\n<SpotFilterCollection/>\n'
    yield '<TrackerSettings TRACKER_NAME="MANUAL_TRACKER"/>\n<TrackFilterCollection/>\n'
    yield "<AnalyzerCollection>\n<SpotAnalyzers/>\n<EdgeAnalyzers/>\n<TrackAnalyzers/>\n</AnalyzerCollection>\n"
    yield "</Settings>\n"


def _image(tracks: pd.DataFrame, attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what TrackMate wants to know of an image; as large as the tracks ask for where nobody says it."""
    source = Path(attrs.get("source", ""))
    is_file = source.is_absolute() or source.exists()
    name, folder = (source.name, str(source.absolute().parent)) if source.name and is_file else ("", "")
    height, width = attrs.get("shape") or (int(tracks[axis].max()) + 2 for axis in "yx")
    size = attrs.get("pixel_size_um", 1.0)
    return {
        **{"filename": name, "folder": folder, "width": width, "height": height, "nslices": 1},
        "nframes": max(attrs.get("frames", 1), int(tracks["frame"].max()) + 1),
        **{"pixelwidth": size, "pixelheight": size, "voxeldepth": 1.0},
        "timeinterval": attrs.get("frame_interval_s", 1.0),
    }
