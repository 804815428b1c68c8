"""The configuration of one run: one TOML file, or what the command line made of its arguments.

Every part of the pipeline is chosen by ``kind``, the name of a plug-in; the other keys of its table are the plug-in's
own settings and are checked against its signature by :mod:`streamtrack.registry`.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from streamtrack.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


class PluginConfig(BaseModel):
    """A plug-in by name, with its settings."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str

    @property
    def settings(self) -> dict[str, Any]:
        """Every key but ``kind``."""
        return dict(self.model_extra or {})


class IngestConfig(BaseModel):
    """The queue between source and loop: the only place where a frame may be dropped before a decision.

    ``policy`` ``auto`` is ``block`` for a movie on disk and ``latest`` for a live source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Literal["auto", "block", "latest", "drop_newest"] = "auto"
    capacity: int = Field(default=8, ge=1, le=4096)
    stall_timeout_s: float = Field(default=60.0, gt=0)
    """A run fails when its source has been silent for so long."""


class RunConfig(BaseModel):
    """Everything that decides a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: PluginConfig
    engine: PluginConfig = PluginConfig(kind="denodet")
    linker: PluginConfig = PluginConfig(kind="imm")
    triggers: tuple[PluginConfig, ...] = ()
    actuators: dict[str, PluginConfig] = {}
    sinks: tuple[PluginConfig, ...] = (PluginConfig(kind="tables"), PluginConfig(kind="overview"))
    ingest: IngestConfig = IngestConfig()
    armed: bool = False
    """Only an armed run sends commands to actuators; otherwise they are recorded."""

    @field_validator("sinks")
    @classmethod
    def _each_sink_once(cls, sinks: tuple[PluginConfig, ...]) -> tuple[PluginConfig, ...]:
        if len({sink.kind for sink in sinks}) < len(sinks):
            raise ValueError("a sink may be named once only")
        return sinks


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises ConfigError when it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def validate(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    """Build a model from plain data; the first mistake becomes a one-line ConfigError."""
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(_first_mistake(error, model, where)) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name most like this one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def source_from_text(text: str) -> dict[str, Any]:
    """Return the source's table for what a user types: a path, or ``kind:name?key=value&...``.

    >>> source_from_text("sim:vesicle?snr=4")
    {'kind': 'sim', 'scenario': 'vesicle', 'snr': '4'}
    """
    scheme, _, rest = text.partition(":")
    if scheme == "sim":
        scenario, _, query = rest.partition("?")
        return {"kind": "sim", "scenario": scenario, **dict(parse_qsl(query, keep_blank_values=True))}
    kind = "tiff" if text.lower().endswith((".tif", ".tiff", ".btf")) else "zarr"
    return {"kind": kind, "path": text}


def _first_mistake(error: ValidationError, model: type[BaseModel], where: str) -> str:
    # An unknown key first: it often explains the others.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = sorted(_fields_at(model, first["loc"][:-1]))
        return f"{where}: unknown key {key!r}{nearest(str(first['loc'][-1]), known)} (known: {', '.join(known)})"
    if first["type"] == "missing":
        return f"{where}: {key!r} is missing"
    return f"{where}: {key} = {first['input']!r} is not valid: {first['msg'][0].lower()}{first['msg'][1:]}"


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> Iterable[str]:
    for part in path:
        inner = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ()
        model = inner
    return model.model_fields
