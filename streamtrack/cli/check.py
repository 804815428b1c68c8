"""``streamtrack check``: whether a run may begin, without beginning it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from streamtrack import registry
from streamtrack.actuators.names import Names
from streamtrack.cli.saying import say
from streamtrack.config import PluginConfig, RunConfig, read_toml, validate
from streamtrack.errors import ConfigError, MicroscopeError
from streamtrack.protocols import FrameSource, HasAutofocus, Microscope
from streamtrack.triggers.python import functions_of
from streamtrack.types import SourceInfo

AXES = ("x_um", "y_um", "z_um", "exposure_ms")


def check(
    config: Annotated[Path, typer.Argument(help="TOML file of the run.")],
    mode: Annotated[str | None, typer.Option(help="As for 'live': check what that mode needs.")] = None,
) -> None:
    """Say whether a run may begin; nothing is moved, and nothing set.

    Connects to the microscope, compares every name with it, and tries the rules' actions against the limits. Shows the
    limits beside where things are now, what the rules may do, and which functions of the file's a run would load; none
    is. Exit code 0: the run may begin; 2: what is amiss is said in one line.
    """
    data = read_toml(config)
    if mode is not None:
        data["mode"] = mode
    run = validate(RunConfig, data, str(config)).from_file(config)
    say(f"{config}: mode {run.mode}")
    with ExitStack() as opened:
        microscope = _microscope(run, opened)
        if microscope is not None:
            say(*limits(run, microscope))
        say(*rules(run))
        opened.callback(_build(run, microscope).close)
    observes = "; it only observes: --mode armed checks the limits, too" if run.mode == "observe" else ""
    say(f"nothing is amiss: the run may begin{observes}")


def limits(run: RunConfig, microscope: Microscope) -> list[str]:
    """Return what commands may do to the microscope, each with how it is now."""
    safety = run.safety
    now: dict[str, Callable[[], object]] = {
        "x_um": lambda: microscope.stage_um()[0],
        "y_um": lambda: microscope.stage_um()[1],
        "z_um": microscope.focus_um,
        "exposure_ms": microscope.exposure_ms,
    }
    rows = [(name, _range(getattr(safety, name)), _at(now[name], getattr(safety, name))) for name in AXES]
    if safety.pulse_ms is not None:
        rows.append(("pulse_ms", _range(safety.pulse_ms), ""))
    if safety.autofocus:
        rows.append(("autofocus", "may search the focus", _at(partial(_focus, microscope))))
    rows += [("property", full, _at(partial(_value_of, microscope, full))) for full in safety.properties]
    rows += [("preset", group, _at(partial(microscope.preset, group)) or "none") for group in safety.presets]
    rows += [("shutter", device, "") for device in safety.shutters]
    rows += [("SLM", device, "") for device in safety.slms]
    for name in ("slm_area_px2", "slm_intensity"):
        if (most := getattr(safety, name)) is not None:
            rows.append((name, f"up to {most:g}", ""))
    rows += [("light", name, "") for name in safety.light]
    if safety.max_dose_ms is not None:
        rows.append(("max_dose_ms", f"{safety.max_dose_ms:g}", ""))
    rows.append(("close_shutter", safety.close_shutter or "none", ""))
    rows.append(("um per px", "", _direction(microscope)))
    return ["what commands may do, and how it is now", *_aligned(rows)]


def rules(run: RunConfig) -> list[str]:
    """Return what each rule may do, and the functions that the run loads."""
    lines = ["rules" if run.triggers else "no rules"]
    for rule in run.triggers:
        bounds = f"at most {rule.max_per_minute} a minute, {rule.cool_down_s:g} s apart"
        lines.append(f"  {rule.name or rule.kind}: {rule.do} {rule.action or ''}".rstrip() + f"; {bounds}")
    functions = functions_of(run)
    return [*lines, *(["functions that a run loads"] if functions else []), *(f"  {each}" for each in functions)]


def _microscope(run: RunConfig, opened: ExitStack) -> Microscope | None:
    if run.microscope is None:
        return None
    microscope: Microscope = registry.build("microscopes", run.microscope).instance
    opened.callback(microscope.close)
    return microscope


def _build(run: RunConfig, microscope: Microscope | None) -> Any:
    """Build what the run would, but for a source that sets the camera; its settings are only read."""
    from streamtrack.parts import ReadyMade, build_parts

    source: FrameSource | None = None
    if run.source is None or registry.needs_microscope("sources", run.source):
        if run.source is not None:
            registry.check_settings("sources", run.source)
        source = NoCamera(run.source)
    parts = build_parts(run, ReadyMade(source=source, microscope=microscope), prepare_rules=False)
    try:
        for rule, table in zip(parts.rules, run.triggers, strict=True):
            rule.look_up(parts.info)
            if table.kind == "value" or (source is None and table.kind != "python"):  # that would load the function
                rule.prepare(parts.info)
    except ConfigError:
        parts.close()
        raise
    return parts


class NoCamera:
    """Stands for a source that would set the camera; of what shape its images are is not known.

    What the source says of each frame is known where its class has ``frame_columns``.
    """

    def __init__(self, source: PluginConfig | None) -> None:
        columns = getattr(registry.load("sources", source.kind), "frame_columns", ()) if source else ()
        self.info = SourceInfo(
            "camera", (512, 512), "uint16", live=True, frame_columns=columns, details={"shape": "not known"}
        )

    def frames(self) -> Iterator[Any]:
        """Yield nothing."""
        yield from ()

    def close(self) -> None:
        """Do nothing."""


def _range(bounds: tuple[float, float] | None) -> str:
    return "none: does not change" if bounds is None else f"{bounds[0]:g} to {bounds[1]:g}"


def _at(ask: Callable[[], object], bounds: tuple[float, float] | None = None) -> str:
    """Return how something is now, and whether that is outside of what commands may do."""
    try:
        now = ask()
    except MicroscopeError as error:
        return str(error)
    outside = bounds is not None and isinstance(now, float) and not bounds[0] <= now <= bounds[1]
    return (f"{now + 0.0:g}" if isinstance(now, float) else str(now)) + (" (outside)" if outside else "")


def _focus(microscope: Microscope) -> str:
    if not isinstance(microscope, HasAutofocus):
        return "none"
    return "focus is held" if microscope.continuous_focus() else "focus is not held"


def _value_of(microscope: Microscope, full: str) -> str:
    return microscope.property_value(*(Names(microscope).split(full) or (full, "")))


def _direction(microscope: Microscope) -> str:
    try:
        return str((microscope.stage_um_per_px().round(4) + 0.0).tolist())
    except MicroscopeError:
        return "not measured: no rule can centre"


def _aligned(rows: list[tuple[str, str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"  {name:<{widths[0]}}  {may:<{widths[1]}}  {now}".rstrip() for name, may, now in rows]
