"""TrackMate's files, read: spots, their features, and tracks, those that divide and merge, too."""

import math
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from streamtrack.errors import ConfigError
from streamtrack.formats.lineages import branches_of
from streamtrack.formats.trackmate_features import table_of
from streamtrack.formats.tracks import UM, per_px
from streamtrack.formats.xml_file import new_parser, parse

Attributes = dict[str, str]

_NEEDED = ("FRAME", "POSITION_X", "POSITION_Y")
"""Features without which a spot has no place."""


def read_trackmate(path: Path, pixel_size_um: float | None = None) -> pd.DataFrame:
    """Read the tracks that a TrackMate file shows; without any, its spots.

    Parameters
    ----------
    path
        The XML file.
    pixel_size_um
        How large a pixel is; goes before what the file says.

    Returns
    -------
    pandas.DataFrame
        ``frame, particle, y, x`` (px), ``score`` (its quality) and its other features, in small letters; where tracks
        divide or merge, each branch is a track of its own; ``parent`` is the one it came out of, ``merged_into`` the
        one it became with others. ``attrs`` has what the file says of its image.

    Raises
    ------
    ConfigError
        If the file is not whole, or a spot lacks a number.
    OSError
        If the file cannot be read.
    """
    reader = _Reader(path)
    parse(path, reader.parser)
    spots = pd.DataFrame({key: np.array(values) for key, values in reader.features.items()})
    spots = _linked(spots, reader)
    known = _known(reader)
    unit = reader.model.get("spatialunits", "")
    scale = per_px(unit, pixel_size_um or known.get("pixel_size_um"), path)
    in_s = reader.model.get("timeunits", "").startswith("s")
    table = table_of(spots, reader.dimensions, scale, _origin(reader.image), in_s)
    table.attrs |= known
    return table


def _linked(spots: pd.DataFrame, reader: "_Reader") -> pd.DataFrame:
    """Return the spots with their tracks."""
    order = {number: row for row, number in enumerate(reader.ids)}
    shown = [(order.get(a), order.get(b), track) for a, b, track in reader.edges if track in reader.shown]
    edges = np.array([edge for edge in shown if None not in edge], np.int64).reshape(-1, 3)
    if not len(edges):
        return spots
    branches = branches_of(spots["FRAME"].to_numpy(), edges[:, :2])
    particle, others = branches.particle, branches.columns()
    on_track = np.zeros(len(spots), bool)
    on_track[edges[:, :2]] = True
    if not others:
        particle[edges[:, 0]] = particle[edges[:, 1]] = edges[:, 2]
    return spots.assign(**others, TRACK_ID=np.where(on_track, particle, np.nan))


def _known(reader: "_Reader") -> dict[str, Any]:
    """Return what the file says of its image, where its units are known."""
    image, known = reader.image, dict[str, Any]()
    size, interval = (_number(image.get(name, ""), 0.0) for name in ("pixelwidth", "timeinterval"))
    um = UM.get(reader.model.get("spatialunits", "").lower())
    if um and size > 0:
        known["pixel_size_um"] = size * um
        known |= {f"origin_{axis}_um": at * um for axis, at in zip("yx", _origin(image), strict=True) if at}
    if reader.model.get("timeunits", "").startswith("s") and interval > 0:
        known["frame_interval_s"] = interval
    height, width, n = (_number(image.get(name, ""), 0.0) for name in ("height", "width", "nframes"))
    known |= {"shape": (int(height), int(width))} if height > 0 and width > 0 else {}
    known |= {"frames": int(n)} if n > 0 else {}
    return known | ({"source": str(Path(image.get("folder", ""), name))} if (name := image.get("filename")) else {})


def _origin(image: Attributes) -> tuple[float, float]:
    """Return where the first pixel is, y and x, which our files say."""
    y, x = (_number(image.get(f"{axis}origin", ""), 0.0) for axis in "yx")
    return y, x


def _number(text: str, otherwise: float) -> float:
    try:
        value = float(text)
    except ValueError:
        return otherwise
    return value if math.isfinite(value) else otherwise


class _Reader:
    """Gathers spots and edges; of a spot 8 bytes a feature, and its number."""

    def __init__(self, path: Path) -> None:
        self.model: Attributes = {}
        self.image: Attributes = {}
        self.dimensions: dict[str, str] = {}
        self.features: dict[str, array[float]] = {name: array("d") for name in _NEEDED}
        self.ids: list[str] = []
        self.edges: list[tuple[str, str, int]] = []
        self.shown: set[int] = set()
        self._path = path
        self._section = ""
        self._track = -1
        self._starts: dict[str, Callable[[Attributes], object]] = {
            "Model": self.model.update,
            "ImageData": self.image.update,
            "Feature": self._feature,
            "Spot": self._spot,
            "Track": self._begin_track,
            "Edge": self._edge,
            "TrackID": lambda attributes: self.shown.add(self._whole(attributes, "TRACK_ID")),
        }
        self.parser = new_parser(path)
        self.parser.StartElementHandler = self._start

    def _start(self, tag: str, attributes: Attributes) -> None:
        if tag.endswith("Features"):
            self._section = tag
        elif tag in self._starts:
            self._starts[tag](attributes)

    def _feature(self, attributes: Attributes) -> None:
        if self._section == "SpotFeatures":
            self.dimensions[attributes.get("feature", "")] = attributes.get("dimension", "")

    def _spot(self, attributes: Attributes) -> None:
        if not self.ids:
            declared = [name for name in self.dimensions if name not in ("ID", "TRACK_ID")]
            self.features = {name: array("d") for name in dict.fromkeys((*_NEEDED, *declared))}
        self.ids.append(attributes.get("ID", ""))
        for name, values in self.features.items():
            values.append(self._value(attributes, name))

    def _value(self, attributes: Attributes, name: str) -> float:
        try:
            return float(attributes[name])
        except KeyError:
            if name not in _NEEDED:
                return math.nan
        except ValueError:
            pass
        raise self._wrong("Spot", attributes, name)

    def _begin_track(self, attributes: Attributes) -> None:
        self._track = self._whole(attributes, "TRACK_ID")

    def _edge(self, attributes: Attributes) -> None:
        source, target = (attributes.get(f"SPOT_{end}_ID", "") for end in ("SOURCE", "TARGET"))
        self.edges.append((source, target, self._track))

    def _whole(self, attributes: Attributes, name: str) -> int:
        try:
            return int(attributes[name])
        except (KeyError, ValueError):
            raise self._wrong("Track", attributes, name) from None

    def _wrong(self, tag: str, attributes: Attributes, name: str) -> ConfigError:
        said = " ".join(f'{key}="{value}"' for key, value in attributes.items())[:200]
        return ConfigError(f"{self._path} has <{tag} {said}>, whose {name} is no number; save it anew in TrackMate")
