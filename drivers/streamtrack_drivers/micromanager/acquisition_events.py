"""Events as commands give them, in the words of whoever runs the acquisition."""

import itertools
from collections.abc import Mapping
from typing import Any

from streamtrack.errors import MicroscopeError

_SAME = {"exposure": "exposure", "min_start_time": "min_start_time", "x_pos": "x", "y_pos": "y", "z_pos": "z"}
_UNUSED = frozenset(("metadata", "pos_name"))
_numbers = itertools.count()


def as_pycromanager(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return pycromanager's event for one with the keys of useq's MDAEvent; raises MicroscopeError on others.

    Without an ``index`` it gets an axis of its own, ``added``, so that its image replaces no other, and its channel.
    """
    given = {key: value for key, value in event.items() if value is not None and key not in _UNUSED}
    channel, properties = given.pop("channel", None), given.pop("properties", None)
    index = given.pop("index", None) or {
        "added": next(_numbers),
        **({"channel": _channel(channel)[1]} if channel else {}),
    }
    unknown = sorted(given.keys() - _SAME)
    if unknown:
        raise MicroscopeError(f"pycromanager's events know no {', '.join(unknown)}")
    translated: dict[str, Any] = {"axes": dict(index), **{_SAME[key]: value for key, value in given.items()}}
    if channel is not None:
        translated["config_group"] = _channel(channel)
    if properties:
        translated["properties"] = [[device, name, str(value)] for device, name, value in properties]
    return translated


def _channel(channel: str | Mapping[str, str]) -> list[str]:
    if isinstance(channel, str):
        return ["Channel", channel]
    return [channel.get("group", "Channel"), channel["config"]]
