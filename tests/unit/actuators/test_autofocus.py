"""The autofocus behind the limits of a run, and the continuous focus through moves of the stage."""

import threading
import time
from contextlib import closing

import pytest

from streamtrack.actuators import focus_lock
from streamtrack.actuators.autofocus import Autofocus
from streamtrack.actuators.guard import Guard
from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused, ConfigError, MicroscopeError
from streamtrack.testing.actuators import SOURCE, example_command
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.waiting import joined_within, set_within

SAFETY = SafetyConfig(autofocus=True, z_um=(-20, 20), x_um=(-50, 50), y_um=(-50, 50))
FULL, NEAR = example_command({"full": True}), example_command({"incremental": True})
LET_GO, HOLD = ("set_continuous_focus", False), ("set_continuous_focus", True)


@pytest.fixture
def microscope():
    with closing(SimulatedMicroscope()) as microscope:
        microscope.in_focus_um = 3.5
        yield microscope


def armed(microscope, safety=SAFETY, mode="armed", **settings):
    guard = Guard(microscope, safety, mode)
    return Autofocus(microscope=guard, **{"rest_s": 0, **settings}), guard


def test_it_says_where_the_focus_was_found(microscope):
    done = dict(armed(microscope)[0].execute(FULL))
    assert done.pop("took_ms") >= 0
    assert done == {"from_um": 0.0, "to_um": 3.5}
    assert armed(microscope)[0].execute(NEAR)["to_um"] == 3.5
    assert [call for call in microscope.calls if call[0] == "autofocus"] == [("autofocus", True), ("autofocus", False)]


def test_it_rests_between_two_searches(microscope):
    actuator, _ = armed(microscope, rest_s=30)
    assert "skipped" not in actuator.execute(FULL)
    assert "rest_s = 30" in actuator.execute(FULL)["skipped"]
    assert len(microscope.calls) == 1


def test_a_search_that_failed_counts_as_well(microscope):
    microscope.in_focus_um = None
    actuator, _ = armed(microscope, rest_s=30)
    with pytest.raises(MicroscopeError, match="the focus was not found"):
        actuator.execute(FULL)
    assert "skipped" in actuator.execute(FULL)


@pytest.mark.parametrize("lacking", [{"autofocus": False}, {"z_um": None}])
def test_it_has_to_be_allowed_and_have_limits(microscope, lacking):
    actuator, _ = armed(microscope, SAFETY.model_copy(update=lacking))
    with pytest.raises(ConfigError, match=r"set (it to true|them first)"):
        actuator.prepare(SOURCE, [{"full": True}])
    with pytest.raises(CommandRefused):
        actuator.execute(FULL)
    assert not microscope.calls


def test_a_microscope_without_one_is_a_mistake_before_the_run(microscope):
    class Plain:
        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            if name in ("autofocus", "continuous_focus", "set_continuous_focus", "is_focus_locked"):
                raise AttributeError(name)
            return getattr(self._inner, name)

    actuator, guard = armed(Plain(microscope))
    with pytest.raises(ConfigError, match="takes no commands for an autofocus"):
        actuator.prepare(SOURCE, [{"full": True}])
    with pytest.raises(ConfigError, match=r"safety\.autofocus: this microscope takes no commands for an autofocus"):
        guard.check_names()
    with pytest.raises(MicroscopeError, match="takes no commands for an autofocus"):
        actuator.execute(FULL)
    guard.move_stage_um(1, 2)
    assert microscope.stage_um() == (1, 2)


def test_a_drive_that_ends_outside_its_limits_is_brought_back(microscope):
    microscope.move_focus_um(-2)
    microscope.in_focus_um = 21
    actuator, guard = armed(microscope)
    with pytest.raises(CommandRefused, match="z_um = 21 is outside safety"):
        actuator.execute(FULL)
    assert microscope.focus_um() == -2
    assert guard.outcome()["refused"] == {"limit": 1}


def test_a_drive_outside_its_limits_does_not_begin(microscope):
    microscope.move_focus_um(30)
    microscope.calls.clear()
    with pytest.raises(CommandRefused, match="z_um = 30 is outside"):
        armed(microscope)[0].execute(FULL)
    assert not microscope.calls


def test_where_no_focus_is_found_the_drive_goes_back(microscope):
    class Lost(SimulatedMicroscope):
        def autofocus(self, *, full, timeout_s):
            self._xyz[2] = 17.0
            raise MicroscopeError("no answer within 30 s")

    lost = Lost()
    with pytest.raises(MicroscopeError, match="no answer"):
        armed(lost)[0].execute(FULL)
    assert lost.focus_um() == 0


@pytest.mark.parametrize("held", [False, True])
def test_the_continuous_focus_is_after_a_search_as_it_was(microscope, held):
    class Switching(SimulatedMicroscope):
        def autofocus(self, *, full, timeout_s):
            self.focus_is_held = not self.focus_is_held

    switching = Switching()
    switching.focus_is_held = held
    armed(switching)[0].execute(FULL)
    assert switching.focus_is_held is held


def test_the_stage_moves_while_the_focus_is_let_go(microscope):
    microscope.focus_is_held = True
    guard = Guard(microscope, SAFETY, "armed")
    guard.move_stage_um(5, 6)
    assert microscope.calls == [LET_GO, ("move_stage_um", 5.0, 6.0), HOLD]
    assert guard.outcome()["continuous_focus"] == "held"


@pytest.mark.parametrize(("held", "allowed"), [(False, True), (True, False)])
def test_nobody_touches_a_focus_that_is_not_held_or_not_the_commands_to_touch(microscope, held, allowed):
    microscope.focus_is_held = held
    guard = Guard(microscope, SAFETY.model_copy(update={"autofocus": allowed}), "armed")
    guard.move_stage_um(5, 6)
    assert microscope.calls == [("move_stage_um", 5.0, 6.0)]


def test_a_move_that_fails_gives_the_focus_back(microscope):
    class Jammed(SimulatedMicroscope):
        def move_stage_um(self, x, y):
            raise MicroscopeError("jammed")

    jammed = Jammed()
    jammed.focus_is_held = True
    with pytest.raises(MicroscopeError, match="jammed"):
        Guard(jammed, SAFETY, "armed").move_stage_um(5, 6)
    assert jammed.calls == [LET_GO, HOLD]


def test_a_focus_that_does_not_lock_again_is_an_error(microscope, monkeypatch):
    monkeypatch.setattr(focus_lock, "LOCK_S", 0.1)
    microscope.focus_is_held = True
    microscope.is_focus_locked = lambda: False
    guard = Guard(microscope, SAFETY, "armed")
    with pytest.raises(MicroscopeError, match="the focus did not lock again within"):
        guard.move_stage_um(5, 6)
    assert microscope.stage_um() == (5, 6)
    assert guard.outcome()["continuous_focus"] == "not locked"


class Slow(SimulatedMicroscope):
    """A stage and an autofocus that go on until they are halted."""

    def __init__(self):
        super().__init__()
        self.begun, self.over = threading.Event(), threading.Event()
        self.focus_is_held = True

    def move_stage_um(self, x, y):
        self.begun.set()
        set_within(self.over, 10)

    def autofocus(self, *, full, timeout_s):
        self.begun.set()
        set_within(self.over, 10)
        self._xyz[2] = 40.0

    def halt(self):
        super().halt()
        self.over.set()


@pytest.mark.parametrize("ends", ["stop", "disarm"])
def test_a_stop_while_the_stage_moves_halts_it_and_gives_the_focus_back(ends):
    slow = Slow()
    guard = Guard(slow, SAFETY, "armed")
    slow.is_focus_locked = lambda: False  # nobody waits for that any more
    mover = threading.Thread(target=guard.move_stage_um, args=(5, 6), daemon=True)
    mover.start()
    assert set_within(slow.begun, 5)
    assert not slow.focus_is_held
    began = time.monotonic()
    if ends == "stop":
        guard.make_safe()
    else:
        guard.lower("observe")
        guard.settle()
    assert joined_within(mover, 5)
    assert time.monotonic() - began < 2
    assert slow.focus_is_held
    assert ("halt",) in slow.calls


def test_a_stop_while_it_focuses_halts_the_drive_where_it_is():
    slow = Slow()
    actuator, guard = armed(slow)
    problems = []

    def focus():
        try:
            actuator.execute(FULL)
        except CommandRefused as refusal:
            problems.append(refusal)

    worker = threading.Thread(target=focus, daemon=True)
    worker.start()
    assert set_within(slow.begun, 5)
    guard.make_safe()
    assert joined_within(worker, 5)
    assert guard.outcome()["moves"] == "halted"
    assert not [call for call in slow.calls if call[0] == "move_focus_um"], "nothing moves after a stop, not even back"
    assert "outside safety.z_um" in str(problems[0])
    with pytest.raises(CommandRefused):
        actuator.execute(FULL)


def test_the_stage_does_not_move_while_the_focus_is_searched(monkeypatch):
    monkeypatch.setattr(focus_lock, "BUSY_S", 0.1)
    slow = Slow()
    actuator, guard = armed(slow, SAFETY.model_copy(update={"z_um": (-20, 50)}))
    worker = threading.Thread(target=actuator.execute, args=(FULL,), daemon=True)
    worker.start()
    assert set_within(slow.begun, 5)
    with pytest.raises(MicroscopeError, match="another command is still moving or focusing"):
        guard.move_stage_um(1, 1)
    slow.over.set()
    assert joined_within(worker, 5)


def test_a_focus_that_could_not_be_given_back_is_when_the_run_is_made_safe(microscope):
    microscope.focus_is_held = True
    hold = microscope.set_continuous_focus

    def stuck(held):
        if held:
            raise MicroscopeError("no answer")
        hold(held)

    microscope.set_continuous_focus = stuck
    guard = Guard(microscope, SAFETY, "armed")
    with pytest.raises(MicroscopeError, match="no answer"):
        guard.move_stage_um(5, 6)
    assert guard.outcome()["continuous_focus"] == "MicroscopeError: no answer"
    guard.make_safe()
    assert guard.outcome()["continuous_focus"] == "MicroscopeError: no answer"
    microscope.set_continuous_focus = hold
    guard.make_safe()
    assert microscope.focus_is_held
    assert guard.outcome()["continuous_focus"] == "held"


def test_a_rehearsal_neither_focuses_nor_lets_go(microscope):
    microscope.focus_is_held = True
    actuator, guard = armed(microscope, mode="rehearse")
    actuator.execute(FULL)
    guard.move_stage_um(5, 6)
    assert not microscope.calls
    assert guard.outcome()["writes"] == {"autofocus": 1, "stage": 1}
