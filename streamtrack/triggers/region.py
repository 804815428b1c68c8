"""Tracks that cross the border of a part of the image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from streamtrack.settings import NotNegative, checks_settings
from streamtrack.track_memory import TrackMemory
from streamtrack.triggers.area import Area, Polygon, Range
from streamtrack.triggers.events import event_at
from streamtrack.types import Event, Frame, LiveTracks, SourceInfo

_UNKNOWN, _OUTSIDE, _INSIDE = -1, 0, 1


@checks_settings
class Region:
    """Sees each track that enters an area, or leaves it: not those that begin or end there.

    Parameters
    ----------
    on
        ``enters`` or ``leaves``.
    margin_px
        A track has left only when it is farther out than this, so that one on the border is not seen again and again.
    y_px, x_px, polygon_px, mask
        The area, in one of three ways: `streamtrack.triggers.area.Area`.

    Raises
    ------
    ConfigError
        A setting is missing or out of its range.
    """

    def __init__(
        self,
        *,
        on: Literal["enters", "leaves"] = "enters",
        margin_px: NotNegative = 1.0,
        y_px: Range | None = None,
        x_px: Range | None = None,
        polygon_px: Polygon | None = None,
        mask: Path | None = None,
    ) -> None:
        self._on = _INSIDE if on == "enters" else _OUTSIDE
        self._margin_px = margin_px
        self.area = Area(y_px, x_px, polygon_px, mask)

    def prepare(self, source: SourceInfo) -> None:
        """Lay the area over the image, and forget all tracks; raises ConfigError where it does not fit."""
        self.area.prepare(source.shape)
        self._where = TrackMemory(new=_UNKNOWN, dtype=np.int8)

    def look_at(self, area: Area) -> None:
        """Look at another area: no track has crossed its border yet."""
        self.area = area
        self._where = TrackMemory(new=_UNKNOWN, dtype=np.int8)

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return an event for each track that crossed the border."""
        distance_px = self.area.distance_px(tracks.y, tracks.x)
        before = self._where.recall(tracks.particle)
        now = before.copy()
        now[(distance_px > self._margin_px) | (before == _UNKNOWN)] = _OUTSIDE
        now[distance_px == 0] = _INSIDE
        self._where.remember(tracks.particle, now)
        self._where.forget(tracks.ended)
        crossed = np.flatnonzero((now == self._on) & (now != before) & (before != _UNKNOWN))
        return [event_at(tracks, row) for row in crossed]
