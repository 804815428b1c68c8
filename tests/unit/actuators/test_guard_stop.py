"""The emergency stop: what moves is halted, what hangs keeps nothing else."""

import threading

import pytest

from streamtrack.actuators import darkness
from streamtrack.actuators.guard import Guard
from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused
from streamtrack.testing.actuators import EVERYTHING
from streamtrack.testing.microscope import SimulatedMicroscope


class SlowStage(SimulatedMicroscope):
    """Every move takes until it is stopped."""

    def __init__(self):
        super().__init__()
        self.moves, self.stopped = threading.Event(), threading.Event()

    def move_stage_um(self, x, y):
        self.moves.set()
        assert self.stopped.wait(30)

    def halt(self):
        self.stopped.set()


def moving(guard, microscope):
    """Return the thread of a move that has begun."""
    command = threading.Thread(target=guard.move_stage_um, args=(1.0, 2.0), daemon=True)
    command.start()
    assert microscope.moves.wait(10)
    return command


def test_the_emergency_stop_stops_a_move_that_has_begun():
    microscope = SlowStage()
    guard = Guard(microscope, EVERYTHING, "armed")
    command = moving(guard, microscope)
    guard.make_safe()
    command.join(10)
    assert not command.is_alive()
    assert guard.outcome()["moves"] == "halted"


def no_thread_left(thread):
    raise RuntimeError("can't start new thread")


def test_the_emergency_stop_needs_no_thread(monkeypatch):
    microscope = SlowStage()
    guard = Guard(microscope, EVERYTHING, "armed")
    guard.set_shutter("Shutter", True)
    command = moving(guard, microscope)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread_left)
        assert guard.make_safe() == {"Shutter": "closed"}
    command.join(10)
    assert not command.is_alive()
    assert guard.outcome()["moves"] == "halted"


class LateStage(SimulatedMicroscope):
    """A move begins only when it is let go; halting before has no effect."""

    def __init__(self):
        super().__init__()
        self.called, self.go, self.moving, self.at_rest = (threading.Event() for _ in range(4))
        self.halts_at_rest, self.halted = threading.Event(), threading.Event()

    def move_focus_um(self, z):
        self.called.set()
        assert self.go.wait(30)
        self.moving.set()
        assert self.halted.wait(30), "nobody halts the move that began after the stop"

    def halt(self):
        (self.halted if self.moving.is_set() else self.halts_at_rest).set()


def test_a_move_that_begins_just_as_the_stop_comes_is_halted_too():
    microscope = LateStage()
    guard = Guard(microscope, EVERYTHING, "armed")
    command = threading.Thread(target=guard.move_focus_um, args=(1.0,), daemon=True)
    command.start()
    assert microscope.called.wait(10)  # after the guard's look at the stop, before the drive moves
    stop = threading.Thread(target=guard.make_safe, daemon=True)
    stop.start()
    assert microscope.halts_at_rest.wait(10)
    microscope.go.set()
    command.join(10)
    stop.join(10)
    assert not command.is_alive()
    assert guard.outcome()["moves"] == "halted"


class HangingShutter(SlowStage):
    def set_shutter(self, device, opened):
        assert self.stopped.wait(30), "the stage moves on while the shutter hangs"
        super().set_shutter(device, opened)


def test_a_shutter_that_hangs_does_not_keep_the_stage_moving():
    microscope = HangingShutter()
    guard = Guard(microscope, EVERYTHING, "armed")
    command = moving(guard, microscope)
    assert guard.make_safe() == {"Shutter": "closed"}
    command.join(10)
    assert not command.is_alive()


def test_a_shutter_that_hangs_keeps_no_other_open(monkeypatch):
    monkeypatch.setattr(darkness, "DARK_S", 0.3)
    over = threading.Event()

    class OneHangs(SimulatedMicroscope):
        def set_shutter(self, device, opened):
            if device == "Lamp" and not opened:
                over.wait(30)
            super().set_shutter(device, opened)

    microscope = OneHangs(shutters=("Lamp", "Laser"))
    guard = Guard(microscope, SafetyConfig(shutters=("Laser",), close_shutter="Lamp"), "armed")
    guard.set_shutter("Laser", True)
    assert guard.make_safe() == {"Lamp": "no answer yet", "Laser": "closed"}
    assert not microscope.shutters["Laser"]
    over.set()


def test_a_move_between_the_check_and_the_stop_never_starts():
    microscope = SimulatedMicroscope()
    guard = Guard(microscope, SafetyConfig(x_um=(0, 9)), "armed")

    class Stopping(float):
        """A position that stops the run while it is checked."""

        def __float__(self):
            guard.make_safe()
            return 1.0

    with pytest.raises(CommandRefused, match="the run was stopped"):
        guard.move_stage_um(Stopping(1.0), 0)
    assert not microscope.calls


def test_a_stage_at_rest_is_left_alone():
    microscope = SimulatedMicroscope()
    guard = Guard(microscope, EVERYTHING, "armed")
    guard.make_safe()
    assert ("halt",) not in microscope.calls
    assert guard.outcome()["moves"] is None


def test_stops_from_many_threads_while_commands_fly():
    for _ in range(20):
        microscope = SimulatedMicroscope()
        guard = Guard(microscope, EVERYTHING, "armed")
        ready = threading.Barrier(5)

        def fire(guard=guard, ready=ready):
            ready.wait()
            for opened in 20 * (True, False):
                try:
                    guard.set_shutter("Shutter", opened)
                except CommandRefused:
                    return

        def stop(guard=guard, ready=ready):
            ready.wait()
            guard.make_safe()

        threads = [threading.Thread(target=job, daemon=True) for job in (fire, fire, fire, stop, stop)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert microscope.shutters == {"Shutter": False}


def test_a_run_that_was_refused_leaves_the_shutter_as_it_is():
    microscope = SimulatedMicroscope()
    guard = Guard(microscope, EVERYTHING, "armed")
    guard.close()
    assert not microscope.calls
    with pytest.raises(CommandRefused, match="stopped"):
        guard.set_exposure_ms(5)


def test_closing_the_guard_leaves_the_microscope_to_its_owner():
    microscope = SimulatedMicroscope()
    guard = Guard(microscope, EVERYTHING, "armed")
    guard.set_exposure_ms(5)
    guard.close()
    guard.close()
    assert ("set_shutter", "Shutter", False) in microscope.calls
    microscope.move_focus_um(1)


class SlowShutter(SimulatedMicroscope):
    """Opens only when it is let go."""

    def __init__(self):
        super().__init__(shutters=("Shutter", "Other"))
        self.called, self.go = threading.Event(), threading.Event()

    def set_shutter(self, device, opened):
        if opened:
            self.called.set()
            assert self.go.wait(30)
        super().set_shutter(device, opened)


@pytest.mark.parametrize("end", [Guard.make_safe, lambda guard: (guard.lower("observe"), guard.settle())])
def test_a_shutter_that_opens_after_the_stop_is_closed_again_whichever_it_is(end):
    microscope = SlowShutter()
    safety = EVERYTHING.model_copy(update={"shutters": ("Shutter", "Other")})
    guard = Guard(microscope, safety, "armed")
    command = threading.Thread(target=guard.set_shutter, args=("Other", True), daemon=True)
    command.start()
    assert microscope.called.wait(10)
    end(guard)
    microscope.go.set()
    command.join(10)
    assert not command.is_alive()
    assert microscope.calls[-1][0] == "set_shutter"
    assert microscope.shutters == {"Shutter": False, "Other": False}
    assert guard.light()["on"] == []
