"""What a run does when it is stopped, and in what order it ends."""

import json
import sys
import threading
import time

import numpy as np
import pytest

from streamtrack.clock import monotonic_ns
from streamtrack.config import RunConfig
from streamtrack.errors import MicroscopeError
from streamtrack.interrupts import Stop
from streamtrack.run_lock import held_by
from streamtrack.session import Session
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.types import Frame, SourceInfo

pytestmark = pytest.mark.usefixtures("lab_plugins")

OFF = ("set_shutter", "Shutter", False)


def make_config(*, frames=20, safety=None, **tables):
    return RunConfig.model_validate(
        {
            "mode": "armed",
            "source": {"kind": "lab-camera", "frames": frames, "pause_s": 0.001},
            "engine": {"kind": "brightest"},
            "safety": {"close_shutter": "Shutter", "shutters": ["Shutter"], **(safety or {})},
            "sinks": [],
            **tables,
        }
    )


class LastOf:
    """A sink that notes what the microscope had been told when the files were finished."""

    files = ()

    critical = True

    def __init__(self, microscope):
        self.microscope, self.told = microscope, None

    def open(self, folder, source):
        pass

    def wants_denoised(self, frame_index):
        return False

    def write(self, result):
        pass

    def flush(self):
        pass

    def close(self):
        self.told = list(self.microscope.calls)


def test_the_light_is_off_before_the_files_are_finished(tmp_path):
    microscope = SimulatedMicroscope()
    sink = LastOf(microscope)
    report = Session(make_config(), tmp_path / "out", microscope=microscope, sinks={"last": sink}).run()
    assert report["status"] == "completed"
    assert OFF in sink.told


class EndsWhenStopped:
    """A source that ends at the very moment in which somebody stops the run."""

    info = SourceInfo("camera", (64, 64), "uint16")
    session = None

    def frames(self):
        yield Frame(0, np.zeros((64, 64), np.uint16), monotonic_ns(), 0.0)
        self.session.stop()

    def close(self):
        pass


def test_a_run_that_was_stopped_is_interrupted_also_where_its_source_ends_then(tmp_path, monkeypatch):
    obey = Stop._obey

    def obey_late(stop):
        time.sleep(0.5)  # as the safety thread does now and then on a busy machine
        obey(stop)

    monkeypatch.setattr(Stop, "_obey", obey_late)
    source = EndsWhenStopped()
    config = RunConfig.model_validate({"engine": {"kind": "brightest", "dtype": "uint16"}, "sinks": []})
    source.session = Session(config, tmp_path / "out", source=source)
    assert source.session.run()["status"] == "interrupted"


def test_a_shutter_that_cannot_be_closed_is_the_first_thing_that_a_failed_run_says(tmp_path):
    microscope = SimulatedMicroscope()
    microscope.faults.extend(MicroscopeError("the driver is gone") for _ in range(20))
    report = Session(make_config(), tmp_path / "out", microscope=microscope).run()
    assert report["status"] == "failed"
    assert report["error"].startswith("shutter 'Shutter' could not be closed: MicroscopeError: the driver is gone")
    assert json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["error"] == report["error"]


def test_a_shutter_that_is_closed_at_the_second_try_fails_nothing(tmp_path):
    microscope = SimulatedMicroscope()
    microscope.faults.append(MicroscopeError("busy"))
    report = Session(make_config(), tmp_path / "out", microscope=microscope).run()
    assert microscope.calls[-1] == OFF
    assert report["status"] == "completed"


@pytest.mark.parametrize("where", ["progress", "engine", "source"])
def test_sys_exit_in_somebody_elses_code_is_its_error_and_the_run_ends_in_order(tmp_path, where, monkeypatch):
    import lab_plugins

    def leave(*_, **__):
        sys.exit("I have seen enough")

    if where != "progress":
        owner = {"engine": lab_plugins.BrightestPixels, "source": lab_plugins.LabCamera}[where]
        monkeypatch.setattr(owner, {"engine": "detect", "source": "frames"}[where], leave)
    microscope = SimulatedMicroscope()
    session = Session(make_config(), tmp_path / "out", microscope=microscope)
    report = session.run(leave) if where == "progress" else session.run()
    assert report["status"] == "failed"
    assert "SystemExit: I have seen enough" in report["error"]
    assert microscope.calls[-1] == OFF


@pytest.mark.parametrize("part", ["source", "engine"])
def test_nothing_that_fails_at_the_end_keeps_the_light_on_or_the_report_unwritten(tmp_path, part, monkeypatch):
    import lab_plugins

    def fail(self):
        sys.exit("cannot be closed")

    monkeypatch.setattr({"source": lab_plugins.LabCamera, "engine": lab_plugins.BrightestPixels}[part], "close", fail)
    microscope = SimulatedMicroscope()
    session = Session(make_config(), tmp_path / "out", microscope=microscope)
    report = session.run()
    assert (report["status"], report["error"]) == ("failed", "SystemExit: cannot be closed")
    assert json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["status"] == "failed"
    assert OFF in microscope.calls
    assert held_by(tmp_path / "out") is None


def test_a_run_that_is_stopped_before_its_first_frame_says_so_and_leaves_earlier_results(tmp_path):
    microscope = SimulatedMicroscope()
    for overwrite in (False, True):
        session = Session(make_config(), tmp_path / "out", microscope=microscope, overwrite=overwrite)
        session.stop()
        report = session.run()
        assert (report["status"], report["frames"]["processed"]) == ("interrupted", 0)
        assert microscope.calls[-1] == OFF
    first = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert first["started"] <= report["started"]
    assert first["status"] == "interrupted"


def test_a_request_during_the_building_of_the_parts_makes_safe_and_leaves_nothing_behind(tmp_path):
    microscope = SimulatedMicroscope()
    with Stop() as stop:
        stop.request()
        stop.settle()
        with pytest.raises(KeyboardInterrupt):
            Session(make_config(), tmp_path / "out", microscope=microscope, stop=stop)
    assert not (tmp_path / "out").exists()
    assert held_by(tmp_path / "out") is None


def test_stopping_does_not_wait_for_the_microscope_to_finish_a_command(tmp_path):
    microscope = SimulatedMicroscope(delay_ms=300)
    rule = {"kind": "every", "do": "stage", "action": {"to": [5, 0]}, "confirmed": False, "max_per_minute": 10_000}
    config = make_config(
        frames=10_000,
        triggers=[rule],
        actuators={"stage": {"kind": "stage"}},
        safety={"x_um": [-10, 10], "y_um": [-10, 10]},
    )
    session = Session(config, tmp_path / "out", microscope=microscope)
    asked_s = []

    def ask(progress):
        if progress.processed == 50:
            asked_s.append(time.monotonic())
            threading.Thread(target=session.stop).start()

    report = session.run(ask)
    assert report["status"] == "interrupted"
    assert time.monotonic() - asked_s[0] < 20
    assert report["safety"]["shutters"] == {"Shutter": "closed"}
