"""Finds plug-ins by name through entry points and builds them from their settings.

Names are listed without importing anything; a plug-in is imported when a run asks for it.
"""

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

from streamtrack.config import PluginConfig, did_you_mean, validate
from streamtrack.errors import ConfigError, PluginNotFoundError, SourceError, one_line
from streamtrack.plain import without_secrets
from streamtrack.protocols import Microscope
from streamtrack.settings import settings_model

Group = Literal[
    "sources",
    "opens",
    "engines",
    "linkers",
    "measures",
    "microscopes",
    "triggers",
    "actuators",
    "sinks",
    "networks",
    "heads",
    "training_data",
    "commands",
    "diagnostics",
]

EXTRA_OF_MODULE = {
    "torch": "train",
    "onnx": "train",
    "onnxscript": "train",
    "pymmcore": "micromanager",
    "pymmcore_plus": "micromanager",
    "useq": "micromanager",
    "pycromanager": "micromanager",
    "pyjavaz": "micromanager",
    "zmq": "micromanager",
    "bioio": "formats",
    "bioio_base": "formats",
    "obstore": "remote",
}
"""Which extra brings a module that a plug-in may lack."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plug-in with the settings it was built from, defaults included."""

    kind: str
    instance: Any
    settings: Mapping[str, Any]


def names(group: Group) -> list[str]:
    """Return the names of the installed plug-ins of a group, sorted."""
    return sorted({entry.name for entry in _entries(group)})


def load(group: Group, kind: str) -> Any:
    """Import a plug-in; raises PluginNotFoundError when it is unknown or lacks a dependency."""
    entry = _find(group, kind)
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRA_OF_MODULE:
            raise
        cure = f'pip install ".[{EXTRA_OF_MODULE[module]}]"'
        raise PluginNotFoundError(f"{_one_of(group)} {kind!r} needs {module}: {cure}") from error


def build(
    group: Group, config: PluginConfig, microscope: Microscope | None = None, config_folder: Path | None = None
) -> Plugin:
    """Build a plug-in; its settings are checked against its signature, and a mistake raises ConfigError.

    One that has a setting ``microscope`` or ``config_folder`` gets what is given here.
    """
    factory = load(group, config.kind)
    given = _given(factory, microscope, config_folder, f"{_one_of(group)} {config.kind!r}")
    settings = check_settings(group, config)
    return Plugin(config.kind, factory(**settings, **given), settings)


def check_settings(group: Group, config: PluginConfig) -> dict[str, Any]:
    """Return the settings of a plug-in, defaults included; raises ConfigError where they do not fit its signature."""
    model = settings_model(load(group, config.kind))
    checked = validate(model, config.settings, f"{_one_of(group)} {config.kind!r}")
    return {name: getattr(checked, name) for name in type(checked).model_fields}


def needs_microscope(group: Group, config: PluginConfig) -> bool:
    """Return whether a plug-in is given the run's microscope."""
    return "microscope" in inspect.signature(load(group, config.kind)).parameters


def source_from_text(text: str) -> dict[str, Any]:
    """Return the source's table for what a user types: a path, or ``KIND:FIRST?key=value&...``.

    FIRST goes to the first setting of a source of that kind. A path is read by the first source that opens it: those of
    other packages are asked before those of streamtrack, otherwise it goes by name. Raises SourceError where none does.

    >>> source_from_text("sim:vesicle?snr=4")
    {'kind': 'sim', 'scenario': 'vesicle', 'snr': '4'}
    """
    kind, colon, rest = text.partition(":")
    if colon and kind in names("sources"):
        first, _, query = rest.partition("?")
        own = list(settings_model(load("sources", kind)).model_fields)
        given = {own[0]: first} if own and first else {}
        return {"kind": kind, **given, **dict(parse_qsl(query, keep_blank_values=True))}
    path = text if "://" in text else os.path.expanduser(text)
    return {"kind": _opener(path), "path": path}


def _opener(path: str) -> str:
    """Return the kind of the first source that opens this path or URL."""
    failed, is_url = "", "://" in path
    for entry in sorted(_entries("opens"), key=lambda entry: (_is_own(entry), entry.name)):
        try:
            if entry.load()(path):
                return entry.name
        except Exception as error:  # a reader that is broken must not keep the others from reading
            failed += f"; {entry.name!r} failed: {one_line(error)}"
    if is_url:
        shown, read = without_secrets(path, paths=False), "zarr and OME-Zarr at http://, https://, s3:// and gs://"
        raise SourceError(f"{shown}: over the network only {read} are read: download it, or mount where it is{failed}")
    if reason := _why_missing(path):
        meant = did_you_mean(path.partition(":")[0], names("sources"))
        raise SourceError(f"{path}: {reason}: check the path{meant}")
    if not failed and (meant := _is_no_movie(Path(path))):
        raise SourceError(f"{path} {meant}")
    asked = ", ".join(names("opens"))
    raise SourceError(f"{path}: no installed source opens it (asked: {asked}){failed}; to name one write KIND:{path}")


def _is_no_movie(path: Path) -> str:
    """Return what is said of a file or folder that is something else; nothing where nobody knows."""
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv", ".txt", ".xml", ".parquet"):
        return "is a table, not a movie: name the movie; 'streamtrack convert' and 'relink' take tables"
    if ending in (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".avi", ".mp4", ".mov", ".mkv"):
        return "is a picture or a video, whose pixels are no counts of a camera: take the TIFF or zarr it was made from"
    if (path / "report.json").is_file():
        return "is the folder of a run: name the movie; 'streamtrack view' and 'evaluate' take runs"
    return ""


def _why_missing(path: str) -> str | None:
    """Return why a path leads to nothing that can be looked at, None where it does."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "no such file or folder"
    except OSError as error:  # no permission, a name too long, a share that is gone
        return error.strerror or str(error)
    return None


@cache
def _is_own(entry: EntryPoint) -> bool:
    """Return whether an entry point is streamtrack's own: asking each time takes 6 ms a movie of a batch."""
    return entry.dist is not None and entry.dist.name == "streamtrack"


def _given(
    factory: Callable[..., Any], microscope: Microscope | None, config_folder: Path | None, where: str
) -> dict[str, Any]:
    """Return what a plug-in gets besides its settings."""
    parameters = inspect.signature(factory).parameters
    if "microscope" in parameters and microscope is None:
        cure = f"add a [microscope] table (kinds: {', '.join(names('microscopes')) or 'none installed'})"
        raise ConfigError(f"{where} needs a microscope: {cure}")
    given = {"microscope": microscope, "config_folder": config_folder}
    return {name: value for name, value in given.items() if name in parameters}


def _entries(group: Group) -> tuple[EntryPoint, ...]:
    return _entries_along(group, tuple(sys.path))


@cache
def _entries_along(group: Group, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group: looking through all that is installed takes 40 ms."""
    return tuple(entry_points(group=f"streamtrack.{group}"))


def _find(group: Group, kind: str) -> EntryPoint:
    found = [entry for entry in _entries(group) if entry.name == kind]
    if found:
        return found[0]
    known = names(group)
    listing = ", ".join(known) or "none installed"
    raise PluginNotFoundError(f"unknown {_one_of(group)} {kind!r}{did_you_mean(kind, known)} (known: {listing})")


def _one_of(group: Group) -> str:
    return group.replace("_", " ").removesuffix("s")
