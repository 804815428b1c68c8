import json
import os
import socket
import subprocess
import sys

import pytest

from streamtrack import run_lock
from streamtrack.errors import ConfigError
from streamtrack.run_lock import LOCK_NAME, RunLock, held_by

HOLD = """
import sys, time
from pathlib import Path
from streamtrack.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.take()
print("taken", flush=True)
sys.stdin.readline()
lock.release()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "taken\n"
        yield child
        child.kill()


@pytest.fixture(params=["locks", "no locks"])
def either_file_system(request, monkeypatch):
    """One with the system's locks, and one that has none."""
    if request.param == "no locks":
        monkeypatch.setattr(run_lock, "_lock", lambda file: None)


@pytest.mark.usefixtures("either_file_system")
def test_one_line_says_who_holds_the_folder(tmp_path, other):
    with pytest.raises(
        ConfigError, match=rf"is in use: process {other.pid} on .* since 20.*streamtrack stop"
    ) as caught:
        RunLock(tmp_path).take()
    assert len(str(caught.value).splitlines()) == 1
    assert held_by(tmp_path) == str(caught.value)


@pytest.mark.usefixtures("either_file_system")
def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, other):
    other.kill()
    other.wait()
    assert (tmp_path / LOCK_NAME).exists()
    assert held_by(tmp_path) is None
    lock = RunLock(tmp_path)
    lock.take()
    assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_goes_with_a_run_that_ends(tmp_path, other):
    other.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_two_runs_of_one_process_do_not_share_a_folder(tmp_path):
    first = RunLock(tmp_path)
    first.take()
    with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
        RunLock(tmp_path).take()
    first.release()


def test_without_locks_of_the_system_a_used_again_number_is_no_owner(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "_lock", lambda file: None)
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "process_started": "long ago",
        "since": "",
        "command": "",
    }
    (tmp_path / LOCK_NAME).write_text(json.dumps(about))
    assert held_by(tmp_path) is None
    (tmp_path / LOCK_NAME).write_text(json.dumps({**about, "host": "another"}))
    assert "on another" in (held_by(tmp_path) or ""), "nobody can know"


def test_a_lock_of_another_program_is_not_touched(tmp_path):
    (tmp_path / LOCK_NAME).write_text("mine")
    with pytest.raises(ConfigError, match=r"run\.lock was not written by streamtrack"):
        RunLock(tmp_path).take()
    assert (tmp_path / LOCK_NAME).read_text() == "mine"


def test_asking_does_not_keep_a_run_from_starting(tmp_path):
    (tmp_path / LOCK_NAME).touch()
    for _ in range(50):
        assert held_by(tmp_path) is None
    lock = RunLock(tmp_path)
    lock.take()
    assert lock.is_held_here()
    lock.release()
