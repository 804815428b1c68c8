"""Patterns of light where tracks are, by a spatial light modulator (SLM, DMD)."""

import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.actuators.actions import Retries, attempt
from streamtrack.actuators.devices import LONGEST_PULSE_MS
from streamtrack.actuators.guard import Guard
from streamtrack.actuators.slm_calibration import SlmCalibration, read
from streamtrack.config import did_you_mean
from streamtrack.errors import CommandRefused, ConfigError
from streamtrack.settings import NotNegative, Positive, checks_settings
from streamtrack.types import Command, SourceInfo
from streamtrack.waiting import set_within

Intensity = Annotated[int, Field(ge=1, le=255)]
Duration = Annotated[float, Field(gt=0, le=LONGEST_PULSE_MS)]


class Shape(NamedTuple):
    """What is lit, at which value, and for how long."""

    radius_px: float
    inner_px: float
    intensity: int
    for_ms: float


@checks_settings
class Slm:
    """Lights a disc or a ring where the event is, for a while, by a spatial light modulator: ``action = {}``.

    An action may say otherwise than the settings: ``{ radius_px = 3, inner_px = 0, intensity = 200, for_ms = 50 }``.
    One pattern is shown at a time; commands come one after another. Area, intensity and duration have to be within
    ``safety.slm_area_px2``, ``safety.slm_intensity`` and ``safety.pulse_ms``. What is shown counts as light, and is
    gone at a stop. It is timed by the computer, to some milliseconds (on Windows about 15).

    Parameters
    ----------
    microscope, config_folder
        Given by the run.
    device
        Which modulator; it has to be in ``safety.slms``.
    calibration
        File of ``streamtrack calibrate slm``; a relative path is looked for beside the run's file.
    radius_px
        Of the disc, px of the camera.
    inner_px
        What is nearer stays dark, px of the camera: a ring.
    intensity
        Value of the modulator's pixels that are lit.
    for_ms
        How long.
    retries
        How often a call that failed is repeated while the command is valid.
    """

    rehearses = True

    def __init__(
        self,
        *,
        microscope: Guard,
        device: str,
        calibration: Path,
        radius_px: Positive = 5.0,
        inner_px: NotNegative = 0.0,
        intensity: Intensity = 255,
        for_ms: Duration = 100.0,
        retries: Retries = 0,
        config_folder: Path | None = None,
    ) -> None:
        self._microscope = microscope
        self._device = device
        self._path = (config_folder or Path.cwd()) / calibration.expanduser()
        self._calibration: SlmCalibration | None = None
        self._shape = Shape(radius_px, inner_px, intensity, for_ms)
        self._retries = retries
        self._is_lit = False
        self._over = threading.Event()
        _check(self._shape)

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Read the calibration, and check it and the actions that rules will ask for; raises ConfigError."""
        trial = self._microscope.trial
        trial.names.slm(self._device)
        calibration = self._calibration = read(self._path)
        calibration.check(self._device, self._microscope.slm_shape(self._device), source)
        height, width = calibration.slm_shape
        linear, offset = calibration.camera_to_slm[:, :2], calibration.camera_to_slm[:, 2]
        x, y = np.linalg.inv(linear) @ (np.array([(width - 1) / 2, (height - 1) / 2]) - offset)
        for action in actions:
            shape = self._read(action)
            pattern = calibration.pattern(y, x, shape.radius_px, shape.inner_px, shape.intensity)
            trial.show_on_slm(self._device, pattern, shape.for_ms)

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Show a pattern, which is gone when this returns; returns what was lit where, or why it was skipped."""
        shape, event = self._read(command.action), command.event
        if self._calibration is None:
            raise ConfigError("the SLM needs its calibration: prepare() has to be called first")
        if not math.isfinite(event.x + event.y):
            raise CommandRefused(f"cannot light what rule {command.rule!r} saw: its event has no place")
        pattern = self._calibration.pattern(event.y, event.x, shape.radius_px, shape.inner_px, shape.intensity)
        area_px2 = int(np.count_nonzero(pattern))
        if not area_px2:
            return {"skipped": f"no pixel of {self._device} is there"}
        try:
            tries = self._show(pattern, shape.for_ms, command.valid_until_ns)
            set_within(self._over, shape.for_ms / 1e3)
        finally:
            self._clear()
        x, y = self._calibration.camera_to_slm @ (event.x, event.y, 1.0)
        place = {"slm_x_px": round(float(x), 3), "slm_y_px": round(float(y), 3), "area_px2": area_px2}
        return {"slm": self._device, **place, "intensity": shape.intensity, "for_ms": shape.for_ms, "tries": tries}

    def close(self) -> None:
        """Show nothing any more."""
        self._over.set()
        self._clear()

    def _show(self, pattern: NDArray[np.uint8], for_ms: float, valid_until_ns: int) -> int:
        self._is_lit = True  # a call that fails may show it all the same
        try:
            call = self._microscope.show_on_slm
            return attempt(lambda: call(self._device, pattern, for_ms), self._retries, valid_until_ns)[1]
        except CommandRefused:
            self._is_lit = False
            raise

    def _clear(self) -> None:
        was_lit, self._is_lit = self._is_lit, False
        if was_lit:  # it is never too late for that
            attempt(lambda: self._microscope.show_on_slm(self._device, None), self._retries, math.inf)

    def _read(self, action: Mapping[str, Any]) -> Shape:
        if unknown := sorted(action.keys() - set(Shape._fields)):
            hint = did_you_mean(unknown[0], Shape._fields) or f" (known: {', '.join(Shape._fields)})"
            raise ConfigError(f"action = {dict(action)} is not understood: {unknown[0]!r}{hint}")
        return _check(self._shape._replace(**action))


def _check(shape: Shape) -> Shape:
    """Return what may be drawn; raises ConfigError."""
    for name, value in shape._asdict().items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"action: {name} = {value!r} is not a number")
    if not 0 <= shape.inner_px < shape.radius_px < math.inf:
        raise ConfigError(f"inner_px = {shape.inner_px:g}, radius_px = {shape.radius_px:g}: give 0 or more, and more")
    if not (isinstance(shape.intensity, int) and 1 <= shape.intensity <= 255):
        raise ConfigError(f"action: intensity = {shape.intensity:g} is out of range: give a whole number of 1 to 255")
    if not 0 < shape.for_ms <= LONGEST_PULSE_MS:
        raise ConfigError(f"action: for_ms = {shape.for_ms:g} is out of range: give up to {LONGEST_PULSE_MS:g}")
    return shape
