"""The kernel of each spot is learnt, and a spot is where there is one."""

import numpy as np
import pytest
import torch

from streamtrack_engines.heads.enhanced import KERNEL, Enhanced, enhanced
from streamtrack_engines.heads.head import Points

SPOTS = [(12, 20), (30, 44), (50, 9), (3, 60)]


def places(*spots, crop=0):
    return torch.tensor([[crop, y, x] for y, x in spots], dtype=torch.float32)


def ground(shape=(64, 72), seed=0):
    """Return a frame that is nowhere as bright as a spot but in one pixel."""
    frame = 50 + 30 * torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed))
    frame[..., -6, -6] = 150.0
    return frame


def table_of(image, frame=None, k=32):
    head = Enhanced()
    found = torch.logit(image.clamp(1e-4, 1 - 1e-4))
    return head.table(found, image if frame is None else frame, k=k, calibration=head.uncalibrated).numpy()


def above(table, threshold=0.5):
    return table[table[:, 2] > threshold]


def test_the_image_to_learn_is_the_frame_with_a_kernel_at_each_spot():
    frame = torch.cat([ground(seed=0), 3 * ground(seed=1) + 100])
    image = enhanced(frame, torch.cat([places(*SPOTS), places((20.4, 29.6), crop=1)]))
    torch.testing.assert_close(image[1, 0, 19:22, 29:32], torch.tensor(KERNEL) / 255)
    for y, x in SPOTS:
        torch.testing.assert_close(image[0, 0, y - 1 : y + 2, x - 1 : x + 2], torch.tensor(KERNEL) / 255)
    untouched = torch.ones(64, 72, dtype=torch.bool)
    untouched[19:22, 29:32] = False
    scaled = (frame[1, 0] - frame[1].min()) / (frame[1].max() - frame[1].min())
    torch.testing.assert_close(image[1, 0][untouched], scaled[untouched])


def test_kernels_that_overlap_keep_both_middles_and_those_beyond_the_border_are_cut():
    image = enhanced(ground(), places((10, 10), (10, 12), (-1, 5), (40, 73)))
    assert image[0, 0, 10, 10:13].tolist() == pytest.approx([1, 230 / 255, 1])
    assert image[0, 0, 0, 4:7].tolist() == pytest.approx([200 / 255, 230 / 255, 200 / 255])


def test_the_loss_is_least_for_the_image_and_knows_its_brightest_pixel():
    frame, points = ground(), places(*SPOTS)
    head, right = Enhanced(), torch.logit(enhanced(frame, points).clamp(1e-4, 1 - 1e-4))
    best = head.loss(right, Points(points, frame=frame), 0.5)
    assert best["brightest"] < 1e-6
    for wrong in (right - 1, right + 1, torch.zeros_like(right)):
        assert head.loss(wrong, Points(points, frame=frame), 0.5)["enhanced"] > best["enhanced"]
    assert float(head.loss(right - 20, Points(points, frame=frame), 0.5)["brightest"]) == pytest.approx(1, abs=1e-3)


def test_each_kernel_is_a_spot_and_bright_pixels_of_the_ground_are_none():
    frame = ground()
    found = above(table_of(enhanced(frame, places(*SPOTS)), frame))
    assert len(found) == len(SPOTS)
    assert np.abs(found[:, None, :2] - np.array(SPOTS)).max(2).min(0).max() < 0.2
    assert found[:, 2].min() > 0.95


def test_a_spot_is_where_the_light_of_its_pixels_is():
    image = torch.zeros(1, 1, 32, 32)
    image[..., 9:12, 20:23] = torch.tensor(KERNEL) / 255
    image[..., 10, 22] = 1.0
    (row,) = above(table_of(image))
    assert row[0] == pytest.approx(10, abs=1e-3)
    assert 21.02 < row[1] < 21.5


def test_two_spots_that_do_not_touch_are_two():
    assert len(above(table_of(enhanced(ground(), places((20, 20), (20, 23)))))) == 2


def test_the_mass_is_that_of_the_raw_frame():
    frame = torch.full((1, 1, 40, 40), 100.0)
    frame[..., 19:22, 19:22] += 50.0
    (row,) = above(table_of(enhanced(frame, places((20, 20))), frame))
    assert row[3] == pytest.approx(450)


def test_the_picture_goes_from_0_to_255():
    picture = Enhanced().picture(torch.tensor([[[[-20.0, 0.0, 20.0]]]]), torch.zeros(1, 1, 1, 3), calibration=())
    assert picture.flatten().tolist() == pytest.approx([0, 127.5, 255], abs=1e-3)
