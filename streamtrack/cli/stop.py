"""``streamtrack stop``: the emergency stop from another terminal."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from streamtrack.cli.saying import say, say_error
from streamtrack.errors import ConfigError
from streamtrack.report import read_report
from streamtrack.stop_file import answer, ask_to_stop, made_safe, unsafe

SAFE_WAIT_S = 15.0
"""How long to wait for the run to say that the microscope is safe."""
FILES_WAIT_S = 900.0
"""How long to wait for its files; a run takes 600 s at most."""
POLL_S = 0.05


def stop(folder: Annotated[Path, typer.Argument(help="Folder of the run, as given to --out.")]) -> None:
    """Stop a run: no more commands, the shutter closed, the results written.

    A file named 'stop' in the run's folder does the same, from any computer that can write there. Exit code 2: a
    shutter could not be closed, or the run does not answer.
    """
    if not _runs(folder):
        raise ConfigError(f"the run in {folder} has ended already")
    ask_to_stop(folder)
    safety = _wait_for_safety(folder)
    for line in (alarms := unsafe(safety)):
        say_error(line, alarm=True)
    say(made_safe(safety))
    say(f"{folder}: {_wait_for_end(folder)}")
    raise typer.Exit(2 if alarms else 0)


def _runs(folder: Path) -> bool:
    return bool(read_report(folder)["status"] == "running")


def _wait_for_safety(folder: Path) -> dict[str, Any]:
    give_up_s = time.monotonic() + SAFE_WAIT_S
    while time.monotonic() < give_up_s:
        if (safety := answer(folder)) is not None:
            return safety
        if not _runs(folder):
            return read_report(folder)["safety"] or {}
        time.sleep(POLL_S)
    raise ConfigError(f"no answer from the run in {folder} within {SAFE_WAIT_S:g} s: close the shutter by hand")


def _wait_for_end(folder: Path) -> str:
    give_up_s = time.monotonic() + FILES_WAIT_S
    while time.monotonic() < give_up_s:
        if not _runs(folder):
            return str(read_report(folder)["status"])
        time.sleep(POLL_S)
    raise ConfigError(f"the run in {folder} has not ended within {FILES_WAIT_S:g} s: is its process still alive?")
