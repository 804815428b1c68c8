"""A running Micro-Manager, as far as its pycro-manager server goes."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("bridge_standin.py")
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class StandIn:
    """Of the server: its port, and a way to make it die."""

    port: int
    kill: Callable[[], None]


@pytest.fixture
def start_micromanager(tmp_path):
    """Start stand-ins for Micro-Manager, each with options of its own; all end with the test."""
    pytest.importorskip("mm_test_adapters")
    pytest.importorskip("zmq")
    started = []

    def start(*options):
        said = tmp_path / f"standin-{len(started)}.txt"
        with said.open("w") as out:
            process = subprocess.Popen([sys.executable, str(PROGRAM), *map(str, options)], stdout=out)
        started.append(process)
        give_up = time.monotonic() + START_TIMEOUT_S
        while not said.read_text().endswith("\n"):
            assert process.poll() is None, "the stand-in did not start"
            assert time.monotonic() < give_up, "the stand-in does not start"
            time.sleep(0.05)

        def kill():
            process.kill()
            process.wait(10)

        return StandIn(int(said.read_text()), kill)

    yield start
    for process in started:
        process.kill()
        process.wait(10)


@pytest.fixture
def micromanager(start_micromanager):
    """A running Micro-Manager with the demo configuration."""
    return start_micromanager()


@pytest.fixture
def microscope(micromanager):
    """It, as streamtrack reaches it."""
    from streamtrack_drivers.micromanager.bridge import PycroManager  # not everyone has zmq

    microscope = PycroManager(port=micromanager.port, timeout_s=2.0)
    yield microscope
    microscope.close()
