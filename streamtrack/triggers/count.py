"""Too many tracks, or too few."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from streamtrack.settings import NotNegative, checks_settings
from streamtrack.triggers.area import Area, Polygon, Range
from streamtrack.triggers.checks import require, require_one
from streamtrack.triggers.frame_time import FrameTime, has_passed
from streamtrack.types import Event, Frame, LiveTracks, SourceInfo


@checks_settings
class Count:
    """Sees the number of tracks rise above, or fall below, a limit.

    It sees that once, and again after the number was back at ``release``. A number that is beyond the limit from the
    start is seen, too: with ``below``, let ``for_s`` span the first frames, in which no track is confirmed yet.

    Parameters
    ----------
    above, below
        The limit, one of them: seen at more tracks, or fewer.
    release
        At this many or fewer (``above``), or at this many or more (``below``), it can be seen anew; by default the
        limit itself.
    for_s
        The number must have been beyond the limit for so long, on the frames' clock.
    y_px, x_px, polygon_px, mask
        Count in a part of the image only, as `streamtrack.triggers.area.Area` has it.

    Raises
    ------
    ConfigError
        A setting is missing or out of its range.

    Notes
    -----
    Two thresholds against a flickering number: as the interpreter of Mahecic et al., Nat. Methods 19 (2022) 1262.
    """

    def __init__(
        self,
        *,
        above: Annotated[int, Field(ge=0)] | None = None,
        below: Annotated[int, Field(ge=1)] | None = None,
        release: Annotated[int, Field(ge=0)] | None = None,
        for_s: NotNegative = 0.0,
        y_px: Range | None = None,
        x_px: Range | None = None,
        polygon_px: Polygon | None = None,
        mask: Path | None = None,
    ) -> None:
        require_one({"above": above, "below": below})
        # Turned round, "below" is "above": the signs say which way is beyond.
        self._sign, self._limit = (1, above) if above is not None else (-1, -(below or 0))
        self._release = self._limit if release is None else self._sign * release
        wanted = f"at most above = {above}" if above is not None else f"at least below = {below}"
        require(self._release <= self._limit, "release", release, wanted)
        everywhere = y_px is None and x_px is None and polygon_px is None and mask is None
        self.area = None if everywhere else Area(y_px, x_px, polygon_px, mask)
        self._for_s = for_s
        self._start_over()

    def _start_over(self) -> None:
        self._time = FrameTime()
        self._is_ready = True
        self._beyond_since_s: float | None = None

    def prepare(self, source: SourceInfo) -> None:
        """Lay the area over the image, and start over; raises ConfigError where it does not fit."""
        if self.area is not None:
            self.area.prepare(source.shape)
        self._start_over()

    def look_at(self, area: Area) -> None:
        """Count in another area."""
        self.area = area

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return one event where the limit was passed; its value is ``tracks``."""
        now_s = self._time.now_s(frame.time_s)
        n = self._count(tracks)
        if self._sign * n <= self._limit:
            self._beyond_since_s = None
            self._is_ready |= self._sign * n <= self._release
            return ()
        if self._beyond_since_s is None:
            self._beyond_since_s = now_s
        if not (self._is_ready and has_passed(self._for_s, self._beyond_since_s, now_s)):
            return ()
        self._is_ready = False
        return (Event(values={"tracks": n}),)

    def _count(self, tracks: LiveTracks) -> int:
        if self.area is None:
            return len(tracks)
        return int(np.count_nonzero(self.area.distance_px(tracks.y, tracks.x) == 0))
