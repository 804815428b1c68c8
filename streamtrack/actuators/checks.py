"""What a run's limits allow. Each check returns plain values: what was checked is what the hardware gets."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.actuators.actions import text
from streamtrack.actuators.light import is_dark, makes_light
from streamtrack.config import Limits, SafetyConfig
from streamtrack.errors import CommandRefused
from streamtrack.plain import plain, plain_number

STILL_UM = 0.1
"""An axis that stays this close to where it is does not move: stages with encoders never read the same twice."""
POSITIONS = {"x_pos": "x_um", "y_pos": "y_um", "z_pos": "z_um"}
"""Of an event: the limits that hold for them."""
EVENT_KEYS = frozenset(
    ("index", "channel", "exposure", "min_start_time", "pos_name", *POSITIONS, "properties", "metadata")
)
"""What an added event may hold: all that the limits can judge, and what touches no hardware."""


class Checks:
    """The limits of a run. What they do not allow raises CommandRefused.

    Parameters
    ----------
    safety
        The limits.
    stage_um
        Returns where the stage is: x, y.
    """

    def __init__(self, safety: SafetyConfig, stage_um: Callable[[], tuple[float, float]]) -> None:
        self._safety = safety
        self._stage_um = stage_um

    def property(self, device: object, name: object, value: object) -> tuple[str, str, str]:
        """Return device, property and value as texts."""
        device, name = as_text("device", device), as_text("property", name)
        full = f"{device}.{name}"
        if full not in self._safety.properties:
            raise CommandRefused(f"{full!r} is not in safety.properties; add it there to allow it")
        return device, name, property_text(full, value)

    def preset(self, group: object, preset: object) -> tuple[str, str]:
        """Return group and preset as texts."""
        group, preset = as_text("group", group), as_text("preset", preset)
        if group not in self._safety.presets:
            raise CommandRefused(f"group {group!r} is not in safety.presets; add it there to allow it")
        return group, preset

    def shutter(self, device: object, opened: object) -> tuple[str, bool]:
        """Return the device as a text, and whether it shall open."""
        device = as_text("shutter", device)
        if device not in self._safety.shutters:
            raise CommandRefused(f"shutter {device!r} is not in safety.shutters; add it there to allow it")
        if not isinstance(opened, bool | np.bool_):
            raise CommandRefused(f"shutter {device}: {opened!r} is neither true nor false", "not understood")
        return device, bool(opened)

    def within(self, name: str, value: object) -> float:
        """Return a number that lies within ``safety.<name>``."""
        number = finite(name, value)
        limits: Limits | None = getattr(self._safety, name)
        if limits is None:
            raise CommandRefused(f"{name} = {number:g}: there are no limits safety.{name}; set them first")
        if not limits[0] <= number <= limits[1]:
            message = f"{name} = {number:g} is outside safety.{name} = {limits[0]:g} to {limits[1]:g}"
            raise CommandRefused(message, "limit")
        return number

    def position(self, x: object, y: object) -> tuple[float, float]:
        """Return where the stage may go; an axis without limits is kept exactly where it is."""
        wanted = {"x_um": finite("x_um", x), "y_um": finite("y_um", y)}
        free = [name for name in wanted if getattr(self._safety, name) is None]
        here = dict(zip(wanted, self._stage_um(), strict=True)) if free else {}
        for name, value in wanted.items():
            still = name in here and name in free and abs(value - here[name]) <= STILL_UM
            wanted[name] = here[name] if still else self.within(name, value)
        return wanted["x_um"], wanted["y_um"]

    def slm(self, device: object) -> str:
        """Return a spatial light modulator as a text."""
        device = as_text("SLM", device)
        if device not in self._safety.slms:
            raise CommandRefused(f"SLM {device!r} is not in safety.slms; add it there to allow it")
        return device

    def pattern(self, device: object, image: object) -> tuple[str, NDArray[np.uint8]]:
        """Return a modulator as a text, and a copy of what it may show."""
        device = self.slm(device)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 2:
            raise CommandRefused(f"a pattern for {device} is not an image of 8 bit", "not understood")
        pattern = image.copy()
        for name, value in (("slm_area_px2", np.count_nonzero(pattern)), ("slm_intensity", pattern.max(initial=0))):
            limit = getattr(self._safety, name)
            if limit is None:
                raise CommandRefused(f"{name} = {value:g}: there is no limit safety.{name}; set it first")
            if value > limit:
                raise CommandRefused(f"{name} = {value:g} is above safety.{name} = {limit:g}", "limit")
        return device, pattern

    def autofocus(self, z: object) -> float:
        """Return where the focus drive is, um: the autofocus may begin there."""
        if not self._safety.autofocus:
            raise CommandRefused("safety.autofocus is not set; set it to true to allow it")
        return self.within("z_um", z)

    def event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return an event of plain values; what it leaves out is left out."""
        given = {str(key): value for key, value in event.items() if value is not None}
        if unknown := sorted(given.keys() - EVENT_KEYS):
            known = ", ".join(sorted(EVENT_KEYS))
            raise CommandRefused(f"events may not set {', '.join(unknown)} (allowed: {known})", "not understood")
        return {key: self._event_value(key, value) for key, value in given.items()}

    def _event_value(self, key: str, value: Any) -> Any:
        if key in POSITIONS:
            return self.within(POSITIONS[key], value)
        if key == "exposure":
            return self.within("exposure_ms", value)
        if key == "min_start_time":
            return finite(key, value)
        if key == "pos_name":
            return as_text(key, value)
        if key == "channel":
            return self._channel(value)
        if key == "properties":
            return [self._event_property(each) for each in value]
        if not isinstance(value, Mapping):
            raise CommandRefused(f"{key} of an event = {value!r} is not a table", "not understood")
        return plain(value)

    def _channel(self, channel: object) -> dict[str, str]:
        if isinstance(channel, str):
            channel = {"config": channel}
        if not (isinstance(channel, Mapping) and channel.keys() <= {"group", "config"} and "config" in channel):
            cure = 'give a preset of the group Channel, or { group = "...", config = "..." }'
            raise CommandRefused(f"channel of an event = {channel!r} is not understood: {cure}", "not understood")
        group, preset = self.preset(channel.get("group", "Channel"), channel["config"])
        return {"group": group, "config": preset}

    def _event_property(self, each: object) -> tuple[str, str, str]:
        if not (isinstance(each, list | tuple) and len(each) == 3):
            cure = 'give ["Device", "Property", "value"]'
            raise CommandRefused(f"property of an event = {each!r} is not understood: {cure}", "not understood")
        device, name, value = self.property(*each)
        if makes_light(self._safety, device, name) and not is_dark(value):
            cure = "nobody sees when it goes off again; use a shutter, a preset, or an actuator of its own"
            raise CommandRefused(f"events may not set {device}.{name}, which makes light: {cure}")
        return device, name, value


def as_text(what: str, value: object) -> str:
    """Return a text as Python's own; anything else is refused."""
    if not isinstance(value, str):
        raise CommandRefused(f"{what} = {value!r} is not a text", "not understood")
    return str(value)


def finite(name: str, value: object) -> float:
    """Return a finite number as Python's own; anything else is refused."""
    try:
        return float(plain_number(value))
    except (TypeError, ValueError, OverflowError):
        raise CommandRefused(f"{name} = {value!r} is not a finite number", "not a number") from None


def property_text(full: str, value: object) -> str:
    """Return the value of a property as a text; numbers have to be finite, and so has a text that reads as one."""
    if not isinstance(value, str):
        try:
            return text(plain_number(value))
        except (TypeError, ValueError):
            raise CommandRefused(f"{full} = {value!r} is not a finite number", "not a number") from None
    try:
        is_finite = math.isfinite(float(value))
    except ValueError:  # a word, such as the label of a filter
        is_finite = True
    if not is_finite:
        raise CommandRefused(f"{full} = {value!r} is not a finite number", "not a number")
    return str(value)
