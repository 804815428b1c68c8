"""Compares the names in a run's file with those of the microscope."""

from collections.abc import Callable, Sequence

from streamtrack.config import SafetyConfig, did_you_mean
from streamtrack.errors import ConfigError, MicroscopeError
from streamtrack.protocols import HasAutofocus, HasSlm, Microscope
from streamtrack.types import NameKind

MOST_LISTED = 20
NO_SLM = "this microscope takes no patterns for an SLM: use kind = 'micromanager', or MdaTap"
NO_AUTOFOCUS = "this microscope takes no commands for an autofocus: use kind = 'micromanager', or MdaTap"
ONE_OF: dict[NameKind, str] = {
    "devices": "device",
    "properties": "property",
    "groups": "configuration group",
    "presets": "preset",
    "shutters": "shutter",
}


class Names:
    """What a microscope has; each list is asked for once. What it does not have raises ConfigError.

    Parameters
    ----------
    microscope
        The hardware.
    """

    def __init__(self, microscope: Microscope) -> None:
        self._microscope = microscope
        self._known: dict[tuple[NameKind, str], Sequence[str]] = {}

    def property(self, device: str, name: str) -> None:
        """Check a device, and a property of it that can be set."""
        self._one_of("devices", device)
        self._one_of("properties", name, device)

    def preset(self, group: str, preset: str) -> None:
        """Check a configuration group, and a preset of it."""
        self.group(group)
        self._one_of("presets", preset, group)

    def group(self, group: str) -> None:
        """Check a configuration group."""
        self._one_of("groups", group)

    def shutter(self, device: str) -> None:
        """Check a shutter."""
        self._one_of("shutters", device)

    def slm(self, device: str) -> None:
        """Check a spatial light modulator."""
        self._one_of("devices", device)
        if not isinstance(self._microscope, HasSlm):
            raise ConfigError(NO_SLM)
        try:
            self._microscope.slm_shape(device)
        except MicroscopeError as error:
            raise ConfigError(f"{device!r} is no SLM: {error}") from error

    def autofocus(self) -> None:
        """Check that there is an autofocus."""
        if not isinstance(self._microscope, HasAutofocus):
            raise ConfigError(NO_AUTOFOCUS)
        try:
            self._microscope.continuous_focus()
        except MicroscopeError as error:
            raise ConfigError(str(error)) from error

    def check(self, safety: SafetyConfig) -> None:
        """Check every name in ``[safety]``; the error has all that are wrong."""
        tables: dict[str, tuple[Callable[[str], None], Sequence[str]]] = {
            "properties": (self._full_property, safety.properties),
            "presets": (self.group, safety.presets),
            "shutters": (self.shutter, safety.shutters),
            "slms": (self.slm, safety.slms),
            "light": (self._light, safety.light),
            "close_shutter": (self.shutter, [safety.close_shutter] if safety.close_shutter else []),
        }
        mistakes = []
        for table, (check, names) in tables.items():
            for name in names:
                try:
                    check(name)
                except ConfigError as error:
                    mistakes.append(f"safety.{table}: {error}")
        if safety.autofocus:
            try:
                self.autofocus()
            except ConfigError as error:
                mistakes.append(f"safety.autofocus: {error}")
        if mistakes:
            raise ConfigError("; ".join(mistakes))

    def split(self, full: str) -> tuple[str, str] | None:
        """Return device and property of ``"Device.Property"``; None without a dot. Both may have dots of their own."""
        dots = [place for place, char in enumerate(full) if char == "."]
        halves = [(full[:dot], full[dot + 1 :]) for dot in dots]
        return next((half for half in halves if half[0] in self._of("devices")), halves[0] if halves else None)

    def _full_property(self, full: str) -> None:
        halves = self.split(full)
        if halves is None:
            raise ConfigError(f'{full!r} is not "Device.Property"')
        self.property(*halves)

    def _light(self, name: str) -> None:
        if name in self._of("devices") or name in self._of("groups"):
            return
        if "." in name:
            self._full_property(name)
        else:
            self._refuse("device or group", name, [*self._of("devices"), *self._of("groups")])

    def _one_of(self, kind: NameKind, name: str, of: str = "") -> None:
        if name not in self._of(kind, of):
            self._refuse(ONE_OF[kind], name, self._of(kind, of), of)

    def _refuse(self, what: str, name: str, known: Sequence[str], of: str = "") -> None:
        listed = f" (known: {', '.join(known) or 'none'})" if len(known) <= MOST_LISTED else ""
        hint = did_you_mean(name, known) or listed
        raise ConfigError(f"there is no {what} {name!r}{f' of {of}' if of else ''}{hint}")

    def _of(self, kind: NameKind, of: str = "") -> Sequence[str]:
        if (kind, of) not in self._known:
            self._known[kind, of] = self._microscope.names(kind, of)
        return self._known[kind, of]
