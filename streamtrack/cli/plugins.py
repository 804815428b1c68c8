"""``streamtrack plugins``: what is installed, with settings, straight from signatures and docstrings."""

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo

from streamtrack.clock import monotonic_ns
from streamtrack.config import PluginConfig, did_you_mean
from streamtrack.errors import ConfigError, StreamtrackError, described
from streamtrack.registry import Group, build, load, names
from streamtrack.settings import GIVEN

KINDS: dict[str, str] = {
    "sources": "[source]: where frames come from",
    "engines": "[engine]: finds the particles of a frame",
    "linkers": "[linker]: makes tracks of them",
    "measures": "[[measures]]: what else is measured of each particle",
    "microscopes": "[microscope]: the hardware",
    "triggers": "[[triggers]]: what may happen to a track",
    "actuators": "[actuators.NAME]: what to do then",
    "sinks": "[[sinks]]: what is written down",
    "networks": "[network] of a training's recipe: from frames to channels",
    "heads": "[head] of a recipe: what the channels mean",
    "training_data": "[data] of a recipe: what is learnt from",
}
"""Plug-ins that have settings, with the table of the run's or the training's file that they belong to."""
_TIMED_FRAMES = 9
_LIMITS = {
    "ge": " of at least {:g}",
    "gt": " above {:g}",
    "le": " up to {:g}",
    "lt": " below {:g}",
    "min_length": " of at least {}",
    "max_length": " of at most {}",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a plug-in's table: type and default as in Python, and what the docstring says of it."""

    name: str
    type: str
    default: str
    text: str


def plugins(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}.")] = None,
    name: Annotated[str | None, typer.Argument(help="Name of a plug-in: shows its settings.")] = None,
    time: Annotated[bool, typer.Option("--time", help="Of engines: how long each takes for a frame here.")] = False,
) -> None:
    """List the installed plug-ins; of a KIND, what each does; of one by NAME, its settings."""
    if kind is not None and kind not in KINDS:
        raise ConfigError(
            f"there are no plug-ins of kind {kind!r}{did_you_mean(kind, KINDS)} (known: {', '.join(KINDS)})"
        )
    if time and (kind != "engines" or name is not None):
        raise ConfigError("--time measures engines: streamtrack plugins engines --time")
    lines = _kinds() if kind is None else _names(kind, time) if name is None else _settings(kind, name)
    for line in lines:
        print(line)


def markdown() -> str:
    """Return the page of the documentation that lists every setting of every installed plug-in."""
    return "\n".join(_page()) + "\n"


def settings(plugin: Any) -> list[Setting]:
    """Return the settings of a plug-in, in the order of its signature."""
    hints = get_type_hints(plugin.__init__ if inspect.isclass(plugin) else plugin, include_extras=True)
    said: dict[str, str] = {}
    for part in reversed(inspect.getmro(plugin)) if inspect.isclass(plugin) else [plugin]:
        said |= _parameters(inspect.getdoc(part) or "")  # settings may be documented where they are inherited from
    found = []
    for name, parameter in inspect.signature(plugin).parameters.items():
        if name not in GIVEN:
            default = "needed" if parameter.default is parameter.empty else _toml(parameter.default)
            found.append(Setting(name, _type(hints.get(name, Any)), default, said.get(name, "")))
    return found


def _kinds() -> Iterator[str]:
    for kind, table in KINDS.items():
        yield f"{kind:12} {table}"
        yield f"{'':12}   {', '.join(names(_group(kind))) or 'none installed'}"


def _names(kind: str, time: bool) -> Iterator[str]:
    width = max(map(len, names(_group(kind))), default=0)
    for name in names(_group(kind)):
        yield f"{name:{width}}  {_what_it_does(kind, name)}"
        if kind == "engines":
            yield from (f"{'':{width}}  {line}" for line in _about(name, time))


def _about(name: str, time: bool) -> Iterator[str]:
    """Yield what an engine says of its weights by ``about()``, where it has that, and how long it takes."""
    try:
        yield from getattr(load("engines", name), "about", list)()
        if time:
            yield _measured(name)
    except StreamtrackError as error:
        yield f"not measured: {error}"
    except Exception as error:  # a plug-in that is broken must not hide the others
        yield f"broken: {described(error)}"


def _measured(name: str) -> str:
    import numpy as np

    frame = np.random.default_rng(0).poisson(100, (512, 512)).astype(np.uint16)
    with closing(build("engines", PluginConfig(kind=name)).instance) as engine:
        engine.prepare(frame.shape, "uint16")
        spent_ms = []
        for _ in range(_TIMED_FRAMES):
            began = monotonic_ns()
            engine.detect(frame, denoise=False)
            spent_ms.append((monotonic_ns() - began) / 1e6)
        back_end = engine.info.get("backend") or "?"
    return f"{median(spent_ms):.1f} ms for a frame of 512x512 px here (back end {back_end})"


def _settings(kind: str, name: str) -> Iterator[str]:
    plugin = load(_group(kind), name)
    yield f"{name}: {_first_paragraph(plugin)}"
    for setting in settings(plugin):
        yield ""
        yield f"  {setting.name} = {setting.default}   ({setting.type})"
        if setting.text:
            yield f"      {setting.text}"


def _page() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield "Every plug-in that comes with streamtrack, as `streamtrack plugins KIND NAME` shows it. Written by"
    yield "`python docs/make_settings.py`; do not edit."
    for kind, table in KINDS.items():
        yield from ("", f"## {kind}", "", f"`{table.partition(': ')[0]}`: {table.partition(': ')[2]}")
        for name in names(_group(kind)):
            plugin = load(_group(kind), name)
            yield from ("", f"### {name}", "", _first_paragraph(plugin))
            yield from _rows(settings(plugin))


def _rows(found: list[Setting]) -> Iterator[str]:
    if found:
        yield from ("", "| setting | type | default | |", "|---|---|---|---|")
    for setting in found:
        cells = (f"`{setting.name}`", f"`{setting.type}`", f"`{setting.default}`", setting.text)
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _group(kind: str) -> Group:
    return kind  # type: ignore[return-value]  # KINDS holds groups only


def _what_it_does(kind: str, name: str) -> str:
    try:
        return _first_paragraph(load(_group(kind), name))
    except StreamtrackError as error:
        return f"not usable here: {error}"
    except Exception as error:  # a plug-in that is broken must not hide the others
        return f"broken: {described(error)}"


def _first_paragraph(plugin: Any) -> str:
    return _plain((inspect.getdoc(plugin) or "").partition("\n\n")[0])


def _parameters(docstring: str) -> dict[str, str]:
    """Return what a numpydoc docstring says of each parameter, each in one line; of a dataclass, of each attribute."""
    said: dict[str, str] = {}
    for kind in ("Attributes", "Parameters"):
        _, found, rest = docstring.partition(f"{kind}\n----------\n")
        section = re.split(r"\n\n\S[^\n]*\n-{3,}\n", rest, maxsplit=1)[0] if found else ""
        for entry in re.split(r"\n(?=\S)", section.strip("\n")):
            heading, _, text = entry.partition("\n")
            said |= {name.strip(): _plain(inspect.cleandoc(text)) for name in heading.split(",")}
    return said


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _type(hint: Any) -> str:
    """Return a type as a reader of TOML understands it."""
    if get_origin(hint) is Annotated:
        kind, *extras = get_args(hint)
        limits = [limit for extra in extras if isinstance(extra, FieldInfo) for limit in extra.metadata]
        return _type(kind) + _range({name: value for each in limits for name, value in asdict(each).items()})
    if get_origin(hint) is Literal:
        return " or ".join(_toml(value) for value in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_type(each) for each in get_args(hint) if each is not types.NoneType)
    if get_origin(hint) in (list, tuple):
        kinds = ["..." if each is Ellipsis else _type(each) for each in get_args(hint)]
        return f"[{', '.join([*kinds, '...'] if get_origin(hint) is list else kinds)}]"
    if get_origin(hint) in (dict, Mapping):
        return "table"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}.get(
        getattr(hint, "__name__", ""), str(hint)
    )


def _range(limits: Mapping[str, Any]) -> str:
    """Return in words what pydantic's ``Field`` says of a number, or of the length of a list."""
    if {"ge", "le"} <= limits.keys():
        return f" from {limits['ge']:g} to {limits['le']:g}"
    return ",".join(word.format(limits[name]) for name, word in _LIMITS.items() if name in limits)


def _toml(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
