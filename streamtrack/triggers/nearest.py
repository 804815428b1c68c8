"""The track nearest a point, to be followed."""

from collections.abc import Sequence

import numpy as np

from streamtrack.settings import NotNegative, Positive, checks_settings
from streamtrack.triggers.checks import require
from streamtrack.triggers.events import event_at
from streamtrack.types import Event, Frame, LiveTracks, SourceInfo


@checks_settings
class Nearest:
    """Sees, in every frame, the track nearest a point: to keep a particle in the middle, for example.

    Parameters
    ----------
    y_px, x_px
        The point; by default the middle of the image.
    max_distance_px
        Farther tracks are not seen; by default there is no limit.
    at_least_px
        A track nearer than this is where it should be: nothing is seen.
    hold
        Stay with a track, once seen, until it ends or goes too far, even if another one comes nearer.

    Raises
    ------
    ConfigError
        A setting is out of its range; from `prepare`, where the point is not in the image.
    """

    def __init__(
        self,
        *,
        y_px: float | None = None,
        x_px: float | None = None,
        max_distance_px: Positive | None = None,
        at_least_px: NotNegative = 0.0,
        hold: bool = False,
    ) -> None:
        farthest = np.inf if max_distance_px is None else max_distance_px
        require(at_least_px < farthest, "at_least_px", at_least_px, "below max_distance_px")
        self._y_px, self._x_px = y_px, x_px
        self._at_least_px, self._max_distance_px = at_least_px, farthest
        self._hold = hold

    def prepare(self, source: SourceInfo) -> None:
        """Find the point, and forget all tracks; raises ConfigError where the point is not in the image."""
        height, width = source.shape
        self._y = (height - 1) / 2 if self._y_px is None else self._y_px
        self._x = (width - 1) / 2 if self._x_px is None else self._x_px
        for name, value, size in (("y_px", self._y, height), ("x_px", self._x, width)):
            require(-0.5 <= value <= size - 0.5, name, value, f"in the image, which has {height} x {width} px")
        self._held: int | None = None

    @property
    def target_px(self) -> tuple[float, float]:
        """The point, y and x."""
        return self._y, self._x

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return an event about the nearest track, if there is one; its value is ``distance_px``."""
        events = self._look(tracks)
        if self._held is not None and self._held in tracks.ended:
            self._held = None
        return events

    def _look(self, tracks: LiveTracks) -> Sequence[Event]:
        distance_px = np.hypot(tracks.y - self._y, tracks.x - self._x)
        rows = np.arange(len(tracks)) if self._held is None else np.flatnonzero(tracks.particle == self._held)
        if not len(rows):
            return ()
        row = rows[np.argmin(distance_px[rows])]
        distance = float(distance_px[row])
        if distance > self._max_distance_px:
            self._held = None
            return ()
        if self._hold:
            self._held = int(tracks.particle[row])
        return (event_at(tracks, row, distance_px=distance),) if distance >= self._at_least_px else ()
