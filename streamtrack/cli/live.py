"""``streamtrack live``: a run on a live source, with a view in the terminal."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from streamtrack.cli.track import (
    ENGINE_HELP,
    EXIT_CODES,
    WEIGHTS_HELP,
    make_config,
    say_functions,
    say_report,
    stoppable,
)
from streamtrack.power import switch_interval_s


def live(
    config: Annotated[Path, typer.Argument(help="TOML file of the run.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("streamtrack-results"),
    mode: Annotated[
        str | None,
        typer.Option(help="observe: only write commands down; rehearse: all but the hardware call; armed: send them."),
    ] = None,
    engine: Annotated[str | None, typer.Option(help=ENGINE_HELP)] = None,
    weights: Annotated[str | None, typer.Option(help=WEIGHTS_HELP)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results that the folder holds.")] = False,
) -> None:
    """Track what the microscope sees, and act on it.

    Writes what 'track' writes, and commands.jsonl. Ctrl-C or 'streamtrack stop FOLDER' ends the run and makes the
    microscope safe. Exit codes are those of 'track'.
    """
    with stoppable() as stop:
        with stop.breaks_off():
            from streamtrack.cli.live_view import LiveView
            from streamtrack.session import Session

            run_config = make_config(None, config, engine={"kind": engine, "weights": weights}, mode=mode)
        say_functions(run_config)
        session = Session(run_config, out, overwrite=overwrite, stop=stop)
        sys.setswitchinterval(switch_interval_s())
        with LiveView(session.snapshot):
            report = session.run()
        say_report(report, out)
    raise typer.Exit(EXIT_CODES[report["status"]])
