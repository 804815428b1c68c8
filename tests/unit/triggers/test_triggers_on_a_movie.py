"""All of it together: detections, the linker, views, triggers and rules, on a scene in which one knows what happens."""

import numpy as np
import pytest

from streamtrack.config import RuleConfig
from streamtrack.linking.imm import ImmLinker
from streamtrack.registry import build
from streamtrack.step import Step
from streamtrack.testing.linkers import detections_at
from streamtrack.triggers.rule import Rule
from streamtrack.types import Frame, SourceInfo

SHAPE = (128, 128)
SOURCE = SourceInfo("scene", SHAPE, "uint8", pixel_size_um=0.1)
INTERVAL_S = 0.1
STARTS, STOPS, VANISHES, COMES = 60, 80, 110, 40
"""Frames in which particle 0 starts to run and stops again, particle 1 vanishes, and a new one comes."""


def scene(frames=140):
    """Eleven diffusing particles, one of which runs to the right for a while; 5 % are missed, some detections false."""
    rng = np.random.default_rng(3)
    place = np.array([[64, 20], [20, 20], [100, 100], *rng.uniform(10, 118, (8, 2))])
    place[3:, 0] = np.where(abs(place[3:, 0] - 64) < 14, place[3:, 0] % 40 + 5, place[3:, 0])  # out of the runner's way
    for index in range(frames):
        there = np.full(len(place), True)
        there[1], there[2] = index < VANISHES, index >= COMES
        false = rng.uniform(0, 128, (rng.poisson(0.3), 2))
        seen = place[there & (rng.random(len(place)) < 0.95)]
        yield detections_at(np.concatenate((seen + rng.normal(0, 0.2, seen.shape), false)))
        place = np.clip(place + rng.normal(0, 0.7, place.shape), 3, 125)
        if STARTS <= index < STOPS:
            place[0] = place[0] + (0, 3.5)


class Given:
    """An engine that finds what it is given."""

    def __init__(self, detections):
        self.detections = iter(detections)

    def reset(self):
        pass

    def detect(self, pixels, *, denoise):
        return next(self.detections), None


@pytest.fixture(scope="module")
def watch():
    """Return a function giving the commands of a rule in the scene, and another that says where particle 0 was."""
    detections = list(scene())

    def run(kind, **settings):
        config = RuleConfig(kind=kind, do="raw", **settings)
        rule = Rule(build("triggers", config).instance, config)
        rule.prepare(SOURCE)
        linker = ImmLinker()
        linker.prepare(SHAPE)
        step = Step(Given(detections), linker, [rule])
        pixels = np.zeros(SHAPE, np.uint8)
        results = [step(Frame(n, pixels, 0, n * INTERVAL_S)) for n in range(len(detections))]
        assert rule.outcome()["failures"] == 0
        return [command for result in results for command in result.commands]

    return run


def test_the_particle_that_starts_to_run_is_seen_within_five_frames(watch):
    commands = watch("mode_switch", to="directed")
    assert [STARTS < command.frame_index <= STARTS + 5 for command in commands] == [True]
    assert commands[0].event.y == pytest.approx(64, abs=8)


def test_and_when_it_stops(watch):
    commands = watch("mode_switch", to="brownian", after="directed")
    assert [STOPS < command.frame_index <= STOPS + 5 for command in commands] == [True]


def test_it_is_the_only_fast_one_and_the_only_one_that_comes_far(watch):
    fast = watch("speed", above_um_s=2.0)  # 3.5 px a frame are 3.5 um/s
    far = watch("displacement", above_px=40)
    assert [STARTS < command.frame_index <= STARTS + 6 for command in fast] == [True]
    assert [STARTS + 8 < command.frame_index < STOPS for command in far] == [True]
    assert {command.event.particle for command in fast} == {command.event.particle for command in far}
    assert fast[0].event.values["speed_px_s"] > 20


def test_it_runs_into_a_region(watch):
    commands = watch("region", x_px=(60, 128), y_px=(52, 76))
    assert [STARTS + 5 < command.frame_index < STARTS + 20 for command in commands] == [True]
    assert commands[0].event.x == pytest.approx(61.5, abs=3)


def test_a_new_particle_appears_and_one_vanishes(watch):
    new = [command.frame_index for command in watch("appears") if abs(command.event.y - 100) < 10]
    assert len(new) >= 1
    assert COMES < new[0] <= COMES + 3
    gone = [command for command in watch("disappears") if command.frame_index >= VANISHES]
    assert VANISHES + 3 <= gone[0].frame_index <= VANISHES + 5


def test_confirmed_tracks_are_fewer_than_all(watch):
    confirmed, all_tracks = watch("appears"), watch("appears", confirmed=False)
    assert 1 <= len(confirmed) < len(all_tracks)


def test_the_rule_bounds_what_the_trigger_sees(watch):
    assert len(watch("nearest")) == 140 - 1  # no track is confirmed in the first frame
    assert len(watch("nearest", cool_down_s=1.0)) == 14
    assert len(watch("nearest", max_per_minute=5)) == 5


def test_the_same_movie_gives_the_same_commands(watch):
    def plain(commands):
        return [(each.frame_index, each.event) for each in commands]

    assert plain(watch("meet", within_px=12)) == plain(watch("meet", within_px=12)) != []
