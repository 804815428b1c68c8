"""Scores of patches become the spots in the middle of them."""

import numpy as np
import pytest
import torch

from streamtrack_engines.heads.head import Points
from streamtrack_engines.heads.patch import Patch

HEAD = Patch()
SHAPE = (64, 72)


def scores(*spots, width=3.0):
    """Log odds that fall off around spots (y, x, height), as the two channels."""
    y, x = np.indices(SHAPE)
    each = [height * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * width**2)) for at_y, at_x, height in spots]
    odds = torch.from_numpy(np.max(each, 0).astype(np.float32) * 2 - 8)[None, None]
    return torch.cat([-odds / 2, odds / 2], 1)


def found_in(channels, **settings):
    head = Patch(**settings)
    table = head.table(channels, torch.zeros(1, 1, *SHAPE), k=16, calibration=head.uncalibrated)
    return table[table[:, 2] > 0].numpy()


def points(*places):
    return Points(torch.tensor([[0.0, y, x] for y, x in places]))


def loss_of(channels, *places):
    return float(HEAD.loss(channels, points(*places), 0.5)["patches"])


def test_a_spot_is_where_the_score_is_highest():
    found = found_in(scores((20, 30, 8), (40.3, 50.4, 7), (0, 0, 8)))
    assert len(found) == 3
    np.testing.assert_allclose(sorted(map(tuple, found[:, :2])), [(0.8, 0.8), (20, 30), (40.3, 50.4)], atol=0.35)
    assert (found[:, 2] > 0.8).all()
    np.testing.assert_allclose(found[:, 4], HEAD.uncalibrated[-1])


@pytest.mark.parametrize(("apart_px", "n"), [(7, 1), (5, 2)])
def test_of_patches_that_overlap_much_the_best_is_kept(apart_px, n):
    found = found_in(scores((30, 30, 8), (30, 36, 7), width=1.5), apart_px=apart_px)
    assert len(found) == n
    np.testing.assert_allclose(found[0, :2], (30, 30), atol=0.6)


def test_where_all_patches_score_the_same_there_is_one_spot_in_each_neighbourhood():
    flat = torch.cat([torch.zeros(1, 1, *SHAPE), torch.full((1, 1, *SHAPE), 3.0)], 1)
    assert len(found_in(flat)) == 1
    assert not len(found_in(-flat))


def test_patches_in_between_teach_nothing():
    right = scores((32, 32, 8), width=2.0)
    assert loss_of(right, (32, 32)) < 0.1
    between = right.clone()
    between[:, :, 32, 40] = torch.tensor([-20.0, 20.0])
    assert loss_of(between, (32, 32)) == loss_of(right, (32, 32))
    beside = right.clone()
    beside[:, :, 32, 50] = torch.tensor([-2000.0, 2000.0])
    assert loss_of(beside, (32, 32)) > loss_of(right, (32, 32)) + 0.2


def test_few_patches_with_a_spot_weigh_as_much_as_many_without():
    undecided = torch.zeros(1, 2, *SHAPE)
    assert loss_of(undecided, (32, 32)) == pytest.approx(np.log(2))
    always = undecided + torch.tensor([0.0, 4.0])[:, None, None]
    never = undecided + torch.tensor([4.0, 0.0])[:, None, None]
    assert loss_of(always, (32, 32)) == pytest.approx(loss_of(never, (32, 32)), rel=1e-4)


def test_patches_that_were_not_looked_at_teach_nothing_and_spoil_no_gradient():
    channels = scores((32, 32, 8)).requires_grad_()
    unknown = torch.where(torch.arange(SHAPE[1]) % 3 == 0, channels, torch.nan)
    HEAD.loss(unknown, points((32, 32)), 0.5)["patches"].backward()
    assert channels.grad.isfinite().all()
    assert channels.grad[..., ::3].any()
    assert loss_of(scores((32, 32, 8)) * torch.nan, (32, 32)) == 0


def test_spots_beyond_the_crop_are_in_its_patches():
    assert HEAD.beyond_px == 14
    channels = torch.zeros(1, 2, *SHAPE)
    channels[0, 1, :, :4] = 5.0
    assert loss_of(channels, (32.0, -9.0)) < loss_of(channels, (32.0, -13.9)) < loss_of(channels, (32.0, -30.0))
