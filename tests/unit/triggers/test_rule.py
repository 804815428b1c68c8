import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrack.config import RuleConfig
from streamtrack.errors import ConfigError
from streamtrack.testing.triggers import SOURCE, frame_at, tracks_at
from streamtrack.triggers.motion import Speed
from streamtrack.triggers.rule import MOST_EVENTS, MOST_FAILURES, Rule
from streamtrack.types import Command, Event

NOTHING = tracks_at({})


class Script:
    """Does in each frame what it is told: sees so many events, or raises."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.asked = 0

    def prepare(self, source):
        self.source = source

    def check(self, frame, tracks):
        answer = self.answers[self.asked]
        self.asked += 1
        if isinstance(answer, BaseException):
            raise answer
        return [Event(particle=n) for n in range(answer)] if isinstance(answer, int) else answer


def rule(answers, **settings):
    made = Rule(Script(answers), RuleConfig(kind="script", do="stage", action={"centre": True}, **settings))
    made.prepare(SOURCE)
    return made


def fired(made, times_s):
    """Return how many commands each frame brought."""
    return [len(made.commands(frame_at(index, time_s), NOTHING, 0)) for index, time_s in enumerate(times_s)]


def counts(made):
    return {key: value for key, value in made.outcome().items() if value and key != "last_fired_frame"}


def test_a_command_says_who_what_when_and_why():
    made = rule([1], valid_ms=1.5, name="follow")
    action = {"centre": True}
    [command] = made.commands(frame_at(0), NOTHING, 10_000)
    assert command == Command("stage", action, 0, 10_000, 1_510_000, "follow", command.event)
    assert command.event.particle == 0
    assert made.outcome() == {
        "fired": 1,
        "held_back_cool_down": 0,
        "held_back_per_minute": 0,
        "held_back_per_frame": 0,
        "held_back_paused": 0,
        "last_fired_frame": 0,
        "paused": False,
        "failures": 0,
        "last_error": "",
        "switched_off": False,
    }


def test_a_rule_is_called_as_its_trigger_unless_it_has_a_name():
    assert (rule([]).name, rule([], name="n").name) == ("script", "n")
    assert (rule([]).confirmed, rule([], confirmed=False).confirmed) == (True, False)


def test_the_trigger_is_prepared_and_its_complaint_has_the_name_of_the_rule():
    made = rule([])
    assert made._trigger.source is SOURCE
    um = Rule(Speed(above_um_s=1.0), RuleConfig(kind="speed", do="stage", name="fast one"))
    um.prepare(SOURCE)
    with pytest.raises(ConfigError, match=r"trigger 'fast one': .*pixel size"):
        um.prepare(type(SOURCE)("camera", (32, 32), "uint8"))


def test_cool_down_is_counted_on_the_frames_clock():
    made = rule([1] * 12, cool_down_s=0.5)
    assert fired(made, [n / 10 for n in range(12)]) == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    assert counts(made) == {"fired": 3, "held_back_cool_down": 9}


def test_a_cool_down_longer_than_a_minute():
    made = rule([1] * 4, cool_down_s=90.0)
    assert fired(made, [0, 61, 89, 90]) == [1, 0, 0, 1]


def test_one_command_a_frame_while_it_cools_down_and_all_where_it_does_not():
    assert fired(rule([3], cool_down_s=0.1), [0]) == [1]
    assert fired(rule([3]), [0]) == [3]


def test_more_than_so_many_in_any_minute_are_held_back():
    made = rule([2, 2, 0, 1, 1, 1], max_per_minute=3)
    assert fired(made, [0, 30, 45, 59, 60, 61]) == [2, 1, 0, 0, 1, 1]
    assert counts(made) == {"fired": 5, "held_back_per_minute": 2}


@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(0, 3)), max_size=40),
    st.floats(0, 80),
    st.integers(1, 5),
)
def test_no_more_than_allowed_whatever_comes(steps, cool_down_s, most):
    times = np.cumsum([step for step, _ in steps]).tolist()
    made = rule([n for _, n in steps], cool_down_s=cool_down_s, max_per_minute=most)
    sent = np.repeat(times, fired(made, times))
    assert (np.diff(sent) >= cool_down_s - 1e-5).all() if cool_down_s > 1e-5 else True
    assert all(np.count_nonzero((sent > time - 60 + 1e-5) & (sent <= time)) <= most for time in sent)
    outcome = made.outcome()
    held = outcome["held_back_cool_down"] + outcome["held_back_per_minute"]
    assert outcome["fired"] + held == sum(n for _, n in steps)
    assert outcome["fired"] == len(sent)
    assert len(made._fired_s) <= most


@pytest.mark.parametrize("odd", [0.0, -1e9, math.nan, -math.inf, math.inf])
def test_a_clock_that_starts_over_does_not_silence_the_rule(odd):
    """After the jump the cool-down goes on to count."""
    made = rule([1] * 5, cool_down_s=1.0)
    times = [1000.0, odd, *((odd if math.isfinite(odd) else 1000.0) + np.array([0.5, 1.0, 1.5]))]
    assert fired(made, times) == [1, 0, 0, 1, 0]


def test_work_in_a_frame_is_bounded():
    made = rule([MOST_EVENTS + 7])
    assert fired(made, [0]) == [MOST_EVENTS]
    assert counts(made) == {"fired": MOST_EVENTS, "held_back_per_frame": 7}


def test_a_failure_is_counted_and_the_rule_goes_on():
    made = rule([1, ValueError("no such cell"), 1])
    assert fired(made, [0, 1, 2]) == [1, 0, 1]
    assert counts(made) == {"fired": 2, "failures": 1, "last_error": "frame 1: ValueError: no such cell"}


def test_a_trigger_that_always_fails_is_not_asked_for_ever():
    made = rule([1, *[ValueError("bug")] * (MOST_FAILURES - 1), 1, *[ValueError("bug")] * MOST_FAILURES])
    fired(made, range(30 + MOST_FAILURES))
    assert made._trigger.asked == 2 * MOST_FAILURES + 1
    assert made.outcome()["switched_off"]
    assert made.outcome()["failures"] == 2 * MOST_FAILURES - 1


@pytest.mark.parametrize("answer", [None, 5.0, [3], [Event(), "event"]])
def test_an_answer_that_is_no_event_is_a_failure(answer):
    made = rule([answer, 1])
    assert fired(made, [0, 1]) == [0, 1]
    assert made.outcome()["failures"] == 1
    assert "TypeError" in made.outcome()["last_error"]


def test_numbers_of_numpy_become_plain_ones():
    event = Event(np.int64(3), np.float32(1.5), np.float64(2.5), {"n": np.uint8(4), "ratio": np.float32(0.25)})
    (command,) = rule([[event]]).commands(frame_at(0), NOTHING, 0)
    assert command.event == Event(3, 1.5, 2.5, {"n": 4, "ratio": 0.25})
    plain = [command.event.particle, command.event.y, command.event.x, *command.event.values.values()]
    assert [type(each) for each in plain] == [int, float, float, int, float]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Event(values={"ratio": math.nan}), "ValueError: value 'ratio' of an event: nan is not a finite number"),
        (Event(values={"ratio": np.float32("inf")}), "ValueError: value 'ratio' of an event: inf is not"),
        (Event(values={"who": threading.Lock()}), "TypeError: value 'who' of an event: <unlocked"),
        (Event(particle=None), "TypeError: particle of an event: None is not a number"),
        (Event(y="5"), "TypeError: y of an event: '5' is not a number"),
        (Event(x=math.inf), "ValueError: x of an event: inf is not"),
        (SystemExit("enough"), "SystemExit: enough"),
    ],
)
def test_what_no_log_can_hold_is_an_error_of_the_rule_and_the_loop_goes_on(event, said):
    made = rule([event if isinstance(event, SystemExit) else [event], 1])
    assert fired(made, [0, 1]) == [0, 1]
    assert made.outcome()["failures"] == 1
    assert made.outcome()["last_error"].startswith(f"frame 0: {said}")


def test_an_event_without_a_place_has_none():
    (command,) = rule([[Event(y=np.float32("nan"))]]).commands(frame_at(0), NOTHING, 0)
    assert math.isnan(command.event.y)


def test_a_trigger_that_does_not_fit_the_run_ends_it_in_the_first_frame():
    speed = Rule(Speed(above_px_s=1.0), RuleConfig(kind="speed", do="stage"))
    speed.prepare(SOURCE)
    with pytest.raises(ConfigError, match=r"trigger 'speed': .*kind = \"imm\""):
        speed.commands(frame_at(0), NOTHING, 0)
    later = rule([0, ConfigError("no")])
    assert fired(later, [0, 1]) == [0, 0]
    assert later.outcome()["failures"] == 1


def test_prepare_starts_over():
    made = rule([1, *[ValueError("bug")] * MOST_FAILURES, 1], cool_down_s=100)
    fired(made, range(MOST_FAILURES + 1))
    made.prepare(SOURCE)
    assert not any(made.outcome().values())
    assert fired(made, [0]) == [1]
