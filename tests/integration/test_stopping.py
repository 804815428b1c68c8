"""Stopping armed runs of ``streamtrack live`` at the worst moments, by real signals, on Micro-Manager's devices."""

import sys

import pytest

from benchmarks.spoilt_folder import can_mount
from benchmarks.stop import STOP_FILE, Case, try_once

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
