import math

import pytest
import torch

from streamtrack_engines.networks.denodet import Denodet
from streamtrack_engines.training.losses import (
    Targets,
    balanced_cross_entropy_loss,
    bernoulli_jsd,
    coordinate_loss,
    denoising_loss,
    divergence_loss,
    local_coordinates,
    loss_parts,
    render_heat,
    soft_dice_loss,
)
from streamtrack_engines.training.recipe import Recipe
from streamtrack_engines.training.step import total_loss


def gaussian_logit(y, x, size=16, sigma=0.6):
    rows, columns = torch.arange(size)[:, None], torch.arange(size)[None]
    return (-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))[None, None].float()


@pytest.mark.parametrize(("y", "x"), [(8.0, 8.0), (7.3, 8.4), (6.55, 9.9), (8.5, 7.5)])
def test_dsnt_coordinate_is_the_centre_of_a_gaussian(y, x):
    found, reference = local_coordinates(gaussian_logit(y, x), torch.tensor([[0.0, y, x]]))

    torch.testing.assert_close(found, torch.tensor([[y, x]]), rtol=0, atol=5e-3)
    torch.testing.assert_close(reference, torch.tensor([[y, x]]))


def test_dsnt_window_follows_the_strongest_pixel_next_to_the_reference():
    found, _ = local_coordinates(gaussian_logit(8.0, 8.0), torch.tensor([[0.0, 7.2, 8.9]]))

    torch.testing.assert_close(found, torch.tensor([[8.0, 8.0]]), rtol=0, atol=5e-3)


def test_points_without_a_full_window_are_left_out():
    points = torch.tensor([[0, -1.5, 5], [0, 2.4, 8], [0, 8, 13.2], [0, 3, 12]], dtype=torch.float32)

    _, reference = local_coordinates(torch.zeros(1, 1, 16, 16), points)

    torch.testing.assert_close(reference, torch.tensor([[3.0, 12.0]]))


def test_coordinate_loss_counts_half_windows():
    loss = coordinate_loss(gaussian_logit(8.0, 8.0), torch.tensor([[0.0, 8.0, 8.4]]))

    assert float(loss) == pytest.approx(0.4 / 2.5, abs=5e-3)


def test_coordinate_loss_of_an_empty_batch_is_zero_and_differentiable():
    heat = torch.zeros(2, 1, 16, 16, requires_grad=True)

    loss = coordinate_loss(heat, torch.empty(0, 3))
    loss.backward()

    assert loss.item() == 0
    assert torch.equal(heat.grad, torch.zeros_like(heat))


def test_heat_is_a_gaussian_of_one_pixel_at_the_sub_pixel_point():
    heat = render_heat(torch.tensor([[1.0, 5.25, 6.5], [0.0, -1.0, 3.0]]), 2, 12, 16)

    assert heat.shape == (2, 1, 12, 16)
    assert float(heat[1, 0, 5, 6]) == pytest.approx(math.exp(-(0.25**2 + 0.5**2) / 2))
    assert float(heat[1, 0, 7, 4]) == pytest.approx(math.exp(-(1.75**2 + 2.5**2) / 2))
    assert float(heat[0, 0, 0, 3]) == pytest.approx(math.exp(-0.5))  # the point lies outside, its light does not
    assert float(heat[0].max()) == float(heat[0, 0, 0, 3])


def test_heat_of_two_points_is_the_larger_one():
    one, other = torch.tensor([[0.0, 5.0, 5.0]]), torch.tensor([[0.0, 6.0, 7.0]])

    both = render_heat(torch.cat([one, other]), 1, 12, 12)

    assert torch.equal(both, torch.maximum(render_heat(one, 1, 12, 12), render_heat(other, 1, 12, 12)))


def test_jsd_lies_between_zero_and_log_2():
    p = torch.linspace(0, 1, 21)
    divergence = bernoulli_jsd(p[:, None], p[None])

    torch.testing.assert_close(divergence.diagonal(), torch.zeros(21), rtol=0, atol=1e-6)
    torch.testing.assert_close(divergence, divergence.T)
    assert float(divergence[0, -1]) == pytest.approx(math.log(2), abs=1e-4)
    assert float(divergence.max()) <= math.log(2) + 1e-6
    assert (divergence[~torch.eye(21, dtype=torch.bool)] > 0).all()


def test_missing_particle_costs_more_than_a_spurious_one():
    heat = render_heat(torch.tensor([[0.0, 8.0, 8.0]]), 1, 16, 16)
    none, nowhere = torch.full((1, 1, 16, 16), -9.0), torch.zeros(1, 1, 16, 16)

    missed = divergence_loss(none, heat)
    spurious = divergence_loss(torch.logit(heat, eps=1e-4), nowhere)

    assert float(missed) > 2 * float(spurious)


def test_dice_is_zero_for_the_same_image_and_one_for_disjoint_images():
    grey = torch.rand(1, 1, 8, 8)
    left, right = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    left[..., :4], right[..., 4:] = 1, 1

    assert float(soft_dice_loss(grey, grey)) == pytest.approx(0, abs=1e-6)
    assert float(soft_dice_loss(left, right)) == pytest.approx(1, abs=1e-6)
    assert float(soft_dice_loss(torch.zeros(4), torch.zeros(4))) == 0


def test_denoising_loss_is_lowest_where_the_brightness_is_right():
    r = torch.zeros(1, 1, 16, 16)
    r[..., 6:9, 6:9] = 0.7
    right = torch.logit(r, eps=1e-4)

    for shift in (-0.5, 0.5):
        assert float(denoising_loss(right, r)) < float(denoising_loss(right + shift, r))
        assert float(balanced_cross_entropy_loss(right, r)) < float(balanced_cross_entropy_loss(right + shift, r))


def _backward(*, joint):
    torch.manual_seed(0)
    network = Denodet()
    points = torch.tensor([[0, 8.2, 9.1], [1, 14.0, 20.5]])
    heat = render_heat(points, 2, 32, 32)
    denoised, found = network(torch.randn(2, 1, 32, 32))
    parts = loss_parts(denoised, found, Targets(0.7 * heat, heat, points))
    total_loss(Recipe(steps=1), parts, joint=joint).backward()
    return network


def test_every_parameter_learns_in_the_joint_stage():
    for name, parameter in _backward(joint=True).named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_denoising_head_rests_in_the_detection_stage():
    network = _backward(joint=False)

    assert network.denoised_head.weight.grad is None
    assert network.heat_head.weight.grad.abs().max() > 0
    assert network.denoise[1].conv.weight.grad.abs().max() > 0  # its features serve detection all the same
