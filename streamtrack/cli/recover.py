"""``streamtrack recover``: the tables of a run whose process died."""

import json
from pathlib import Path
from typing import Annotated

import typer

from streamtrack.errors import ConfigError
from streamtrack.report import REPORT_NAME, write_report


def recover(folder: Annotated[Path, typer.Argument(help="Folder of the run. Its process must have ended.")]) -> None:
    """Make the tables of a run that was killed: all that was tracked but the last second."""
    from streamtrack.sinks.tables import recover as recover_tables

    try:
        report = json.loads((folder / REPORT_NAME).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"{folder} holds no readable {REPORT_NAME}; give the folder that 'track' wrote") from error
    n_detections = recover_tables(folder)
    write_report(folder, {**report, "status": "interrupted", "error": "the process died; the tables were recovered"})
    print(f"recovered {n_detections} detections -> {folder}")
