"""From a command's arguments to a run, and from its report to what is printed and the exit code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streamtrack.actuators.light import in_words
from streamtrack.cli.saying import say, say_error
from streamtrack.config import PluginConfig, RunConfig, engine_kind, plugin_table, read_toml, validate
from streamtrack.errors import ConfigError
from streamtrack.interrupts import Stop
from streamtrack.registry import load, names, source_from_text
from streamtrack.settings import settings_model
from streamtrack.stop_file import unsafe
from streamtrack.triggers.python import functions_of

if TYPE_CHECKING:
    from streamtrack.session import Session

MOST_CAUSES = 5
"""Of lost frames, that the summary names; the report has all."""
EXIT_CODES = {"completed": 0, "failed": 2, "incomplete": 3, "interrupted": 130}


def make_config(
    source: str | None,
    config: Path | None = None,
    chosen: dict[str, Any] | None = None,
    engine: dict[str, Any] | None = None,
    linker: str | None = None,
    mode: str | None = None,
    of_run: dict[str, Any] | None = None,
    view: bool = False,
) -> RunConfig:
    """Return the run's configuration: the file's, with what the command line says on top; None says nothing."""
    data = make_tables(config, chosen, engine, linker, of_run, source)
    if "source" not in data:
        raise ConfigError("nothing to track: name a movie, or give --config a file with a [source] table")
    _check_options(str(data["source"].get("kind")), chosen or {})
    if mode is not None:
        data["mode"] = mode
    run_config = validate(RunConfig, data, str(config) if config else "command line")
    if view and "view" not in (sink.kind for sink in run_config.sinks):
        run_config = run_config.model_copy(update={"sinks": (*run_config.sinks, PluginConfig(kind="view"))})
    return run_config.from_file(config) if config else run_config


def make_tables(
    config: Path | None,
    chosen: dict[str, Any] | None,
    engine: dict[str, Any] | None,
    linker: str | None,
    of_run: dict[str, Any] | None,
    source: str | None = None,
) -> dict[str, Any]:
    """Return the tables of a run's file, with what the command line says on top; None says nothing."""
    data = _tables_in(config) if config else {}
    if source is not None:
        data["source"] = source_from_text(source)
    _update(data, "source", chosen or {})
    _update(data, "engine", engine or {})
    if linker is not None:
        data["linker"] = {"kind": linker}
    return data | {key: value for key, value in (of_run or {}).items() if value is not None}


def _tables_in(config: Path) -> dict[str, Any]:
    """Return the tables of a run's file, those of plug-ins that are only named too; raises ConfigError."""
    data = read_toml(config)
    for name in {"source", "engine", "linker"} & set(data):
        try:
            data[name] = plugin_table(data[name])
        except ConfigError as error:
            raise ConfigError(f"{config}: {name} = {data[name]!r}: {error}") from None
    return data


def run(
    configured: Callable[[], RunConfig],
    out: Path,
    overwrite: bool,
    watched: "Callable[[Session], dict[str, Any]]",
    resume: bool = False,
) -> dict[str, Any]:
    """Run a session from its configuration to the summary that is printed of it; return the report.

    ``watched`` runs it with something to look at meanwhile.
    """
    with stoppable() as stop:
        with stop.breaks_off():
            from streamtrack.session import Session

            config = configured()
        say(*(f"loads the function {function}" for function in functions_of(config)))  # who did not write the file
        session = Session(config, out, overwrite=overwrite, resume=resume, stop=stop)
        report = watched(session)
        say_report(report, out)
    return report


def under_a_bar(session: "Session") -> dict[str, Any]:
    """Run under a progress bar."""
    from streamtrack.progress import FrameProgress

    with FrameProgress() as progress:
        return session.run(progress.update)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Hear requests to stop from now on; one that ends the preparations ends the command, with exit code 130."""
    try:
        with Stop() as stop:
            yield stop
    except KeyboardInterrupt:
        say_error("stopped before the first frame")
        raise typer.Exit(EXIT_CODES["interrupted"]) from None


def say_report(report: dict[str, Any], out: Path) -> None:
    """Print what a user wants to read after a run; what could not be made safe is red."""
    say(*report_lines(report, out))
    if report["error"]:
        alarm = unsafe(report["safety"] or {})
        say_error(report["error"], alarm=bool(alarm))


def report_lines(report: dict[str, Any], out: Path) -> list[str]:
    """Return the few lines that a user wants to read after a run."""
    frames, latency = report["frames"], report["latency_ms"]
    lines = [f"{report['status']}: {frames['processed']} frames, {report['detections']} detections -> {out}"]
    causes = sorted(frames["lost_by_cause"].items(), key=lambda item: -item[1])
    lines += [f"  lost {count} frame{'s' * (count != 1)}: {cause}" for cause, count in causes[:MOST_CAUSES]]
    if len(causes) > MOST_CAUSES:
        lines.append(f"  and {len(causes) - MOST_CAUSES} more causes, see report.json")
    if frames["masked_pixels"]:
        masked = f"{frames['masked_pixels']} pixels in {frames['with_masked_pixels']} frames masked"
        lines.append(f"  {masked}: NaN, infinite, or in a constant border")
    if frames["processed"]:
        stages = ", ".join(f"{stage} {latency[stage]['p50']:.2f}" for stage in ("read", "detect", "link"))
        lines.append(f"  median ms per frame: {stages}; {report['frames_per_second']:.3g} frames per second of work")
    if latency.get("tracked", {}).get("n"):
        noticed, tracked = (latency[stage]["p50"] for stage in ("noticed", "tracked"))
        lines.append(f"  median ms after a frame was written: read {noticed:.1f}, tracked {tracked:.1f}")
    lines += [f"  {remark}" for remark in report["remarks"]]
    return lines + _command_lines(report)


def _command_lines(report: dict[str, Any]) -> list[str]:
    lines = []
    for name, fates in report["outputs"].get("actuators", {}).items():
        counts = ", ".join(f"{value} {fate}" for fate, value in fates.items() if isinstance(value, int) and value)
        problem = f"; last problem: {fates['error']}" if fates["error"] else ""
        lines.append(f"  {name}: {counts or 'no command'}{problem}")
    light = in_words(report["safety"]["light"]) if report["safety"] else ""
    return [*lines, f"  {light}"] if light else lines


def _check_options(kind: str, chosen: dict[str, Any]) -> None:
    """Raise ConfigError where a source does not have what an option chooses."""
    said = [name for name, value in chosen.items() if value is not None]
    if not said or kind not in names("sources"):
        return
    known = settings_model(load("sources", kind)).model_fields
    for name in said:
        if name not in known:
            raise ConfigError(f"--{name} means nothing to the source {kind!r}: leave it out")


def _update(data: dict[str, Any], table: str, said: dict[str, Any]) -> None:
    """Put what was said on top of a table; settings of one plug-in are none of another's."""
    changes = {key: value for key, value in said.items() if value is not None}
    if not changes:
        return
    default = {"kind": engine_kind(changes)} if table == "engine" else {}
    before = {**default, **data.get(table, {})}
    if changes.get("kind", before.get("kind")) != before.get("kind"):
        before = {}
    data[table] = {**before, **changes}
