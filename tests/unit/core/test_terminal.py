"""A terminal that stands still, as a Windows console does while text is selected in it, keeps no run waiting."""

import io
import os
import sys
import threading
from contextlib import suppress

import pytest
from rich.console import Console

from streamtrack import progress, terminal
from streamtrack.cli.live_view import LiveView
from streamtrack.progress import FrameProgress
from streamtrack.run_record import Progress

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fills a pipe, which Windows cannot before 3.12")

STATE = {
    "source": "a camera",
    "mode": "observe",
    "frames": {"in": 9, "processed": 7, "lost_by_cause": {"too slow": 2}},
    "last_frame": {"detections": 5, "tracks": 4},
    "latency_ms": {},
    "rules": {},
    "actuators": {},
    "light": None,
    "stopping": None,
}


@pytest.fixture
def stuck(monkeypatch):
    """Return a stderr that is a terminal from which nobody reads; the test's end reads what waits."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, bytes(1024)):
            pass
    os.set_blocking(writing, True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # which rich takes for a terminal
    monkeypatch.setattr(terminal, "END_TIMEOUT_S", 0.3)
    with open(writing, "w", encoding="utf-8") as stream:
        yield stream
        threading.Thread(target=_drain, args=(reading,), daemon=True).start()
        for drawer in _drawers():
            drawer.join(10)


def _drawers():
    return [thread for thread in threading.enumerate() if thread.name == "streamtrack-view"]


def _drain(reading):
    while os.read(reading, 1 << 16):
        pass
    os.close(reading)


def test_the_progress_bar_keeps_no_run_waiting(stuck, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stuck)
    with FrameProgress() as bar:
        for done in range(1000):
            bar.update(Progress(done, 0, 1000))
    assert _drawers()  # it still waits, alone
    monkeypatch.undo()


def test_the_live_view_keeps_no_run_waiting(stuck):
    with LiveView(lambda: STATE, Console(file=stuck)):
        pass
    assert _drawers()


def test_the_last_state_is_drawn(monkeypatch, capsys):
    """Also where something has imported a package of notebooks."""
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with FrameProgress() as bar:
        bar.update(Progress(7, 2, 9))
    shown = capsys.readouterr().err
    assert "9/9" in shown
    assert "2 lost" in shown


def test_a_long_start_is_explained_once(monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress, "WORD_AFTER_S", 0.0)
    with FrameProgress():
        pass
    assert stream.getvalue().count("code is compiled for this computer") == 1
