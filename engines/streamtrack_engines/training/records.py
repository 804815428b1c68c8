"""The log of a training run: two CSV files and a picture of the curves."""

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from streamtrack.files import replace_file
from streamtrack.output import beside

NAMES = ("losses.csv", "evaluations.csv", "curves.png")

Rows = Sequence[Mapping[str, float]]

_CLOCKS = ("step", "elapsed_s")
_MEASURES = (
    ("f1", "Held-out F1 at 5 px", (0, 1)),
    ("rmse", "Held-out RMSE (px)", None),
    ("count_error", "Held-out error of the count", None),
)
"""Of the evaluations: how their columns begin, title and limits of their curves."""


def write_records(folder: Path, losses: Rows, evaluations: Rows) -> None:
    """Write the three `NAMES`, each complete or not at all."""
    losses_path, evaluations_path, curves = (folder / name for name in NAMES)
    _write_csv(losses_path, losses)
    _write_csv(evaluations_path, evaluations)
    unfinished = beside(curves, "partial")
    draw_curves(losses, evaluations).savefig(unfinished, dpi=120)
    _publish(unfinished, curves)


def _write_csv(path: Path, rows: Rows) -> None:
    unfinished = beside(path, "partial")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
    _publish(unfinished, path)


def _publish(unfinished: Path, path: Path) -> None:
    """Move a file to its name; one that a viewer holds stays as it is until the next records."""
    with suppress(PermissionError):
        replace_file(unfinished, path)


def draw_curves(losses: Rows, evaluations: Rows) -> Figure:
    """Return a figure of the loss terms and of what the evaluations measured over the steps."""
    columns = list(evaluations[0]) if evaluations else []
    shown = [(title, limits, names) for prefix, title, limits in _MEASURES if (names := _of(prefix, columns))]
    figure = Figure(figsize=(4 + 4 * len(shown), 3.6), layout="constrained")
    loss_axes, *others = figure.subplots(1, 1 + len(shown), squeeze=False)[0]
    loss_axes.set(title="Loss terms (unweighted)", yscale="symlog")
    _draw(loss_axes, losses, [name for name in (losses[0] if losses else ()) if name not in _CLOCKS])
    for axes, (title, limits, names) in zip(others, shown, strict=True):
        axes.set(title=title, ylim=limits)
        _draw(axes, evaluations, names)
    return figure


def _of(prefix: str, columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name.startswith(prefix)]


def _draw(axes: Axes, rows: Rows, columns: Sequence[str]) -> None:
    steps = [row["step"] for row in rows]
    for name in columns:
        axes.plot(steps, [row[name] for row in rows], label=name.replace("_", " "), linewidth=1)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if rows and columns:
        axes.legend(fontsize="small")
