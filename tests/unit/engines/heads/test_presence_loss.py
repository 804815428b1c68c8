from math import log, pi, sqrt

import pytest
import torch
from networks import denodet

from streamtrack_engines.heads.head import Points
from streamtrack_engines.heads.presence import Presence, peak_table
from streamtrack_engines.heads.presence_loss import found_positions, position_loss, presence_loss, render_presence
from streamtrack_engines.training.denoising import balanced_cross_entropy_loss, denoising_loss, soft_dice_loss
from streamtrack_engines.training.step import DENOISING, total_loss

SIZE = 32


def found_at(pixels, seed=0):
    """Return maps (1, 4, 32, 32) with a peak in every pixel (K, 2), and all else random."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.rand(1, 4, SIZE, SIZE, generator=generator) - 0.5
    found[:, 0] -= 4.0
    top = torch.rand(len(pixels), generator=generator)
    for (y, x), logit in zip(pixels, top, strict=True):
        found[0, 0, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] += 1.5
        found[0, 0, y, x] = logit - 1
    return found


def points_at(*places, crop=0):
    return torch.tensor([[crop, y, x] for y, x in places], dtype=torch.float32)


def test_presence_is_1_in_the_pixels_that_hold_a_point():
    points = torch.tensor([[0, 2.4, 3.4], [0, 2.6, 7.0], [1, -0.4, 15.4], [1, -0.6, 5.0], [1, 11.6, 5.0], [1, 5, -2.5]])

    presence = render_presence(points, 2, 12, 16)

    assert presence.shape == (2, 1, 12, 16)
    assert presence.nonzero().tolist() == [[0, 0, 2, 3], [0, 0, 3, 7], [1, 0, 0, 15]]
    assert presence.max() == 1


def test_optimum_of_the_presence_is_the_probability_itself():
    """In three frames of ten a pixel holds a point: the gradient vanishes where the sigmoid says 0.3."""
    points = torch.tensor([[frame, 2.0, 1.0] for frame in (0, 4, 7)])

    def slope(probability):
        logit = torch.full((10, 1, 4, 4), log(probability / (1 - probability)), requires_grad=True)
        presence_loss(logit, points).backward()
        return float(logit.grad[:, 0, 2, 1].sum())

    assert slope(0.3) == pytest.approx(0, abs=1e-8)
    assert slope(0.2) < -1e-4
    assert slope(0.4) > 1e-4


def test_a_better_network_is_learnt_from_and_a_worse_one_is_not():
    """In the first crop the other one knows better, in the second it does not: there the truth alone counts."""
    points = points_at((8.0, 8.0))
    points = torch.cat((points, points_at((8.0, 8.0), crop=1)))
    ours = torch.full((2, 1, 16, 16), -2.0, requires_grad=True)
    other = torch.full((2, 1, 16, 16), -6.0)
    other[0, 0, 8, 8], other[1] = 2.0, 3.0

    presence_loss(ours, points, other).backward()
    taught = ours.grad.clone()
    ours.grad = None
    presence_loss(ours, points).backward()

    assert torch.equal(taught[1], ours.grad[1])
    expected = torch.sigmoid(ours.detach()[0, 0, 8, 8]) - (0.3 + 0.7 * torch.sigmoid(torch.tensor(2.0)))
    assert float(taught[0, 0, 8, 8]) == pytest.approx(float(expected) / ours.numel(), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_found_positions_are_those_of_the_deployed_peak_finder(seed):
    """Also in corners and on borders."""
    pixels = [(y, x) for y in (0, 8, 16, 24, 31) for x in (0, 9, 17, 31)]
    found = found_at(pixels, seed)
    off = torch.rand(len(pixels), 2, generator=torch.Generator().manual_seed(seed)) - 0.5
    points = torch.cat([torch.zeros(len(pixels), 1), torch.tensor(pixels) + off], 1)

    position, log_sigma, score, reference = found_positions(found, points)
    table = peak_table(found, torch.zeros(1, 1, SIZE, SIZE), k=400)
    nearest = torch.cdist(position, table[:, :2]).argmin(1)

    torch.testing.assert_close(position, table[nearest, :2])
    torch.testing.assert_close(score, table[nearest, 2])
    torch.testing.assert_close(log_sigma.exp(), table[nearest, 4])
    torch.testing.assert_close(reference, points[:, 1:])
    assert score.min() > 0.2


def test_found_position_is_that_of_the_strongest_pixel_within_1_px_of_the_point():
    found = found_at([(8, 8), (20, 20)])

    position, _, score, _ = found_positions(found, points_at((7.4, 9.4), (18, 20)))
    at_peak, _, peak_score, _ = found_positions(found, points_at((8, 8), (20, 20)))

    torch.testing.assert_close(position[0], at_peak[0])
    assert not torch.allclose(position[1], at_peak[1], atol=0.5)  # 2 px away it is somebody else's
    torch.testing.assert_close(score[0], peak_score[0])


def test_points_beyond_the_frame_are_left_out():
    _, _, _, reference = found_positions(found_at([(0, 3)]), points_at((-0.4, 3), (-0.6, 3), (5, 31.6), (31.4, 31.4)))

    torch.testing.assert_close(reference, torch.tensor([[-0.4, 3.0], [31.4, 31.4]]))


def test_position_is_looked_up_in_the_frame_of_its_point():
    found = torch.cat([found_at([(8, 8)]), found_at([(20, 20)], seed=1)])

    _, _, score, _ = found_positions(found, torch.cat([points_at((8, 8), crop=1), points_at((20, 20), crop=1)]))

    assert score[0] < 0.2 < score[1]


def test_positions_teach_offset_and_sigma_but_not_the_presence():
    found = found_at([(8, 8), (0, 31)]).requires_grad_()

    position_loss(found, points_at((8.2, 7.7), (0.3, 31.1))).backward()

    assert not found.grad[:, 0].any()
    assert found.grad[0, 1:3, 7:10, 7:10].all()
    assert found.grad[0, 3].nonzero().tolist() == [[0, 31], [8, 8]]


def sigma_slope(sigma_px, error_px):
    """Return the gradient of the position loss in the logarithm of sigma, for positions that are off by error_px."""
    found = torch.zeros(1, 4, SIZE, SIZE)
    found[:, 0] = -20.0
    found[0, 0, 8::8, 8::8] = 5.0
    found[:, 3] = log(sigma_px)
    found.requires_grad_()
    pixels = found.detach()[0, 0].gt(0).nonzero().float()
    points = torch.cat([torch.zeros(len(pixels), 1), pixels + torch.tensor(error_px)], 1)
    position_loss(found, points).backward()
    return float(found.grad[:, 3].sum())


def test_sigma_is_at_rest_where_it_is_the_standard_deviation_per_axis():
    error_px = (0.3, 0.4)
    right = sqrt((0.3**2 + 0.4**2) / 2)

    assert sigma_slope(right, error_px) == pytest.approx(0, abs=1e-4)
    assert sigma_slope(0.8 * right, error_px) < -0.1
    assert sigma_slope(1.25 * right, error_px) > 0.1


def test_offsets_are_at_rest_where_they_are_right():
    found = torch.full((1, 4, SIZE, SIZE), -20.0)
    found[:, 1:3] = torch.tensor([0.3, -0.2])[:, None, None]
    found[:, 3] = -1.0
    found[0, 0, 8, 8] = 5.0
    found.requires_grad_()

    position_loss(found, points_at((8.3, 7.8))).backward()

    assert found.grad[:, 1:3].abs().max() < 1e-4


def test_a_position_that_is_wrong_beyond_doubt_pulls_no_more():
    found = torch.full((1, 4, SIZE, SIZE), -20.0)
    found[:, 1:3], found[:, 3] = 0.0, -2.0
    found[0, 0, 8, 8] = 9.0
    found.requires_grad_()

    loss = position_loss(found, points_at((8.0, 9.4)))
    loss.backward()

    assert loss.item() == pytest.approx(-log(0.01 / 25), rel=1e-3)
    assert found.grad.abs().max() < 1e-3


def test_positions_of_what_is_not_seen_hardly_count():
    seen = found_at([(8, 8)])
    seen[:, 3] = 0.0
    at_peak, _, _, _ = found_positions(seen, points_at((8, 8)))
    unseen = points_at((24.0, 24.0))
    seen[0, 0, 20:29, 20:29] = -20.0
    both = torch.cat([torch.cat([torch.zeros(1, 1), at_peak], 1), unseen])

    assert float(position_loss(seen, both)) == pytest.approx(-log(0.99 / (2 * pi) + 0.01 / 25), abs=1e-3)


def test_loss_of_a_batch_without_points_is_finite_and_differentiable():
    found = torch.zeros(2, 4, 16, 16, requires_grad=True)

    presence_loss(found[:, :1], torch.empty(0, 3)).backward()
    assert (found.grad[:, 0] > 0).all()
    loss = position_loss(found, torch.empty(0, 3))
    loss.backward()

    assert loss.item() == 0
    assert not found.grad[:, 1:].any()


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


def _backward(*, joint, n_frames=3, norm="batch"):
    torch.manual_seed(0)
    network, head = denodet(n_frames=n_frames, norm=norm), Presence()
    points = torch.tensor([[0, 8.2, 9.1], [1, 14.0, 20.5]])
    frames = torch.randn(2, n_frames, 32, 32)
    denoised, found = network(frames) if joint else (None, network.find(frames))
    terms = head.loss(found, Points(points), 0.9)
    if joint:
        terms[DENOISING] = denoising_loss(denoised, 0.7 * render_presence(points, 2, 32, 32))
    total_loss({**head.weights, DENOISING: 0.5}, terms).backward()
    return network


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("n_frames", [1, 3])
def test_every_parameter_learns_in_the_joint_stage(n_frames, norm):
    network = _backward(joint=True, n_frames=n_frames, norm=norm)

    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_denoising_decoder_rests_in_the_detection_stage():
    network = _backward(joint=False)

    assert network.found_head.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in network.denoising.parameters())
    assert network.denoised_head.weight.grad is None
