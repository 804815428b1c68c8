"""What a page or another program may ask of a run: the one table behind the server, ``ctl`` and the documents."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from streamtrack.errors import StreamtrackError

if TYPE_CHECKING:
    from streamtrack.control.control import Control

WAIT_S = 5.0
"""How long an answer may take."""


class Said(NamedTuple):
    """What a request says.

    Attributes
    ----------
    kind
        By JSON Schema.
    """

    name: str
    kind: Mapping[str, Any]
    example: Any
    required: bool = True


class Action(NamedTuple):
    """What a run does when it is asked for it.

    Attributes
    ----------
    does
        In a line, for documents.
    settings
        What the request has to say, or may.
    call
        Does it, given the run's control, the settings that were said, and who asked; returns ``done``, or a request to
        wait for.
    """

    does: str
    settings: tuple[Said, ...]
    call: Callable[["Control", Mapping[str, Any], Any], Any]


TEXT: Mapping[str, Any] = {"type": "string"}
NUMBER: Mapping[str, Any] = {"type": "number"}
RANGE: Mapping[str, Any] = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
POLYGON: Mapping[str, Any] = {"type": "array", "items": RANGE, "minItems": 3}
FLAG: Mapping[str, Any] = {"type": "boolean"}
TRACK: Mapping[str, Any] = {"type": ["integer", "null"]}
MODE: Mapping[str, Any] = {"enum": ["observe", "rehearse", "armed"]}
NUMBERS: Mapping[str, Any] = {"anyOf": [NUMBER, {"type": "object", "additionalProperties": NUMBER}]}
RULE = Said("rule", TEXT, "centre")


def _asked(name: str, *settings: str) -> Callable[["Control", Mapping[str, Any], Any], Any]:
    """Return what asks for a change by the method of `Control` of this name."""

    def call(control: "Control", said: Mapping[str, Any], who: Any) -> Any:
        return getattr(control, name)(*(said[each] for each in settings), who=who)

    return call


def _stop(control: "Control", said: Mapping[str, Any], who: Any) -> Any:
    control.stop(who)
    return {"change": "stop", "after": True}


def _mode(control: "Control", said: Mapping[str, Any], who: Any) -> Any:
    return control.set_mode(said["mode"], said.get("confirmed"), who)


def _region(control: "Control", said: Mapping[str, Any], who: Any) -> Any:
    y_px, x_px, polygon_px = (said.get(name) for name in ("y_px", "x_px", "polygon_px"))
    return control.move_region(said["rule"], y_px, x_px, polygon_px, who)


def _event(control: "Control", said: Mapping[str, Any], who: Any) -> Any:
    return {"rules": control.post(said["name"], said.get("value"), said.get("particle"))}


ACTIONS: Mapping[str, Action] = {
    "stop": Action("ends the run at once", (), _stop),
    "pause": Action("has a rule give no commands", (RULE,), _asked("pause", "rule")),
    "resume": Action("has it give commands again", (RULE,), _asked("resume", "rule")),
    "may_move": Action("what an armed run may move, in words", (), lambda control, said, who: control.what_may_move()),
    "mode": Action(
        "observe, rehearse, or be armed: then `confirmed` is what `may_move` said, as somebody has read it",
        (Said("mode", MODE, "rehearse"), Said("confirmed", TEXT, None, required=False)),
        _mode,
    ),
    "threshold": Action("another detection threshold", (Said("value", NUMBER, 0.6),), _asked("set_threshold", "value")),
    "exposure": Action(
        "another exposure, ms, within its limits", (Said("value", NUMBER, 20),), _asked("set_exposure_ms", "value")
    ),
    "follow": Action(
        "show this track only to rules with `chosen`; null lets go",
        (Said("particle", TRACK, 12),),
        _asked("follow", "particle"),
    ),
    "mark": Action("writes a note into the log", (Said("text", TEXT, "drug added"),), _asked("mark", "text")),
    "region": Action(
        "has a rule look at another rectangle, `y_px` and `x_px`, or polygon, `polygon_px`",
        (
            RULE,
            Said("y_px", RANGE, [40, 120], required=False),
            Said("x_px", RANGE, [60, 150], required=False),
            Said("polygon_px", POLYGON, None, required=False),
        ),
        _region,
    ),
    "snapshot": Action("writes the newest frame and its detections into the run's folder", (), _asked("take_snapshot")),
    "record": Action(
        "has the sink `raw` write frames, or leave them out", (Said("on", FLAG, False),), _asked("record", "on")
    ),
    "event": Action(
        "fires the rules of kind `http` that take it, at the next frame",
        (
            Said("name", TEXT, "drug"),
            Said("value", NUMBERS, 3.5, required=False),
            Said("particle", TRACK, 12, required=False),
        ),
        _event,
    ),
}
"""By the last part of ``/api/...``."""


def act(control: "Control", what: str, settings: Mapping[str, Any], who: Any) -> dict[str, Any]:
    """Have the run do something; return ``done``, its line in the log, or ``error``, why not."""
    action = ACTIONS.get(what)
    if action is None:
        return {"error": f"unknown: {what} (known: {', '.join(ACTIONS)})"}
    if missing := [each.name for each in action.settings if each.required and each.name not in settings]:
        return {"error": f"{what} needs {', '.join(missing)}"}
    try:
        request = action.call(control, settings, who)
        return {"done": request.wait(WAIT_S) if hasattr(request, "wait") else request}
    except StreamtrackError as error:
        return {"error": str(error)}
