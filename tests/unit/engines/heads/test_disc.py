"""Discs of known particles become these particles."""

import numpy as np
import pytest
import torch

from streamtrack_engines.heads.disc import Disc, render_discs
from streamtrack_engines.heads.head import Points

SPOTS = np.array([[12.0, 20.3], [30.4, 44.0], [50.5, 9.5], [3.0, 60.0]])


def points(*spots):
    return torch.tensor([[0, y, x] for y, x in spots], dtype=torch.float32)


def logits(spots, shape=(64, 72)):
    return 8.0 * (2 * render_discs(points(*spots), 3, 1, *shape) - 1)


def table_of(found, k=32):
    head = Disc()
    return head.table(found, torch.zeros_like(found), k=k, calibration=head.uncalibrated).numpy()


def test_a_disc_is_what_lies_within_its_radius():
    disc = render_discs(points((10.3, 11.6)), 3, 2, 24, 24)
    y, x = np.indices((24, 24))
    np.testing.assert_array_equal(disc[0, 0], np.hypot(y - 10.3, x - 11.6) <= 3)
    assert not disc[1].any()


def test_each_disc_is_a_particle_at_its_centre():
    table = table_of(logits(SPOTS))
    found = table[table[:, 2] > 0.5]
    assert len(found) == len(SPOTS)
    assert np.abs(found[:, None, :2] - SPOTS).max(2).min(0).max() < 0.6


@pytest.mark.parametrize(("apart_px", "n"), [(2, 1), (9, 2)])
def test_discs_that_overlap_by_more_than_half_are_one(apart_px, n):
    table = table_of(logits([(30.0, 30.0), (30.0, 30.0 + apart_px)]))
    assert np.count_nonzero(table[:, 2] > 0.5) == n


def test_discs_weigh_ten_times_as_much_at_first():
    head, found = Disc(), torch.zeros(1, 1, 32, 32)
    first, later = (float(head.loss(found, Points(points((16.0, 16.0))), part)["disc"]) for part in (0.0, 0.5))
    assert first > later * 1.2
