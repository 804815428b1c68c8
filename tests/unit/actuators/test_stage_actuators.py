import math
from dataclasses import replace

import numpy as np
import pytest

from streamtrack.actuators.guard import Guard
from streamtrack.actuators.stage import Focus, Stage
from streamtrack.clock import monotonic_ns
from streamtrack.config import SafetyConfig
from streamtrack.errors import CommandRefused, ConfigError, MicroscopeError
from streamtrack.testing.actuators import EVERYTHING, example_command
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.types import Event, SourceInfo

INFO = SourceInfo("example", (101, 201), "uint16")  # the middle is at y = 50, x = 100 px


class TurnedMicroscope(SimulatedMicroscope):
    """The camera is mirrored and turned by 90 degrees against the stage."""

    def stage_um_per_px(self):
        return np.array([[0, -0.5], [-0.5, 0]])


def armed(microscope):
    return Guard(microscope, EVERYTHING, "armed")


def centring(microscope, **settings):
    guard = microscope if isinstance(microscope, Guard) else armed(microscope)
    stage = Stage(microscope=guard, **settings)
    stage.prepare(INFO, [{"centre": True}])
    return stage


def seen_at(y, x, late_ms=0):
    command = example_command({"centre": True})
    return replace(command, event=Event(1, y, x), grabbed_ns=command.grabbed_ns + int(1e6 * late_ms))


def test_to_and_by():
    microscope = SimulatedMicroscope()
    stage = Stage(microscope=armed(microscope))
    assert stage.execute(example_command({"to": [5, -3]})) == {"from_um": [0, 0], "to_um": [5, -3], "tries": 1}
    assert stage.execute(example_command({"by": [-1, 0.5]})) == {"from_um": [5, -3], "to_um": [4, -2.5], "tries": 1}
    assert microscope.stage_um() == (4, -2.5)


def test_centre_brings_the_track_to_the_middle():
    microscope = SimulatedMicroscope(um_per_px=0.1)
    microscope.move_stage_um(7, 7)
    centring(microscope).execute(seen_at(60, 90))
    np.testing.assert_allclose(microscope.stage_um(), (7 - 1, 7 + 1))


def test_centre_follows_the_orientation_of_the_camera():
    microscope = TurnedMicroscope()
    centring(microscope).execute(seen_at(60, 90))
    np.testing.assert_allclose(microscope.stage_um(), (-5, 5))


def test_gain_and_longest_move():
    microscope = SimulatedMicroscope(um_per_px=1.0)
    centring(microscope, gain=0.25).execute(seen_at(50, 140))
    np.testing.assert_allclose(microscope.stage_um(), (10, 0))
    microscope.move_stage_um(0, 0)
    centring(microscope, max_move_um=5).execute(seen_at(50 + 40, 100 + 30))
    np.testing.assert_allclose(microscope.stage_um(), (3, 4))


def test_a_track_in_the_middle_moves_nothing_far():
    microscope = SimulatedMicroscope()
    centring(microscope, max_move_um=1).execute(seen_at(50, 100))
    assert microscope.stage_um() == (0, 0)


def test_frames_from_before_the_end_of_a_move_are_skipped_however_late_they_are_decided_on():
    microscope = SimulatedMicroscope(exposure_ms=1000, um_per_px=1.0)
    stage = centring(microscope, settle_ms=0)
    stage.execute(seen_at(50, 110))
    assert "skipped" in stage.execute(seen_at(50, 110))
    assert "skipped" in stage.execute(replace(seen_at(50, 110, late_ms=500), decided_ns=monotonic_ns() + 10**10))
    assert microscope.stage_um() == (10, 0)
    assert stage.execute(seen_at(50, 101, late_ms=2000))["to_um"] == [11, 0]


def test_a_move_that_failed_may_have_moved_the_stage():
    microscope = SimulatedMicroscope(exposure_ms=1000)
    stage = centring(microscope)
    microscope.faults.append(MicroscopeError("the stage is stuck"))
    with pytest.raises(MicroscopeError):
        stage.execute(seen_at(50, 110))
    assert "skipped" in stage.execute(seen_at(50, 110))


@pytest.mark.timing
@pytest.mark.parametrize("delay_frames", [0, 1, 2])
def test_a_loop_faster_than_the_stage_comes_to_rest_in_the_middle(delay_frames):
    """Frames of 2 ms that arrive some frames later, and a stage that takes 8 ms."""
    microscope = SimulatedMicroscope(um_per_px=1.0, delay_ms=8, exposure_ms=2)
    stage = centring(microscope, settle_ms=2 * delay_frames + 1)
    start_ns, seen = monotonic_ns(), []
    path = [(start_ns, (0.0, 0.0))]  # when the stage was where
    for frame in range(60):
        grabbed_ns = start_ns + 2_000_000 * (frame + delay_frames)
        exposed_ns = grabbed_ns - 2_000_000 * delay_frames - 1_000_000
        at = [where for since, where in path if since <= exposed_ns] or [path[0][1]]
        seen.append((50 - at[-1][1], 140 - at[-1][0]))  # a particle that lies 40 px beside the middle
        while monotonic_ns() < grabbed_ns:
            pass
        stage.execute(replace(seen_at(*seen[-1]), grabbed_ns=grabbed_ns))
        path.append((monotonic_ns(), microscope.stage_um()))
    moves = [call for call in microscope.calls if abs(call[1] - 40) > 1e-9]
    assert not moves, "it overshoots"
    np.testing.assert_allclose(microscope.stage_um(), (40, 0))


def test_an_event_without_a_place_cannot_be_centred():
    microscope = SimulatedMicroscope()
    with pytest.raises(CommandRefused, match="has no place"):
        centring(microscope).execute(seen_at(math.nan, math.nan))
    assert not microscope.calls


def test_limits_hold_for_every_kind_of_move():
    microscope = SimulatedMicroscope(um_per_px=100.0)
    stage = centring(Guard(microscope, EVERYTHING, "armed"))
    for command in (seen_at(50, 200), example_command({"to": [1001, 0]}), example_command({"by": [0, -1001]})):
        with pytest.raises(CommandRefused, match="outside safety"):
            stage.execute(command)
    assert not microscope.calls


def test_focus():
    microscope = SimulatedMicroscope()
    focus = Focus(microscope=armed(microscope), retries=1)
    focus.execute(example_command({"to": 5}))
    microscope.faults.append(MicroscopeError("again"))
    assert focus.execute(example_command({"by": -1.5})) == {"from_um": 5, "to_um": 3.5, "tries": 2}
    assert microscope.focus_um() == 3.5


@pytest.mark.parametrize(
    ("safety", "um_per_px", "said"),
    [
        ({"x_um": (-5, 5)}, 0.1, "there are no limits safety.y_um; set them first"),
        ({}, 0.1, "there are no limits safety.x_um and safety.y_um"),
        ({"x_um": (-5, 5), "y_um": (-5, 5)}, None, "never measured"),
    ],
)
def test_what_centring_needs_is_demanded_before_the_run(safety, um_per_px, said):
    microscope = SimulatedMicroscope(um_per_px=um_per_px)
    for mode in ("rehearse", "armed"):
        with pytest.raises(ConfigError, match=said):
            centring(Guard(microscope, SafetyConfig(**safety), mode))
    centring(Guard(microscope, SafetyConfig(**safety), "observe"))


def test_a_place_outside_the_limits_is_refused_before_the_run():
    guard = armed(SimulatedMicroscope())
    for actuator, action in ((Stage, {"to": [0, 1001]}), (Focus, {"to": -101}), (Stage, {"to": [math.nan, 0]})):
        with pytest.raises(ConfigError, match=r"outside safety|not a finite number"):
            actuator(microscope=guard).prepare(INFO, [action])
    Focus(microscope=guard).prepare(INFO, [{"by": 5}])
    with pytest.raises(ConfigError, match=r"no limits safety\.z_um"):
        Focus(microscope=Guard(SimulatedMicroscope(), SafetyConfig(), "armed")).prepare(INFO, [{"by": 5}])


def at_height(z_um, late_ms=0):
    command = example_command({"centre": True})
    values = {} if z_um is None else {"z_um": z_um}
    return replace(command, event=Event(1, 5, 5, values), grabbed_ns=command.grabbed_ns + int(1e6 * late_ms))


def test_focus_goes_towards_the_height_of_a_particle():
    microscope = SimulatedMicroscope(exposure_ms=5)
    microscope.move_focus_um(3)
    focus = Focus(microscope=armed(microscope), gain=0.5, max_move_um=0.4)
    focus.prepare(INFO, [{"centre": True}])
    assert focus.execute(at_height(0.6))["to_um"] == pytest.approx(3.3)
    assert "before the last move" in focus.execute(at_height(0.6))["skipped"]
    assert focus.execute(at_height(-2.0, late_ms=1000))["to_um"] == pytest.approx(2.9)
    assert "psf" in focus.execute(at_height(None, late_ms=2000))["skipped"]
    assert microscope.focus_um() == pytest.approx(2.9)


def test_focus_needs_limits_to_hold_a_height():
    guard = Guard(SimulatedMicroscope(), EVERYTHING.model_copy(update={"z_um": None}), "armed")
    with pytest.raises(ConfigError, match=r"safety\.z_um"):
        Focus(microscope=guard).prepare(INFO, [{"centre": True}])
