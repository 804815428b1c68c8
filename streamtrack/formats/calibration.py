"""What a table knows of its movie: pixel size, frame interval, place, file; kept in ``DataFrame.attrs``."""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamtrack.errors import ConfigError
from streamtrack.report import REPORT_NAME, read_report

ORIGIN = ("origin_y_um", "origin_x_um")
"""Where the centre of the first pixel is."""

_LENGTHS = ("pixel_size_um", "frame_interval_s")


def _length(text: str) -> float | None:
    value = float(text)
    return value if 0 < value < math.inf else None


def _place(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _shape(text: str) -> tuple[int, int]:
    height, width = json.loads(text)
    return int(height), int(width)


_KNOWN: dict[str, tuple[Callable[[str], Any], Callable[[Any], str]]] = {
    **dict.fromkeys(_LENGTHS, (_length, lambda value: repr(float(value)))),
    **dict.fromkeys(ORIGIN, (_place, lambda value: repr(float(value)))),
    "source": (str, str),
    "level": (int, str),
    "shape": (_shape, json.dumps),
    "frames": (int, str),
}
"""How each is read from the text in a Parquet file's metadata, and written there."""


def from_texts(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return what is known; what is no size, place or number is not."""
    known = {}
    for name, (read, _) in _KNOWN.items():
        with suppress(ValueError, TypeError):
            if name in texts and (value := read(texts[name])) is not None:
                known[name] = value
    return known


def to_texts(attrs: Mapping[Any, Any]) -> dict[str, str]:
    """Return what ``DataFrame.attrs`` know, as texts."""
    return {name: write(attrs[name]) for name, (_, write) in _KNOWN.items() if name in attrs}


def beside(table: Path) -> dict[str, Any]:
    """Return what the report in the folder of a table says of the movie; nothing where there is none."""
    if not (table.parent / REPORT_NAME).is_file():
        return {}
    with suppress(ConfigError, KeyError, TypeError, AttributeError, ValueError):
        source = read_report(table.parent)["source"]
        texts = {name: repr(source[name]) for name in _LENGTHS if source.get(name)}
        texts |= {name: repr(at) for name, at in zip(ORIGIN, source.get("origin_um") or (), strict=False)}
        texts |= {"source": source["name"], "shape": json.dumps(source["shape"])}
        return from_texts(texts)
    return {}
