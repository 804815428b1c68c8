"""Device properties, presets and shutters."""

import math
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from streamtrack.actuators.actions import Retries, attempt, number, one_key, text
from streamtrack.actuators.guard import Guard
from streamtrack.errors import CommandRefused, ConfigError
from streamtrack.settings import checks_settings
from streamtrack.types import Command, SourceInfo
from streamtrack.waiting import set_within

LONGEST_PULSE_MS = 60_000.0


@checks_settings
class Property:
    """Sets a property of a device: ``action = { value = 20 }``.

    Parameters
    ----------
    microscope
        Given by the run.
    device, property
        Which one. ``"device.property"`` has to be in ``safety.properties``.
    value
        Set where the action names none.
    retries
        How often a call that failed is repeated while the command is valid.
    """

    rehearses = True

    def __init__(
        self,
        *,
        microscope: Guard,
        device: str,
        property: str,
        value: str | int | float | bool | None = None,
        retries: Retries = 0,
    ) -> None:
        self._microscope = microscope
        self._device, self._property = device, property
        self._value = value
        self._retries = retries

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Check the property and the actions that rules will ask for; raises ConfigError."""
        trial = self._microscope.trial
        trial.names.property(self._device, self._property)
        for action in actions:
            trial.set_property(self._device, self._property, self._read(action))

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Set the property; returns its name, value and the number of tries."""
        value = self._read(command.action)
        _, tries = attempt(
            lambda: self._microscope.set_property(self._device, self._property, value),
            self._retries,
            command.valid_until_ns,
        )
        return {"property": f"{self._device}.{self._property}", "value": value, "tries": tries}

    def close(self) -> None:
        """Do nothing: the property stays as it is."""

    def _read(self, action: Mapping[str, Any]) -> str:
        value = action[one_key(action, "value")] if action else self._value
        if not isinstance(value, str | int | float):
            raise ConfigError(f"no value for {self._device}.{self._property}: give action = {{ value = ... }}")
        return text(value)


@checks_settings
class Preset:
    """Applies a preset of a configuration group: ``action = { preset = "Red" }``.

    Parameters
    ----------
    microscope
        Given by the run.
    group
        Which group; it has to be in ``safety.presets``.
    preset
        Applied where the action names none.
    for_ms, back_to
        After so long, another preset of the group is applied: a short look at a second colour. Neither by default.
    retries
        How often a call that failed is repeated while the command is valid.
    """

    rehearses = True

    def __init__(
        self,
        *,
        microscope: Guard,
        group: str,
        preset: str | None = None,
        for_ms: Annotated[float, Field(gt=0, le=LONGEST_PULSE_MS)] | None = None,
        back_to: str | None = None,
        retries: Retries = 0,
    ) -> None:
        if (for_ms is None) != (back_to is None):
            raise ConfigError("for_ms and back_to belong together: give both or neither")
        self._microscope = microscope
        self._group = group
        self._preset = preset
        self._for_ms = for_ms
        self._back_to = back_to
        self._retries = retries
        self._over = threading.Event()

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Check the presets, also of the actions that rules will ask for; raises ConfigError."""
        trial = self._microscope.trial
        for preset in filter(None, (self._preset, self._back_to)):
            trial.names.preset(self._group, preset)
        trial.names.group(self._group)
        for action in actions:
            trial.set_preset(self._group, self._read(action), for_ms=self._for_ms)

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Apply the preset, and the one after it; returns their names and the number of tries."""
        preset = self._read(command.action)
        done = {
            "group": self._group,
            "preset": preset,
            "tries": self._apply(preset, command.valid_until_ns, self._for_ms),
        }
        if self._for_ms is None or self._back_to is None:
            return done
        set_within(self._over, self._for_ms / 1e3)
        self._apply(self._back_to, math.inf)  # it is never too late to go back
        return {**done, "for_ms": self._for_ms, "back_to": self._back_to}

    def close(self) -> None:
        """End a look at another preset at once; without one, the preset stays."""
        self._over.set()

    def _apply(self, preset: str, valid_until_ns: float, for_ms: float | None = None) -> int:
        call = partial(self._microscope.set_preset, self._group, preset, for_ms=for_ms)
        return attempt(call, self._retries, valid_until_ns)[1]

    def _read(self, action: Mapping[str, Any]) -> str:
        preset = action[one_key(action, "preset")] if action else self._preset
        if not isinstance(preset, str):
            raise ConfigError(f'no preset of the group {self._group!r}: give action = {{ preset = "..." }}')
        return preset


@checks_settings
class Shutter:
    """Opens and closes a shutter: ``action = { opened = true }``, or ``{ pulse_ms = 50 }``, which closes by itself.

    A shutter that was opened and not closed again is closed when the run ends. A pulse is timed by the computer, to
    some milliseconds (on Windows about 15): light that has to be exact is timed by the light source.

    Parameters
    ----------
    microscope
        Given by the run.
    device
        Which shutter; it has to be in ``safety.shutters``.
    retries
        How often a call that failed is repeated while the command is valid.
    """

    rehearses = True

    def __init__(self, *, microscope: Guard, device: str, retries: Retries = 0) -> None:
        self._microscope = microscope
        self._device = device
        self._retries = retries
        self._left_open = False
        self._over = threading.Event()

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Check the shutter and the actions that rules will ask for; raises ConfigError."""
        trial = self._microscope.trial
        trial.names.shutter(self._device)
        for action in actions:
            key, value = self._read(action)
            pulse_ms = value if key == "pulse_ms" else None
            trial.set_shutter(self._device, bool(value), for_ms=pulse_ms)

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Set the shutter; a pulse is over when this returns. Returns what was done and the number of tries."""
        key, value = self._read(command.action)
        if key == "pulse_ms":
            return {"shutter": self._device, "pulse_ms": value, "tries": self._pulse(value, command)}
        return {"shutter": self._device, "opened": bool(value), "tries": self._open(command) if value else self._shut()}

    def close(self) -> None:
        """End a pulse at once, and close the shutter if a command left it open."""
        self._over.set()
        if self._left_open:
            self._shut()

    def _pulse(self, pulse_ms: float, command: Command) -> int:
        try:
            tries = self._open(command, pulse_ms)
            set_within(self._over, pulse_ms / 1e3)
        finally:
            if self._left_open:
                self._shut()
        return tries

    def _open(self, command: Command, for_ms: float | None = None) -> int:
        before, self._left_open = self._left_open, True  # a call that fails may open it all the same
        try:
            return self._call(True, command.valid_until_ns, for_ms)
        except CommandRefused:
            self._left_open = before
            raise

    def _shut(self) -> int:
        self._left_open = False
        return self._call(False, math.inf)  # it is never too late to close

    def _call(self, opened: bool, valid_until_ns: float, for_ms: float | None = None) -> int:
        call = partial(self._microscope.set_shutter, self._device, opened, for_ms=for_ms)
        return attempt(call, self._retries, valid_until_ns)[1]

    def _read(self, action: Mapping[str, Any]) -> tuple[str, float]:
        key = one_key(action, "opened", "pulse_ms")
        if key == "opened":
            if not isinstance(action[key], bool):
                raise ConfigError(f"action: opened = {action[key]!r} is neither true nor false")
            return key, action[key]
        pulse_ms = number(action, key)
        if not 0 < pulse_ms <= LONGEST_PULSE_MS:
            raise ConfigError(f"action: pulse_ms = {pulse_ms:g} is out of range: give up to {LONGEST_PULSE_MS:g}")
        return key, pulse_ms
