"""Armed and disarmed while it runs: the checks on the way up; on the way down and after a stop, nothing moves."""

import json
import threading
import time

import pytest

from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError, ControlRefused, MicroscopeError
from streamtrack.session import Session
from streamtrack.testing.microscope import SimulatedMicroscope

pytestmark = pytest.mark.usefixtures("lab_plugins")

MOVES = {"kind": "every", "name": "move", "do": "stage", "action": {"by": [0.1, 0]}, "confirmed": False}
OPENS = {"kind": "every", "name": "open", "do": "shutter", "action": {"opened": True}, "confirmed": False}
ACTUATORS = {"stage": {"kind": "stage"}, "shutter": {"kind": "shutter", "device": "Shutter"}}
SAFETY = {"x_um": [-1000, 1000], "y_um": [-1000, 1000], "shutters": ["Shutter"], "max_dose_ms": 1e6}
FREELY = {"max_per_minute": 10**6, "valid_ms": 60_000}
WAIT_S = 60


class Run:
    """A run in a thread of its own, on a camera that never ends."""

    def __init__(self, folder, microscope, *, mode="observe", triggers=(MOVES, OPENS), safety=SAFETY, **others):
        config = {
            "mode": mode,
            "source": {"kind": "lab-camera", "frames": 1_000_000, "pause_s": 0.001, "live": True},
            "engine": {"kind": "brightest"},
            "sinks": [],
            "triggers": [{**FREELY, **each} for each in triggers],
            "actuators": ACTUATORS,
            "safety": safety,
            **others,
        }
        self.folder = folder
        self.session = Session(RunConfig.model_validate(config), folder, microscope=microscope)
        self.control = self.session.control
        self.report = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        self.report = self.session.run()

    def __enter__(self):
        self._thread.start()
        wait_for(lambda: self.session.snapshot()["frames"]["processed"] > 5)
        return self

    def __exit__(self, *_):
        self.session.stop()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def arm(self):
        return self.control.set_mode("armed", self.control.what_may_move())

    def lines(self):
        return [json.loads(line) for line in (self.folder / "commands.jsonl").read_text(encoding="utf-8").splitlines()]


def wait_for(condition, timeout_s=WAIT_S):
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not come"
        time.sleep(0.005)


def moves(microscope):
    return [call for call in microscope.calls if call[0] == "move_stage_um"]


def test_a_run_is_not_armed_with_another_pixel_size_than_its_stage(tmp_path):
    with Run(tmp_path / "out", SimulatedMicroscope(), pixel_size_um=0.2) as run:
        for mode in ("rehearse", "armed"):
            with pytest.raises(ControlRefused, match=r"the stage moves by 0\.1 um per pixel, not pixel_size_um = 0\.2"):
                run.control.set_mode(mode, run.control.what_may_move()).wait(WAIT_S)
    with pytest.raises(ConfigError, match=r"the stage moves by 0\.1 um per pixel, not pixel_size_um = 0\.2"):
        Run(tmp_path / "armed", SimulatedMicroscope(), pixel_size_um=0.2, mode="armed")


def test_a_run_that_observes_is_armed_acts_and_is_disarmed_with_the_light_off(tmp_path):
    microscope = SimulatedMicroscope()
    with Run(tmp_path / "out", microscope) as run:
        assert microscope.calls == []
        armed = run.arm().wait(WAIT_S)
        assert (armed["before"], armed["after"]) == ("observe", "armed")
        wait_for(lambda: len(moves(microscope)) > 5 and microscope.shutters["Shutter"])
        assert run.session.snapshot()["mode"] == "armed"
        lowered = run.control.set_mode("rehearse", who="page").wait(WAIT_S)
        assert (lowered["before"], lowered["after"], lowered["who"]) == ("armed", "rehearse", "page")
        assert "error" not in lowered
        assert not microscope.shutters["Shutter"]
        n_calls = len(microscope.calls)
        wait_for(lambda: run.session.snapshot()["actuators"]["stage"]["rehearsed"] > 5)
        assert len(microscope.calls) == n_calls, "nothing reaches the hardware any more"
    assert len(moves(microscope)) == len(moves(microscope)[:n_calls])
    assert not microscope.shutters["Shutter"]
    assert [each["after"] for each in run.report["changes"]] == ["armed", "rehearse"]
    sent = [line["frame"] for line in run.lines() if line["fate"] == "sent"]
    first, last = (change["frame"] for change in run.report["changes"])
    assert sent
    assert all(first <= frame <= last for frame in sent)
    assert run.report["safety"]["light"]["used_ms"] > 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"safety": {**SAFETY, "x_um": None}}, r"actuator 'stage': there are no limits safety.x_um"),
        ({"safety": {**SAFETY, "shutters": []}}, r"actuator 'shutter': shutter 'Shutter' is not in safety.shutters"),
    ],
)
def test_arming_is_refused_with_the_line_with_which_an_armed_run_would_not_begin(tmp_path, change, why):
    with pytest.raises(Exception, match=why) as would_be:
        Run(tmp_path / "armed", SimulatedMicroscope(), mode="armed", **change)
    microscope = SimulatedMicroscope()
    with Run(tmp_path / "out", microscope, **change) as run:
        with pytest.raises(ControlRefused) as refusal:
            run.arm().wait(WAIT_S)
        assert str(refusal.value) == f"mode: {would_be.value}"
        assert run.session.snapshot()["mode"] == "observe"
    assert microscope.calls == []


def test_what_is_confirmed_has_to_be_what_may_move_now(tmp_path):
    microscope = SimulatedMicroscope()
    with Run(tmp_path / "out", microscope) as run:
        with pytest.raises(ControlRefused, match=r"to arm, confirm what may move, as what_may_move\(\) says it"):
            run.control.set_mode("armed").wait(WAIT_S)
        read = run.control.what_may_move()
        assert read.splitlines() == [
            "stage x: -1000 to 1000 um",
            "stage y: -1000 to 1000 um",
            "open and close: Shutter",
            "rule move: stage {'by': [0.1, 0]}; at most 1000000 a minute, 0 s apart",
            "rule open: shutter {'opened': True}; at most 1000000 a minute, 0 s apart",
            "light: 1000000 of 1e+06 ms left",
        ]
        run.control.pause("open").wait(WAIT_S)
        with pytest.raises(ControlRefused, match="what was confirmed is no longer so"):
            run.control.set_mode("armed", read).wait(WAIT_S)
        assert "; paused" in run.control.what_may_move()
        assert run.arm().wait(WAIT_S)["after"] == "armed"
        wait_for(lambda: len(moves(microscope)) > 2)
    assert ("set_shutter", "Shutter", True) not in microscope.calls


def test_pulses_and_searches_of_the_focus_are_confirmed_too(tmp_path):
    safety = {**SAFETY, "pulse_ms": (0.5, 20), "autofocus": True}
    with Run(tmp_path / "out", SimulatedMicroscope(), triggers=(), safety=safety) as run:
        said = run.control.what_may_move().splitlines()
    assert "pulses: 0.5 to 20 ms" in said
    assert "search the focus, and let go of it while the stage moves" in said


def test_less_light_than_was_confirmed_may_be_left(tmp_path):
    with Run(tmp_path / "out", SimulatedMicroscope(), mode="rehearse") as run:
        read = run.control.what_may_move()
        wait_for(lambda: run.control.what_may_move() != read)
        assert run.control.set_mode("armed", read).wait(WAIT_S)["before"] == "rehearse"


def test_light_of_a_rehearsal_is_not_switched_off_by_the_hardware_and_not_on_when_armed(tmp_path):
    microscope = SimulatedMicroscope()
    with Run(tmp_path / "out", microscope, mode="rehearse", triggers=(OPENS,)) as run:
        wait_for(lambda: run.session.snapshot()["light"]["on"] == ["Shutter"])
        run.control.pause("open").wait(WAIT_S)
        run.control.set_mode("observe").wait(WAIT_S)
        assert run.session.snapshot()["light"]["on"] == []
        assert microscope.calls == []
        used_ms = run.session.snapshot()["light"]["used_ms"]
        run.arm().wait(WAIT_S)
        assert run.session.snapshot()["light"]["used_ms"] == used_ms > 0
        assert microscope.calls == []


def test_a_run_without_a_microscope_is_not_armed(tmp_path):
    config = {"source": {"kind": "lab-camera"}, "engine": {"kind": "brightest"}, "sinks": []}
    session = Session(RunConfig.model_validate(config), tmp_path / "out")
    request = session.control.set_mode("armed", session.control.what_may_move())
    with pytest.raises(ControlRefused, match="mode: the run has no microscope: there is nothing to arm"):
        request.wait(WAIT_S)
    with pytest.raises(ControlRefused, match="exposure_ms: the run has no microscope"):
        session.control.set_exposure_ms(5).wait(WAIT_S)
    with pytest.raises(ControlRefused, match="mode: 'ready' is no mode: it is observe, rehearse, armed"):
        session.control.set_mode("ready").wait(WAIT_S)
    session.run()


def test_the_exposure_is_set_within_the_limits_and_only_when_armed(tmp_path):
    microscope = SimulatedMicroscope(exposure_ms=10)
    with Run(tmp_path / "out", microscope, triggers=(), safety={"exposure_ms": [1, 20]}) as run:
        with pytest.raises(ControlRefused, match="exposure_ms: the run only observes"):
            run.control.set_exposure_ms(5).wait(WAIT_S)
        run.arm().wait(WAIT_S)
        with pytest.raises(ControlRefused, match="exposure_ms = 21 is outside"):
            run.control.set_exposure_ms(21).wait(WAIT_S)
        change = run.control.set_exposure_ms(5).wait(WAIT_S)
        assert (change["before"], change["after"], microscope.exposure_ms()) == (10, 5, 5)


def test_a_slow_camera_keeps_neither_the_loop_nor_disarming_waiting(tmp_path):
    microscope = SimulatedMicroscope(delay_ms=500)
    with Run(tmp_path / "out", microscope, triggers=(), safety={"exposure_ms": [1, 20]}) as run:
        run.arm().wait(WAIT_S)
        request = run.control.set_exposure_ms(5)
        assert run.control.mark("meanwhile").wait(WAIT_S)
        assert not request.done()
        before = run.session.snapshot()["frames"]["processed"]
        wait_for(lambda: run.session.snapshot()["frames"]["processed"] > before + 5)
        run.control.set_mode("observe").wait(WAIT_S)
        request.wait(WAIT_S)


class Held(SimulatedMicroscope):
    """Every move and shutter waits until it is let go."""

    def __init__(self):
        super().__init__()
        self.called, self.go, self.halted = threading.Event(), threading.Event(), threading.Event()

    def move_stage_um(self, x, y):
        self.called.set()
        assert self.go.wait(WAIT_S)
        super().move_stage_um(x, y)

    def set_shutter(self, device, opened):
        if opened:
            self.called.set()
            assert self.go.wait(WAIT_S)
        super().set_shutter(device, opened)

    def halt(self):
        self.halted.set()
        super().halt()


def test_what_opens_while_the_run_is_disarmed_is_closed_when_it_is_open(tmp_path):
    microscope = Held()
    with Run(tmp_path / "out", microscope, triggers=(OPENS,)) as run:
        run.arm().wait(WAIT_S)
        assert microscope.called.wait(WAIT_S)
        run.control.set_mode("observe").wait(WAIT_S)
        with pytest.raises(ControlRefused, match="actuator 'shutter' is still at a command from before"):
            run.arm().wait(WAIT_S)
        microscope.go.set()
        wait_for(lambda: ("set_shutter", "Shutter", True) in microscope.calls)
        wait_for(lambda: not microscope.shutters["Shutter"])
        assert run.session.snapshot()["mode"] == "observe"


def test_a_move_under_way_is_halted_and_what_waits_behind_it_is_dropped(tmp_path):
    microscope = Held()
    with Run(tmp_path / "out", microscope, triggers=(MOVES,)) as run:
        run.arm().wait(WAIT_S)
        assert microscope.called.wait(WAIT_S)
        wait_for(lambda: run.control._modes._fanout._actuators["stage"].channel.counts.queued > 3)
        run.control.set_mode("observe").wait(WAIT_S)
        assert microscope.halted.wait(WAIT_S)
        microscope.go.set()
        wait_for(lambda: run.session.snapshot()["actuators"]["stage"]["recorded"] > 20)
    assert len(moves(microscope)) == 1
    assert any(line.get("error") == "the mode became observe" for line in run.lines())


def test_whoever_disarms_while_somebody_arms_has_the_last_word(tmp_path):
    microscope = SimulatedMicroscope()
    with Run(tmp_path / "out", microscope) as run:
        checking, go = threading.Event(), threading.Event()
        check = run.control._modes.check

        def slow(mode):
            check(mode)
            checking.set()
            assert go.wait(WAIT_S)

        run.control._modes.check = slow
        request = run.arm()
        assert checking.wait(WAIT_S)
        run.control.set_mode("observe").wait(WAIT_S)
        go.set()
        with pytest.raises(ControlRefused, match="mode: somebody asked for less meanwhile"):
            request.wait(WAIT_S)
    assert microscope.calls == []


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.003, 0.01, 0.03])
def test_after_a_stop_nothing_moves_however_it_races_with_arming(tmp_path, delay_s):
    microscope = SimulatedMicroscope()
    with Run(tmp_path / "out", microscope) as run:
        requests = [run.arm() for _ in range(3)]
        time.sleep(delay_s)
        run.control.stop()
        wait_for(lambda: run.session._stop.is_safe)
        n_calls = len(microscope.calls)
        again = run.arm()
    for request in (*requests, again):
        assert request.done()
    assert again.exception(0) is not None
    assert all(call[0] in ("halt", "set_shutter") for call in microscope.calls[n_calls:])
    assert ("set_shutter", "Shutter", True) not in microscope.calls[n_calls:]
    assert not microscope.shutters["Shutter"]


def test_two_callers_that_arm_and_disarm_at_once_leave_guard_and_actuators_in_one_mode(tmp_path):
    microscope = SimulatedMicroscope()
    with Run(tmp_path / "out", microscope) as run:

        def toggle(mode):
            for _ in range(20):
                confirmed = run.control.what_may_move() if mode == "armed" else None
                run.control.set_mode(mode, confirmed).exception(None if mode != "armed" else 30)

        callers = [threading.Thread(target=toggle, args=(mode,)) for mode in ("armed", "observe", "rehearse")]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(WAIT_S)
            assert not caller.is_alive()
        modes = run.control._modes
        assert modes.mode == run.session._guard.outcome()["mode"] == modes._fanout._actuators["stage"]._mode
        run.control.set_mode("observe").wait(WAIT_S)
        n_calls = len(microscope.calls)
        before = run.session.snapshot()["frames"]["processed"]
        wait_for(lambda: run.session.snapshot()["frames"]["processed"] > before + 20)
        assert set(microscope.calls[n_calls:]) <= {("set_shutter", "Shutter", False)}, "but what ends what had begun"
        assert not microscope.shutters["Shutter"]


class Stuck(SimulatedMicroscope):
    """A shutter that opens, and does not close until it is mended."""

    mended = False

    def set_shutter(self, device, opened):
        if not opened and not self.mended:
            raise MicroscopeError("the shutter sticks")
        super().set_shutter(device, opened)


def test_what_cannot_be_switched_off_is_said_keeps_the_run_from_being_armed_and_is_tried_again_at_the_end(tmp_path):
    microscope = Stuck()
    with Run(tmp_path / "out", microscope, triggers=(OPENS,)) as run:
        run.arm().wait(WAIT_S)
        wait_for(lambda: microscope.shutters["Shutter"])
        lowered = run.control.set_mode("observe").wait(WAIT_S)
        assert "shutter 'Shutter' could not be closed: MicroscopeError: the shutter sticks" in lowered["error"]
        assert run.session.snapshot()["mode"] == "observe"
        with pytest.raises(ControlRefused, match="commands have switched on Shutter, and it is not off yet"):
            run.arm().wait(WAIT_S)
        assert run.session.snapshot()["light"]["on"] == ["Shutter"], "it goes on to count"
        microscope.mended = True
        run.control.set_mode("observe").wait(WAIT_S)
        assert not microscope.shutters["Shutter"]
        assert run.arm().wait(WAIT_S)["after"] == "armed"
