"""What a page or another program may have a run do, by name; each is a method of the run's `Control`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streamtrack.errors import StreamtrackError

if TYPE_CHECKING:
    from streamtrack.control.control import Control

ACTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "pause": ("pause", ("rule",)),
    "resume": ("resume", ("rule",)),
    "mode": ("set_mode", ("mode",)),
    "threshold": ("set_threshold", ("value",)),
    "exposure": ("set_exposure_ms", ("value",)),
    "follow": ("follow", ("particle",)),
    "mark": ("mark", ("text",)),
}
"""The method, and the names of what it needs; ``stop`` is besides, as it waits for nothing.

``mode`` may have ``confirmed`` besides: to arm, what ``may_move`` returned and somebody has read.
"""
WAIT_S = 5.0
"""How long an answer may take."""


def act(control: "Control", what: str, settings: Mapping[str, Any], who: Any) -> dict[str, Any]:
    """Have the run do something; return ``done``, its line in the log, or ``error``, why not."""
    if what == "stop":
        control.stop(who)
        return {"done": {"change": "stop", "after": True}}
    if what == "may_move":
        return {"done": control.what_may_move()}
    if what not in ACTIONS:
        return {"error": f"unknown: {what} (known: stop, may_move, {', '.join(ACTIONS)})"}
    name, needed = ACTIONS[what]
    if missing := [each for each in needed if each not in settings]:
        return {"error": f"{what} needs {', '.join(missing)}"}
    try:
        more = {"confirmed": settings["confirmed"]} if what == "mode" and "confirmed" in settings else {}
        request = getattr(control, name)(*(settings[each] for each in needed), who=who, **more)
        return {"done": request.wait(WAIT_S)}
    except StreamtrackError as error:
        return {"error": str(error)}
