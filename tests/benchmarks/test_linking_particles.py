import numpy as np
import pytest

from benchmarks.shared.particles import MOTIONS, SHAPE, ParticleSettings, simulate


@pytest.fixture(scope="module")
def movies():
    return {motion: simulate(ParticleSettings(motion, 300, 60, seed=3)) for motion in MOTIONS}


def steps(truth):
    """Return, of all particles, the steps from one frame to the next, shape (N, 2)."""
    table = truth.sort_values(["particle", "frame"])
    same = table["particle"].diff().to_numpy()[1:] == 0
    return np.diff(table[["y", "x"]].to_numpy(), axis=0)[same]


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_same_settings_give_the_same_movie(movies, motion):
    again = simulate(ParticleSettings(motion, 300, 60, seed=3))
    assert again.truth.equals(movies[motion].truth)
    assert all(np.array_equal(a.y, b.y) for a, b in zip(again.detections, movies[motion].detections, strict=True))


def test_a_short_movie_is_the_beginning_of_a_long_one(movies):
    long = movies["switching"]
    short = simulate(ParticleSettings("switching", 300, 20, seed=3))
    assert short.truth.equals(long.truth[long.truth["frame"] < 20])
    assert all(np.array_equal(a.x, b.x) for a, b in zip(short.detections, long.detections, strict=False))


@pytest.mark.parametrize("motion", MOTIONS)
def test_each_frame_has_the_same_number_of_different_particles(movies, motion):
    truth = movies[motion].truth
    assert (truth.groupby("frame")["particle"].nunique() == 300).all()
    assert len(truth) == 300 * 60
    assert truth[["y", "x"]].min().min() >= 0
    assert truth[["y", "x"]].max().max() < SHAPE[0]


def test_brownian_particles_step_by_2_px_per_axis(movies):
    assert steps(movies["brownian"].truth).std(axis=0) == pytest.approx([2.0, 2.0], rel=0.03)


def test_directed_particles_keep_a_velocity_of_2_to_6_px(movies):
    table = movies["directed"].truth
    path = table[table["particle"] == table["particle"].mode()[0]].sort_values("frame")[["y", "x"]].to_numpy()
    speed = np.linalg.norm(path[-1] - path[0]) / (len(path) - 1)
    assert 1 < speed < 8
    speeds = np.linalg.norm(steps(table), axis=1)
    assert 3.8 < np.median(speeds) < 4.6


def test_switching_particles_are_half_of_each_kind(movies):
    squares = (steps(movies["switching"].truth) ** 2).sum(axis=1).mean()
    brownian, directed = 2 * 2.0**2, (2**2 + 2 * 6 + 6**2) / 3 + 2 * 0.5**2
    assert squares == pytest.approx((brownian + directed) / 2, rel=0.05)


def test_detections_are_as_many_and_as_good_as_said(movies):
    table, found, near, errors = movies["brownian"].truth, [], [], []
    for frame, detections in enumerate(movies["brownian"].detections):
        truth = table.loc[table["frame"] == frame, ["y", "x"]].to_numpy()
        offsets = truth[:, None] - np.column_stack((detections.y, detections.x))
        nearest = offsets[np.arange(len(truth)), np.square(offsets).sum(axis=2).argmin(axis=1)]
        seen = np.hypot(*nearest.T) < 1.5
        found.append(len(detections))
        near.append(seen.mean())
        errors.append(nearest[seen])
    assert np.mean(near) == pytest.approx(0.95, abs=0.01)
    assert np.mean(found) == pytest.approx(300, abs=5)
    assert np.concatenate(errors).std() == pytest.approx(0.3, rel=0.05)


def test_particles_live_for_50_frames_on_average():
    truth = simulate(ParticleSettings("brownian", 100, 1000, seed=4)).truth
    lives = truth.groupby("particle")["frame"].agg(["min", "size"])
    whole = lives[(lives["min"] > 0) & (lives["min"] < 700)]["size"]
    # Some leave the image before.
    assert 44 < whole.mean() < 50
