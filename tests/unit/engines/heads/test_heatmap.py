"""Gaussians of known particles become these particles, to a fraction of a pixel."""

import numpy as np
import pytest
import torch

from streamtrack_engines.heads.head import Points
from streamtrack_engines.heads.heatmap import HeatMap, bernoulli_jsd, coordinate_loss, divergence_loss, render_heat

SPOTS = np.array([[12.0, 20.3], [30.4, 44.0], [50.5, 9.5], [0.2, 60.0], [63.3, 71.4]])


def points(*spots):
    return torch.tensor([[0, y, x] for y, x in spots], dtype=torch.float32).reshape(-1, 3)


def logits(*spots, shape=(64, 72)):
    """Logits whose softmax around each spot is a Gaussian: so its soft-argmax is the spot."""
    return torch.log(render_heat(points(*spots), 1, *shape).clamp(min=1e-4)) + 3.0


def table_of(found, k=32):
    head = HeatMap()
    return head.table(found, torch.zeros_like(found), k=k, calibration=head.uncalibrated).numpy()


def test_the_map_shows_a_gaussian_on_each_particle_and_the_brighter_one_where_two_meet():
    heat = render_heat(points((10.3, 11.6), (10.3, 14.6), (-1.0, 5.0)), 2, 24, 24)
    y, x = np.indices((24, 24))
    gaussians = [np.exp(-((y - a) ** 2 + (x - b) ** 2) / 2) for a, b in ((10.3, 11.6), (10.3, 14.6), (-1.0, 5.0))]
    np.testing.assert_allclose(heat[0, 0], np.max(gaussians, axis=0), atol=4e-4)
    assert not heat[1].any()


def test_each_gaussian_is_a_particle_at_its_centre():
    table = table_of(logits(*SPOTS))
    found = table[table[:, 2] > 0.5]
    assert len(found) == len(SPOTS)
    nearest = np.abs(found[:, None, :2] - SPOTS).max(2).min(0)
    assert nearest[:3].max() < 0.12  # the window cuts the Gaussian off
    assert nearest.max() < 0.8  # at the border only half of it is there


def test_a_flat_map_holds_one_doubtful_particle_at_most():
    table = table_of(torch.full((1, 1, 32, 32), -6.0))
    assert np.count_nonzero(table[:, 2]) <= 1
    assert table[:, 2].max() < 0.01


def test_losses_are_at_rest_at_the_truth():
    spots = ((16.3, 15.7), (40.0, 50.2))
    right, off = logits(*spots), logits(*((y + 0.6, x) for y, x in spots))
    assert float(coordinate_loss(right, points(*spots))) < 0.1 < float(coordinate_loss(off, points(*spots)))
    heat = render_heat(points(*spots), 1, 64, 72)
    assert float(divergence_loss(torch.logit(heat, eps=1e-6), heat)) < 1e-5 < float(divergence_loss(off, heat))


def test_the_divergence_is_that_of_jensen_and_shannon():
    p, q = torch.tensor(0.2), torch.tensor(0.7)
    middle = (p + q) / 2
    kl = [sum(a * torch.log(a / b) for a, b in ((x, middle), (1 - x, 1 - middle))) for x in (p, q)]
    assert float(bernoulli_jsd(p, q)) == pytest.approx(float(sum(kl) / 2), rel=1e-4)


@pytest.mark.parametrize("spots", [(), ((-0.9, 5.0), (63.8, 71.9)), ((0.0, 0.0), (63.4, 71.4))])
def test_nothing_and_particles_on_the_border_are_learnt_from(spots):
    found = torch.zeros(1, 1, 64, 72, requires_grad=True)
    terms = HeatMap().loss(found, Points(points(*spots)), 0.5)
    sum(terms.values()).backward()
    assert torch.isfinite(found.grad).all()
    assert found.grad.any()
