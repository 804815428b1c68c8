"""Two records of ``streamtrack bench`` side by side."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from streamtrack.bench.record import SCHEMA
from streamtrack.errors import ConfigError

SHOWN = ("p50", "p99", "max")


class Row(NamedTuple):
    """A figure in both records; ``ratio`` is b / a, None where one of them has no such figure."""

    what: str
    a: float | None
    b: float | None
    ratio: float | None


def read_record(path: Path) -> dict[str, Any]:
    """Read what ``streamtrack bench`` wrote; raises ConfigError if it is something else."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: give two bench.json that 'streamtrack bench' wrote") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise ConfigError(f"{path} is no record of 'streamtrack bench' of this version: measure again")
    return record


def compare(a: dict[str, Any], b: dict[str, Any]) -> list[Row]:
    """Return every latency, rate and count of two records, with their ratio."""
    left, right = dict(_figures(a)), dict(_figures(b))
    return [_row(what, left.get(what), right.get(what)) for what in left | right]


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Return in which of the circumstances the records differ: ratios then mean something else."""
    found = []
    for what in ("movie", "fps", "extent", "computer", "engine"):
        if a[what] != b[what]:
            found += [f"{what}: {_short(each)}" for each in _changed(a[what], b[what])]
    return found


def _figures(record: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    for stage, ms in record["cold_start"]["ms"].items():
        yield f"cold start, {stage}, ms", ms
    for name, measured in record["measurements"].items():
        for stage, ms in measured["stages_ms"].items():
            yield from ((f"{name}: {stage} {key}, ms", ms[key]) for key in SHOWN)
        yield f"{name}: frames/s", measured["frames_per_s"]
        yield f"{name}: dropped", measured["dropped"]
        if "deadline_misses" in measured:
            yield f"{name}: deadline misses", measured["deadline_misses"]
    yield "peak memory, MiB", record["memory_mib"]["peak"]


def _row(what: str, a: float | None, b: float | None) -> Row:
    return Row(what, a, b, b / a if a and b is not None else None)


def _changed(a: Any, b: Any) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [f"{key}: {a.get(key)} -> {b.get(key)}" for key in a | b if a.get(key) != b.get(key)]
    return [f"{a} -> {b}"]


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."
