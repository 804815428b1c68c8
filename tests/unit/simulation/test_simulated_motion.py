"""Simulated tracks, and moments out of them, against what was measured on the challenge's ground truth."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from streamtrack.simulation import MovieSettings, ground_truth
from streamtrack.simulation.motion import simulate_moments
from streamtrack.simulation.scenarios import SCENARIOS as MODELS

FRAMES = 100
SIDE_PX = 2048  # with few tracks near the border: they are a selection, as fast ones leave
BORDER_PX = 30
SCENARIOS = ("vesicle", "receptor", "microtubule")


@dataclass(frozen=True)
class Steps:
    """Steps of all tracks away from the border, ordered by track and frame; ``chained``: the next is of the same."""

    dy: np.ndarray
    dx: np.ndarray
    first: np.ndarray
    chained: np.ndarray

    @property
    def length(self):
        return np.hypot(self.dy, self.dx)

    @property
    def heading(self):
        return np.arctan2(self.dy, self.dx)


def by_track(scenario, **settings):
    truth = ground_truth(MovieSettings(scenario, frames=FRAMES, **settings))
    return truth.sort_values(["particle", "frame"], ignore_index=True)


def is_inner(table):
    return table.y.between(BORDER_PX, SIDE_PX - BORDER_PX) & table.x.between(BORDER_PX, SIDE_PX - BORDER_PX)


def steps_of(truth):
    born = truth.groupby("particle").frame.transform("min")
    inner = truth[is_inner(truth).groupby(truth.particle).transform("all")]
    step = inner.groupby("particle")[["y", "x"]].diff()
    taken = step.y.notna()
    particle = inner.particle[taken].to_numpy()
    frame, start = inner.frame[taken].to_numpy(), born[inner.index][taken].to_numpy()
    return Steps(
        dy=step.y[taken].to_numpy(),
        dx=step.x[taken].to_numpy(),
        first=(frame == start + 1) & (start > 0),
        chained=np.append(particle[1:] == particle[:-1], False),
    )


def hazard(truth):
    """Share of particles, alive for 4 frames or more, that are not there in the next frame."""
    tracks = truth.groupby("particle").frame
    age = truth.frame - tracks.transform("min")
    old = is_inner(truth) & (age >= 3) & truth.frame.between(4, FRAMES - 6)
    return float((truth.frame == tracks.transform("max"))[old].mean())


@pytest.fixture(scope="module")
def truths():
    return {
        scenario: by_track(scenario, density=150, height_px=SIDE_PX, width_px=SIDE_PX, seed=seed)
        for seed, scenario in enumerate(SCENARIOS)
    }


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_tracks_have_no_gaps_and_at_least_four_frames(truths, scenario):
    tracks = truths[scenario].groupby("particle").frame
    length = tracks.size()
    assert length.min() >= 4
    assert (tracks.max() - tracks.min() + 1 == length).all()
    assert list(length.index) == list(range(len(length)))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_particles_are_on_the_image(truths, scenario):
    positions = truths[scenario][["y", "x"]]
    assert positions.min().min() >= -0.5
    assert positions.max().max() < SIDE_PX - 0.5
    assert positions.min().max() < 0.5  # they are found up to every border
    assert positions.max().min() > SIDE_PX - 1.5


@pytest.mark.parametrize(("scenario", "mean_length"), [("vesicle", 19), ("receptor", 14), ("microtubule", 10)])
def test_mean_track_length(truths, scenario, mean_length):
    assert len(truths[scenario]) / truths[scenario].particle.nunique() == pytest.approx(mean_length, abs=1.4)


@pytest.mark.parametrize(("scenario", "death"), [("vesicle", 0.05), ("receptor", 0.09), ("microtubule", 0.13)])
def test_tracks_end_with_a_constant_hazard(truths, scenario, death):
    assert hazard(truths[scenario]) == pytest.approx(death, rel=0.05)


def test_vesicles_diffuse(truths):
    steps = steps_of(truths["vesicle"])
    for step in (steps.dy, steps.dx):
        assert step.std() == pytest.approx(1.99, abs=0.02)
        assert abs(step.mean()) < 0.02
        assert np.mean(step**4) / step.var() ** 2 == pytest.approx(2.97, abs=0.1)
        assert abs(np.corrcoef(step[:-1][steps.chained[:-1]], step[1:][steps.chained[:-1]])[0, 1]) < 0.02


def test_receptors_switch_between_two_states(truths):
    steps = steps_of(truths["receptor"])
    directed = steps.length > 2.1  # 0.2 % of Brownian steps are longer, no directed one is shorter than 2.5
    now, then = directed[:-1][steps.chained[:-1]], directed[1:][steps.chained[:-1]]
    assert directed.mean() == pytest.approx(0.29, abs=0.02)
    assert directed[steps.first].mean() == pytest.approx(0.11, abs=0.015)
    assert then[~now].mean() == pytest.approx(0.10, abs=0.01)
    assert (~then[now]).mean() == pytest.approx(0.19, abs=0.01)


def test_receptors_steps_in_either_state(truths):
    steps = steps_of(truths["receptor"])
    directed = steps.length > 2.1
    assert np.r_[steps.dy[~directed], steps.dx[~directed]].std() == pytest.approx(0.59, abs=0.01)
    run = steps.length[steps.length > 2.5]
    assert run.max() <= 6.5
    assert np.median(run) == pytest.approx(4.6, abs=0.15)


def test_directed_receptors_keep_their_velocity_but_for_noise(truths):
    steps = steps_of(truths["receptor"])
    both = steps.chained[:-1] & (steps.length[:-1] > 2.5) & (steps.length[1:] > 2.5)
    change = np.r_[np.diff(steps.dy)[both], np.diff(steps.dx)[both]]
    # Now and then a run ends and another starts in between: the median keeps these out.
    assert np.median(np.abs(change)) / 0.6745 == pytest.approx(0.87, abs=0.08)


def test_speed_of_microtubules(truths):
    speed = steps_of(truths["microtubule"]).length
    assert speed.min() >= 3 - 1e-9
    assert speed.max() <= 7 + 1e-9
    assert np.median(speed) == pytest.approx(5.2, abs=0.1)
    assert np.sqrt(2) * speed.std() == pytest.approx(1.62, abs=0.05)  # difference of speeds long after one another


def test_microtubules_turn_slowly_and_change_speed_slowly(truths):
    steps = steps_of(truths["microtubule"])
    chained = steps.chained[:-1]
    turn = np.angle(np.exp(1j * np.diff(steps.heading)[chained]))
    assert turn.std() == pytest.approx(0.133, abs=0.006)
    change = np.r_[np.diff(steps.dy)[chained], np.diff(steps.dx)[chained]]
    assert change.std() == pytest.approx(0.63, abs=0.04)


def test_headings_have_no_preferred_direction(truths):
    steps = steps_of(truths["microtubule"])
    assert abs(np.exp(1j * steps.heading).mean()) < 0.03


def test_microtubules_enter_and_leave_through_the_borders():
    truth = by_track("microtubule", density=1400, seed=3)

    def share_within_5_px(table):
        return 1 - (table.y.between(4.5, 512 - 5.5) & table.x.between(4.5, 512 - 5.5)).mean()

    frame = truth.groupby("particle").frame
    births = truth[(truth.frame == frame.transform("min")) & (truth.frame > 0)]
    deaths = truth[(truth.frame == frame.transform("max")) & (truth.frame < FRAMES - 1)]
    assert share_within_5_px(births) == pytest.approx(0.11, abs=0.02)  # 0.039 if uniform
    assert share_within_5_px(deaths) == pytest.approx(0.11, abs=0.02)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_density_is_the_one_asked_for_from_the_first_frame_to_the_last(scenario):
    counts = sum(
        by_track(scenario, density=1500, seed=seed).groupby("frame").size().to_numpy() / 1500 / 6 for seed in range(6)
    )
    assert counts.mean() == pytest.approx(1, abs=0.02)
    for part in (counts[:3], counts[3:10], counts[-10:-3], counts[-3:]):
        assert part.mean() == pytest.approx(1, abs=0.06)


def test_density_of_a_small_image():
    settings = {"density": 2000, "height_px": 48, "width_px": 96}
    count = np.mean([len(by_track("microtubule", seed=seed, **settings)) for seed in range(30)]) / FRAMES
    assert count == pytest.approx(2000 * 48 * 96 / 512**2, rel=0.05)


def test_number_of_particles_fluctuates_as_chance_has_it():
    first = [ground_truth(MovieSettings("vesicle", density=200, frames=8, seed=s)) for s in range(60)]
    counts = np.array([len(truth[truth.frame == 4]) for truth in first])
    assert 0.6 < counts.var() / counts.mean() < 1.6


@pytest.mark.parametrize("frames", [4, 5, 7, 8, 9])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_short_movies_have_whole_tracks_too(scenario, frames):
    settings = MovieSettings(scenario, density=500, frames=frames, height_px=200, width_px=300)
    truth = ground_truth(settings)
    assert truth.groupby("particle").size().min() >= 4
    assert set(truth.frame) == set(range(frames))


def moments_of(scenario, *, frames=4, density=500, shape=(SIDE_PX, SIDE_PX), seed=0):
    return simulate_moments(np.random.default_rng(seed), MODELS[scenario], density, frames, shape)


def moved(before, after):
    """Steps (N, 2) of the particles that both frames hold, except those that came back on the field's other side."""
    _, one, two = np.intersect1d(before["particle"], after["particle"], return_indices=True)
    step = np.stack([after["y"][two] - before["y"][one], after["x"][two] - before["x"][one]], 1)
    return step[np.abs(step).max(1) < SIDE_PX / 2]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_moments_are_equally_dense_in_every_frame(scenario):
    in_image = [
        np.count_nonzero((p["y"] >= -0.5) & (p["y"] < SIDE_PX - 0.5) & (p["x"] >= -0.5) & (p["x"] < SIDE_PX - 0.5))
        for p in moments_of(scenario, frames=12)
    ]
    np.testing.assert_allclose(in_image, 500 * (SIDE_PX / 512) ** 2, rtol=0.04)  # 3.6 standard deviations


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_moments_number_each_particle_once_for_all_frames(scenario):
    moments = moments_of(scenario, frames=5)
    frames = [set(particles["particle"].tolist()) for particles in moments]
    assert [len(numbers) for numbers in frames] == [len(particles) for particles in moments]
    everyone = set().union(*frames)
    assert everyone == set(range(len(everyone)))
    for here, there, later in zip(frames, frames[1:], frames[2:], strict=False):
        assert not (later & here) - there  # nobody returns
        assert there - here  # some are new


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_share_that_vanishes_between_moments(scenario):
    frames = moments_of(scenario, frames=6)
    gone = [1 - np.isin(a["particle"], b["particle"]).mean() for a, b in pairwise(frames)]
    assert np.mean(gone) == pytest.approx(MODELS[scenario].death, rel=0.06)


def test_steps_between_moments_of_vesicles():
    for before, after in pairwise(moments_of("vesicle")):
        assert moved(before, after).std(0) == pytest.approx(1.99, rel=0.03)


def test_share_of_directed_steps_between_moments_of_receptors():
    frames = moments_of("receptor", frames=8)
    shares = [np.mean(np.hypot(*moved(a, b).T) > 2.1) for a, b in pairwise(frames)]
    assert shares == pytest.approx(len(shares) * [0.29], abs=0.02)


def test_microtubules_move_where_they_head_between_moments():
    before, after = moments_of("microtubule", frames=2)
    step = moved(before, after)
    speed = np.hypot(*step.T)
    assert speed.min() >= 3 - 1e-9
    assert speed.max() <= 7 + 1e-9
    old = after[np.isin(after["particle"], before["particle"])]
    _, one, two = np.intersect1d(before["particle"], old["particle"], return_indices=True)
    travelled = (old["y"][two] - before["y"][one]) - old["vy"][two]
    assert np.mean(np.abs(travelled) < 1e-6) > 0.99  # all but those that came back on the other side


def test_moments_of_nothing_and_a_single_moment():
    assert [len(particles) for particles in moments_of("vesicle", density=0, frames=3)] == [0, 0, 0]
    (particles,) = moments_of("receptor", frames=1)
    assert len(particles) == pytest.approx(500 * ((SIDE_PX + 128) / 512) ** 2, rel=0.05)


def test_same_generator_state_same_moments():
    one, two, other = (moments_of("receptor", shape=(64, 96), seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0], other[0])
