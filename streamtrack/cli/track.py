"""``streamtrack track``: from a movie to detections, tracks and a report."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from streamtrack.actuators.light import in_words
from streamtrack.cli.saying import say, say_error
from streamtrack.config import RunConfig, read_toml, validate
from streamtrack.errors import ConfigError
from streamtrack.interrupts import Stop
from streamtrack.registry import source_from_text
from streamtrack.stop_file import unsafe
from streamtrack.triggers.python import functions_of

MOST_CAUSES = 5
"""Of lost frames, that the summary names; the report has all."""
ENGINE_HELP = "What finds the particles: a plug-in that 'streamtrack plugins engines' lists."
WEIGHTS_HELP = "Weights of the engine: a name, or an .onnx file that 'streamtrack export' wrote."
EXIT_CODES = {"completed": 0, "failed": 2, "incomplete": 3, "interrupted": 130}


def track(
    source: Annotated[
        str | None,
        typer.Argument(
            help="Path of a movie in zarr, OME-Zarr, TIFF, or what an installed plug-in opens; or a simulated one: "
            "'sim:vesicle?snr=4&density=500' (also sim:receptor, sim:microtubule; frames, size, seed)."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("streamtrack-results"),
    config: Annotated[Path | None, typer.Option(help="TOML file of the run; the arguments here override it.")] = None,
    channel: Annotated[str | None, typer.Option(help="Channel, by index or label.")] = None,
    z: Annotated[str | None, typer.Option(help="Z plane by index, or 'max' for the maximum projection.")] = None,
    level: Annotated[int | None, typer.Option(help="Resolution level of an OME-Zarr pyramid, 0 is the finest.")] = None,
    frames: Annotated[
        str | None, typer.Option(help="Frames A:B, A included and B not; either may be left out.")
    ] = None,
    axes: Annotated[str | None, typer.Option(help="Order of the axes, e.g. TCYX, where the file does not say.")] = None,
    engine: Annotated[str | None, typer.Option(help=ENGINE_HELP)] = None,
    weights: Annotated[str | None, typer.Option(help=WEIGHTS_HELP)] = None,
    threshold: Annotated[float | None, typer.Option(help="Detection score to reach, 0 to 1.")] = None,
    linker: Annotated[str | None, typer.Option(help="Linker plug-in: imm, nearest or trackpy.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results that the folder holds.")] = False,
) -> None:
    """Track the particles of a movie.

    Writes detections.parquet, tracks.parquet, tracks.csv, report.json and overview.png. Exit code 0: complete;
    2: an error; 3: incomplete, frames were lost (the report says which and why); 130: interrupted.
    """
    chosen = {
        "channel": _index_or_text(channel),
        "z": _index_or_text(z),
        "level": level,
        "frames": frames,
        "axes": axes,
    }
    detection = {"kind": engine, "weights": weights, "threshold": threshold}
    run_config = make_config(source, config, chosen, detection, linker)
    report = run(run_config, out, overwrite)
    raise typer.Exit(EXIT_CODES[report["status"]])


def make_config(
    source: str | None,
    config: Path | None = None,
    chosen: dict[str, Any] | None = None,
    engine: dict[str, Any] | None = None,
    linker: str | None = None,
    mode: str | None = None,
) -> RunConfig:
    """Return the run's configuration: the file's, with what the command line says on top; None says nothing."""
    data = read_toml(config) if config else {}
    if source is not None:
        data["source"] = source_from_text(source)
    if "source" not in data:
        raise ConfigError("nothing to track: name a movie, or give --config a file with a [source] table")
    _update(data, "source", chosen or {})
    _update(data, "engine", engine or {})
    if linker is not None:
        data["linker"] = {"kind": linker}
    if mode is not None:
        data["mode"] = mode
    run_config = validate(RunConfig, data, str(config) if config else "command line")
    return run_config.from_file(config) if config else run_config


def run(config: RunConfig, out: Path, overwrite: bool) -> dict[str, Any]:
    """Run a session under a progress bar and print what came of it; return the report."""
    with stoppable() as stop:
        with stop.breaks_off():
            from streamtrack.progress import FrameProgress
            from streamtrack.session import Session

        say_functions(config)
        session = Session(config, out, overwrite=overwrite, stop=stop)
        with FrameProgress() as progress:
            report = session.run(progress.update)
        say_report(report, out)
    return report


def say_functions(config: RunConfig) -> None:
    """Name the functions that a run is going to load: who did not write its file may want to know."""
    say(*(f"loads the function {function}" for function in functions_of(config)))


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
        lines.append(
            f"  {frames['masked_pixels']} NaN or infinite pixels in {frames['with_masked_pixels']} frames masked"
        )
    if frames["processed"]:
        stages = ", ".join(f"{stage} {latency[stage]['p50']:.2f}" for stage in ("read", "detect", "link"))
        lines.append(f"  median ms per frame: {stages}")
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


def _update(data: dict[str, Any], table: str, said: dict[str, Any]) -> None:
    """Put what was said on top of a table; settings of one plug-in are none of another's."""
    changes = {key: value for key, value in said.items() if value is not None}
    default = {"engine": {"kind": "denodet"}}.get(table, {})
    if not changes:
        return
    before = {**default, **data.get(table, {})}
    if changes.get("kind", before.get("kind")) != before.get("kind"):
        before = {}
    data[table] = {**before, **changes}


def _index_or_text(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.lstrip("-").isdigit() else text
