"""Stopping a run from outside through its folder: a file that asks, and a file that answers.

The files are looked for by a thread of its own, never by the one that makes the microscope safe: a folder on a share or
a disk that is gone may hang, or give errors.
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamtrack.errors import ConfigError
from streamtrack.files import remove_file
from streamtrack.interrupts import Stop
from streamtrack.run_folder import ANSWER_NAME, STOP_NAME
from streamtrack.waiting import Aside

LOOK_S = 0.05
"""How often the folder is looked at."""
LEAVE_S = 2.0
"""How long to wait for a look that hangs."""


def ask_to_stop(folder: Path) -> None:
    """Leave a request to stop in the folder of a run; raises ConfigError."""
    try:
        remove_file(folder / ANSWER_NAME)
        (folder / STOP_NAME).touch()
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}: {error.strerror or error}") from error


def answer(folder: Path) -> dict[str, Any] | None:
    """Return how the run in a folder has made safe after it was asked to stop; None as long as it has not."""
    try:
        given: dict[str, Any] = json.loads((folder / ANSWER_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or half of it
        return None
    return given


def unsafe(safety: Mapping[str, Any]) -> list[str]:
    """Return what could not be made safe, in words, out of what a guard says of itself."""
    shutters = [
        f"shutter {name!r} could not be closed: {outcome}"
        for name, outcome in safety.get("shutters", {}).items()
        if outcome != "closed"
    ]
    lamps = [
        f"{name} could not be switched off: {outcome}"
        for name, outcome in safety.get("lamps", {}).items()
        if outcome != "off"
    ]
    moves = safety.get("moves")
    return shutters + lamps + [f"the stage could not be halted: {moves}"] * (moves not in (None, "halted"))


def made_safe(safety: Mapping[str, Any]) -> str:
    """Return what was made safe, in words."""
    closed = [f"shutter {name!r} closed" for name, outcome in safety.get("shutters", {}).items() if outcome == "closed"]
    off = [f"{name} off" for name, outcome in safety.get("lamps", {}).items() if outcome == "off"]
    halted = ["stage halted"] * (safety.get("moves") == "halted")
    return ", ".join(["stopped", *closed, *off, *halted])


class StopFile(Aside):
    """Looks for a request to stop in the folder of a run, passes it on, and leaves the answer.

    A request is anything called ``stop`` or ``stop.*`` (Windows hides endings; a folder will do, too) that is new, or
    touched again, since this was made: before the run is there for others to see.

    Parameters
    ----------
    folder
        The run's; it may hang, be read-only, or not be there.
    stop
        Gets the request.
    outcome
        Returns what there is to say when the microscope is safe.
    """

    def __init__(self, folder: Path, stop: Stop, outcome: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(self._look, "streamtrack-stop-file", LEAVE_S)
        self._folder = folder
        self._stop = stop
        self._outcome = outcome
        self._old: dict[str, int] = {}
        with suppress(OSError):  # not there yet
            self._old = _requests(folder)

    def _look(self) -> None:
        answered = False
        while not self.over.wait(LOOK_S):
            with suppress(Exception):  # whatever the folder does, the next look may find it well again
                self._pass_on()
                if self._stop.is_safe and not answered:
                    self._answer()
                    answered = True
        with suppress(Exception):
            self._clear_away()

    def _pass_on(self) -> None:
        if _requests(self._folder).items() - self._old.items():
            self._stop.request()

    def _answer(self) -> None:
        text = json.dumps(self._outcome(), default=str)
        (self._folder / ANSWER_NAME).write_text(text + "\n", encoding="utf-8", newline="\n")

    def _clear_away(self) -> None:
        """Remove the answer, which is in the report now, and the request, unless it is something of the user's."""
        remove_file(self._folder / ANSWER_NAME)
        request = self._folder / STOP_NAME
        if request.is_file() and request.stat().st_size == 0:
            remove_file(request)


def _requests(folder: Path) -> dict[str, int]:
    """Return what asks to stop, with the time at which it was last touched, ns."""
    with os.scandir(folder) as entries:
        named = [each for each in entries if each.name.lower() == STOP_NAME or each.name.lower().startswith("stop.")]
        return {each.name: each.stat(follow_symlinks=False).st_mtime_ns for each in named}
