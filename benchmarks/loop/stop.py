"""How soon the microscope is safe after a request to stop, at the worst moments.

``python -m benchmarks.stop [--quick] [--out FILE.json]``

Armed runs of ``streamtrack live`` in processes of their own, on Micro-Manager's own core with its demo devices; Linux,
as root. Each is asked to stop once, by a signal or by the stop file, while it compiles (in a C call that no signal
interrupts), runs, moves its stage, or finishes its files; meanwhile its folder is healthy, full, read-only, removed, or
on a file system whose server does not answer. Time is counted from just before the request to the moment at which the
driver says that the shutter is closed, and in a move to the moment at which the stage is halted.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.loop.spoilt_folder import KINDS, small_disk, spoilt
from benchmarks.shared.record import command_line, command_parser, write
from streamtrack.bench.computer import describe

PHASES = ("compiling", "running", "moving", "finishing")
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
STOP_FILE = "stop file"
STUCK = "shutter stuck"
"""A phase for tests: as running, but the shutter cannot be closed."""
LAB_PACKAGE = Path(__file__).parents[2] / "tests" / "lab_package"
START_S, SAFE_S, END_S = 120.0, 15.0, 60.0
"""How long a run may take to begin, to make safe, and to end."""
ROUNDS = 8_000_000
"""Of the C call that stands for compiling: some 10 s."""
RUN = """
mode = "armed"
[microscope]
kind = "stamped"
stamps = {stamps!r}
stuck = {stuck}
[source]
kind = "micromanager"
exposure_ms = 10
{frames}
[engine]
kind = "slow-start"
stamps = {stamps!r}
rounds = {rounds}
[[triggers]]
kind = "every"
do = "stage"
action = {{ to = [{x_um}, 0] }}
confirmed = false
[actuators.stage]
kind = "stage"
[[sinks]]
kind = "tables"
[[sinks]]
kind = "slow-end"
close_s = {close_s}
[safety]
x_um = [-1000, 1000]
y_um = [-1000, 1000]
close_shutter = "White Light Shutter"
"""


@dataclass(frozen=True)
class Case:
    """When a run is stopped, what has become of its folder by then, and how it is asked."""

    phase: str
    folder: str
    request: str


@dataclass(frozen=True)
class Outcome:
    """What came of it; ``safe_ms`` is None where the microscope was never safe."""

    safe_ms: float | None
    exit_code: int | None
    status: str | None
    errors: str


CASES = tuple(Case(*each) for each in product(PHASES, KINDS, SIGNALS)) + tuple(
    Case(phase, "healthy", STOP_FILE) for phase in PHASES
)


def main() -> None:
    """Run the benchmark and print its figures."""
    arguments = command_parser(__doc__, "every ninth case").parse_args()
    rows = []
    for case in CASES[:: 9 if arguments.quick else 1]:
        outcome = try_once(case)
        rows.append({**asdict(case), **asdict(outcome)})
        print(json.dumps(rows[-1]), flush=True)
    record = {"command": command_line("stop"), "computer": describe(), "tries": rows}
    print(summary([row["safe_ms"] for row in rows]))
    write(record, arguments.out)


def summary(safe_ms: list[float | None]) -> str:
    """Return the figures in one line."""
    known = np.array([np.inf if each is None else each for each in safe_ms])
    share = 100 * np.mean(known <= 200)
    return f"{len(known)} tries: median {np.median(known):.0f} ms, worst {known.max():.0f} ms, {share:.0f} % in 200 ms"


def try_once(case: Case) -> Outcome:
    """Start a run, stop it, and see what comes of it."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder, stamps = place / "out", place / "stamps"
        if case.folder == "healthy":
            folder.mkdir()
        else:
            stack.enter_context(small_disk(folder))
        with started(case, folder, stamps) as process:
            wait_until(lambda: has_reached(case.phase, folder, stamps), START_S, process)
            time.sleep(0.3)
            with spoilt(folder, case.folder):
                asked_ns = time.monotonic_ns()
                ask(case.request, process, folder)
                needed = {"closed", "halted"} if case.phase == "moving" else {"closed"}
                safe_ns = wait_for_stamps(stamps, needed, asked_ns)
            _, errors = process.communicate(timeout=END_S)
        return Outcome(safe_ns and (safe_ns - asked_ns) / 1e6, process.returncode, status_of(folder), errors)


@contextmanager
def started(case: Case, folder: Path, stamps: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start the run of a case in a process of its own; it is killed at the end of the block."""
    finishing = case.phase == "finishing"
    run = RUN.format(
        stamps=str(stamps),
        stuck="true" if case.phase == STUCK else "false",
        frames="frames = 20" if finishing else "",
        rounds=ROUNDS if case.phase == "compiling" else 1,
        x_um=900 if case.phase == "moving" else 0,
        close_s=4 if case.phase in ("running", "finishing") else 0,
    )
    config = stamps.with_name("run.toml")
    config.write_text(run, encoding="utf-8", newline="\n")
    command = [sys.executable, "-m", "streamtrack", "live", str(config), "--out", str(folder)]
    path = os.pathsep.join(filter(None, (str(LAB_PACKAGE), os.environ.get("PYTHONPATH"))))
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, text=True, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()


def has_reached(phase: str, folder: Path, stamps: Path) -> bool:
    """Return whether the run is where it shall be stopped."""
    if phase == "compiling":
        return "compiling" in read_stamps(stamps)
    if phase in ("running", STUCK):
        return status_of(folder) == "running"
    return ("moving" if phase == "moving" else "closed") in read_stamps(stamps)


def ask(request: str, process: "subprocess.Popen[str]", folder: Path) -> None:
    """Ask a run to stop."""
    if request == STOP_FILE:
        (folder / "stop").touch()
    else:
        process.send_signal(getattr(signal, request))


def read_stamps(path: Path) -> dict[str, int]:
    """Return when each thing was done last, ns."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) == 2}


def wait_for_stamps(path: Path, needed: set[str], since_ns: int) -> int | None:
    """Return when the last of what is needed was done after a moment, ns; None if it was not in time."""
    give_up_s = time.monotonic() + SAFE_S
    while time.monotonic() < give_up_s:
        since = {name: at_ns for name, at_ns in first_stamps(path, since_ns).items() if name in needed}
        if len(since) == len(needed):
            return max(since.values())
        time.sleep(0.02)
    return None


def first_stamps(path: Path, since_ns: int) -> dict[str, int]:
    """Return when each thing was done first after a moment, ns."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return {name: int(at_ns) for name, at_ns in reversed(lines) if int(at_ns) > since_ns}


def status_of(folder: Path) -> str | None:
    """Return what the report says, None where there is none."""
    try:
        return str(json.loads((folder / "report.json").read_text(encoding="utf-8"))["status"])
    except (OSError, ValueError):
        return None


def wait_until(reached: Callable[[], bool], timeout_s: float, process: "subprocess.Popen[str]") -> None:
    """Wait for something; raises RuntimeError if the process ends before, TimeoutError if it takes too long."""
    give_up_s = time.monotonic() + timeout_s
    while not reached():
        if process.poll() is not None:
            raise RuntimeError(f"the run ended with {process.returncode}: {process.communicate()[1]}")
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"the run has not come so far within {timeout_s:g} s")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
