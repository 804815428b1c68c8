"""``streamtrack recover``: the results of a run whose process died."""

from pathlib import Path
from typing import Annotated

import typer

from streamtrack.cli.saying import say


def recover(folder: Annotated[Path, typer.Argument(help="Folder of the run. Its process must have ended.")]) -> None:
    """Make the tables of a run that was killed: all that was tracked but the last second."""
    from streamtrack.recovery import recover as recover_run

    report = recover_run(folder)
    frames = report["frames"]
    say(f"recovered {report['detections']} detections of {frames['processed']} frames -> {folder}")
    say(*(f"  {remark}" for remark in report["remarks"]))
