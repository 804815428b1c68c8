"""Stopping armed runs of ``streamtrack live`` at the worst moments, by real signals, on Micro-Manager's devices."""

import subprocess
import sys

import pytest

from benchmarks.loop.spoilt_folder import can_mount
from benchmarks.loop.stop import (
    END_S,
    START_S,
    STOP_FILE,
    STUCK,
    Case,
    has_reached,
    started,
    status_of,
    try_once,
    wait_until,
)

pytest.importorskip("pymmcore", reason="needs the extra micromanager")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals of POSIX")

SAFE_MS = 5000
"""Far more than is needed (see ``benchmarks.stop``): machines that run tests are busy."""


@pytest.mark.parametrize(
    ("phase", "request_", "status", "exit_code"),
    [
        ("compiling", "SIGTERM", "interrupted", 130),
        ("compiling", STOP_FILE, "interrupted", 130),
        ("running", "SIGHUP", "interrupted", 130),
        ("running", STOP_FILE, "interrupted", 130),
        ("moving", "SIGINT", "interrupted", 130),
        ("finishing", "SIGTERM", "completed", 0),
    ],
)
def test_a_request_makes_the_microscope_safe_at_once_whatever_the_run_is_doing(phase, request_, status, exit_code):
    outcome = try_once(Case(phase, "healthy", request_))
    assert outcome.safe_ms is not None
    assert outcome.safe_ms < SAFE_MS
    assert (outcome.status, outcome.exit_code) == (status, exit_code), outcome.errors
    assert "Traceback" not in outcome.errors


@pytest.mark.parametrize(
    ("phase", "folder"),
    [
        ("compiling", "hanging"),
        ("running", "hanging"),
        ("running", "full"),
        ("moving", "removed"),
        ("moving", "read-only"),
    ],
)
def test_a_folder_that_is_lost_keeps_no_light_on(tmp_path, phase, folder):
    if not can_mount(tmp_path / "disk"):
        pytest.skip("needs to mount file systems, as root")
    outcome = try_once(Case(phase, folder, "SIGINT"))
    assert outcome.safe_ms is not None
    assert outcome.safe_ms < SAFE_MS
    assert outcome.exit_code in (2, 130), outcome.errors
    assert "Traceback" not in outcome.errors


def stop_command(folder):
    command = [sys.executable, "-m", "streamtrack", "stop", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("phase", "status"), [("compiling", "interrupted"), ("running", "interrupted")])
def test_stop_says_what_is_safe_while_the_run_is_still_busy_and_then_how_it_ended(tmp_path, phase, status):
    folder, stamps = tmp_path / "out", tmp_path / "stamps"
    with started(Case(phase, "healthy", STOP_FILE), folder, stamps) as process:
        wait_until(lambda: has_reached(phase, folder, stamps), START_S, process)
        stop = stop_command(folder)
        said = stop.stdout.readline().removesuffix("\n").removesuffix(", stage halted")  # it may have been moving
        assert said == "stopped, shutter 'White Light Shutter' closed"
        assert process.poll() is None
        said, errors = stop.communicate(timeout=END_S)
        process.communicate(timeout=END_S)
    assert said == f"{folder}: {status}\n"
    assert (stop.returncode, errors) == (0, "")
    assert status_of(folder) == status


def test_a_shutter_that_cannot_be_closed_is_said_by_everybody(tmp_path):
    folder, stamps = tmp_path / "out", tmp_path / "stamps"
    with started(Case(STUCK, "healthy", STOP_FILE), folder, stamps) as process:
        wait_until(lambda: has_reached(STUCK, folder, stamps), START_S, process)
        stop = stop_command(folder)
        _, by_stop = stop.communicate(timeout=END_S)
        _, by_run = process.communicate(timeout=END_S)
    alarm = "streamtrack: shutter 'White Light Shutter' could not be closed: MicroscopeError: the shutter is stuck"
    assert (stop.returncode, process.returncode) == (2, 2)
    assert alarm in by_stop
    assert alarm in by_run
    assert status_of(folder) == "failed"
