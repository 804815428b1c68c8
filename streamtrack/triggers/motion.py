"""What a track's motion says: it is fast, it came far, it changed the way it moves."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.errors import ConfigError
from streamtrack.settings import Positive, Share, checks_settings
from streamtrack.track_memory import TrackMemory
from streamtrack.triggers.checks import require, require_one
from streamtrack.triggers.events import event_at
from streamtrack.types import MOTION_MODES, Event, Frame, LiveTracks, SourceInfo, TrackMotion

Mode = Literal["brownian", "directed", "tethered"]
Age = Annotated[int, Field(ge=0)]


@checks_settings
class Speed:
    """Sees each track whose directed motion becomes faster than a limit.

    The speed is that of `TrackMotion.velocity_px_s`: expected over the ways of moving, so that diffusion, however fast,
    has none. Needs a linker that says how tracks move (``imm``).

    Parameters
    ----------
    above_px_s, above_um_s
        The limit, one of them; the second one where the source knows its pixel size.
    release
        A track can be seen anew once it was slower than this part of the limit.
    from_age_frames
        Age from which tracks are looked at: a false detection beside a particle looks like a fast start.

    Raises
    ------
    ConfigError
        A setting is missing or out of its range; from `check`, where the linker says nothing about motion.
    """

    def __init__(
        self,
        *,
        above_px_s: Positive | None = None,
        above_um_s: Positive | None = None,
        release: Share = 0.8,
        from_age_frames: Age = 3,
    ) -> None:
        require_one({"above_px_s": above_px_s, "above_um_s": above_um_s})
        self._limit = _Limit(above_px_s, above_um_s, release)
        self._from_age_frames = from_age_frames

    def prepare(self, source: SourceInfo) -> None:
        """Forget all tracks; raises ConfigError for a limit in um where the pixel size is not known."""
        self._limit.prepare(source)

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return an event for each track that became fast; its value is ``speed_px_s``."""
        motion = motion_of(tracks, "speed")
        speed = np.hypot(motion.velocity_px_s[:, 0], motion.velocity_px_s[:, 1])
        speed[motion.age_frames < self._from_age_frames] = 0.0
        return [event_at(tracks, row, speed_px_s=float(speed[row])) for row in self._limit.passed(tracks, speed)]


@checks_settings
class Displacement:
    """Sees each track that has come farther from its beginning than a limit.

    Needs a linker that says how tracks move (``imm``).

    Parameters
    ----------
    above_px, above_um
        The limit, one of them; the second one where the source knows its pixel size.
    release
        A track can be seen anew once it was nearer than this part of the limit.

    Raises
    ------
    ConfigError
        A setting is missing or out of its range; from `check`, where the linker says nothing about motion.
    """

    def __init__(
        self, *, above_px: Positive | None = None, above_um: Positive | None = None, release: Share = 0.8
    ) -> None:
        require_one({"above_px": above_px, "above_um": above_um})
        self._limit = _Limit(above_px, above_um, release)

    def prepare(self, source: SourceInfo) -> None:
        """Forget all tracks; raises ConfigError for a limit in um where the pixel size is not known."""
        self._limit.prepare(source)

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return an event for each track that came so far; its value is ``displacement_px``."""
        came = motion_of(tracks, "displacement").displacement_px
        return [event_at(tracks, row, displacement_px=float(came[row])) for row in self._limit.passed(tracks, came)]


@checks_settings
class ModeSwitch:
    """Sees each track that changes the way it moves, for example from diffusion to directed motion.

    A track is in a mode from when that mode's probability reaches a limit, until another's does. Needs a linker that
    says how tracks move (``imm``).

    Parameters
    ----------
    to
        The mode that tracks come into.
    after
        The mode that they come from; any other one if left out.
    probability
        The limit.
    from_age_frames
        Age from which a track's mode is looked at.

    Raises
    ------
    ConfigError
        A setting is out of its range; from `check`, where the linker says nothing about motion.
    """

    def __init__(
        self,
        *,
        to: Mode = "directed",
        after: Mode | None = None,
        probability: Annotated[float, Field(gt=0.5, lt=1)] = 0.9,
        from_age_frames: Age = 3,
    ) -> None:
        require(after != to, "after", after, "another mode than 'to'")
        self._to = MOTION_MODES.index(to)
        self._is_from = np.array([mode == after or (after is None and mode != to) for mode in MOTION_MODES] + [False])
        self._probability, self._from_age_frames = probability, from_age_frames

    def prepare(self, source: SourceInfo) -> None:
        """Forget all tracks."""
        self._modes = TrackMemory(new=_UNKNOWN, dtype=np.int8)

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return an event for each track that changed; its value is the ``probability`` of the new mode."""
        motion = motion_of(tracks, "mode_switch")
        before = self._modes.recall(tracks.particle)
        now = before.copy()
        row, mode = np.nonzero(motion.modes >= self._probability)
        old = motion.age_frames[row] >= self._from_age_frames
        now[row[old]] = mode[old]
        self._modes.remember(tracks.particle, now)
        self._modes.forget(tracks.ended)
        switched = np.flatnonzero((now == self._to) & self._is_from[before])
        return [event_at(tracks, row, probability=float(motion.modes[row, self._to])) for row in switched]


_UNKNOWN = -1  # picks the last entry of ModeSwitch._is_from


def motion_of(tracks: LiveTracks, trigger: str) -> TrackMotion:
    """Return how tracks move; raises ConfigError where the linker does not say."""
    if tracks.motion is None:
        cure = 'set kind = "imm" in the [linker] table'
        raise ConfigError(f"trigger {trigger!r} needs a linker that says how tracks move: {cure}")
    return tracks.motion


class _Limit:
    """Finds the tracks whose value passes a limit, in px or um; each again only after it was below ``release``."""

    def __init__(self, px: float | None, um: float | None, release: float) -> None:
        self._px, self._um, self._release = px, um, release

    def prepare(self, source: SourceInfo) -> None:
        self._over = TrackMemory(new=False, dtype=bool)
        if self._px is not None:
            self._limit_px = self._px
        elif self._um is not None and source.pixel_size_um:
            self._limit_px = self._um / source.pixel_size_um
        else:
            cure = "set its pixel size, or give the limit in px"
            raise ConfigError(f"a limit in um needs a pixel size, and {source.name} has none: {cure}")

    def passed(self, tracks: LiveTracks, value_px: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the rows of the tracks that came over the limit."""
        before = self._over.recall(tracks.particle)
        over = (value_px >= self._limit_px) | (before & (value_px > self._release * self._limit_px))
        self._over.remember(tracks.particle, over)
        self._over.forget(tracks.ended)
        return np.flatnonzero(over & ~before)
