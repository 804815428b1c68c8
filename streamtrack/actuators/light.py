"""How long commands have had light on, and how much of it is left.

A source of light is a shutter, a spatial light modulator, a property, or a configuration group; a property or group
only if the run's file, or the actuator, says that it makes light. It is on from the moment before a command sets it to
something brighter than it is at rest, until the call that sets it back has returned. At rest it is as it was before the
run's first command to it: what was on then is not the commands' light. Once a command has switched it off, at rest it
is off.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused
from streamtrack.protocols import HasSlm, Microscope

Source = tuple[str, ...]
"""``("shutter", device)``, ``("slm", device)``, ``("property", device, name)`` or ``("preset", group)``."""
DARK_WORDS = frozenset(("off", "closed", "false"))
OPEN, CLOSED = "1", "0"
"""What a shutter is set to, and a spatial light modulator."""
LATE_NS = 250_000_000
"""Later than this after it should be off, a source is not its command's business any more."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A call that sets a source, under way: what it sets, and how many brighter calls had begun or ended before."""

    source: Source
    value: str
    brighter: bool
    turn: int


@dataclass(slots=True)
class _Lamp:
    rest: str
    value: str
    since_ns: int | None = None
    """On since then; None while it is off."""
    until_ns: int | None = None
    """When the caller means to switch it off; None if he did not say."""
    turn: int = 0
    is_exact: bool = False
    """Nothing but ``rest`` is off."""

    def is_as_dark(self, source: Source, value: str, other: str) -> bool:
        return value == other if self.is_exact else is_as_dark(source, value, other)


class Light:
    """The dose of a run: the time that each source was on, summed. Not locked: the guard's lock is held around it.

    Parameters
    ----------
    most_ms
        The run's limit; None for none.
    """

    def __init__(self, most_ms: float | None) -> None:
        self.most_ms = math.inf if most_ms is None else most_ms
        self._used_ns = 0.0
        self._lamps: dict[Source, _Lamp] = {}

    def knows(self, source: Source) -> bool:
        """Return whether a source's state at rest was noted."""
        return source in self._lamps

    def note(self, source: Source, rest: str, *, is_exact: bool = False) -> None:
        """Note what a source is set to before the first command to it; what was noted already stays.

        With ``is_exact`` every other value is on, zero and ``off`` included.
        """
        self._lamps.setdefault(source, _Lamp(rest, rest, is_exact=is_exact))

    def rest_of(self, source: Source) -> str:
        """Return what sets a source to rest."""
        return self._lamps[source].rest

    def adds(self, source: Source, value: str) -> bool:
        """Return whether a source set to ``value`` is on."""
        lamp = self._lamps[source]
        return not lamp.is_as_dark(source, value, lamp.rest)

    def begin(self, source: Source, value: str, now_ns: int, for_ms: float | None = None) -> Switch:
        """Note that a call sets a source: from now on it counts as on, if the value is a brighter one.

        Parameters
        ----------
        for_ms
            After so long the caller sets it back; None if he does not know.

        Raises
        ------
        CommandRefused
            It would be brighter, and the light of the run is spent, or what is left is shorter than ``for_ms``.
        """
        lamp = self._lamps[source]
        brighter = self.adds(source, value)
        if brighter and not lamp.is_as_dark(source, value, lamp.value):
            self._check(source, now_ns, for_ms)
        if brighter:
            lamp.turn += 1
            lamp.value = value
            lamp.until_ns = None if for_ms is None else now_ns + round(1e6 * for_ms)
            if lamp.since_ns is None:
                lamp.since_ns = now_ns
        return Switch(source, value, brighter, lamp.turn)

    def done(self, switch: Switch, now_ns: int) -> None:
        """Note that a call has returned. What is dark now counts as off, unless a brighter call was under way."""
        lamp = self._lamps[switch.source]
        if switch.brighter:
            lamp.turn += 1
            lamp.value = switch.value
            lamp.since_ns = now_ns if lamp.since_ns is None else lamp.since_ns  # it was switched off meanwhile
        elif lamp.turn == switch.turn:
            lamp.value = switch.value
            if is_dark(switch.value):
                lamp.rest = switch.value
            if lamp.since_ns is not None:
                self._used_ns += now_ns - lamp.since_ns
            lamp.since_ns = lamp.until_ns = None

    def spend(self, light_ms: float, what: str, now_ns: int) -> None:
        """Count light of which the length is known beforehand; raises CommandRefused where less is left."""
        if light_ms > self._free_ms(now_ns):
            raise self._refusal(f"{light_ms:g} ms of light by {what}", now_ns)
        self._used_ns += 1e6 * light_ms

    def start_over(self, now_ns: int) -> None:
        """Count what is on as off, and forget what sources are at rest; the dose goes on."""
        self._used_ns = 1e6 * self.used_ms(now_ns)
        self._lamps.clear()

    def lit(self) -> list[Source]:
        """Return the sources that are on."""
        return [source for source, lamp in self._lamps.items() if lamp.since_ns is not None]

    def used_ms(self, now_ns: int) -> float:
        """Return the dose."""
        on = [lamp.since_ns for lamp in self._lamps.values() if lamp.since_ns is not None]
        return (self._used_ns + sum(now_ns - since_ns for since_ns in on)) / 1e6

    def left_ms(self, now_ns: int) -> float:
        """Return what is left, 0 when it is spent; infinite without a limit."""
        return max(0.0, self.most_ms - self.used_ms(now_ns))

    def spent_in_ms(self, now_ns: int) -> float:
        """Return when it is spent if all stays as it is; infinite while everything is dark."""
        n_lit = len(self.lit())
        return self.left_ms(now_ns) / n_lit if n_lit else math.inf

    def overdue(self, now_ns: int) -> list[Source]:
        """Return the sources that are on for longer than their commands said."""
        return [source for source, until_ns in self._ends() if now_ns >= until_ns + LATE_NS]

    def due_in_ms(self, now_ns: int) -> float:
        """Return when something has to be switched off if its command does not do it: spent, or overdue."""
        late = (max(0, until_ns + LATE_NS - now_ns) / 1e6 for _, until_ns in self._ends())
        return min([self.spent_in_ms(now_ns), *late])

    def _ends(self) -> list[tuple[Source, int]]:
        lamps = self._lamps.items()
        return [(at, lamp.until_ns) for at, lamp in lamps if lamp.since_ns is not None and lamp.until_ns is not None]

    def _check(self, source: Source, now_ns: int, for_ms: float | None) -> None:
        free_ms = self._free_ms(now_ns, source)
        open_ended = sum(
            lamp.since_ns is not None and lamp.until_ns is None for each, lamp in self._lamps.items() if each != source
        )
        if free_ms <= 0 or (for_ms is not None and for_ms * (1 + open_ended) > free_ms):
            what = "light" if for_ms is None else f"{for_ms:g} ms of light"
            raise self._refusal(f"{what} by {name_of(source)}", now_ns)

    def _free_ms(self, now_ns: int, source: Source | None = None) -> float:
        """Return what is left when all that is on, but for one source, is switched off as planned."""
        planned = [
            max(0, lamp.until_ns - now_ns)
            for each, lamp in self._lamps.items()
            if lamp.until_ns is not None and each != source
        ]
        return self.left_ms(now_ns) - sum(planned) / 1e6

    def _refusal(self, what: str, now_ns: int) -> CommandRefused:
        used = f"{self.used_ms(now_ns):g} ms of safety.max_dose_ms = {self.most_ms:g} are used"
        return CommandRefused(f"{what} would exceed the dose: {used}", "dose")


def name_of(source: Source) -> str:
    """Return what the user calls a source."""
    return ".".join(source[1:])


def in_words(light: Mapping[str, Any]) -> str:
    """Return what a guard says of its light, ``""`` where there was none and there is no limit."""
    if not light["used_ms"] and light["left_ms"] is None:
        return ""
    left = "" if light["left_ms"] is None else f", {light['left_ms']:.0f} left"
    on = f"; on: {', '.join(light['on'])}" if light["on"] else ""
    said = f"light: {light['used_ms']:.0f} ms used{left}{on}"
    for key, why in (("off_at_limit", "at the limit"), ("off_late", "later than its command said")):
        if ended := ", ".join(f"{name} {outcome}" for name, outcome in light[key].items()):
            said += f"; {why}: {ended}"
    return said


def makes_light(safety: SafetyConfig, device: str, name: str) -> bool:
    """Return whether the run's file says that a property makes light: it, or its device."""
    return device in safety.light or f"{device}.{name}" in safety.light


def at_rest(microscope: Microscope, source: Source, safety: SafetyConfig) -> str:
    """Return what a source is set to now, before the first command to it.

    Raises
    ------
    CommandRefused
        A group is at none of its presets, and there is a limit: nobody could set it back when that is reached.
    """
    if source[0] in ("shutter", "slm"):
        return CLOSED
    if source[0] == "property":
        return microscope.property_value(*source[1:])
    preset = microscope.preset(source[1])
    if not preset and safety.max_dose_ms is not None:
        cure = "apply the one that counts as dark before the run"
        raise CommandRefused(f"group {source[1]!r} makes light and is at none of its presets now: {cure}", "dose")
    return preset


def set_source(microscope: Microscope, source: Source, value: str) -> None:
    """Set a source of light; of a modulator only to nothing."""
    if source[0] == "shutter":
        microscope.set_shutter(source[1], value == OPEN)
    elif source[0] == "slm":
        assert isinstance(microscope, HasSlm)
        microscope.show_on_slm(source[1], None)
    elif source[0] == "property":
        microscope.set_property(source[1], source[2], value)
    else:
        microscope.set_preset(source[1], value)


def is_dark(value: str) -> bool:
    """Return whether a value means off: zero, or one of the words off, closed and false."""
    return value.casefold() in DARK_WORDS or _number(value) == 0


def is_as_dark(source: Source, value: str, other: str) -> bool:
    """Return whether a source gives no more light with one value than with the other.

    A number is as dark as a greater one; not as the name of a preset, which only looks like a number.
    """
    if value == other or is_dark(value):
        return True
    return source[0] == "property" and 0 <= _number(value) <= _number(other)


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
