"""``streamtrack live``: a run on a live source, with a view in the terminal."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrack.cli import options
from streamtrack.cli.running import EXIT_CODES, make_config, run
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
    engine: options.Engine = None,
    weights: options.Weights = None,
    pixel_size: options.PixelSize = None,
    interval: options.Interval = None,
    view: options.View = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Track what the microscope sees, and act on it.

    Writes what 'track' writes, and commands.jsonl. Ctrl-C or 'streamtrack stop FOLDER' ends the run and makes the
    microscope safe. Exit codes are those of 'track'.
    """
    detection = options.detection(engine, weights)
    said = options.calibration(pixel_size, interval)
    report = run(
        lambda: make_config(None, config, engine=detection, mode=mode, of_run=said, view=view), out, overwrite, viewed
    )
    raise typer.Exit(EXIT_CODES[report["status"]])


def viewed(session: "Session") -> dict[str, Any]:
    """Run with a view in the terminal."""
    from streamtrack.cli.live_view import LiveView

    sys.setswitchinterval(switch_interval_s())
    with LiveView(session.snapshot):
        return session.run()
