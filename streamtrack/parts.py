"""Builds everything that takes part in a run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from streamtrack.actuators.guard import Guard
from streamtrack.calibrated import calibrated, check_moves
from streamtrack.columns import let_see_depth, measured_by
from streamtrack.config import PluginConfig, RunConfig
from streamtrack.errors import ConfigError
from streamtrack.plain import without_secrets
from streamtrack.protocols import Actuator, Engine, FrameSource, Linker, Measure, Microscope, Sink
from streamtrack.registry import Group, build
from streamtrack.search_area import SearchArea, area_of
from streamtrack.several_sources import SeveralSources
from streamtrack.stage_moves import STAGE_COLUMNS, StageMoves, StageWatch
from streamtrack.triggers.rule import Rule
from streamtrack.types import SourceInfo, Stream

CLOSED_AT_THE_END = ("microscopes", "sources", "engines", "actuators")
"""Sinks are closed by their workers."""


STREAM_AXES = ("position", "channel", "z")
ALL = "all"
"""What a source's setting of an axis says for all of them."""


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
    engine_is_given
        Whether it is ready-made, not the configuration's.
    stage_moves
        Those of the run's stage; None where nothing is known of it.
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
    engine_is_given: bool
    stage_moves: StageMoves | None
    _open: ExitStack

    def stage_watch(self) -> StageWatch | None:
        """Return what says of the frames of one stream where the stage was."""
        return None if self.stage_moves is None else StageWatch(self.stage_moves, self.source.info)

    def closes(self, close: Callable[[], object]) -> None:
        """Call this, too, when the parts are closed."""
        self._open.callback(close)

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
        sinks = builder.several("sinks", "sinks", config.sinks, guard)
        actuators = builder.several("actuators", "actuators", config.actuators.values(), guard)
        source = given.source or builder.source(config.source, microscope)
        if source is None:
            raise ConfigError("nothing to track: the configuration has no [source] table")
        for ready_made in (given.source, given.engine):
            if ready_made is not None:
                opened.callback(ready_made.close)
        source = calibrated(source, config)
        if guard is not None:
            check_moves(source, guard, config, config.mode)
        let_see_depth(linker, engine, source.info.pixel_size_um)
        by_kind = {table.kind: measure for table, measure in zip(config.measures, measures, strict=True)}
        stage = guard.stage_moves if guard is not None and _watches_stage(config, source.info, sinks, guard) else None
        info = _searched(measured_by(source.info, engine, linker, by_kind, STAGE_COLUMNS if stage else ()), config)
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
            area_of(info),
            given.engine is not None,
            stage,
            opened,
        )
        if info.streams is None and (limited := next((rule for rule in config.triggers if rule.stream), None)):
            name = limited.name or limited.kind
            raise ConfigError(f"trigger {name!r}: stream = {limited.stream}, but the movie has only one")
        if "view" not in parts.sinks and (waiting := next((rule for rule in rules if rule.event), None)):
            cure = 'begin it with --view, or add [[sinks]] with kind = "view"'
            raise ConfigError(f"trigger {waiting.name!r}: nobody can post an event to a run without a view; {cure}")
        if prepare_rules:
            for rule in rules:
                rule.prepare(info)
        prepare_actuators(parts, config)
        return replace(parts, _open=opened.pop_all())
    raise AssertionError("not reached: nothing in the block above is suppressed")


def files_of(sinks: Mapping[str, Sink]) -> list[str]:
    """Return every name that these sinks may write; raises ConfigError on one that does not say."""
    silent = [name for name, sink in sinks.items() if not hasattr(sink, "files")]
    if silent:
        raise ConfigError(f"sink {silent[0]!r} does not say what it writes; give its class the names as 'files'")
    return [file for sink in sinks.values() for file in sink.files]


def build_rules(config: RunConfig, source: SourceInfo, stream: Stream) -> list[Rule]:
    """Return the rules for one stream of several, ready for it."""
    tables = [table for table in config.triggers if all(_is(stream, *place) for place in table.stream.items())]
    built = (build("triggers", table, config_folder=config.folder).instance for table in tables)
    rules = [Rule(trigger, table) for trigger, table in zip(built, tables, strict=True)]
    for rule in rules:
        rule.prepare(source)
    return rules


def _is(stream: Stream, axis: str, wanted: int | str) -> bool:
    return wanted in (getattr(stream, axis), getattr(stream, f"{axis}_name", None))


def _searched(source: SourceInfo, config: RunConfig) -> SourceInfo:
    """Return the source with the part of it that is searched."""
    mask = None if config.mask is None else str(config.folder / config.mask)
    said = {name: value for name, value in (("roi", config.roi), ("mask", mask)) if value is not None}
    return replace(source, details={**source.details, **said}) if said else source


def _watches_stage(config: RunConfig, source: SourceInfo, sinks: Iterable[Sink], guard: Guard) -> bool:
    """Return whether the run may move the stage, or its frames or a sink speak of it; and that is known now."""
    asked = any(getattr(sink, "needs_stage", False) for sink in sinks)
    said = set(STAGE_COLUMNS) <= set(source.frame_columns)
    return (bool(config.actuators) or said or asked) and guard.stage_moves.locate()


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

    def source(self, config: PluginConfig | None, microscope: Microscope | None) -> Any:
        """Build the source; where it is asked for all positions, channels or planes, one for each of them."""
        all_of = [axis for axis in STREAM_AXES if config is not None and config.settings.get(axis) == ALL]
        if config is None or not all_of:
            return self.one("source", "sources", config, microscope)
        source = self.one("source", "sources", _choose(config, dict.fromkeys(all_of, 0)), microscope)
        self.tables["source"] |= dict.fromkeys(all_of, ALL)
        if not hasattr(source, "choices"):
            raise ConfigError(f"source {config.kind!r} cannot give {all_of[0]} = {ALL!r}: choose one")
        names = {axis: list(source.choices().get(axis, [""])) for axis in all_of}
        sources = {}
        for place in product(*(range(len(each)) for each in names.values())):
            chosen = dict(zip(names, place, strict=True))
            said: dict[str, Any] = {f"{axis}_name": names[axis][at] for axis, at in chosen.items() if axis != "z"}
            one = build("sources", _choose(config, chosen), microscope, self._config_folder).instance
            self._opened.callback(one.close)
            said |= {"origin_um": one.info.origin_um, "z_um": one.info.z_um}
            sources[Stream(**{**_place(config, source.choices()), **chosen, **said})] = one
        return SeveralSources(sources)

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


def _place(config: PluginConfig, names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return where along the axes the settings choose one, by index or name."""
    place: dict[str, Any] = {}
    for axis in STREAM_AXES:
        at, known = config.settings.get(axis), list(names.get(axis, ()))
        if axis == "z" and at == "max":
            place[axis] = None
        elif at in known:
            place |= {axis: known.index(at), f"{axis}_name": at}
        elif str(at).isdecimal():
            place[axis] = int(str(at))
    return place


def _choose(config: PluginConfig, chosen: Mapping[str, int]) -> PluginConfig:
    return config.model_copy(update=dict(chosen))


def _common(config: PluginConfig) -> dict[str, Any]:
    """Return the keys of a table that are not the plug-in's own: those of a rule."""
    return {key: value for key, value in config.model_dump(mode="json").items() if key not in config.settings}


def prepare_actuators(parts: Parts, config: RunConfig) -> None:
    """Have every actuator check what its rules will ask for; raises ConfigError."""
    for name, actuator in parts.actuators.items():
        try:
            actuator.prepare(parts.source.info, [rule.action for rule in config.triggers if rule.do == name])
        except ConfigError as error:
            raise ConfigError(f"actuator {name!r}: {error}") from error
