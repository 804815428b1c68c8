"""The stage follows a bead while a device holds the focus, and the focus is searched, on Micro-Manager's own core."""

import threading
import time
from contextlib import closing

import pytest
from demo_beads import UM_PER_PX, core_with_beads

from streamtrack.config import RunConfig
from streamtrack.session import Session

RUN = {
    "source": {"kind": "micromanager", "frames": 80},
    "triggers": [
        {
            **{"name": "follow", "kind": "nearest", "at_least_px": 1, "confirmed": False, "cool_down_s": 0.1},
            **{"do": "stage", "action": {"centre": True}, "valid_ms": 5000},
        },
        {"name": "focus", "kind": "older", "frames": 3, "do": "focus", "action": {"full": True}, "valid_ms": 60_000},
    ],
    "actuators": {"stage": {"kind": "stage"}, "focus": {"kind": "autofocus", "rest_s": 600}},
    "safety": {"x_um": (-300, 300), "y_um": (-300, 300), "z_um": (-5, 5), "autofocus": True},
    "sinks": [{"kind": "tables"}],
}


class Held:
    """Notes what becomes of the continuous focus of a microscope, and whether it was held when something moved."""

    def __init__(self, microscope):
        self.said, self.in_moves = [], []
        self._move, self._set, self._ask = (
            microscope.move_stage_um,
            microscope.set_continuous_focus,
            microscope.continuous_focus,
        )
        microscope.move_stage_um, microscope.set_continuous_focus = self.move, self.set

    def move(self, x, y):
        self.in_moves.append(self._ask())
        self._move(x, y)

    def set(self, held):
        self.said.append(held)
        self._set(held)


@pytest.fixture
def microscope():
    from streamtrack_drivers.micromanager import MicroManager

    for core in core_with_beads(density=20, exposure_ms=20):
        core.enableContinuousFocus(True)
        with closing(MicroManager.around(core, stage_um_per_px=[UM_PER_PX, UM_PER_PX])) as microscope:
            yield microscope


def test_moves_are_made_with_the_focus_let_go_and_it_is_held_in_between_and_in_the_end(microscope, tmp_path):
    held = Held(microscope)
    run = RunConfig.model_validate({**RUN, "mode": "armed"})
    report = Session(run, tmp_path / "out", microscope=microscope).run()
    assert report["error"] is None
    done = report["outputs"]["actuators"]
    assert done["stage"]["sent"] >= 1
    assert done["stage"]["failed"] == done["focus"]["failed"] == 0, done
    assert done["focus"]["sent"] == 1
    assert done["focus"]["skipped"] >= 1, "it rests"
    assert held.in_moves
    assert not any(held.in_moves)
    assert held.said == [False, True] * len(held.in_moves)
    assert microscope.continuous_focus()
    assert report["safety"]["continuous_focus"] == "held"
    assert report["safety"]["writes"]["autofocus"] == 1


@pytest.mark.parametrize(("mode", "fate"), [("observe", "recorded"), ("rehearse", "rehearsed")])
def test_a_run_that_does_not_act_touches_no_focus(microscope, tmp_path, mode, fate):
    held = Held(microscope)
    run = RunConfig.model_validate({**RUN, "mode": mode})
    report = Session(run, tmp_path / "out", microscope=microscope).run()
    assert report["error"] is None
    assert report["outputs"]["actuators"]["focus"][fate] >= 1
    assert held.said == held.in_moves == []
    assert microscope.continuous_focus()


def test_a_run_that_is_stopped_while_the_stage_moves_gives_the_focus_back(microscope, tmp_path):
    microscope.core.setProperty("XY", "Velocity", "0.1")  # of the demo stage: a move takes seconds
    held = Held(microscope)
    run = RunConfig.model_validate({**RUN, "mode": "armed", "source": {"kind": "micromanager"}})
    session = Session(run, tmp_path / "out", microscope=microscope)
    reports = []
    thread = threading.Thread(target=lambda: reports.append(session.run()), daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while not held.in_moves and time.monotonic() < end:
        time.sleep(0.005)
    assert held.in_moves == [False]
    session.stop()
    thread.join(60)
    assert reports[0]["status"] == "interrupted"
    assert reports[0]["safety"]["moves"] == "halted"
    assert microscope.continuous_focus()
    assert len(held.in_moves) == 1
