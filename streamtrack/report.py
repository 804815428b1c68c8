"""The run's report: what came in, what came out, what was lost and why.

``report.json`` exists from the first second, with status ``running``; a run that was killed never says ``completed``.
"""

import json
import os
import platform
import threading
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.files import patiently, write_durably
from streamtrack.plain import plain
from streamtrack.types import ONE_STREAM, LostFrame

Status = Literal["running", "completed", "incomplete", "interrupted", "failed"]
"""``incomplete``: ran to the end, but frames were lost."""

REPORT_NAME = "report.json"
COMMANDS_NAME = "commands.jsonl"

LEAST_ROOM = 65_536
"""Bytes that a report's file has from the start: more than any report without a long list of lost frames."""

PACKAGES = ("streamtrack", "numpy", "numba", "onnxruntime", "zarr", "tifffile", "pyarrow", "trackpy", "torch")


MOST_RANGES = 1000
"""Of lost frames, that the report lists."""
MOST_CAUSES = 100
OTHER_CAUSES = "other causes"
INTERRUPTED, ENDED = "interrupted", "the run ended"
"""Causes of frames that were waiting when the run ended before the movie: it never reached them."""
NO_DEPTH = "tracks are linked by y and x alone, not by z: nobody says how large a pixel is; set --pixel-size"
NO_INTERVAL = "the frame interval is not known: times, vy, vx and diffusion are in frames, not seconds; set --interval"


class LossLedger:
    """Every lost frame with its cause, as ranges of consecutive indices: 16 bytes each, however long the run.

    After `MOST_CAUSES` different causes, further ones are `OTHER_CAUSES`.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ranges: dict[tuple[str, str], array[int]] = {}  # per cause and stream: first, last, first, last, ...
        self._causes: set[str] = set()
        self._count = 0

    def add(self, lost: LostFrame) -> None:
        """Note one lost frame."""
        with self._lock:
            self._count += 1
            known = lost.cause in self._causes or len(self._causes) < MOST_CAUSES
            cause = lost.cause if known else OTHER_CAUSES
            self._causes.add(cause)
            stream = "" if lost.stream is ONE_STREAM else str(lost.stream)
            ranges = self._ranges.setdefault((cause, stream), array("q"))
            if ranges and ranges[-1] == lost.index - 1:
                ranges[-1] = lost.index
            else:
                ranges.extend((lost.index, lost.index))

    @property
    def count(self) -> int:
        """Frames lost so far."""
        return self._count

    def as_ranges(self) -> dict[str, Any]:
        """Return which frames were lost, for the report.

        ``lost_frames`` has ``{"first", "last", "cause"}`` for each range of consecutive frames lost to one cause, in
        order; of very many the first `MOST_RANGES`, and ``lost_ranges_left_out`` says how many more there are.
        """
        with self._lock:
            runs: list[dict[str, Any]] = [
                {"first": first, "last": last, "cause": cause, **({"stream": stream} if stream else {})}
                for (cause, stream), ranges in self._ranges.items()
                for first, last in zip(ranges[::2], ranges[1::2], strict=True)
            ]
        runs.sort(key=lambda run: run["first"])
        return {"lost_frames": runs[:MOST_RANGES], "lost_ranges_left_out": max(len(runs) - MOST_RANGES, 0)}

    def by_cause(self) -> dict[str, int]:
        """Return how many frames each cause took."""
        with self._lock:
            counts: Counter[str] = Counter()
            for (cause, _), ranges in self._ranges.items():
                counts[cause] += sum(ranges[1::2]) - sum(ranges[::2]) + len(ranges) // 2
            return dict(counts)


_SECTIONS: dict[str, type] = {"status": str, "frames": dict, "config": dict, "outputs": dict, "latency_ms": dict}


def read_report(folder: Path) -> dict[str, Any]:
    """Read the report of a run; raises ConfigError where there is none that can be read."""
    what = f"{folder} holds no readable {REPORT_NAME}, give the folder that 'track' wrote"
    with foreign_errors(ConfigError, what):
        report: dict[str, Any] = json.loads(patiently((folder / REPORT_NAME).read_bytes))
        wrong = [name for name, kind in _SECTIONS.items() if not isinstance(report.get(name, kind()), kind)]
        if wrong or "status" not in report:
            raise ConfigError(f"{what}: {', '.join(wrong) or 'status'} is not what it should be")
    return report


def frames_reached(report: Mapping[str, Any], processed: Iterable[int]) -> range | None:
    """Return the frames that a run was asked for and came to: from the first to the last, lost ones included.

    Parameters
    ----------
    report
        The run's.
    processed
        Indices of the frames that were processed.

    Returns
    -------
    range or None
        None for a run that came to no frame.
    """
    lost = [each for each in report["frames"].get("lost_frames", ()) if each["cause"] not in (INTERRUPTED, ENDED)]
    reached = [*processed, *(each[end] for each in lost for end in ("first", "last"))]
    return range(min(reached), max(reached) + 1) if reached else None


def write_report(folder: Path, report: Mapping[str, Any], *, reserve: bool = False) -> None:
    """Write ``report.json`` so that a reader sees the old one or the new one, and that it survives a power cut.

    Numbers that JSON lacks become null. With ``reserve`` the file is made so long that the last report has
    room in its place when the disk is full. Raises OSError.
    """
    text = json.dumps(plain(report), indent=2)
    room = max(LEAST_ROOM, 2 * len(text)) if reserve else 0
    write_durably(folder / REPORT_NAME, f"{text.ljust(room)}\n".encode())


def write_last_report(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Write the report of a run that has ended, shorter where there is no room, and return what stands there.

    Where nothing can be written the run has failed, and the report that is returned says why.
    """
    shorter = {**report, "frames": {**report["frames"], "lost_frames": [], "lost_ranges_left_out": None}}
    for each in (report, shorter):
        try:
            write_report(folder, each)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return each
    return failed(report, f"cannot write {folder / REPORT_NAME}: {reason}")


def failed(report: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return the report of a run that failed, if not for an earlier reason then for this one."""
    return {**report, "status": "failed", "error": report["error"] or reason}


def versions() -> dict[str, str]:
    """Return the versions of what decides the result, where installed."""
    found = {package: number for package in PACKAGES if (number := _version(package)) is not None}
    return {"python": platform.python_version(), **found}


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, str | int | None]:
    """Return what the run ran on."""
    return {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()}
