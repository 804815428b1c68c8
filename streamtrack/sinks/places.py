"""Where and when each detection is, in um and s, where the movie says what a pixel and a frame are."""

from dataclasses import replace

import numpy as np

from streamtrack.types import Column, Detections, Frame, SourceInfo

UNKNOWN_ORIGIN_UM = (0.0, 0.0)
"""Where nobody says it, the centre of the first pixel is the origin."""


def place_columns(source: SourceInfo) -> tuple[Column, ...]:
    """Return those of ``y_um, x_um, z_um, time_s`` that the movie tells; their names are their units."""
    has_size, has_height = source.pixel_size_um is not None, source.z_um is not None
    known = {"y_um": has_size, "x_um": has_size, "z_um": has_height, "time_s": source.time_unit == "s"}
    return tuple(Column(name) for name, is_known in known.items() if is_known)


def placed(found: Detections, frame: Frame, source: SourceInfo) -> Detections:
    """Return the detections of a frame with the columns that `place_columns` names, float64."""
    of = source if source.streams is None else frame.stream
    y0, x0 = of.origin_um or UNKNOWN_ORIGIN_UM
    size = source.pixel_size_um or np.nan
    places = {
        "y_um": found.y.astype(np.float64) * size + y0,
        "x_um": found.x.astype(np.float64) * size + x0,
        "z_um": np.full(len(found), np.nan if of.z_um is None else of.z_um),
        "time_s": np.full(len(found), frame.time_s),
    }
    names = [column.name for column in place_columns(source)]
    return replace(found, extra={**found.extra, **{name: places[name] for name in names}})
