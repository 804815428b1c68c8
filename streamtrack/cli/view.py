"""``streamtrack view``: look at a run that has ended, or one that is on."""

import time
from pathlib import Path
from typing import Annotated

import typer

from streamtrack.cli.ctl import read_address
from streamtrack.cli.saying import say
from streamtrack.report import COMMANDS_NAME
from streamtrack.run_lock import held_by
from streamtrack.waiting import STEP_S


def view(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    napari: Annotated[bool, typer.Option("--napari", help="In a window of napari (extra napari).")] = False,
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.", min=0, max=65535)] = 0,
) -> None:
    """Look at a run: one that is over, frame by frame, or one that is on; in the browser, or in napari.

    Says the address of the page. Behind the tracks are the raw or denoised frames, where the sinks 'raw' or 'denoised'
    kept them. The page of a run that is on is there if it was begun with --view; napari needs nothing of it. Of a run
    that is over nothing is changed; Ctrl-C ends its view.
    """
    if napari:
        from streamtrack.napari.viewer import open_run

        open_run(folder)
    elif held_by(folder) is not None:
        say(f"the run is on; its view is at {read_address(folder)}")
    else:
        _replay(folder, port)


def _replay(folder: Path, port: int) -> None:
    """Serve a run that is over, until Ctrl-C."""
    from streamtrack.cli.replay import Replay
    from streamtrack.view.process import ViewServer, require_extra

    require_extra()
    replay = Replay(folder)
    server = ViewServer(port, replay.about, folder / COMMANDS_NAME, replay.answer)
    try:
        say(f"view at {server.address}", "Ctrl-C ends it")
        while server.is_on:
            time.sleep(STEP_S)
    finally:
        server.close({"status": "closed", "error": None, "remarks": [], "frames": {"lost": 0}})
