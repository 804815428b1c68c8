import numpy as np
import pytest
from scipy import stats

from streamtrack.simulation import shot_noise


@pytest.mark.parametrize("mean", [0.3, 1.0, 7.6, 16.0, 16.5, 127.9, 128.2, 700.0])
def test_counts_follow_the_poisson_distribution(mean):
    n = 200_000
    counts = shot_noise.expose(np.random.default_rng(7), np.full((2, n // 2), mean, np.float32)).ravel()
    law = stats.poisson(np.float32(mean))
    # Bins of at least about 20 expected counts; the tails are pooled.
    low, high = law.ppf(1e-4), law.isf(1e-4)
    edges = np.arange(low, high + 1)
    expected = n * np.diff(np.r_[0, law.cdf(edges), 1])
    observed = np.bincount(np.searchsorted(edges, counts), minlength=len(expected))
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_mixed_means_are_kept_apart():
    means = np.tile(np.array([0.0, 2.5, 40.25, 500.0], np.float32), (100_000, 1))
    counts = shot_noise.expose(np.random.default_rng(3), means)
    assert counts.dtype == np.float32
    assert not counts[:, 0].any()
    np.testing.assert_allclose(counts.mean(0)[1:], [2.5, 40.25, 500.0], rtol=5e-3)
    np.testing.assert_allclose(counts.var(0)[1:], [2.5, 40.25, 500.0], rtol=2e-2)
    assert np.abs(np.corrcoef(counts[:, 1:].T) - np.eye(3)).max() < 0.02


def test_same_generator_state_same_counts():
    mean = np.full((20, 20), 130.5, np.float32)
    first, second = (shot_noise.expose(np.random.default_rng(1), mean) for _ in range(2))
    np.testing.assert_array_equal(first, second)
