"""Tracks as text tables of other programs: ThunderSTORM's, and TrackMate's of spots."""

import csv
from pathlib import Path

import pandas as pd

from streamtrack.formats.text_tables import OFFSET_PX
from streamtrack.formats.trackmate_features import SPOT_FEATURES, features_of, spots_of
from streamtrack.formats.tracks import by_track


def write_thunderstorm(table: pd.DataFrame, path: Path) -> None:
    """Write localisations for ThunderSTORM: nm, or px without ``pixel_size_um``, frames from 1; other columns follow.

    Raises
    ------
    ConfigError
        If the table does not hold tracks in 2D; see :func:`streamtrack.formats.tracks.by_track`.
    OSError
        If the file cannot be written.
    """
    tracks = by_track(table).sort_values(["frame", "particle"], ignore_index=True)
    size = table.attrs.get("pixel_size_um")
    nm, unit = (1.0, "px") if size is None else (1e3 * size, "nm")
    found = {"id": tracks.index + 1, "frame": tracks["frame"] + 1}
    found |= {f"{name} [{unit}]": (tracks[name] + OFFSET_PX) * nm for name in ("x", "y")}
    if "sigma" in tracks:
        found[f"uncertainty_xy [{unit}]"] = tracks["sigma"] * nm
    others = tracks.drop(columns=["frame", "y", "x", "sigma", "id", "y_um", "x_um"], errors="ignore")
    pd.DataFrame(found).join(others).to_csv(path, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)


def write_trackmate_table(table: pd.DataFrame, path: Path) -> None:
    """Write tracks as TrackMate exports its table of spots in tracks.

    Positions are from the image's first pixel, in micron where ``table.attrs`` has ``pixel_size_um``.

    Raises
    ------
    ConfigError
        If the table does not hold tracks in 2D; see :func:`streamtrack.formats.tracks.by_track`.
    OSError
        If the file cannot be written.
    """
    tracks = by_track(table)
    spots = spots_of(tracks, table.attrs, (0.0, 0.0))
    spots.insert(0, "LABEL", [f"ID{number}" for number in tracks.index])
    spots.insert(1, "ID", tracks.index)
    spots.insert(2, "TRACK_ID", tracks["particle"])
    others = {key: (name, dimension) for name, (key, dimension) in features_of(tracks, table.attrs).items()}
    said = SPOT_FEATURES | others
    space = "micron" if "pixel_size_um" in table.attrs else "pixel"
    time = "sec" if "frame_interval_s" in table.attrs else "frame"
    unit_of = {"POSITION": space, "LENGTH": space, "TIME": time, "QUALITY": "quality", "INTENSITY": "counts"}
    named = {"LABEL": "Label", "ID": "Spot ID", "TRACK_ID": "Track ID"} | {key: name for key, (name, _) in said.items()}
    keys = [str(key) for key in spots]
    units = [unit_of.get(said[key][1], "") if key in said else "" for key in keys]
    names = [named[key] for key in keys]
    heads = [keys, names, names, [f"({unit})" if unit else "" for unit in units]]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(heads)
        spots.to_csv(file, index=False, header=False, lineterminator="\n")
