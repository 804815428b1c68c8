"""Tables and movies as what napari calls layer data: an array, the layer's settings, its kind.

The axes are t, y, x. Of the world they are in seconds and micrometers where these are known, else in frames and pixels;
positions have the movie's origin, so that tables and movies of one run lie on each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.formats.lineages import OTHERS, graph_of
from streamtrack.formats.tracks import by_track
from streamtrack.run_folder import MARK
from streamtrack.sinks.contrast import stretch

Layer = tuple[Any, dict[str, Any], str]
"""Data, settings, kind."""

AXES = ("t", "y", "x")
RING_PX = 7
"""Width of the rings around detections."""

_PLACES = ("frame", "y", "x", "y_um", "x_um", "z_um", "t", "c", "z", "p", *OTHERS, "vy", "vx")
"""Columns that say where a row is, or are said in other words."""
_UNITS = {"micrometer": "um", "second": "s"}
"""OME-Zarr's names of what napari reads as units anyway; of others none is taken."""


@dataclass(frozen=True)
class World:
    """Where the first pixel of the first frame is, and how far it is to the next.

    Attributes
    ----------
    scale, translate
        Along t, y, x.
    units
        Theirs; ``pixel`` where nobody knows.
    """

    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    translate: tuple[float, ...] = (0.0, 0.0, 0.0)
    units: tuple[str, ...] = ("pixel", "pixel", "pixel")

    @classmethod
    def of(cls, about: Mapping[Any, Any]) -> "World":
        """Return that of a table by its ``attrs`` (`streamtrack.formats.tables.read_tracks`)."""
        pixel, interval = about.get("pixel_size_um"), about.get("frame_interval_s")
        origin = (about.get("origin_y_um", 0.0), about.get("origin_x_um", 0.0)) if pixel else (0.0, 0.0)
        units = ("s" if interval else "pixel", *(("um", "um") if pixel else ("pixel", "pixel")))
        return cls((interval or 1.0, pixel or 1.0, pixel or 1.0), (0.0, *origin), units)

    def after(self, frames: int) -> "World":
        """Return that of a movie that begins so many frames later."""
        return replace(self, translate=(self.translate[0] + frames * self.scale[0], *self.translate[1:]))

    def settings(self) -> dict[str, Any]:
        """Return what a layer is given."""
        return {"scale": self.scale, "translate": self.translate, "units": self.units, "axis_labels": AXES}


def tracks_layer(table: pd.DataFrame, world: World, name: str = "tracks") -> Layer | None:
    """Return tracks as a layer; None where there are none.

    Parameters
    ----------
    table
        Columns ``frame, particle, y, x`` (px); rows without a track (-1) are left out. Those with numbers become
        properties, and ``speed`` besides: px, or um, a second. A value that was not measured is that of the track's
        next row with one, or the column's smallest: napari cannot colour by NaN.
    world
        Where the pixels are.

    Raises
    ------
    ConfigError
        The table does not hold tracks in 2D.
    """
    table = table[table["particle"] >= 0]
    if table.empty:
        return None
    tracks = by_track(table)
    features = _numbers(tracks, world)
    known = features.groupby(tracks["particle"]).bfill().fillna(features.min())
    settings = {
        "name": name,
        **world.settings(),
        "features": known,
        "graph": graph_of(tracks),
        "tail_width": 3,
        "metadata": {"classes": table.attrs.get("classes", {})},
    }
    return tracks[["particle", "frame", "y", "x"]].to_numpy(np.float64), settings, "tracks"


def detections_layer(table: pd.DataFrame, world: World, name: str = "detections") -> Layer | None:
    """Return detections as a layer of points, rings around the particles; None where there are none.

    Parameters
    ----------
    table
        Columns ``frame, y, x`` (px); others become properties, those of classes with the classes' names.
    world
        Where the pixels are.
    """
    if table.empty:
        return None
    features = _numbers(table, world)
    for column, names in table.attrs.get("classes", {}).items():
        if column in features:
            codes = features[column].fillna(-1).astype(int).clip(-1, len(names) - 1)
            features[column] = pd.Categorical.from_codes(codes, categories=names)
    settings = {
        "name": name,
        **world.settings(),
        "features": features.reset_index(drop=True),
        "size": 2 * table["radius_px"].fillna(RING_PX / 2).to_numpy() if "radius_px" in table else RING_PX,
        "symbol": "disc",
        "face_color": "transparent",
        "border_color": "#ffd000",
        "border_width": 0.12,
        "metadata": {"classes": table.attrs.get("classes", {})},
    }
    return table[["frame", "y", "x"]].to_numpy(np.float64), settings, "points"


def movie_layer(path: Path, name: str) -> Layer | None:
    """Return an OME-Zarr movie that a run wrote as a layer; None where no frame is in it yet.

    Raises
    ------
    ConfigError
        It cannot be read, or is not one that a run wrote.
    """
    with foreign_errors(ConfigError, f"{path} is no movie that a run wrote"):
        group = zarr.open_group(path, mode="r")
        if MARK not in group.attrs:
            raise ConfigError(f"{path} is no movie that a run wrote: the mark of streamtrack is not in it")
        multiscale: Any = group.attrs["ome"]
        multiscale = multiscale["multiscales"][0]
        names = [dataset["path"] for dataset in multiscale["datasets"]]
        if any(name not in group for name in names):  # it is just being made
            return None
        levels = [group[name] for name in names]
        scale, translation = multiscale["datasets"][0]["coordinateTransformations"]
        units = tuple(_UNITS.get(axis.get("unit"), "pixel") for axis in multiscale["axes"])
        world = World(tuple(scale["scale"]), tuple(translation["translation"]), units)
        newest: Any = levels[-1]
        if not newest.shape[0]:
            return None
        return image_layer(levels if len(levels) > 1 else levels[0], world, name, newest[newest.shape[0] - 1])


def image_layer(data: Any, world: World, name: str, example: NDArray[Any]) -> Layer:
    """Return a movie as a layer; ``example`` is an image of it, which says what is black and white."""
    settings = {"name": name, **world.settings(), "multiscale": isinstance(data, list)}
    return data, {**settings, "contrast_limits": stretch(example), "colormap": "gray"}, "image"


def _numbers(table: pd.DataFrame, world: World) -> pd.DataFrame:
    """Return the columns of numbers that say what was measured, and the speed."""
    names = [name for name in table if name not in _PLACES and table[name].dtype.kind in "iufb"]
    features = table[names].dropna(axis="columns", how="all").astype(np.float64)
    if {"vy", "vx"} <= set(table) and table["vy"].notna().any():
        per_s = "um_s" if world.units[-1] == "um" else "px_s"
        features[f"speed_{per_s}"] = np.hypot(table["vy"], table["vx"]) * world.scale[-1]
    return features
