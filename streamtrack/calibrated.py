"""Pixel size and frame interval: what the settings of a run say goes before what its source says."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from streamtrack.config import Mode, RunConfig
from streamtrack.errors import ConfigError, MicroscopeError, SourceError
from streamtrack.protocols import FrameSource, Microscope, Remarking
from streamtrack.types import Frame, LostFrame, SourceInfo

CALIBRATIONS = {"pixel_size_um": (1e-6, 1e6), "frame_interval_s": (1e-9, 1e9)}
"""What can be meant: beyond it positions and times overflow sooner or later."""
AGREES = 0.01
"""Share by which what is said may differ from what a source says, without a word."""
STAGE_AGREES = 0.1
"""The same of a stage's measured scale, in which its own error is; Micro-Manager's rule, too."""
_CURE = "leave --pixel-size out, or correct the one that is wrong: nothing moves by two sizes of a pixel"


class CalibratedSource:
    """A source of which somebody says how large its pixels are, or how far apart its frames.

    Frames of a movie are then a frame interval apart, whatever times the file has; those of a live source keep the
    times at which they came.

    Parameters
    ----------
    source
        Closed with this one.
    config
        What is said.
    """

    def __init__(self, source: FrameSource, config: RunConfig) -> None:
        self._source, self._config = source, config
        self._interval_s = None if source.info.live else config.frame_interval_s

    @property
    def uncalibrated(self) -> SourceInfo:
        """What the source says itself."""
        return self._source.info

    @property
    def info(self) -> SourceInfo:
        """What the source says, but for what the settings say."""
        return with_calibration(self._source.info, self._config)

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield every frame once, in order."""
        if self._interval_s is None:
            yield from self._source.frames()
            return
        for item in self._source.frames():
            yield item if isinstance(item, LostFrame) else replace(item, time_s=item.index * self._interval_s)

    def contradictions(self) -> list[str]:
        """Return where the settings contradict the source, a line each."""
        return contradictions(self._source.info, self._config)

    def remarks(self) -> Sequence[str]:
        """Return the same, and what the source remarks."""
        of_source = self._source.remarks() if isinstance(self._source, Remarking) else ()
        return [*self.contradictions(), *of_source]

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def calibrated(source: FrameSource, config: RunConfig) -> FrameSource:
    """Return a source with the calibration that the settings say.

    Raises
    ------
    SourceError
        The calibration cannot be meant, or frames of a movie that is followed come more rarely than they are waited
        for.
    """
    is_said = config.pixel_size_um is not None or config.frame_interval_s is not None
    found = CalibratedSource(source, config) if is_said else source
    info = found.info
    for name, (low, high) in CALIBRATIONS.items():
        value = getattr(info, name)
        if value is not None and not (isinstance(value, int | float) and low <= value <= high):
            option = "--pixel-size" if name == "pixel_size_um" else "--interval"
            cure = f"give {option} {low:g} to {high:g}, or correct what the movie says"
            raise SourceError(f"{info.name}: {name} = {value!r} cannot be; {cure}")
    interval_s, idle_s = info.frame_interval_s, info.follow_s
    if interval_s is not None and idle_s is not None and interval_s >= idle_s:
        cure = f"--follow {3 * interval_s:g}"
        raise SourceError(
            f"{info.name} has a frame every {interval_s:g} s, but is over after {idle_s:g} s without one: give {cure}"
        )
    return found


def with_calibration(info: SourceInfo, config: RunConfig) -> SourceInfo:
    """Return what is known of a source, with the calibration that the settings say."""
    said = {name: getattr(config, name) for name in CALIBRATIONS if getattr(config, name) is not None}
    is_timed = info.live or config.frame_interval_s is None
    return replace(info, **said, clock=info.clock if is_timed else "nominal")


def contradictions(info: SourceInfo, config: RunConfig) -> list[str]:
    """Return where what the settings say is far from what a source says, a line each."""
    known = [(name, getattr(info, name), getattr(config, name)) for name in CALIBRATIONS]
    return [
        f"the source says {name} = {was:g}, the settings {said:g}: {said:g} is used"
        for name, was, said in known
        if was is not None and said is not None and not _agree(was, said, AGREES)
    ]


def check_moves(source: FrameSource, microscope: Microscope, config: RunConfig, mode: Mode) -> None:
    """Raise ConfigError where a run that may move something is told another pixel size than its microscope's.

    Actuators go by the microscope's, triggers by the one that is said: of two that differ one is wrong, and nobody
    knows whether the moves are. A run that only observes remarks it.
    """
    said, safety = config.pixel_size_um, config.safety
    may_move = any(limits is not None for limits in (safety.x_um, safety.y_um, safety.z_um))
    if said is None or mode == "observe" or not config.actuators or not may_move:
        return
    if isinstance(source, CalibratedSource) and source.uncalibrated.live:
        info = source.uncalibrated
        if info.pixel_size_um is not None and not _agree(info.pixel_size_um, said, AGREES):
            raise ConfigError(f"{info.name} says pixel_size_um = {info.pixel_size_um:g}, not {said:g}: {_CURE}")
    try:
        stage_um = float(np.sqrt(abs(np.linalg.det(microscope.stage_um_per_px()))))
    except MicroscopeError:  # no move goes by it then
        return
    if not _agree(stage_um, said, STAGE_AGREES):
        raise ConfigError(f"the stage moves by {stage_um:.4g} um per pixel, not pixel_size_um = {said:g}: {_CURE}")


def _agree(was: float, said: float, share: float) -> bool:
    return abs(said - was) <= share * was
