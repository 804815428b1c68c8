"""Pulses that a device makes by itself: TTL outputs of an Arduino, a Teensy, an FPGA."""

import math
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from streamtrack.actuators.actions import Retries, attempt, number, one_key, text
from streamtrack.actuators.devices import LONGEST_PULSE_MS
from streamtrack.actuators.guard import Guard
from streamtrack.errors import CommandRefused, ConfigError
from streamtrack.settings import checks_settings
from streamtrack.types import Command, SourceInfo
from streamtrack.waiting import set_within

Length = Annotated[float, Field(gt=0, le=LONGEST_PULSE_MS)]


@checks_settings
class Pulse:
    """Has a device make a pulse: ``action = { pulse_ms = 5 }``, within ``safety.pulse_ms``.

    Writes the pulse's length into a property of the device, which times it, sets another one that fires it, and sets
    that back. From the one to the other it counts as light, whatever hangs on the output; at a stop it is set back at
    once. A device without a property for the length is timed by the computer, to some milliseconds (on Windows about
    15).

    Parameters
    ----------
    microscope
        Given by the run.
    device
        Which one.
    fire
        The property that fires it. ``"device.fire"`` has to be in ``safety.properties``.
    on, off
        Values of it: what begins a pulse, and what ends it or makes it ready for the next.
    length
        The property that takes the pulse's length, in ``safety.properties`` as well. None for a device that has none.
    unit
        Of that property. Of ``us`` it gets a whole number.
    pulse_ms
        The pulse's length where the action names none.
    for_ms
        How long until ``fire`` is set back, if that is longer than the pulse: for a train of pulses, or one for each
        image that the camera takes meanwhile.
    retries
        How often a call that failed is repeated while the command is valid.
    """

    rehearses = True

    def __init__(
        self,
        *,
        microscope: Guard,
        device: str,
        fire: str,
        on: str | int | float,
        off: str | int | float,
        length: str | None = None,
        unit: Literal["ms", "us"] = "ms",
        pulse_ms: Length | None = None,
        for_ms: Length | None = None,
        retries: Retries = 0,
    ) -> None:
        self._on, self._off = text(on), text(off)
        if self._on == self._off:
            raise ConfigError(f"on and off are both {self._on!r}: nothing would begin or end")
        self._microscope = microscope
        self._device, self._fire, self._length = device, fire, length
        self._unit = unit
        self._pulse_ms = pulse_ms
        self._for_ms = for_ms or 0.0
        self._retries = retries
        self._is_on = False
        self._over = threading.Event()

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Check the properties and the actions that rules will ask for; raises ConfigError."""
        trial = self._microscope.trial
        for name in filter(None, (self._fire, self._length)):
            trial.names.property(self._device, name)
        for action in actions:
            pulse_ms = self._read(action)
            if self._length is not None:
                trial.set_property(self._device, self._length, self._in_unit(pulse_ms))
            trial.set_property(self._device, self._fire, self._on, off=self._off, for_ms=self._lasts_ms(pulse_ms))

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Make a pulse, which is over when this returns; returns its length, how long it was on, and the tries."""
        pulse_ms = self._read(command.action)
        lasts_ms = self._lasts_ms(pulse_ms)
        if self._length is not None:
            set_length = partial(self._microscope.set_property, self._device, self._length, self._in_unit(pulse_ms))
            attempt(set_length, self._retries, command.valid_until_ns)
        try:
            tries = self._begin(lasts_ms, command.valid_until_ns)
            set_within(self._over, lasts_ms / 1e3)
        finally:
            self._end()
        done = {"pulse": f"{self._device}.{self._fire}", "pulse_ms": pulse_ms, "tries": tries}
        return done if lasts_ms == pulse_ms else {**done, "for_ms": lasts_ms}

    def close(self) -> None:
        """End a pulse at once."""
        self._over.set()
        self._end()

    def _begin(self, lasts_ms: float, valid_until_ns: int) -> int:
        self._is_on = True  # a call that fails may begin it all the same
        call = partial(self._microscope.set_property, self._device, self._fire, self._on, off=self._off)
        try:
            return attempt(partial(call, for_ms=lasts_ms), self._retries, valid_until_ns)[1]
        except CommandRefused:
            self._is_on = False
            raise

    def _end(self) -> None:
        was_on, self._is_on = self._is_on, False
        if was_on:  # it is never too late for that
            call = partial(self._microscope.set_property, self._device, self._fire, self._off, off=self._off)
            attempt(call, self._retries, math.inf)

    def _lasts_ms(self, pulse_ms: float) -> float:
        return max(pulse_ms, self._for_ms)

    def _in_unit(self, pulse_ms: float) -> str:
        return text(pulse_ms) if self._unit == "ms" else str(max(1, round(1e3 * pulse_ms)))

    def _read(self, action: Mapping[str, Any]) -> float:
        pulse_ms = number(action, one_key(action, "pulse_ms")) if action else self._pulse_ms
        if pulse_ms is None:
            raise ConfigError("no length of the pulse: give action = { pulse_ms = ... }")
        if not 0 < pulse_ms <= LONGEST_PULSE_MS:
            raise ConfigError(f"action: pulse_ms = {pulse_ms:g} is out of range: give up to {LONGEST_PULSE_MS:g}")
        return pulse_ms
