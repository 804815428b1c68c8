"""Cells that are known become these cells again, from the map that the network is to learn."""

import numpy as np
import pytest
import torch

from streamtrack_engines.heads.cells import CellHead, render_middles
from streamtrack_engines.heads.head import Points

CELLS = np.array([[20.0, 24.3, 6.0], [50.4, 90.0, 12.0], [90.5, 30.5, 16.0]])
SHAPE = (128, 128)


def perfect(cells=CELLS, shape=SHAPE):
    """Return the channels (1, 5, H / 2, W / 2) that say where cells are and how large."""
    found = torch.zeros(1, 5, shape[0] // 2, shape[1] // 2)
    pixel = torch.tensor(np.rint((cells[:, :2] - 0.5) / 2), dtype=torch.long)
    crop = torch.cat([torch.zeros(len(cells), 1, dtype=torch.long), pixel], 1)
    found[:, 0] = 12 * render_middles(crop, torch.tensor(cells[:, 2], dtype=torch.float32), found)[:, 0] - 6
    for (row, column), (y, x, radius) in zip(pixel.tolist(), cells, strict=True):
        near = (0, slice(1, 3), slice(row - 2, row + 3), slice(column - 2, column + 3))
        rows, columns = np.mgrid[row - 2 : row + 3, column - 2 : column + 3]
        found[near] = torch.tensor(np.stack([y - (2 * rows + 0.5), x - (2 * columns + 0.5)]), dtype=torch.float32)
        found[0, 4, row - 2 : row + 3, column - 2 : column + 3] = float(np.log(radius))
    return found


def discs(cells=CELLS, shape=SHAPE, light=100.0, ground=20.0):
    y, x = np.indices(shape)
    frame = np.full(shape, ground, np.float32)
    for row, column, radius in cells:
        frame[np.hypot(y - row, x - column) <= radius] += light
    return torch.tensor(frame)[None, None]


def table_of(found, frame, k=32):
    head = CellHead()
    table = head.table(found, frame, k=k, calibration=head.uncalibrated).numpy()
    assert table.dtype == np.float32
    return table[table[:, 2] > 0.5]


def as_points(cells=CELLS, **known):
    return Points(torch.tensor([[0, y, x] for y, x, _ in cells], dtype=torch.float32), known)


def test_each_cell_is_found_once_with_its_place_radius_and_light():
    table = table_of(perfect(), discs())
    assert len(table) == len(CELLS)
    table = table[np.argsort(table[:, 0])]
    np.testing.assert_allclose(table[:, :2], CELLS[:, :2], atol=1e-3)
    np.testing.assert_allclose(table[:, 5], CELLS[:, 2], rtol=1e-3)
    np.testing.assert_allclose(table[:, 3], 100 * np.pi * CELLS[:, 2] ** 2, rtol=0.05)


def test_neighbours_are_no_background():
    cells = np.array([[64.0, 64.0, 10.0], [64.0, 85.0, 10.0], [64.0, 43.0, 10.0]])
    table = table_of(perfect(cells), discs(cells))
    np.testing.assert_allclose(table[:, 3], 100 * np.pi * 100, rtol=0.06)


def test_what_the_padding_shows_is_no_cell():
    table = table_of(perfect(), discs()[..., :80, :])
    assert len(table) == 2


def test_rows_are_counted_by_tiles_of_the_frame():
    head, frame = CellHead(), torch.zeros(1, 1, 513, 40)
    table = head.table(torch.full((1, 5, 272, 32), -9.0), frame, k=8, calibration=head.uncalibrated)
    assert table.shape == (16, 6)
    assert not table.any()


def test_the_loss_is_least_for_the_truth():
    head, radius = CellHead(), torch.tensor(CELLS[:, 2], dtype=torch.float32)
    right = head.loss(perfect(), as_points(radius_px=radius), 0.5)
    shifted = CELLS + np.array([6.0, 0.0, 3.0])
    wrong = head.loss(perfect(shifted), as_points(radius_px=radius), 0.5)
    assert all(float(wrong[name]) > float(right[name]) + 0.01 for name in right)


@pytest.mark.parametrize("known", [{}, {"radius_px": torch.full((3,), torch.nan)}])
def test_middles_alone_can_be_learnt_from(known):
    found = perfect().requires_grad_()
    loss = CellHead().loss(found, as_points(**known), 0.5)
    sum(loss.values()).backward()
    assert torch.isfinite(found.grad).all()
    assert loss["radius"].item() == 0


def test_a_crop_without_cells_has_a_loss():
    loss = CellHead().loss(torch.zeros(2, 5, 16, 16), Points(torch.empty(0, 3), {"radius_px": torch.empty(0)}), 0.5)
    assert all(torch.isfinite(value) for value in loss.values())
    assert float(loss["middle"]) > 0
