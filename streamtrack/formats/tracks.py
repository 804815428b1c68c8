"""Linked tables put in order, as the writers of other programs' files need them."""

from pathlib import Path

import numpy as np
import pandas as pd

from streamtrack.errors import ConfigError, UnknownPixelSizeError
from streamtrack.formats.calibration import beside

UM = dict.fromkeys(("micron", "microns", "um", "µm", "μm", "micrometer"), 1.0)
UM |= {"nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3}
"""How many micrometers the units of length are that programs name."""

PX = ("pixel", "pixels", "px")
"""What programs call pixels."""


def per_px(unit: str, pixel_size_um: float | None, path: Path) -> float:
    """Return by what to multiply positions in a unit to have them in px; of a run's folder its report says it.

    Raises
    ------
    UnknownPixelSizeError
        It is a unit of length, or none is named, and nobody says how large a pixel is.
    ConfigError
        It is no unit of length.
    """
    if unit.lower() in PX:
        return 1.0
    if unit and unit.lower() not in UM:
        raise ConfigError(f"{path} has positions in {unit!r}; export it anew, in micron or pixel")
    size_um = pixel_size_um or beside(path).get("pixel_size_um")
    if size_um is None:
        said = f"in {unit}" if unit else "without a unit"
        cure = f"streamtrack convert {path} --to csv --pixel-size UM_PER_PX"
        raise UnknownPixelSizeError(f"{path} has positions {said}, streamtrack's are in px; run {cure}")
    return UM.get(unit.lower(), 1.0) / float(size_um)


def by_track(table: pd.DataFrame) -> pd.DataFrame:
    """Check that a table holds tracks in 2D, and sort it.

    Parameters
    ----------
    table
        Columns ``frame, particle, y, x``; others are kept.

    Returns
    -------
    pandas.DataFrame
        The rows sorted by particle, then frame, under a new index.

    Raises
    ------
    ConfigError
        If there is no ``particle``, no row, a negative frame or particle, a particle twice in one frame, a position
        that is not finite, or a ``z`` other than 0.
    """
    if "particle" not in table.columns:
        raise ConfigError("the table has no column particle: these are detections; link them first, or name the tracks")
    if table.empty:
        raise ConfigError("the table has no row, so there is no track to write; lower the threshold of the detection")
    for name in ("frame", "particle"):
        if table[name].min() < 0:
            raise ConfigError(f"the table has {name} {table[name].min()}; tracks are numbered from 0, drop other rows")
    if not np.isfinite(table[["y", "x"]].to_numpy(np.float64)).all():
        raise ConfigError("a position is NaN or infinite; drop such rows")
    if "z" in table.columns and (table["z"] != 0).any():
        raise ConfigError("the tracks are in 3D (z is not 0 throughout), streamtrack's are in 2D; drop or project z")
    check_twice(table)
    return table.sort_values(["particle", "frame"], ignore_index=True)


def check_twice(table: pd.DataFrame) -> None:
    """Raise ConfigError where a particle is twice in a frame."""
    twice = table.duplicated(["frame", "particle"]).to_numpy()
    if twice.any():
        frame, particle = table[["frame", "particle"]].to_numpy()[twice][0]
        raise ConfigError(f"particle {particle} is twice in frame {frame}; keep one row each")
