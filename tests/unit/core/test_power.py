import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from streamtrack import power


class Calls:
    """A library of Windows that notes what is called."""

    def __init__(self, log):
        self._log = log

    def __getattr__(self, name):
        return lambda *arguments: self._log.append((name, *arguments[:1]))


@pytest.mark.parametrize(("system", "least_s"), [("win32", 1e-3), ("linux", 5e-4)])
def test_waiting_threads_spin_on_no_system(monkeypatch, system, least_s):
    monkeypatch.setattr(sys, "platform", system)
    assert power.switch_interval_s() >= least_s


def test_windows_stays_awake_and_its_timer_fine_until_the_end_of_the_block(monkeypatch):
    log = []
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=Calls(log), winmm=Calls(log)), raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    with power.awake():
        assert log[:2] == [("SetThreadExecutionState", power.AWAKE), ("timeBeginPeriod", 1)]
        assert log[2][0] == "SetProcessInformation"
        del log[:]
    assert log == [("timeEndPeriod", 1), ("SetThreadExecutionState", power.AS_BEFORE)]


def test_macos_is_kept_awake_by_a_program_that_ends_with_the_block(monkeypatch):
    started = []

    def popen(command, **options):
        started.append(subprocess_popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        started.append(command)
        return started[0]

    subprocess_popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(sys, "platform", "darwin")
    with power.awake():
        assert started[1] == ["caffeinate", "-i", "-w", str(os.getpid())]
    assert started[0].wait(30) != 0
    started[0].stdin.close()


def test_a_system_that_grants_nothing_keeps_no_run_from_beginning(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", "")
    with power.awake():
        pass
