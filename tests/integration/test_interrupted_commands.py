"""Commands that are ended from outside: signals at any moment, and terminals that are gone."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import cycle, product
from pathlib import Path

import pytest
from running import ONNXRUNTIME, start, status_of, wait_for_frames

from benchmarks.loop.stop import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals of POSIX")

LAB_PACKAGE = Path(__file__).parents[1] / "lab_package"
LONG = "sim:receptor?snr=4&density=100&frames=20000&size=64"


MOMENTS_S = [0.02, 0.2, 0.8, 1.6, 3.5]
MORE_S = [0.1, 0.4, 1.2, 2.4]


@pytest.mark.parametrize(
    ("after_s", "name"),
    [
        *zip(MOMENTS_S, cycle(["SIGINT", "SIGTERM"]), strict=False),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in product(MORE_S, ["SIGINT", "SIGTERM"])),
    ],
)
def test_a_signal_while_a_command_starts_ends_it_without_a_traceback(tmp_path, after_s, name):
    command = "from streamtrack.__main__ import main; print('Python is up', flush=True); main()"
    arguments = [sys.executable, "-c", command, "track", LONG, "--out", str(tmp_path / "out")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=240)
    assert process.returncode in (130, -signal.SIGTERM), errors  # the latter: before it can be heard
    assert "Traceback" not in errors
    assert status_of(tmp_path / "out") in (None, "interrupted")


def test_a_second_ctrl_c_leaves_pictures_out_but_neither_tables_nor_report(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(
        '[source]\nkind = "lab-camera"\nframes = 100000\npause_s = 0.001\n[engine]\nkind = "brightest"\n'
        '[[sinks]]\nkind = "slow-end"\nclose_s = 300\ncritical = false\n[[sinks]]\nkind = "tables"\n'
    )
    path = os.pathsep.join(filter(None, (str(LAB_PACKAGE), os.environ.get("PYTHONPATH"))))
    process = start("track", "--config", config, "--out", tmp_path / "out", env={**os.environ, "PYTHONPATH": path})
    for reached in (lambda: status_of(tmp_path / "out") == "running", (tmp_path / "out" / "tracks.parquet").exists):
        wait_until(reached, 240, process)
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130, errors
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["status"] == "interrupted"
    assert report["outputs"]["sinks"]["slow-end"]["error"] == "left unfinished"
    assert (tmp_path / "out" / "tracks.parquet").exists()


def test_output_that_nobody_reads_any_more_skips_nothing(tmp_path):
    process = start("track", LONG, *ONNXRUNTIME, "--out", tmp_path / "out")
    process.stdout.close()
    process.stderr.close()
    wait_until(lambda: status_of(tmp_path / "out") == "running", 240, process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=240) == 130
    assert status_of(tmp_path / "out") == "interrupted"
    assert (tmp_path / "out" / "overview.png").exists()


def test_a_terminal_that_closes_ends_the_run_in_order(tmp_path):
    """As when ssh breaks off: the kernel sends SIGHUP, and every print fails."""
    import fcntl
    import pty
    import termios

    terminal, end = pty.openpty()

    def own_the_terminal():
        os.setsid()
        fcntl.ioctl(end, termios.TIOCSCTTY, 0)

    streams = {"stdin": end, "stdout": end, "stderr": end}
    arguments = ("track", LONG, *ONNXRUNTIME, "--out", tmp_path / "out")
    process = start(*arguments, preexec_fn=own_the_terminal, **streams)
    os.close(end)
    wait_for_frames(tmp_path / "out", process)
    os.close(terminal)
    assert process.wait(timeout=240) == 130
    assert status_of(tmp_path / "out") == "interrupted"
    assert (tmp_path / "out" / "tracks.csv").exists()


def test_a_signal_while_the_overview_is_drawn_leaves_a_completed_run(tmp_path):
    process = start("track", LONG.replace("20000", "30"), *ONNXRUNTIME, "--out", tmp_path / "out")
    tables = tmp_path / "out" / "tracks.csv"
    wait_until(lambda: tables.exists() or (tmp_path / "out" / "tracks.parquet").exists(), 240, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=240)
    assert process.returncode in (0, 130), errors
    assert "Traceback" not in errors
    assert status_of(tmp_path / "out") == "completed"
