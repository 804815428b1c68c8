"""``streamtrack stop``: the emergency stop from another terminal."""

import time
from pathlib import Path
from typing import Annotated

import typer

from streamtrack.errors import ConfigError
from streamtrack.report import read_report
from streamtrack.run_folder import STOP_NAME

WAIT_S = 15.0
"""How long to wait for the run to say that it has ended."""
POLL_S = 0.1


def stop(folder: Annotated[Path, typer.Argument(help="Folder of the run, as given to --out.")]) -> None:
    """Stop a run: no more commands, the shutter closed, the results written.

    A file named 'stop' in the run's folder does the same, from any computer that can write there.
    """
    if read_report(folder)["status"] != "running":
        raise ConfigError(f"the run in {folder} has ended already")
    (folder / STOP_NAME).touch()
    give_up_s = time.monotonic() + WAIT_S
    while time.monotonic() < give_up_s:
        if (status := read_report(folder)["status"]) != "running":
            print(f"{folder}: {status}")
            return
        time.sleep(POLL_S)
    raise ConfigError(f"the run in {folder} has not ended within {WAIT_S:g} s: is its process still alive?")
