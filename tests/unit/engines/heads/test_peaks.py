"""The best peaks of each tile."""

import numpy as np
import pytest
import torch

from streamtrack_engines.heads.peaks import TILE_PX, best, best_of_both, n_tiles


def map_of_peaks(shape, n, seed=0):
    """A map with that many peaks, never two in a block of 2x2, whose heights all differ."""
    rng = np.random.default_rng(seed)
    rows, columns = ((size - 1) // 4 for size in shape)
    place = rng.choice(rows * columns, n, replace=False)
    scores = torch.zeros(1, 1, *shape)
    scores[0, 0, place // columns * 4, place % columns * 4] = torch.from_numpy(rng.permutation(n) + 1.0).float()
    return scores


def tile_of(y, x, shape):
    sizes = [2 * -(-((size + 1) // 2) // n_tiles(size)) for size in shape]
    return (y // sizes[0]) * n_tiles(shape[1]) + x // sizes[1]


@pytest.mark.parametrize("shape", [(32, 32), (47, 33), (512, 512), (513, 40), (700, 1030)])
def test_each_tile_has_its_best_peaks_the_best_first(shape):
    k, scores = 6, map_of_peaks(shape, 40)
    y, x, score = best(scores, k)
    n = n_tiles(shape[0]) * n_tiles(shape[1])
    assert len(score) == n * k
    all_y, all_x = torch.nonzero(scores[0, 0], as_tuple=True)
    tiles = tile_of(all_y, all_x, shape)
    for tile, (ys, xs, found) in enumerate(zip(y.split(k), x.split(k), score.split(k), strict=True)):
        wanted = scores[0, 0, all_y, all_x][tiles == tile].sort(descending=True).values[:k]
        assert found[found > 0].tolist() == wanted.tolist()
        assert scores[0, 0, ys, xs][found > 0].tolist() == wanted.tolist()


def test_a_large_frame_loses_none_of_what_small_ones_hold():
    shape = (2 * TILE_PX, 2 * TILE_PX)
    scores = map_of_peaks(shape, 200)
    assert (best(scores, 100)[2] > 0).sum() == 200
    assert (best(scores[..., :TILE_PX, :], 60)[2] > 0).sum() <= 120


def test_the_best_of_both_tables_tile_by_tile():
    first, second = torch.zeros(2, 4, 5), torch.zeros(2, 4, 5)
    first[..., 2] = torch.tensor([[0.9, 0.5, 0.4, 0.0], [0.3, 0.2, 0.1, 0.0]])
    second[..., 2] = torch.tensor([[0.8, 0.6, 0.0, 0.0], [0.25, 0.0, 0.0, 0.0]])
    rows = best_of_both(first.reshape(8, 5), second.reshape(8, 5), 4)
    expected = torch.tensor([0.9, 0.8, 0.6, 0.5, 0.3, 0.25, 0.2, 0.1])
    assert torch.equal(rows[:, 2], expected)
