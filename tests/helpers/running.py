"""``streamtrack`` in a process of its own, and how far its run has come."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.loop.stop import wait_until
from streamtrack.errors import StreamtrackError
from streamtrack.sinks.stream import Extent, read_batches
from streamtrack.sinks.tables import PARTIAL

WAIT_S = 240
"""A machine may be loaded."""
ONNXRUNTIME = ("--config", Path(__file__).with_name("onnxruntime.toml"))
"""Options of ``track`` where the back end does not matter: OpenVINO compiles the graph for a second."""


def start(*arguments, **options):
    """Start a command; its output is read through pipes unless told otherwise."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-m", "streamtrack", *map(str, arguments)], text=True, **options)


def status_of(folder):
    """What the report of a run says; None where there is none yet."""
    try:
        return json.loads((folder / "report.json").read_text(encoding="utf-8"))["status"]
    except FileNotFoundError:
        return None


def frames_on_disk(folder):
    """How many frames of a run's tables a crash would leave."""
    extent = Extent()
    try:
        for _ in read_batches(folder / PARTIAL, extent):
            pass
    except (FileNotFoundError, StreamtrackError):
        return 0
    return extent.n_frames


def wait_for_frames(folder, process, at_least=1):
    """Wait until so many frames are on the disk; they come there once a second."""
    wait_until(lambda: frames_on_disk(folder) >= at_least, WAIT_S, process)
