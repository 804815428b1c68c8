"""``streamtrack evaluate``: detections and tracks against a ground truth."""

import json
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrack.cli.saying import say, say_memory
from streamtrack.output import check_output, output_file

if TYPE_CHECKING:
    from streamtrack.cli.scoring import RunScores


def evaluate(
    results: Annotated[Path, typer.Argument(help="Folder that 'track' wrote.")],
    truth: Annotated[
        str | None,
        typer.Argument(
            help="Table with columns frame, y, x and, to score tracks, particle (.parquet, .csv, or the Particle "
            "Tracking Challenge's .xml); or sim:...; may be left out for a simulated movie."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the scores to this JSON file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
) -> None:
    """Score a run: detections (F1, RMSE), links, and tracks by the measures of the Particle Tracking Challenge.

    Only frames that the run was asked for and came to are scored, lost ones included, and in these what lies in the
    area that it searched. Gaps in the tracks that were
    found are filled by straight lines first.
    """
    from streamtrack.cli.scoring import score_run

    if out:
        check_output(out, overwrite)
    say_memory(results / "detections.parquet")
    scores = score_run(results, truth)
    print_scores(scores)
    if out:
        with output_file(out) as partial:
            partial.write_text(json.dumps(scores.as_dict(), indent=2) + "\n", encoding="utf-8", newline="\n")


def print_scores(scores: "RunScores") -> None:
    """Print the scores as tables."""
    from rich.console import Console
    from rich.table import Table

    table = Table("gate px", "F1", "precision", "recall", "RMSE px", "true", "false", "missed", title="Detection")
    for s in scores.detections:
        figures = (f"{s.gate_px:g}", f"{s.f1:.3f}", f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.rmse_px:.3f}")
        table.add_row(*figures, str(s.tp), str(s.fp), str(s.fn))
    console = Console()
    say(*scores.remarks)
    console.print(table)
    if scores.links:
        console.print(f"Links: recall {scores.links.recall:.3f}, precision {scores.links.precision:.3f}")
    if scores.tracks:
        table = Table("alpha", "beta", "JSC", "JSC_theta", "RMSE px", title="Tracks, gaps filled")
        table.add_row(*(f"{value:.3f}" for value in astuple(scores.tracks)))
        console.print(table)
