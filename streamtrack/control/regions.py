"""The parts of the image that rules look at, drawn and moved while the run runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamtrack.config import did_you_mean, validate
from streamtrack.control.requests import Made
from streamtrack.errors import ConfigError, ControlRefused
from streamtrack.search_area import SearchArea
from streamtrack.settings import settings_model
from streamtrack.triggers.area import Area, outlines_of
from streamtrack.triggers.rule import Rule


class Regions:
    """The areas of a run's rules.

    Parameters
    ----------
    rules
        Returns the rules.
    shape
        Of the images, px.
    searched
        Where particles are looked for; None for everywhere.
    """

    def __init__(
        self, rules: Callable[[], Sequence[Rule]], shape: tuple[int, int], searched: SearchArea | None
    ) -> None:
        self._rules, self._shape, self._searched = rules, shape, searched
        self._searched_drawn: list[dict[str, Any]] | None = None
        self._moved: dict[str, tuple[Area, Mapping[str, Any]]] = {}

    def drawn(self) -> list[dict[str, Any]]:
        """Return each, with its outlines, once for all streams."""
        known: dict[str, dict[str, Any]] = {}
        for rule in [*self._rules()]:
            if rule.name not in known and (drawn := rule.drawn(self._shape)):
                known[rule.name] = drawn
        if self._searched_drawn is None:
            self._searched_drawn = searched_drawn(self._searched)
        return [*known.values(), *self._searched_drawn]

    def laid(self, name: str, said: Mapping[str, Any]) -> Area:
        """Return an area laid over the image; takes a moment. Raises ControlRefused or ConfigError."""
        names = [rule.name for rule in [*self._rules()] if rule.has_area]
        if name not in names:
            raise ControlRefused(f"no rule {name!r} looks at a part of the image{did_you_mean(str(name), names)}")
        checked = validate(settings_model(Area), {**said, "mask": None}, "region")
        area = Area(**{each: getattr(checked, each) for each in (*said, "mask")})
        try:
            area.prepare(self._shape)
        except MemoryError:
            raise ConfigError("there is no memory for another area") from None
        return area

    def exchange(self, name: str, area: Area, wanted: Mapping[str, Any]) -> Made:
        """Have the rules of this name look at another area. Called between two frames."""
        rules = [rule for rule in self._rules() if rule.name == name]
        before = rules[0].drawn(self._shape)
        for rule in rules:
            rule.look_at(area)
        self._moved[name] = area, wanted
        return Made({each: value for each, value in before.items() if each.endswith("_px")}, dict(wanted))

    def begun(self, rule: Rule) -> None:
        """Have the rule of a new stream look where the others of its name do by now."""
        if rule.name in self._moved:
            rule.look_at(self._moved[rule.name][0])


def searched_drawn(area: SearchArea | None) -> list[dict[str, Any]]:
    """Return the part of the image that is searched, as a page draws it; nothing where that is all of it."""
    return [] if area is None else [{"rule": "searched", "outlines": outlines_of(area.inside)}]
