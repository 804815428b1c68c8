"""``streamtrack live``: a run on a live source, with a view in the terminal."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrack.cli.running import ENGINE_HELP, EXIT_CODES, WEIGHTS_HELP, make_config, run
from streamtrack.power import switch_interval_s

if TYPE_CHECKING:
    from streamtrack.session import Session


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
    detection = {"kind": engine, "weights": weights}
    report = run(lambda: make_config(None, config, engine=detection, mode=mode), out, overwrite, _viewed)
    raise typer.Exit(EXIT_CODES[report["status"]])


def _viewed(session: "Session") -> dict[str, Any]:
    """Run with a view in the terminal."""
    from streamtrack.cli.live_view import LiveView

    sys.setswitchinterval(switch_interval_s())
    with LiveView(session.snapshot):
        return session.run()
