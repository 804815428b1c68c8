"""The run's report: what came in, what came out, what was lost and why.

``report.json`` exists from the first second, with status ``running``; a run that was killed never says ``completed``.
"""

import json
import os
import platform
import threading
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from streamtrack.types import LostFrame

Status = Literal["running", "completed", "incomplete", "interrupted", "failed"]
"""``incomplete``: ran to the end, but frames were lost."""

REPORT_NAME = "report.json"
RESULT_NAMES = (REPORT_NAME, "detections.parquet", "tracks.parquet", "tracks.csv", "overview.png")
"""What a run leaves in its folder; ``--overwrite`` removes these and unfinished ``*.partial*`` files, nothing else."""
UNFINISHED_NAME = "detections.partial.arrows"
"""What a killed run leaves besides its report, for ``streamtrack recover``."""

PACKAGES = ("streamtrack", "numpy", "numba", "onnxruntime", "zarr", "tifffile", "pyarrow", "trackpy", "torch")


class LossLedger:
    """Every lost frame with its cause, as runs of consecutive indices, so that memory stays bounded by the causes.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: list[tuple[int, int, str]] = []

    def add(self, lost: LostFrame) -> None:
        """Note one lost frame."""
        with self._lock:
            if self._runs:
                first, last, cause = self._runs[-1]
                if cause == lost.cause and lost.index == last + 1:
                    self._runs[-1] = (first, lost.index, cause)
                    return
            self._runs.append((lost.index, lost.index, lost.cause))

    @property
    def count(self) -> int:
        """Frames lost so far."""
        with self._lock:
            return sum(last - first + 1 for first, last, _ in self._runs)

    def as_list(self) -> list[dict[str, Any]]:
        """Return ``{"first", "last", "cause"}`` for each run of consecutive frames lost to one cause."""
        with self._lock:
            return [{"first": first, "last": last, "cause": cause} for first, last, cause in sorted(self._runs)]

    def by_cause(self) -> dict[str, int]:
        """Return how many frames each cause took."""
        totals: dict[str, int] = {}
        for run in self.as_list():
            totals[run["cause"]] = totals.get(run["cause"], 0) + run["last"] - run["first"] + 1
        return totals


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json`` so that a reader sees the old one or the new one, never half of one."""
    partial = folder / (REPORT_NAME + ".partial")
    partial.write_text(json.dumps(report, indent=2, default=str, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, folder / REPORT_NAME)


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
