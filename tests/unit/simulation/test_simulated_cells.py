from dataclasses import replace

import numpy as np
import pytest

from streamtrack.simulation.cells import CellRanges, draw_cells

CLEAR = CellRanges(
    diameter_px=(20.0, 20.0), covered=(0.15, 0.15), contrast=(40.0, 40.0), empty_fraction=0.0, small_fraction=0.0
)


def scenes(ranges, n=12, size_px=192):
    return [draw_cells(np.random.default_rng((5, k)), size_px, ranges) for k in range(n)]


def test_the_same_seed_gives_the_same_scene():
    one, other = (draw_cells(np.random.default_rng(3), 128, CellRanges()) for _ in range(2))
    np.testing.assert_array_equal(one.mean_e, other.mean_e)
    np.testing.assert_array_equal(one.cells, other.cells)


def test_cells_are_brighter_than_what_is_around_and_have_the_size_that_was_asked_for():
    surplus, radii = [], []
    for scene in scenes(replace(CLEAR, ring_fraction=0.0)):
        inside = scene.cells[((scene.cells[:, :2] > 12) & (scene.cells[:, :2] < 180)).all(1)]
        row, column = np.rint(inside[:, :2]).astype(int).T
        surplus += list(scene.mean_e[row, column] > np.median(scene.mean_e))
        radii += list(inside[:, 2])
    assert np.mean(surplus) > 0.95
    assert np.median(radii) == pytest.approx(10, rel=0.15)


def test_cells_cut_by_the_border_have_the_middle_of_what_can_be_seen():
    for scene in scenes(replace(CLEAR, covered=(0.5, 0.5))):
        assert (scene.cells[:, :2] >= 0).all()
        assert (scene.cells[:, :2] <= 191).all()
        assert (scene.cells[:, 2] > 2).all()


def test_a_share_of_the_scenes_is_empty():
    empty = [not len(scene.cells) for scene in scenes(replace(CLEAR, empty_fraction=0.5), 60, 64)]
    assert 0.3 < np.mean(empty) < 0.7


def test_no_cell_is_known_beside_the_image():
    for scene in scenes(CLEAR, 60, 96):
        if scene.border is not None:
            rows, columns = np.rint(scene.cells[:, :2]).astype(int).T
            assert not scene.border[rows, columns].any()
            assert not scene.expose(np.random.default_rng(0))[scene.border].any()


def test_frames_are_whole_counts():
    for scene in scenes(CellRanges(), 12, 96):
        frame = scene.expose(np.random.default_rng(1))
        assert frame.dtype == np.float32
        assert (frame == np.rint(frame)).all()
        assert frame.min() >= 0
        assert frame.max() <= 65535
