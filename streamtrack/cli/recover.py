"""``streamtrack recover``: the tables of a run whose process died."""

from pathlib import Path
from typing import Annotated

import typer

from streamtrack.report import read_report, write_report


def recover(folder: Annotated[Path, typer.Argument(help="Folder of the run. Its process must have ended.")]) -> None:
    """Make the tables of a run that was killed: all that was tracked but the last second."""
    from streamtrack.sinks.tables import recover as recover_tables

    report = read_report(folder)
    n_detections = recover_tables(folder)
    write_report(folder, {**report, "status": "interrupted", "error": "the process died; the tables were recovered"})
    print(f"recovered {n_detections} detections -> {folder}")
