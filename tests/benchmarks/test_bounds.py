import numpy as np
import pytest

from benchmarks.detection.bounds import PUBLISHED, cramer_rao_px
from benchmarks.detection.detectors import peer
from streamtrack.simulation import MovieSettings
from streamtrack.simulation.render import add_spots, amplitude_from_snr
from streamtrack.simulation.scenarios import BACKGROUND_E, SCENARIOS


@pytest.mark.parametrize(("snr", "bound_px"), [(2.0, 0.49), (4.0, 0.22), (7.0, 0.11)])
@pytest.mark.parametrize("scenario", ["vesicle", "receptor"])
def test_bound_is_the_one_computed_from_the_fitted_profile(scenario, snr, bound_px):
    assert cramer_rao_px(scenario, snr) == pytest.approx(bound_px, rel=0.05)


def test_many_photons_reach_the_closed_form():
    """Without background the bound of a Gaussian is sqrt(2) sigma / sqrt(photons) (Thompson et al. 2002)."""
    snr = 1000.0
    photons = 2 * np.pi * 1.15**2 * float(amplitude_from_snr(snr, BACKGROUND_E))
    assert cramer_rao_px("vesicle", snr) == pytest.approx(np.sqrt(2) * 1.15 / np.sqrt(photons), rel=0.01)


def test_no_peer_beats_the_bound():
    rng = np.random.default_rng(1)
    find = peer("matched_filter", MovieSettings("vesicle", snr=7, density=20))
    peak = amplitude_from_snr(7.0, BACKGROUND_E)
    squares = []
    for _ in range(200):
        y, x = rng.uniform(19, 21, (2, 1))
        image = np.full((40, 40), BACKGROUND_E, np.float32)
        add_spots(image, y, x, peak[None], np.zeros(1), SCENARIOS["vesicle"].profile)
        squares.append(np.sum((find(rng.poisson(image).astype(np.uint8)).yx[0] - (y[0], x[0])) ** 2))
    assert 0.92 < np.sqrt(np.mean(squares)) / cramer_rao_px("vesicle", 7.0) < 1.5


def test_published_figures_are_complete_and_the_best_is_no_worse_than_denodet():
    for figures in PUBLISHED.values():
        assert {len(values) for values in figures.values()} == {4}
        assert all(np.subtract(figures["best_f1"], figures["denodet_f1"]) >= 0)
        assert all(np.subtract(figures["best_rmse_px"], figures["denodet_rmse_px"]) <= 0)
