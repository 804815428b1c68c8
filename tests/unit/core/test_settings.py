import inspect
import math
import tomllib
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from streamtrack import registry
from streamtrack.cli.plugins import settings
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError
from streamtrack.settings import Positive, checks_settings, settings_model

PROJECT = tomllib.loads(Path(__file__).parents[3].joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
GROUPS = ("sources", "engines", "linkers", "measures", "microscopes", "triggers", "actuators", "sinks")
PLUGINS = [(group, kind) for group in GROUPS for kind in PROJECT["entry-points"][f"streamtrack.{group}"]]
NEEDED = {"within_px": 1.0, "frames": 1, "scenario": "vesicle"}
BEYOND = {"ge": -1, "gt": 0, "le": 1, "lt": 0}
"""From a bound to a number that it forbids."""


@checks_settings
class Example:
    def __init__(
        self,
        *,
        lag: Annotated[int, Field(ge=0, le=10)] = 2,
        step_px: Positive | None = None,
        point: tuple[float, float] | None = None,
        microscope: object = None,
    ) -> None:
        self.lag, self.step_px, self.point, self.microscope = lag, step_px, point, microscope


def bounds(factory):
    """Yield each setting of a plug-in that has a bound, with a value just beyond it."""
    for name, field in settings_model(factory).model_fields.items():
        annotation = [field, *(getattr(field.annotation, "__args__", ()))]
        for part in annotation:
            limits = [each for one in getattr(part, "__metadata__", [part]) for each in getattr(one, "metadata", [])]
            for limit in limits:
                yield from ((name, getattr(limit, bound) + BEYOND[bound]) for bound in BEYOND if hasattr(limit, bound))


@pytest.mark.parametrize(("group", "kind"), PLUGINS)
def test_every_bound_of_every_plugin_holds_where_it_is_built_in_python(group, kind):
    factory = registry.load(group, kind)
    parameters = inspect.signature(factory).parameters.items()
    needed = {name: NEEDED.get(name, "x") for name, parameter in parameters if parameter.default is parameter.empty}
    for name, value in bounds(factory):
        with pytest.raises(ConfigError, match=rf"^\w+: {name} = {value} is not valid: input should be ") as error:
            factory(**{**needed, name: value})
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("group", "kind"), PLUGINS)
def test_every_type_of_a_setting_is_in_a_reader_s_words(group, kind):
    for setting in settings(registry.load(group, kind)):
        assert not {"typing", "Any", "Annotated", "class", "None"} & set(setting.type.replace("[", ".").split("."))


def test_numbers_without_a_bound_are_finite():
    with pytest.raises(ConfigError, match="step_px = nan is no finite number"):
        Example(step_px=math.nan)


def test_what_is_in_range_arrives_as_it_is_annotated():
    example = Example(lag="3", point=[1, 2], microscope=Example)
    assert (example.lag, example.step_px, example.point, example.microscope) == (3, None, (1.0, 2.0), Example)


def test_a_keyword_that_does_not_exist_is_pythons_own_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'lags'"):
        Example(lags=3)


def test_the_alternatives_of_a_type_do_not_appear_in_the_message():
    with pytest.raises(ConfigError, match=r"source 'zarr': z = 'top' is not valid"):
        registry.check_settings("sources", PluginConfig(kind="zarr", path="x", z="top"))


def test_ranges_are_shown_in_words():
    shown = {setting.name: setting.type for setting in settings(Example)}
    assert shown["lag"] == "whole number from 0 to 10"
    assert shown["step_px"] == "number above 0"
    assert shown["point"] == "[number, number]"
