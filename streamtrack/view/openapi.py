"""What other programs may ask for, as an OpenAPI document and as the table of ``docs/view.md``; from `ACTIONS`."""

import json
from collections.abc import Mapping
from typing import Any

from streamtrack import __version__
from streamtrack.view.actions import ACTIONS, Action

STATUSES = {
    "200": "what became of it",
    "403": "no token, a wrong one, or a request of another page or under another name",
    "409": "it is refused",
    "413": "the request is too long",
    "429": "too many requests in a second",
}
ASKED = {
    "state": "how the run stands: frames, losses, latency, rules, actuators, light",
    "openapi.json": "all of this, for programs that read it (OpenAPI 3.1)",
}
"""Answered by the server itself, to GET."""


def document() -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, Any] = {
        f"/api/{name}": {"get": {"operationId": f"get_{name.partition('.')[0]}", **_answers(does)}}
        for name, does in ASKED.items()
    }
    paths |= {
        f"/api/{name}": {"post": {"operationId": name, **_body(action), **_answers(action.does)}}
        for name, action in ACTIONS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "streamtrack: a run that is on", "version": __version__},
        "paths": paths,
        "security": [{"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def table() -> str:
    """Return the same for people, in Markdown."""
    rows = [("request", "says", ""), ("---", "---", "---")]
    rows += [(f"`GET /api/{name}`", "", does) for name, does in ASKED.items()]
    rows += [(f"`POST /api/{name}`", _example(action), action.does) for name, action in ACTIONS.items()]
    return "\n".join("|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in rows) + "\n"


def _example(action: Action) -> str:
    said = {each.name: each.example for each in action.settings if each.example is not None}
    return f"`{json.dumps(said)}`" if said else ""


def _body(action: Action) -> dict[str, Any]:
    if not action.settings:
        return {}
    properties = {each.name: dict(each.kind) for each in action.settings}
    needed = [each.name for each in action.settings if each.required]
    schema = {"type": "object", "properties": properties, "required": needed}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _answers(does: str) -> Mapping[str, Any]:
    return {"summary": does, "responses": {code: {"description": means} for code, means in STATUSES.items()}}
