"""The run's report: what came in, what came out, what was lost and why.

``report.json`` exists from the first second, with status ``running``; a run that was killed never says ``completed``.
"""

import json
import os
import platform
import threading
from array import array
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from streamtrack.errors import ConfigError
from streamtrack.files import write_text_durably
from streamtrack.types import LostFrame

Status = Literal["running", "completed", "incomplete", "interrupted", "failed"]
"""``incomplete``: ran to the end, but frames were lost."""

REPORT_NAME = "report.json"
COMMANDS_NAME = "commands.jsonl"

PACKAGES = ("streamtrack", "numpy", "numba", "onnxruntime", "zarr", "tifffile", "pyarrow", "trackpy", "torch")


class LossLedger:
    """Every lost frame with its cause, as ranges of consecutive indices: 16 bytes each, however long the run.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ranges: dict[str, array[int]] = {}  # per cause: first, last, first, last, ...
        self._count = 0

    def add(self, lost: LostFrame) -> None:
        """Note one lost frame."""
        with self._lock:
            self._count += 1
            ranges = self._ranges.setdefault(lost.cause, array("q"))
            if ranges and ranges[-1] == lost.index - 1:
                ranges[-1] = lost.index
            else:
                ranges.extend((lost.index, lost.index))

    @property
    def count(self) -> int:
        """Frames lost so far."""
        return self._count

    def as_list(self) -> list[dict[str, Any]]:
        """Return ``{"first", "last", "cause"}`` for each range of consecutive frames lost to one cause, in order."""
        with self._lock:
            runs = [
                {"first": first, "last": last, "cause": cause}
                for cause, ranges in self._ranges.items()
                for first, last in zip(ranges[::2], ranges[1::2], strict=True)
            ]
        return sorted(runs, key=lambda run: run["first"])

    def by_cause(self) -> dict[str, int]:
        """Return how many frames each cause took."""
        with self._lock:
            return {
                cause: sum(ranges[1::2]) - sum(ranges[::2]) + len(ranges) // 2 for cause, ranges in self._ranges.items()
            }


def read_report(folder: Path) -> dict[str, Any]:
    """Read the report of a run; raises ConfigError where there is none that can be read."""
    try:
        report: dict[str, Any] = json.loads((folder / REPORT_NAME).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"{folder} holds no readable {REPORT_NAME}; give the folder that 'track' wrote") from error
    return report


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json`` so that a reader sees the old one or the new one, never half of one."""
    text = json.dumps(report, indent=2, default=str, allow_nan=False) + "\n"
    write_text_durably(folder / REPORT_NAME, text)


def versions() -> dict[str, str]:
    """Return the versions of what decides the result, where installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str | int | None]:
    """Return what the run ran on."""
    return {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()}
