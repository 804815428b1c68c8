"""``streamtrack stop``: the emergency stop from another terminal."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from streamtrack.cli.saying import say, say_error
from streamtrack.errors import ConfigError
from streamtrack.report import read_report
from streamtrack.run_lock import held_by
from streamtrack.stop_file import answer, ask_to_stop, made_safe, unsafe

SAFE_WAIT_S = 15.0
"""How long to wait for the run to say that the microscope is safe."""
FILES_WAIT_S = 900.0
"""How long to wait for its files; a run takes 600 s at most."""
POLL_S = 0.05

T = TypeVar("T")


def stop(folder: Annotated[Path, typer.Argument(help="Folder of the run, as given to --out.")]) -> None:
    """Stop a run: no more commands, the shutter closed, the results written.

    A file named 'stop' in the run's folder does the same, from any computer that can write there. Exit code 2: a
    shutter could not be closed, or the run does not answer.
    """
    before = _report(folder)
    if not _runs(folder):
        there = "has ended already" if before else "is not there: give the folder that was given to --out"
        raise ConfigError(f"the run in {folder} {there}")
    ask_to_stop(folder)
    silent = f"no answer from the run in {folder} within {SAFE_WAIT_S:g} s: close the shutter by hand"
    safety = _wait(lambda: _safety(folder), SAFE_WAIT_S, silent)
    for line in (alarms := unsafe(safety)):
        say_error(line, alarm=True)
    say(made_safe(safety))
    alive = f"the run in {folder} has not ended within {FILES_WAIT_S:g} s: is its process still alive?"
    _wait(lambda: not _runs(folder) or None, FILES_WAIT_S, alive)
    report = _report(folder)
    from streamtrack.offline.manifest import MANIFEST  # takes a while: when all is safe

    unchanged = "interrupted" if (folder / MANIFEST).is_file() else "stopped before the first frame"
    ended = unchanged if report == before else report.get("status")
    say(f"{folder}: {ended}")
    raise typer.Exit(2 if alarms else 0)


def _wait(ask: Callable[[], T | None], timeout_s: float, too_late: str) -> T:
    give_up_s = time.monotonic() + timeout_s
    while (found := ask()) is None:
        if time.monotonic() > give_up_s:
            raise ConfigError(too_late)
        time.sleep(POLL_S)
    return found


def _runs(folder: Path) -> bool:
    """Return whether a run writes there: it holds the lock, or, where somebody removed that, its report says so."""
    return held_by(folder) is not None or _report(folder).get("status") == "running"


def _safety(folder: Path) -> dict[str, Any] | None:
    """Return how the run made safe; what its report says if it has ended since."""
    given = answer(folder)
    return given if given is not None or _runs(folder) else _report(folder).get("safety") or {}


def _report(folder: Path) -> dict[str, Any]:
    try:
        return read_report(folder)
    except ConfigError:
        return {}
