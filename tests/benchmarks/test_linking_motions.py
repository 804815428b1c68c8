import numpy as np
import pytest

from benchmarks.linking.motions import FAMILIES, N, link, movie_of
from benchmarks.linking.trials import score, settled_ids
from benchmarks.shared.particles import SHAPE
from streamtrack.linking.imm import ImmLinker


@pytest.mark.parametrize("name", FAMILIES)
def test_true_identities_are_the_best_that_a_linker_can_do(name):
    movie = movie_of(name, seed=5, frames=25)
    assert (movie.simulated.truth.groupby("frame")["particle"].nunique() == N).all()
    best = score(movie.simulated, movie.identities)["alpha"]
    ours = score(movie.simulated, settled_ids(list(link(movie.simulated.detections))))["alpha"]
    assert ours <= best + 0.02
    assert best > 0.7


@pytest.mark.parametrize("name", FAMILIES)
def test_a_linker_saved_in_the_middle_goes_on_as_if_nothing_had_happened(name):
    detections = movie_of(name, seed=6, frames=60).simulated.detections
    one, other = ImmLinker(), ImmLinker()
    one.prepare(SHAPE)
    for index, found in enumerate(detections):
        if index == 31:
            other.restore(one.state())
        update = one.update(found, index, float(index))
        if index >= 31:
            again = other.update(found, index, float(index))
            assert np.array_equal(update.particle, again.particle)
            assert np.array_equal(update.existence, again.existence)
            assert np.array_equal(update.revised.particle, again.revised.particle)
    assert one.info == other.info


def test_particles_of_a_field_that_jumps_jump_together():
    movie = movie_of("one jump of 30 px", seed=5, frames=52)
    table = movie.simulated.truth.pivot(index="particle", columns="frame", values=["y", "x"])
    moved = np.stack([(table[axis][50] - table[axis][49]).dropna().to_numpy() for axis in "yx"])
    assert np.median(moved, axis=1) == pytest.approx(movie.shifts[50], abs=0.5)
    assert np.hypot(*movie.shifts[50]) == pytest.approx(30.0)
