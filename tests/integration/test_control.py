"""A run is changed while it runs: on Micro-Manager's own core with its demo devices, and with the real engines."""

import json
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from demo_beads import UM_PER_PX, core_with_beads

import streamtrack
from streamtrack.arrays import ArraySource
from streamtrack.config import RunConfig
from streamtrack.errors import ControlRefused
from streamtrack.protocols import HasThreshold
from streamtrack.registry import load
from streamtrack.session import Session

SHUTTER = "White Light Shutter"
WAIT_S = 120


@pytest.fixture
def core():
    yield from core_with_beads(density=10, exposure_ms=30.0)


def wait_for(condition):
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, "it did not come"
        time.sleep(0.01)


def config(**changes):
    rule = {"confirmed": False, "max_per_minute": 10_000, "valid_ms": 5_000}
    return RunConfig.model_validate(
        {
            "source": {"kind": "micromanager", "frames": 100_000},
            "engine": {"kind": "unet"},
            "triggers": [
                {"kind": "nearest", "name": "centre", "do": "stage", "action": {"centre": True}, **rule},
                {"kind": "nearest", "name": "open", "do": "shutter", "action": {"opened": True}, **rule},
            ],
            "actuators": {"stage": {"kind": "stage"}, "shutter": {"kind": "shutter", "device": SHUTTER}},
            "safety": {
                "x_um": (-300, 300), "y_um": (-300, 300), "exposure_ms": (10, 100), "shutters": [SHUTTER],
                "close_shutter": SHUTTER,
            },
            "sinks": [{"kind": "tables"}],
            **changes,
        }
    )  # fmt: skip


def test_the_demo_microscope_is_armed_followed_disarmed_and_stopped(core, tmp_path):
    from streamtrack_drivers.micromanager import MicroManager

    core.setAutoShutter(False)
    at = lambda: np.array(core.getXYPosition())  # noqa: E731
    start = at()
    report = {}
    with closing(MicroManager.around(core, stage_um_per_px=[UM_PER_PX, UM_PER_PX])) as microscope:
        session = Session(config(), tmp_path / "out", microscope=microscope)
        control = session.control
        thread = threading.Thread(target=lambda: report.update(session.run()), daemon=True)
        thread.start()
        try:
            wait_for(lambda: session.snapshot()["rules"]["centre"]["fired"] > 3)
            np.testing.assert_array_equal(at(), start)
            armed = control.set_mode("armed", control.what_may_move(), "page").wait(WAIT_S)
            wait_for(lambda: core.getShutterOpen(SHUTTER) and np.abs(at() - start).max() > 0.5)
            change = control.set_exposure_ms(20).wait(WAIT_S)
            assert (change["before"], change["after"], core.getExposure()) == (30, 20, 20)
            with pytest.raises(ControlRefused, match="exposure_ms = 200 is outside"):
                control.set_exposure_ms(200).wait(WAIT_S)
            assert control.set_threshold(0.3).wait(WAIT_S)["after"] == 0.3
            control.mark("it follows").wait(WAIT_S)
            lowered = control.set_mode("observe", who="terminal").wait(WAIT_S)
            assert "error" not in lowered
            assert not core.getShutterOpen(SHUTTER)
            here, processed = at(), session.snapshot()["frames"]["processed"]
            wait_for(lambda: session.snapshot()["frames"]["processed"] > processed + 10)
            np.testing.assert_array_equal(at(), here)
            control.set_mode("armed", control.what_may_move()).wait(WAIT_S)
            wait_for(lambda: core.getShutterOpen(SHUTTER))
            control.stop()
            wait_for(lambda: session.snapshot()["stopping"] is not None)
            assert not core.getShutterOpen(SHUTTER)
            with pytest.raises(ControlRefused):
                control.set_mode("armed", control.what_may_move()).wait(WAIT_S)
        finally:
            session.stop()
            thread.join(WAIT_S)
    assert report["status"] == "interrupted"
    assert [each["change"] for each in report["changes"] if each["fate"] == "done"] == [
        "mode", "exposure_ms", "threshold", "mark", "mode", "mode", "stop",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "out" / "commands.jsonl").read_text().splitlines()]
    sent = [line["frame"] for line in lines if line["fate"] == "sent"]
    assert min(sent) >= armed["frame"]


@pytest.mark.parametrize("kind", ["denodet", "unet"])
def test_another_threshold_of_an_engine_gives_from_its_frame_on_what_it_would_always_have_given(kind, tmp_path):
    movie = streamtrack.simulate("vesicle", snr=2, density=400, frames=12, size=128).movie

    def tracked(name, engine, at=None):
        tables = {"engine": {"kind": kind, **engine}, "sinks": [{"kind": "tables"}]}
        session = Session(RunConfig.model_validate(tables), tmp_path / name, source=ArraySource(movie=movie))

        def on_progress(progress):
            if progress.processed == at:
                session.control.set_threshold(0.95)

        assert isinstance(session._parts.engine, HasThreshold)
        report = session.run(on_progress)
        return streamtrack.read(tmp_path / name), report

    columns = ["frame", "y", "x", "score"]
    usual, strict = (tracked(name, engine)[0].detections for name, engine in (("a", {}), ("b", {"threshold": 0.95})))
    results, report = tracked("c", {}, at=5)
    changed = results.detections
    assert len(strict) < len(usual)
    for wanted, part in (
        (usual, lambda table: table[table.frame < 5]),
        (strict, lambda table: table[table.frame >= 5]),
    ):
        np.testing.assert_array_equal(part(changed)[columns], part(wanted)[columns])
    [change] = report["changes"]
    assert (change["frame"], change["after"], report["engine"]["threshold"]) == (5, 0.95, 0.95)
    through = results.tracks.groupby("particle").frame.agg(["min", "max"])
    assert ((through["min"] < 5) & (through["max"] > 5)).sum() > 3, "tracks go on"


@pytest.mark.parametrize("value", [0, -1, 1.01, float("nan"), "0.5", True, None])
def test_what_no_score_can_be_is_refused(value):
    with closing(load("engines", "unet")()) as engine:
        with pytest.raises(streamtrack.StreamtrackError, match="must be above 0 and at most 1"):
            engine.set_threshold(value)
