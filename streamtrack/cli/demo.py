"""``streamtrack demo``: one line from nothing to tracks."""

from pathlib import Path
from typing import Annotated

import typer

DEMO_FOLDER = Path("streamtrack-demo")
DEMO_SOURCE = "sim:receptor?snr=4&density=500&frames=60&size=256&seed=2026"


def demo(
    source: Annotated[
        str, typer.Argument(help="A movie to open instead of the simulated one; same forms as in 'track'.")
    ] = DEMO_SOURCE,
    out: Annotated[Path, typer.Option(help="Folder for the results; the default one is replaced.")] = DEMO_FOLDER,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results that the folder holds.")] = False,
) -> None:
    """Track a simulated movie, score it against its ground truth, and leave the pictures to look at."""
    from streamtrack.cli.evaluate import print_scores, score_run
    from streamtrack.cli.running import EXIT_CODES, make_config, run, under_a_bar

    report = run(lambda: make_config(source), out, overwrite or out == DEMO_FOLDER, under_a_bar)
    if report["status"] == "completed" and source.startswith("sim:"):
        print_scores(score_run(out))
    if report["status"] in ("completed", "incomplete"):
        print(f"Look at {out / 'overview.png'}")
    raise typer.Exit(EXIT_CODES[report["status"]])
