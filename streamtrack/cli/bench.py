"""``streamtrack bench``: how fast the loop is on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrack.cli import options
from streamtrack.config import engine_kind
from streamtrack.errors import ConfigError
from streamtrack.output import check_output

if TYPE_CHECKING:
    from rich.table import Table

PERCENTILES = ("p50", "p95", "p99", "p99.9", "max")


def bench(
    source: Annotated[
        str | None,
        typer.Argument(help="A movie, in the same forms as in 'track'; by default a simulated one, 512x512."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for bench.json, bench.png and bench.npz; older ones go.")] = Path(
        "streamtrack-bench"
    ),
    fps: Annotated[float, typer.Option(help="Rate of the camera in the paced measurements.")] = 100.0,
    backend: Annotated[str | None, typer.Option(help="Back end of the engine; by default the best one here.")] = None,
    engine: options.Engine = None,
    weights: options.Weights = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="1.5 s a measurement instead of 20: too short for p99.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier record in the folder.")] = False,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Measure nothing: print two bench.json side by side.")
    ] = None,
) -> None:
    """Measure latency: the engine alone, the step alone, and whole runs; back to back and at a camera's rate.

    Percentiles are of all frames after the warm-up; those that too few frames can show are left out.
    """
    if compare is not None:
        _print_comparison(*compare)
    else:
        said = {"kind": engine, "backend": backend, "weights": weights}
        table = {key: value for key, value in said.items() if value is not None}
        _measure(source, out, fps, {"kind": engine_kind(table), **table}, quick, overwrite)


def _measure(source: str | None, out: Path, fps: float, engine: dict[str, Any], quick: bool, overwrite: bool) -> None:
    from rich.console import Console

    from streamtrack.bench.files import NAMES, write
    from streamtrack.bench.measuring import FULL, QUICK
    from streamtrack.bench.record import DEFAULT_MOVIE, Plan, run_plan

    plan = Plan(source or DEFAULT_MOVIE, engine, fps, QUICK if quick else FULL)
    _make_folder(out)
    for name in NAMES:
        check_output(out / name, overwrite)
    progress = Console(stderr=True)
    measured = run_plan(plan, lambda stage: progress.print(f"measuring: {stage}"))
    write(measured, out)
    _print_record(measured.record)
    print(f"-> {out}")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write into {out}: {error.strerror or error}; give --out another folder") from error


def _print_record(record: dict[str, Any]) -> None:
    from rich.console import Console

    from streamtrack.bench.record import LEVELS, MODES

    console = Console(highlight=False)
    for mode in MODES:
        what = f"camera at {record['fps']:g} frames/s" if mode == "paced" else mode
        measurements = {level: record["measurements"][f"{level}, {mode}"] for level in LEVELS}
        console.print(_table(f"{what}, back end {record['engine'].get('backend')}", measurements))
        for level, measured in measurements.items():
            counts = f"{_number(measured['frames_per_s'])} frames/s, {measured['dropped']} dropped"
            missed = f", {measured['deadline_misses']} over the interval" if mode == "paced" else ""
            console.print(f"  {level}: {measured['processed']} frames, {counts}{missed}")
    cold, memory = record["cold_start"]["ms"], record["memory_mib"]
    console.print("cold start, ms: " + ", ".join(f"{stage} {ms:.0f}" for stage, ms in cold.items()))
    console.print("memory, MiB: " + ", ".join(f"{when} {mib}" for when, mib in memory.items()))


def _table(title: str, measurements: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table("ms", title=title, title_justify="left")
    for name in PERCENTILES:
        table.add_column(name, justify="right", no_wrap=True)
    for level, measured in measurements.items():
        for stage, ms in measured["stages_ms"].items():
            table.add_row(f"{level}: {stage}", *(_number(ms[key]) for key in PERCENTILES))
        table.add_section()
    return table


def _print_comparison(a: Path, b: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from streamtrack.bench.compare import compare, differences, read_record

    left, right = read_record(a), read_record(b)
    table = Table("", "a", "b", "b / a", title=f"a = {a}, b = {b}")
    for row in compare(left, right):
        table.add_row(row.what, *(_number(value) for value in (row.a, row.b, row.ratio)))
    console = Console(highlight=False)
    console.print(table)
    for difference in differences(left, right):
        console.print(f"not the same: {difference}", markup=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
