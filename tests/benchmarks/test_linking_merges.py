import numpy as np

from benchmarks.linking.merges import Met, Movie, movie_of, right, row_of


def test_particles_that_stick_merge_and_others_pass():
    stick, passing = (movie_of(3, 30, 1.5, sticks=sticks) for sticks in (True, False))
    assert stick.merges
    assert not stick.passes
    assert set(stick.lasting) <= set(stick.merges)
    assert passing.passes
    assert not passing.merges
    assert stick.frames.shape == (30, 192, 192)


def test_each_merge_counts_once_and_short_ones_are_not_wrong():
    true = [Met(20, 50.0, 50.0), Met(40, 100.0, 100.0)]
    found = [Met(18, 51.0, 50.0), Met(19, 50.0, 51.0), Met(60, 100.0, 100.0), Met(30, 150.0, 20.0)]
    assert right(true, found) == 1
    movie = Movie(np.empty(0, np.uint16), true[:1], [*true, Met(30, 150.0, 20.0)], 0)
    row = row_of("", [movie], [found])
    assert [row[name] for name in ("lasting", "found", "said", "right")] == [1, 1, 4, 2]
    assert (row["recall"], row["precision"]) == (1.0, 0.5)
