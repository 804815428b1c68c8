from pathlib import Path

import numpy as np
import pytest
import zarr

from benchmarks.offline.memory import SIDE_PX, TOGETHER, growth_of, long_movie

scaling = pytest.importorskip("benchmarks.offline.scaling", reason="needs the extra 'offline'")


def test_memory_is_counted_from_the_first_thousand_frames():
    seen = [(0, 90e6, 0), (900, 700e6, 0), (1000, 200e6, 0), (1500, 230e6, 0), (2000, 210e6, 0), (2000, 290e6, 0)]
    assert growth_of(seen, 2000) == {"own": 30.0, "own, making tables": 90.0}
    assert growth_of([(1000, 1e6, 5e6), (1001, 2e6, 4e6)], 9999)["workers"] == 0.0


def test_the_long_movie_is_one_chunk_under_many_names(tmp_path: Path):
    movie = zarr.open_array(long_movie(tmp_path / "a.zarr", 3 * TOGETHER + 5), mode="r")
    assert movie.shape == (3 * TOGETHER + 5, SIDE_PX, SIDE_PX)
    assert np.array_equal(movie[3], movie[3 * TOGETHER + 3])


def test_gains_are_those_of_pairs():
    bare = {"1": [4.0, 6.0, 8.0], "2": [2.0, 3.0, 8.0]}
    seconds = {"bare": bare, "movies": {"1": [4.0, 9.0, 9.0], "2": [4.0, 6.0, 9.0]}}
    gains = scaling._gains(seconds)
    assert gains["bare"] == {"times_quicker": 2.0, "of_bare": 1.0}
    assert gains["movies"] == {"times_quicker": 1.0, "of_bare": 0.75}
