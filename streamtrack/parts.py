"""Builds everything that takes part in a run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from streamtrack.actuators.guard import Guard
from streamtrack.columns import measured_by
from streamtrack.config import PluginConfig, RunConfig
from streamtrack.errors import ConfigError, SourceError
from streamtrack.protocols import Actuator, Engine, FrameSource, Linker, Measure, Microscope, Sink
from streamtrack.registry import Group, build
from streamtrack.search_area import SearchArea
from streamtrack.triggers.rule import Rule
from streamtrack.types import SourceInfo

CLOSED_AT_THE_END = ("microscopes", "sources", "engines", "actuators")
"""Sinks are closed by their workers."""


CALIBRATIONS = {"pixel_size_um": (1e-6, 1e6), "frame_interval_s": (1e-9, 1e9)}
"""What can be meant: beyond it positions and times overflow sooner or later."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What takes part in a run.

    Attributes
    ----------
    info
        What is known of the source, and what the whole run measures.
    guard
        The microscope as actuators see it, behind the run's limits; None without a microscope.
    tables
        The configuration of all plug-ins with every default spelled out.
    area
        Where particles are looked for; None for everywhere.
    """

    source: FrameSource
    info: SourceInfo
    engine: Engine
    linker: Linker
    measures: Mapping[str, Measure]
    rules: Sequence[Rule]
    sinks: Mapping[str, Sink]
    actuators: Mapping[str, Actuator]
    microscope: Microscope | None
    guard: Guard | None
    tables: Mapping[str, Any]
    area: SearchArea | None
    _open: ExitStack

    def close(self) -> None:
        """Close source, engine and actuators, make the microscope safe, and close it last. May be called twice."""
        self._open.close()


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """Ready-made parts of a run, in place of the configuration's.

    Source and engine are closed when the run is over, as the run's own would be; the microscope is left as it is.
    Sinks come on top of the configuration's.
    """

    source: FrameSource | None = None
    engine: Engine | None = None
    microscope: Microscope | None = None
    sinks: Mapping[str, Sink] = field(default_factory=dict)


def build_parts(
    config: RunConfig,
    given: ReadyMade = ReadyMade(),
    on_guard: Callable[[Guard], None] = lambda guard: None,
    *,
    prepare_rules: bool = True,
) -> Parts:
    """Build every plug-in of a run that is not given; raises StreamtrackError, and then leaves none of them open.

    ``on_guard`` is called as soon as there is a guard: what comes after it may take long. Rules that are not prepared
    have not loaded what the file names, and cannot be used.
    """
    with ExitStack() as opened:
        builder = _Builder(opened, config.folder)
        microscope = given.microscope or builder.one("microscope", "microscopes", config.microscope)
        guard = Guard(microscope, config.safety, config.mode) if microscope else None
        if guard is not None:
            opened.callback(guard.close)
            on_guard(guard)
            guard.check_names()
        linker = builder.one("linker", "linkers", config.linker)
        engine = given.engine or builder.one("engine", "engines", config.engine)
        measures = builder.several("measures", "measures", config.measures)
        triggers = builder.several("triggers", "triggers", config.triggers)
        sinks = builder.several("sinks", "sinks", config.sinks)
        actuators = builder.several("actuators", "actuators", config.actuators.values(), guard)
        source = given.source or builder.one("source", "sources", config.source, microscope)
        if source is None:
            raise ConfigError("nothing to track: the configuration has no [source] table")
        for ready_made in (given.source, given.engine):
            if ready_made is not None:
                opened.callback(ready_made.close)
        _check_calibration(source.info)
        by_kind = {table.kind: measure for table, measure in zip(config.measures, measures, strict=True)}
        info = measured_by(source.info, engine, by_kind)
        rules = [Rule(trigger, rule) for trigger, rule in zip(triggers, config.triggers, strict=True)]
        parts = Parts(
            source,
            info,
            engine,
            linker,
            by_kind,
            rules,
            {**{table.kind: sink for table, sink in zip(config.sinks, sinks, strict=True)}, **given.sinks},
            dict(zip(config.actuators, actuators, strict=True)),
            microscope,
            guard,
            builder.tables,
            _area(config, info),
            opened,
        )
        if prepare_rules:
            for rule in rules:
                rule.prepare(info)
        _prepare_actuators(parts, config)
        return replace(parts, _open=opened.pop_all())
    raise AssertionError("not reached: nothing in the block above is suppressed")


def files_of(sinks: Mapping[str, Sink]) -> list[str]:
    """Return every name that these sinks may write; raises ConfigError on one that does not say."""
    silent = [name for name, sink in sinks.items() if not hasattr(sink, "files")]
    if silent:
        raise ConfigError(f"sink {silent[0]!r} does not say what it writes; give its class the names as 'files'")
    return [file for sink in sinks.values() for file in sink.files]


def _area(config: RunConfig, source: SourceInfo) -> SearchArea | None:
    if config.roi is None and config.mask is None:
        return None
    return SearchArea(source.shape, config.roi, None if config.mask is None else config.folder / config.mask)


def _check_calibration(source: SourceInfo) -> None:
    for name, (low, high) in CALIBRATIONS.items():
        value = getattr(source, name)
        if value is not None and not low <= value <= high:
            raise SourceError(f"{source.name}: {name} = {value:g} cannot be; correct what the movie or settings say")


class _Builder:
    """Builds plug-ins, notes their settings, and has those that hold something closed in the end."""

    def __init__(self, opened: ExitStack, config_folder: Path) -> None:
        self._opened = opened
        self._config_folder = config_folder
        self.tables: dict[str, Any] = {}

    def one(self, name: str, group: Group, config: PluginConfig | None, microscope: Microscope | None = None) -> Any:
        if config is None:
            self.tables[name] = None
            return None
        (plugin,) = self.several(name, group, [config], microscope)
        (self.tables[name],) = self.tables[name]
        return plugin

    def several(
        self, name: str, group: Group, configs: Iterable[PluginConfig], microscope: Microscope | None = None
    ) -> list[Any]:
        instances, tables = [], []
        for config in configs:
            plugin = build(group, config, microscope, self._config_folder)
            if group in CLOSED_AT_THE_END:
                self._opened.callback(plugin.instance.close)
            instances.append(plugin.instance)
            table = {**_common(config), "kind": plugin.kind, **plugin.settings}
            tables.append(without_secrets(table, paths=group == "actuators"))
        self.tables[name] = tables
        return instances


def _common(config: PluginConfig) -> dict[str, Any]:
    """Return the keys of a table that are not the plug-in's own: those of a rule."""
    return {key: value for key, value in config.model_dump(mode="json").items() if key not in config.settings}


def without_secrets(value: Any, *, paths: bool) -> Any:
    """Return a copy in which addresses have no user, no password and no query; if ``paths``, no path either.

    The report is shown around, and whoever knows the address of a web hook may post there.
    """
    if isinstance(value, Mapping):
        return {key: without_secrets(each, paths=paths) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(each, paths=paths) for each in value]
    if not (isinstance(value, str) and "://" in value):
        return value
    scheme, _, rest = value.partition("://")
    place, query, _ = rest.partition("?")
    host, slash, path = place.partition("#")[0].partition("/")
    shown = f"/{'...' if paths else path}" if slash and path else slash
    return f"{scheme}://{host.rpartition('@')[2]}{shown}{'?...' if query else ''}"


def _prepare_actuators(parts: Parts, config: RunConfig) -> None:
    for name, actuator in parts.actuators.items():
        try:
            actuator.prepare(parts.source.info, [rule.action for rule in config.triggers if rule.do == name])
        except ConfigError as error:
            raise ConfigError(f"actuator {name!r}: {error}") from error
