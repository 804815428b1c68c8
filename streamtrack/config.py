"""The configuration of one run: one TOML file, or what the command line made of its arguments.

Every part of the pipeline is chosen by ``kind``, the name of a plug-in; the other keys of its table are the plug-in's
own settings and are checked against its signature by :mod:`streamtrack.registry`.
"""

import codecs
import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from streamtrack.errors import ConfigError, foreign_errors, one_line

_PATH_KEYS = {"path", "config", "adapters", "weights", "mask"}
_BACKSLASH_CURE = r"write paths with / or in 'single quotes'"
_ESCAPES = re.compile(r"[\x08\t\n\f\r]")

Model = TypeVar("Model", bound=BaseModel)


def plugin_table(value: Any) -> dict[str, Any]:
    """Return the table of a plug-in: a name alone stands for one with its defaults; raises ConfigError."""
    if isinstance(value, str):
        return {"kind": value}
    if not isinstance(value, Mapping):
        raise ConfigError("give the name of a plug-in, or a table of its settings")
    return dict(value)


class PluginConfig(BaseModel):
    """A plug-in by name, with its settings; the name alone stands for one with its defaults."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _named_or_table(cls, value: Any) -> Any:
        return value if isinstance(value, BaseModel) else plugin_table(value)

    @property
    def settings(self) -> dict[str, Any]:
        """Every key but ``kind``."""
        return dict(self.model_extra or {})


class IngestConfig(BaseModel):
    """The queue between source and loop: the only place where a frame may be dropped before a decision.

    ``policy`` ``auto`` is ``block`` for a movie on disk and ``latest`` for a live source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    policy: Literal["auto", "block", "latest", "drop_newest"] = "auto"
    capacity: int | None = Field(default=None, ge=1, le=4096)
    """By default 8 for ``block``. Live it is 2: a longer queue loses as many frames when the engine is slow, and makes
    all others wait."""
    stall_timeout_s: float = Field(default=60.0, gt=0)
    """A run fails when its source has been silent for so long."""


class ConditionConfig(BaseModel):
    """A condition on what was measured: a number above or below another, or both, or a class by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    column: str
    above: float | None = None
    below: float | None = None
    is_: str | None = Field(default=None, alias="is")

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        numbers = [limit for limit in (self.above, self.below) if limit is not None]
        if bool(numbers) == (self.is_ is not None):
            raise ValueError(f"of column {self.column!r} give above, below or both, or is")
        if len(numbers) == 2 and not numbers[0] < numbers[1]:
            raise ValueError(f"nothing is above {self.above:g} and below {self.below:g}")
        return self


class RuleConfig(PluginConfig):
    """A trigger by name, with its settings, and what follows when it sees something."""

    do: str
    """Name of an actuator, or kind of a sink, of the run."""
    action: dict[str, Any] = {}
    """What it shall do, in its own terms."""
    name: str = ""
    """In logs; by default the trigger's kind."""
    confirmed: bool = True
    """Whether the trigger sees confirmed tracks only."""
    where: tuple[ConditionConfig, ...] = ()
    """The trigger sees only tracks for which all of these hold in the frame."""
    chosen: bool = False
    """The trigger sees only the track that was chosen while the run runs, and none before that."""
    stream: dict[Literal["position", "channel", "z"], int | str] = {}
    """Of a movie of several streams, the only ones that the rule sees: indices or names, ``{channel = "GFP"}``."""
    cool_down_s: float = Field(default=0.0, ge=0)
    """After a command, the rule keeps still for so long; of the frames' own clock."""
    max_per_minute: int = Field(default=600, ge=1)
    """What is more is held back and counted."""
    valid_ms: float = Field(default=200.0, gt=0)
    """A command that is not sent by then is stale."""


Limits = tuple[float, float]


class SafetyConfig(BaseModel):
    """What commands may do to the microscope; what is not named here is refused.

    The stage moves along an axis only within its limits, in um of the stage's own coordinates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    properties: tuple[str, ...] = ()
    """Device properties, ``"Device.Property"``."""
    presets: tuple[str, ...] = ()
    """Configuration groups, for example ``"Channel"``."""
    shutters: tuple[str, ...] = ()
    """Shutter devices."""
    x_um: Limits | None = None
    y_um: Limits | None = None
    z_um: Limits | None = None
    exposure_ms: Limits | None = None
    pulse_ms: Limits | None = None
    """How long a pulse may last that a device makes by itself, or a pattern of an SLM stay."""
    slms: tuple[str, ...] = ()
    """Spatial light modulators that may show patterns."""
    slm_area_px2: float | None = Field(default=None, gt=0)
    """Most of a modulator's pixels that a pattern lights."""
    slm_intensity: int | None = Field(default=None, ge=1, le=255)
    """Highest value of a pattern's pixels."""
    autofocus: bool = False
    """Whether the autofocus may search the focus, and is told to let go while the stage moves."""
    light: tuple[str, ...] = ()
    """What makes light besides shutters: properties, ``"Device.Property"``; devices, of which then each property does;
    configuration groups."""
    max_dose_ms: float | None = Field(default=None, gt=0)
    """Most light of the whole run: the time that commands have each source on, summed. See ``docs/safety.md``."""
    close_shutter: str | None = None
    """Shutter that is closed in an emergency and when the run ends."""

    @field_validator("x_um", "y_um", "z_um", "exposure_ms", "pulse_ms")
    @classmethod
    def _low_before_high(cls, limits: Limits | None) -> Limits | None:
        if limits and not limits[0] <= limits[1]:
            raise ValueError(f"the lower limit {limits[0]:g} is above the upper {limits[1]:g}")
        return limits


Mode = Literal["observe", "rehearse", "armed"]
"""What becomes of commands.

``observe``: they are written down. ``rehearse``: they pass through the guard, but no hardware is called. ``armed``:
they are carried out, within ``[safety]``.
"""


class RunConfig(BaseModel):
    """Everything that decides a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: PluginConfig | None = None
    """May be left out where a script feeds the run."""
    roi: str | None = None
    """Rectangle that is searched, ``"Y0:Y1,X0:X1"`` in px; outside nothing is detected."""
    mask: Path | None = None
    """File of the frames' size, TIFF, PNG, ``.npy`` or zarr: only where it is not 0 is searched."""
    pixel_size_um: float | None = None
    """How large a pixel of the frames is; by default what the source says."""
    frame_interval_s: float | None = None
    """From one frame to the next; by default what the source says."""
    engine: PluginConfig = PluginConfig(kind="denodet")
    linker: PluginConfig = PluginConfig(kind="imm")
    measures: tuple[PluginConfig, ...] = ()
    microscope: PluginConfig | None = None
    triggers: tuple[RuleConfig, ...] = ()
    actuators: dict[str, PluginConfig] = {}
    safety: SafetyConfig = SafetyConfig()
    sinks: tuple[PluginConfig, ...] = (PluginConfig(kind="tables"), PluginConfig(kind="overview"))
    ingest: IngestConfig = IngestConfig()
    mode: Mode = "observe"
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """Where the run's file lies: what it names may be beside it. Without a file, the current folder."""
        return self._folder or Path.cwd()

    def from_file(self, path: Path) -> Self:
        """Return the configuration as one that was read from a file."""
        copy = self.model_copy()
        copy._folder = path.resolve().parent
        return copy

    @field_validator("roi", "mask", mode="before")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        if value == "":
            raise ValueError("it is empty: leave it out to search everywhere")
        return value

    @field_validator("pixel_size_um", "frame_interval_s")
    @classmethod
    def _above_zero(cls, value: float | None, field: ValidationInfo) -> float | None:
        if value is not None and not value > 0:
            unit = "um per pixel" if field.field_name == "pixel_size_um" else "seconds from frame to frame"
            raise ValueError(f"give {unit}, above 0, or leave it out for what the source says")
        return value

    @field_validator("sinks", "measures")
    @classmethod
    def _each_once(cls, plugins: tuple[PluginConfig, ...], field: ValidationInfo) -> tuple[PluginConfig, ...]:
        if len({plugin.kind for plugin in plugins}) < len(plugins):
            raise ValueError(f"a {str(field.field_name)[:-1]} may be named once only")
        return plugins

    @model_validator(mode="after")
    def _rules_have_doers(self) -> Self:
        names = [rule.name or rule.kind for rule in self.triggers]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name: give each a name of its own")
        known = [*self.actuators, *(sink.kind for sink in self.sinks)]
        for rule in self.triggers:
            if rule.do not in known:
                raise ValueError(f"no actuator or sink is called {rule.do!r}{did_you_mean(rule.do, known)}")
        return self


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises ConfigError when it is missing, not TOML, or has a path that is not what was typed."""
    with foreign_errors(ConfigError, f"cannot read the configuration {path}"):
        content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{path} is in UTF-16, TOML is UTF-8: save it as UTF-8 (PowerShell: Out-File -Encoding utf8)")
    with foreign_errors(ConfigError, f"{path} is not in UTF-8, save it so"):
        text = content.decode("utf-8-sig")  # Windows' editors put a mark in front
    with foreign_errors(ConfigError, f"{path} is not valid TOML"):
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not valid TOML: {one_line(error)}{_backslash_cure(text, error)}") from error
        for key, value in _values(data):
            if isinstance(value, str) and _lost_backslashes(key, value):
                raise ConfigError(f"{path}: {key} = {value!r} has backslashes that TOML replaced: {_BACKSLASH_CURE}")
    return data


def validate(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    """Build a model from plain data; the first mistake becomes a one-line ConfigError."""
    with foreign_errors(ConfigError, where):
        for key, value in _values(data):
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{where}: {key} = {value} is no finite number; leave it out for the default")
        try:
            return model.model_validate(dict(data))
        except ValidationError as error:
            raise ConfigError(_first_mistake(error, model, data, where)) from None


def _values(data: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value in nested tables and lists, with the name of its key."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from _values(value, str(name))
    elif isinstance(data, (list, tuple)):
        for value in data:
            yield from _values(value, key)
    else:
        yield key, data


def _lost_backslashes(key: str, value: str) -> bool:
    """Return whether a value is a path with backslashes, of which TOML made tabs and ends of lines."""
    escape = _ESCAPES.search(value)
    return escape is not None and (key in _PATH_KEYS or (escape.start() == 2 and value[1] == ":"))


def _backslash_cure(text: str, error: tomllib.TOMLDecodeError) -> str:
    """Return the cure where the line of the error has a backslash."""
    place = re.search(r"at line (\d+)", str(error))
    line = text.splitlines()[int(place[1]) - 1 :][:1] if place else []
    return f"; {_BACKSLASH_CURE}" if line and "\\" in line[0] else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name most like this one, or nothing; case does not matter."""
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def engine_kind(table: Mapping[str, Any]) -> str:
    """Return the engine that a table without ``kind`` means: one for any weights where it names some."""
    return "graph" if table.get("weights") else "denodet"


def _first_mistake(error: ValidationError, model: type[BaseModel], data: Any, where: str) -> str:
    # An unknown key first: it often explains the others.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key = ".".join(_place(first["loc"], data))
    if first["type"] == "extra_forbidden":
        known = sorted(_fields_at(model, first["loc"][:-1]))
        return f"{where}: unknown key {key!r}{did_you_mean(str(first['loc'][-1]), known)} (known: {', '.join(known)})"
    if first["type"] == "missing":
        return f"{where}: {key!r} is missing"
    alternatives = [each for each in error.errors() if ".".join(_place(each["loc"], data)) == key]
    messages = dict.fromkeys(each["msg"].removeprefix("Value error, ") for each in alternatives)
    message = "; or ".join(_in_a_sentence(each) for each in messages)
    if not key:  # about the whole, not one key
        return f"{where}: {message}"
    return f"{where}: {key} = {_short(first['input'])} is not valid: {message}"


def _in_a_sentence(message: str) -> str:
    return message[:1].lower() + message[1:]


def _place(loc: tuple[int | str, ...], data: Any) -> Iterator[str]:
    """Yield the keys that lead to a mistake, without pydantic's names of a type's alternatives."""
    for part in loc:
        if isinstance(part, str) and isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(part, int) and isinstance(data, list | tuple):
            data = data[part] if part < len(data) else None
        else:
            continue
        yield str(part)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> Iterable[str]:
    for part in path:
        inner = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ()
        model = inner
    return model.model_fields
