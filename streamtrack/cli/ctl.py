"""``streamtrack ctl``: change a run from another terminal, while it is looked at."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import typer

from streamtrack.cli.saying import say
from streamtrack.errors import ConfigError, one_line
from streamtrack.report import read_report
from streamtrack.run_lock import held_by
from streamtrack.view.actions import ACTIONS

VIEW_NAME = "view.json"
ANSWER_S = 15.0
"""How long the run may take."""
KNOWN = ("state", *(name for name in ACTIONS if name not in ("may_move", "region")))


def ctl(
    folder: Annotated[Path, typer.Argument(help="Folder of a run that was begun with --view.")],
    what: Annotated[str, typer.Argument(help=f"{', '.join(KNOWN[:-1])} or {KNOWN[-1]}.")],
    value: Annotated[
        str | None, typer.Argument(help="Rule, threshold, track (none lets go), on or off, event or text, as it needs.")
    ] = None,
) -> None:
    """Look at a run that is on, or change it: 'ctl results pause centre', 'ctl results threshold 0.6'.

    Prints the line that the run's log has of it. Exit code 2: it was refused.
    """
    if what not in KNOWN:
        raise ConfigError(f"no {what!r}: {', '.join(KNOWN)}")
    needed = [each.name for each in ACTIONS[what].settings if each.required] if what in ACTIONS else []
    if bool(needed) != (value is not None):
        raise ConfigError(f"{what} {'needs ' + needed[0] if needed else 'needs nothing else'}")
    settings = {"who": "terminal", **{name: _read(name, value) for name in needed[:1]}}
    if (what, value) == ("mode", "armed"):
        settings["confirmed"] = _confirmed(folder)
    answer = _ask(folder, what, None if what == "state" else settings)
    if "error" in answer:
        raise ConfigError(str(answer["error"]))
    say(json.dumps(answer["state"] if what == "state" else answer["done"]))


def read_address(folder: Path) -> str:
    """Return the address of a run's page, its token included; raises ConfigError where there is none."""
    try:
        return str(json.loads((folder / VIEW_NAME).read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(_why_not(folder)) from None


def _confirmed(folder: Path) -> str:
    """Return what an armed run may move, once somebody at the terminal has agreed to it."""
    answer = _ask(folder, "may_move", {"who": "terminal"})
    if "error" in answer:
        raise ConfigError(str(answer["error"]))
    say("armed, this run may:", str(answer["done"]))
    typer.confirm("arm it?", abort=True)
    return str(answer["done"])


def _read(name: str, value: str | None) -> Any:
    """Return what a word of the command line stands for."""
    if name == "particle" and value in ("none", "-1"):
        return None
    if name == "on":
        if value not in ("on", "off"):
            raise ConfigError(f"record is on or off, and not {value!r}")
        return value == "on"
    if name not in ("particle", "value"):
        return value
    try:
        return int(value or "") if name == "particle" else float(value or "")
    except ValueError:
        raise ConfigError(f"{name} is a number, and not {value!r}") from None


def _said(refusal: HTTPError) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.load(refusal)
    except ValueError:
        return {"error": f"the view is too busy ({refusal.code}): use 'streamtrack stop' to end the run"}
    return said


def _ask(folder: Path, what: str, settings: dict[str, Any] | None) -> dict[str, Any]:
    address, _, token = read_address(folder).partition("#token=")
    content = None if settings is None else json.dumps(settings).encode()
    request = Request(f"{address}api/{what}", content, {"Authorization": f"Bearer {token}"})
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=ANSWER_S) as answer:
            said: dict[str, Any] = json.load(answer)
    except HTTPError as error:
        said = _said(error)
    except (OSError, ValueError) as error:
        if held_by(folder) is None:
            raise ConfigError(_why_not(folder)) from error
        raise ConfigError(f"the run in {folder} does not answer ({one_line(error)})") from error
    return said


def _why_not(folder: Path) -> str:
    """Return why no run in a folder can be asked."""
    if held_by(folder) is not None:
        return f"the run in {folder} has no view: begin one with --view"
    try:
        status = read_report(folder)["status"]
    except ConfigError:
        return f"there is no run in {folder}, and there was none: give the folder that was given to --out"
    ended = "was broken off" if status == "running" else f"is over: {status}"
    return f"the run in {folder} {ended}"
