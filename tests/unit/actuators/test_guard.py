import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from streamtrack.actuators.guard import Guard
from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused, MicroscopeError
from streamtrack.protocols import Microscope
from streamtrack.stage_moves import NO_SHIFT
from streamtrack.testing.actuators import EVERYTHING
from streamtrack.testing.microscope import SimulatedMicroscope

NAN, INF = math.nan, math.inf


def guarded(mode="armed", microscope=None, **safety):
    microscope = microscope or SimulatedMicroscope()
    return Guard(microscope, SafetyConfig(**safety), mode), microscope


class HangingMicroscope(SimulatedMicroscope):
    """Every opening of a shutter waits until it is let go, and then opens it."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.hangs, self.go = threading.Event(), threading.Event()

    def set_shutter(self, device, opened):
        if opened:
            self.hangs.set()
            assert self.go.wait(30)
        super().set_shutter(device, opened)


def test_it_is_a_microscope_and_reads_pass_through_in_every_mode():
    for mode in ("observe", "rehearse", "armed"):
        microscope = SimulatedMicroscope(exposure_ms=7, um_per_px=0.2)
        microscope.move_stage_um(3, 4)
        microscope.move_focus_um(5)
        guard: Microscope = Guard(microscope, SafetyConfig(), mode)
        assert guard.info == microscope.info
        assert (guard.stage_um(), guard.focus_um(), guard.exposure_ms()) == ((3, 4), 5, 7)
        np.testing.assert_array_equal(guard.stage_um_per_px(), 0.2 * np.eye(2))


def test_what_is_allowed_is_done():
    microscope = SimulatedMicroscope()
    guard = Guard(microscope, EVERYTHING, "armed")
    guard.set_property("Laser", "Power", "20")
    guard.set_preset("Channel", "Red")
    guard.set_shutter("Shutter", True)
    guard.set_exposure_ms(5)
    guard.move_stage_um(1, 2)
    guard.move_focus_um(3)
    guard.add_event({"exposure": 5, "x_pos": 7, "channel": {"config": "Red"}, "properties": [("Laser", "Power", 5)]})
    assert [call[0] for call in microscope.calls] == [
        "set_property",
        "set_preset",
        "set_shutter",
        "set_exposure_ms",
        "move_stage_um",
        "move_focus_um",
        "add_event",
    ]
    assert sum(guard.outcome()["writes"].values()) == 7
    assert guard.outcome()["refused"] == {}


@pytest.mark.parametrize(
    ("method", "arguments", "reason", "message"),
    [
        ("set_property", ("Camera", "Gain", "2"), "not allowed", "'Camera.Gain' is not in safety.properties"),
        ("set_property", ("Laser", "Power", "nan"), "not a number", "Laser.Power = 'nan'"),
        ("set_property", ("Laser", "Power", "-inf"), "not a number", "Laser.Power = '-inf'"),
        ("set_preset", ("Objective", "60x"), "not allowed", "'Objective' is not in safety.presets"),
        ("set_shutter", ("Lamp", True), "not allowed", "'Lamp' is not in safety.shutters"),
        ("set_shutter", ("Lamp", False), "not allowed", "'Lamp' is not in safety.shutters"),
        ("set_exposure_ms", (1000.1,), "limit", "exposure_ms = 1000.1 is outside safety.exposure_ms = 0 to 1000"),
        ("set_exposure_ms", (NAN,), "not a number", "exposure_ms = nan"),
        ("move_stage_um", (1000.5, 0), "limit", "x_um = 1000.5 is outside safety.x_um = -1000 to 1000"),
        ("move_stage_um", (0, -1001), "limit", "y_um = -1001 is outside safety.y_um"),
        ("move_stage_um", (NAN, 0), "not a number", "x_um = nan"),
        ("move_stage_um", (0, INF), "not a number", "y_um = inf"),
        ("move_focus_um", (101,), "limit", "z_um = 101 is outside safety.z_um"),
        ("move_focus_um", (NAN,), "not a number", "z_um = nan"),
        ("add_event", ({"x_pos": 5000},), "limit", "x_um = 5000 is outside"),
        ("add_event", ({"y_pos": NAN},), "not a number", "y_um = nan"),
        ("add_event", ({"z_pos": 500},), "limit", "z_um = 500 is outside"),
        ("add_event", ({"exposure": 5000},), "limit", "exposure_ms = 5000 is outside"),
        ("add_event", ({"properties": [("Camera", "Gain", 2)]},), "not allowed", "'Camera.Gain' is not in"),
        ("add_event", ({"channel": {"group": "Objective", "config": "60x"}},), "not allowed", "'Objective' is not in"),
        ("add_event", ({"slm_image": 1},), "not understood", "events may not set slm_image"),
    ],
)
def test_what_is_not_is_refused_and_never_reaches_the_hardware(method, arguments, reason, message):
    microscope = SimulatedMicroscope()
    guard = Guard(microscope, EVERYTHING, "armed")
    with pytest.raises(CommandRefused) as caught:
        getattr(guard, method)(*arguments)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not microscope.calls
    assert guard.outcome()["refused"] == {reason: 1}


def test_limits_include_their_ends():
    guard, microscope = guarded(x_um=(-1, 1), y_um=(0, 0))
    for x in (-1, 1):
        guard.move_stage_um(x, 0)
    assert microscope.stage_um() == (1, 0)


def test_an_axis_without_limits_stays_exactly_where_it_is():
    guard, microscope = guarded(x_um=(-100, 100))
    microscope.move_stage_um(0, 50)
    for _ in range(100):  # what an encoder reads a little differently each time does not add up to a way
        guard.move_stage_um(10, guard.stage_um()[1] + 0.09)
    assert microscope.stage_um() == (10, 50)
    with pytest.raises(CommandRefused, match=r"there are no limits safety.y_um"):
        guard.move_stage_um(10, 50.2)
    with pytest.raises(CommandRefused, match="y_um = nan"):
        guard.move_stage_um(10, NAN)
    assert microscope.stage_um() == (10, 50)


def test_a_rehearsal_checks_and_does_nothing():
    guard, microscope = guarded("rehearse", x_um=(-100, 100), y_um=(-100, 100))
    guard.move_stage_um(50, 50)
    assert guard.stage_um() == (0, 0)
    with pytest.raises(CommandRefused):
        guard.move_stage_um(101, 0)
    guard.make_safe()
    assert not microscope.calls
    assert guard.outcome()["writes"] == {"stage": 1}


def test_observing_refuses_every_write():
    microscope = SimulatedMicroscope()
    guard = Guard(microscope, EVERYTHING, "observe")
    for method, *arguments in (
        ("set_shutter", "Shutter", True),
        ("set_shutter", "Shutter", False),
        ("move_focus_um", 0),
    ):
        with pytest.raises(CommandRefused, match="mode = 'armed'"):
            getattr(guard, method)(*arguments)
    assert guard.make_safe() == {}
    assert not microscope.calls


def test_the_emergency_stop_closes_what_is_named_and_what_commands_opened():
    microscope = SimulatedMicroscope(shutters=("Lamp", "Laser", "Other"))
    guard = Guard(microscope, SafetyConfig(shutters=("Laser", "Other"), close_shutter="Lamp"), "armed")
    for shutter in ("Lamp", "Other"):
        microscope.set_shutter(shutter, True)  # by hand
    guard.set_shutter("Laser", True)
    assert guard.make_safe() == {"Lamp": "closed", "Laser": "closed"}
    assert microscope.shutters == {"Lamp": False, "Laser": False, "Other": True}
    with pytest.raises(CommandRefused, match="stopped"):
        guard.set_shutter("Laser", True)
    guard.set_shutter("Other", False)  # light may always go off
    assert guard.outcome()["stopped"]
    assert guard.outcome()["shutters"] == {"Lamp": "closed", "Laser": "closed"}


def test_a_shutter_that_does_not_answer_is_said_and_tried_again():
    microscope = SimulatedMicroscope(shutters=("Lamp", "Laser"))
    guard = Guard(microscope, SafetyConfig(shutters=("Laser",), close_shutter="Lamp"), "armed")
    guard.set_shutter("Laser", True)
    microscope.faults.append(MicroscopeError("no answer within 5 s"))
    assert guard.make_safe() == {"Lamp": "MicroscopeError: no answer within 5 s", "Laser": "closed"}
    assert guard.make_safe() == {"Lamp": "closed", "Laser": "closed"}


def test_the_emergency_stop_waits_for_no_command_and_light_goes_off_after_it():
    microscope = HangingMicroscope()
    guard = Guard(microscope, EVERYTHING, "armed")
    command = threading.Thread(target=guard.set_shutter, args=("Shutter", True), daemon=True)
    command.start()
    assert microscope.hangs.wait(10)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(guard.make_safe).result(5) == {"Shutter": "closed"}
    microscope.go.set()  # the command that hung opens the shutter after all
    command.join(10)
    assert not command.is_alive()
    assert ("set_shutter", "Shutter", True) in microscope.calls
    assert microscope.shutters == {"Shutter": False}


PLAIN = (str, int, float, bool)


class Odd(dict):
    """A mapping that is another one when it is looked at again."""

    def __init__(self, first, second):
        super().__init__(first)
        self._second = second

    def items(self):
        items = list(super().items())
        self.clear()
        self.update(self._second)
        return items


def test_the_hardware_gets_plain_values_whatever_came():
    microscope = SimulatedMicroscope()
    guard = Guard(microscope, EVERYTHING, "armed")
    guard.set_property(np.str_("Laser"), "Power", np.float32(2.0))
    guard.set_shutter("Shutter", np.bool_(True))
    guard.set_exposure_ms(np.int16(5))
    guard.move_stage_um(np.float32(1.5), np.array(2.0))
    guard.move_focus_um(np.float64(3))
    assert microscope.calls == [
        ("set_property", "Laser", "Power", "2"),
        ("set_shutter", "Shutter", True),
        ("set_exposure_ms", 5.0),
        ("move_stage_um", 1.5, 2.0),
        ("move_focus_um", 3.0),
    ]
    assert {type(each) for call in microscope.calls for each in call} <= set(PLAIN)
    guard.add_event(
        {
            "channel": np.str_("Red"),
            "exposure": np.float32(5),
            "min_start_time": np.int64(1),
            "x_pos": np.float32(7),
            "z_pos": None,
            "index": {"t": np.int64(3)},
            "properties": [("Laser", "Power", np.uint8(5))],
            "metadata": {"seen": np.arange(2)},
        }
    )
    assert microscope.events == [
        {
            "channel": {"group": "Channel", "config": "Red"},
            "exposure": 5.0,
            "min_start_time": 1.0,
            "x_pos": 7.0,
            "index": {"t": 3},
            "properties": [("Laser", "Power", "5")],
            "metadata": {"seen": [0, 1]},
        }
    ]


def test_what_was_checked_is_what_the_hardware_gets():
    microscope = SimulatedMicroscope()
    Guard(microscope, EVERYTHING, "armed").add_event(Odd({"x_pos": 5, "exposure": 1}, {"x_pos": 1e6}))
    assert microscope.events == [{"x_pos": 5.0, "exposure": 1.0}]


class UseqChannel:
    """Has what useq's own channels have; of which group it is, the guard cannot be sure."""

    group, config = "Objective", "60x"


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("add_event", ({"channel": UseqChannel()},), "channel of an event = "),
        ("add_event", ({"channel": {"config": "Red", "group": 5}},), "group = 5 is not a text"),
        ("add_event", ({"channel": {"config": "Red", "exposure": 5}},), "channel of an event = "),
        ("add_event", ({"min_start_time": NAN},), "min_start_time = nan is not a finite number"),
        ("add_event", ({"exposure": "5"},), "exposure_ms = '5' is not a finite number"),
        ("add_event", ({"x_pos": [5]},), r"x_um = \[5\] is not a finite number"),
        ("add_event", ({"metadata": 5},), "metadata of an event = 5 is not a table"),
        ("add_event", ({"index": [0]},), "index of an event"),
        ("add_event", ({"properties": [("Laser.Power", 5)]},), "property of an event"),
        ("set_property", ("Laser", "Power", None), "Laser.Power = None is not a finite number"),
        ("set_property", (b"Laser", "Power", "1"), "device = b'Laser' is not a text"),
        ("set_preset", ("Channel", 5), "preset = 5 is not a text"),
        ("set_shutter", ("Shutter", "False"), "'False' is neither true nor false"),
        ("set_shutter", ("Shutter", 1), "1 is neither true nor false"),
        ("move_stage_um", ("0", 0), "x_um = '0' is not a finite number"),
        ("move_focus_um", (None,), "z_um = None is not a finite number"),
        ("move_focus_um", (10**400,), "z_um = 10+ is not a finite number"),
        ("set_exposure_ms", (1j,), "exposure_ms = 1j is not a finite number"),
    ],
)
def test_what_is_not_plain_is_refused(method, arguments, message):
    microscope = SimulatedMicroscope()
    guard = Guard(microscope, EVERYTHING, "armed")
    with pytest.raises(CommandRefused, match=message):
        getattr(guard, method)(*arguments)
    assert not microscope.calls


class LostStage(SimulatedMicroscope):
    """A stage that goes where it is told, but cannot be read."""

    def stage_um(self):
        raise MicroscopeError("no answer within 5 s")


class TestAStageThatCannotBeRead:
    @pytest.fixture
    def lost(self):
        microscope = LostStage()
        return Guard(microscope, EVERYTHING, "armed"), microscope

    def test_it_moves_all_the_same(self, lost):
        guard, microscope = lost
        guard.move_stage_um(1, 2)
        assert microscope.calls == [("move_stage_um", 1.0, 2.0)]

    def test_nothing_is_left_to_halt_whether_the_move_succeeds_or_fails(self, lost):
        guard, microscope = lost
        guard.move_stage_um(1, 2)
        microscope.faults.append(MicroscopeError("stuck"))
        with pytest.raises(MicroscopeError, match="stuck"):
            guard.move_stage_um(3, 4)
        guard.make_safe()
        assert guard.outcome()["moves"] is None
        assert ("halt",) not in microscope.calls

    def test_no_shift_is_told(self, lost):
        guard, _ = lost
        assert not guard.stage_moves.locate()
        guard.move_stage_um(1, 2)
        first, move = guard.stage_moves.recent
        assert first.shift_px == move.shift_px == NO_SHIFT
        assert np.isnan(move.to_um).all()

    def test_once_it_answers_again_it_has_a_place_but_the_move_that_began_nowhere_no_shift(self, lost, monkeypatch):
        guard, microscope = lost
        move_stage_um = microscope.move_stage_um

        def move_and_be_found(x, y):
            move_stage_um(x, y)
            monkeypatch.setattr(LostStage, "stage_um", SimulatedMicroscope.stage_um)

        monkeypatch.setattr(microscope, "move_stage_um", move_and_be_found)
        guard.move_stage_um(1, 2)
        assert guard.stage_moves.recent[-1][2:] == (NO_SHIFT, (1.0, 2.0))
        guard.move_stage_um(2, 2)
        assert guard.stage_moves.recent[-1].shift_px == pytest.approx((0.0, -10.0))
