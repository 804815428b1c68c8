"""The tables that the linking benchmark prints."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def print_tables(record: Row) -> None:
    """Print a record of `benchmarks.linking`."""
    console = Console(width=max(Console().width, 140))
    for motion in _values(record["cells"], "motion"):
        console.print(_cells(record, motion))
    for row in record["compared"]:
        faster, above = (row[name] for name in ("times_faster_than_trackpy", "alpha_above_lapmod"))
        console.print(
            f"{row['method']}, {row['motion']} {row['n']}: {_number(faster, '.1f')} times as fast as tuned trackpy, "
            f"alpha {_number(above, '+.3f')} against lapmod"
        )
    for name in ("alpha", "beta", "jsc", "rmse_px"):
        console.print(_end_to_end(record["end_to_end"], name))
    for row in record["unknown_step"]:
        console.print(
            f"step of {row['true_step_px']:g} px guessed as {row['first_step_px']:g} px, {row['motion']} {row['n']}: "
            f"alpha {row['alpha']:.3f} from frame 30 on, {row['alpha_known']:.3f} where it is known"
        )
    _print_endurance(console, record["endurance"])
    for name, row in record["first_call"].items():
        prepare = f"prepare {row['prepare_s']:.2f} s ({row['prepare_cpu_s']:.2f} s CPU)"
        console.print(f"first call, {name}: {prepare}, first frame {row['first_frame_ms']:.2f} ms")


def _cells(record: Row, motion: str) -> Table:
    numbers = record["extent"]["numbers"]
    table = Table("", *map(str, numbers), title=f"{motion}: ms median / p99, alpha, JSC", box=SIMPLE_HEAD)
    found = {(row["method"], row["n"]): row for row in record["cells"] if row["motion"] == motion}
    for method in _values(record["cells"], "method"):
        table.add_row(method, *(_cell(found.get((method, n))) for n in numbers))
    return table


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    if "failed" in row:
        return str(row["failed"])[:40]
    ms = row["ms"]
    time = f"{ms['median']:.2f} / {ms['p99']:.2f}" if "median" in ms else f"{ms['mean']:.1f} mean"
    return f"{time}  {row['alpha']:.3f} {row['jsc']:.3f}"


def _end_to_end(rows: Sequence[Row], name: str) -> Table:
    """Return a table of one measure: methods down, scenarios and SNRs across."""
    kinds = list(dict.fromkeys((row["scenario"], row["snr"]) for row in rows))
    table = Table("", *(f"{scenario[:3]} {snr:g}" for scenario, snr in kinds), title=f"images, {name}", box=SIMPLE_HEAD)
    found = {(row["method"], row["scenario"], row["snr"]): row.get(name) for row in rows}
    for method in _values(rows, "method"):
        table.add_row(method, *(_number(found.get((method, *kind)), ".3f") for kind in kinds))
    return table


def _print_endurance(console: Console, row: Row) -> None:
    window = row["window_frames"]
    first, last = (row[name]["p99_ms"] for name in ("first", "last"))
    held, taken = row["traced_growth_bytes"], row["peak_growth_bytes"]
    console.print(
        f"{row['frames']} frames of {row['n']} particles: p99 {first:.3f} ms in the first {window} frames, "
        f"{last:.3f} ms in the last; Python came to hold {held} bytes more, the process {taken}"
    )


def _values(rows: Sequence[Row], name: str) -> list[Any]:
    return list(dict.fromkeys(row[name] for row in rows))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
