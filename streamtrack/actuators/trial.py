"""Says before a run what would become of the writes that it is going to make."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.actuators.checks import Checks
from streamtrack.actuators.light import CLOSED, OPEN, Light, Source, at_rest, makes_light
from streamtrack.actuators.names import Names
from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused, ConfigError, MicroscopeError
from streamtrack.protocols import Microscope

NOT_UNDERSTOOD = frozenset(("not understood", "not a number"))
"""Refusals that have nothing to do with limits."""


class Trial:
    """The writes of a microscope, of which none is made: names are compared, limits checked. Raises ConfigError.

    Parameters
    ----------
    microscope
        The hardware; it is read at most.
    names
        Of the hardware.
    safety
        The limits.
    observes
        The run writes nothing: limits do not matter to it, nor what the hardware cannot do.
    """

    def __init__(self, microscope: Microscope, names: Names, safety: SafetyConfig, observes: bool) -> None:
        self._microscope = microscope
        self._safety = safety
        self._observes = observes
        self._checks = Checks(safety, microscope.stage_um)
        self.names = names
        """Compares a name without a write."""

    def set_property(
        self, device: str, name: str, value: str, *, off: str | None = None, for_ms: float | None = None
    ) -> None:
        """Try to set a property, for so long."""
        self.names.property(device, name)
        with self._mistakes():
            device, name, value = self._checks.property(device, name, value)
            if for_ms is not None:
                for_ms = self._checks.within("pulse_ms", for_ms)
            if off is not None or makes_light(self._safety, device, name):
                self._switch(("property", device, name), value, for_ms, off)

    def set_preset(self, group: str, preset: str, *, for_ms: float | None = None) -> None:
        """Try to apply a preset, for so long."""
        self.names.preset(group, preset)
        with self._mistakes():
            self._checks.preset(group, preset)
            if group in self._safety.light:
                self._switch(("preset", group), preset, for_ms)

    def set_shutter(self, device: str, opened: bool, *, for_ms: float | None = None) -> None:
        """Try to open or close a shutter, for so long."""
        self.names.shutter(device)
        with self._mistakes():
            self._checks.shutter(device, opened)
            self._switch(("shutter", device), OPEN if opened else CLOSED, for_ms)

    def set_exposure_ms(self, exposure_ms: float) -> None:
        """Try to set an exposure."""
        with self._mistakes():
            self._checks.within("exposure_ms", exposure_ms)

    def move_stage_um(self, x: float, y: float) -> None:
        """Try to move the stage to a place."""
        with self._mistakes():
            self._microscope.stage_um()
            self._checks.position(x, y)

    def move_along(self, axes: Sequence[str]) -> None:
        """Try to move along ``x_um``, ``y_um`` or ``z_um`` to wherever it is within the limits."""
        with self._mistakes():
            if {"x_um", "y_um"} & set(axes):
                self._microscope.stage_um()
            if "z_um" in axes:
                self._microscope.focus_um()
            if missing := [f"safety.{axis}" for axis in axes if getattr(self._safety, axis) is None]:
                raise CommandRefused(
                    f"there are no limits {' and '.join(missing)}; set them first: nothing moves without"
                )

    def centre(self) -> None:
        """Try to bring something to the middle of the image."""
        self.move_along(("x_um", "y_um"))
        with self._mistakes():
            self._microscope.stage_um_per_px()

    def move_focus_um(self, z: float) -> None:
        """Try to move the focus drive to a place."""
        with self._mistakes():
            self._microscope.focus_um()
            self._checks.within("z_um", z)

    def show_on_slm(self, device: str, image: NDArray[np.uint8], for_ms: float) -> None:
        """Try to show a pattern on a spatial light modulator, for so long."""
        self.names.slm(device)
        with self._mistakes():
            self._checks.pattern(device, image)
            self._switch(("slm", device), OPEN, self._checks.within("pulse_ms", for_ms))

    def autofocus(self) -> None:
        """Try to search the focus."""
        self.names.autofocus()
        with self._mistakes():
            self._checks.autofocus(self._microscope.focus_um())

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Try to add an event to the acquisition."""
        with self._mistakes():
            event = self._checks.event(event)
            if "exposure" not in event:
                self._checks.within("exposure_ms", self._microscope.exposure_ms())
            for device, name, _ in event.get("properties", ()):
                self.names.property(device, name)
            if "channel" in event:
                self.names.preset(event["channel"]["group"], event["channel"]["config"])

    def _switch(self, source: Source, value: str, for_ms: float | None = None, off: str | None = None) -> None:
        light = Light(self._safety.max_dose_ms)
        rest = at_rest(self._microscope, source, self._safety) if off is None else off
        light.note(source, rest, is_exact=off is not None)
        light.begin(source, value, 0, for_ms)

    @contextmanager
    def _mistakes(self) -> Iterator[None]:
        try:
            yield
        except CommandRefused as refusal:
            if not self._observes or refusal.reason in NOT_UNDERSTOOD:
                raise ConfigError(str(refusal)) from refusal
        except MicroscopeError as error:
            if not self._observes:
                raise ConfigError(str(error)) from error
