from math import isnan

import numpy as np
import pytest

from streamtrack.errors import ConfigError
from streamtrack.metrics.kdtree import match_kdtree

FIGURE_4_FOUND = [(2, 2), (10, 10), (20, 10), (30, 2), (20, 30), (10, 30), (30, 30), (2, 30), (30, 20)]
FIGURE_4_TRUTH = [(9, 9), (11, 11), (20, 11), (20, 29), (10, 31), (31, 30), (30, 21)]


def test_the_papers_figure_4() -> None:
    """Nine detections and seven spots; two spots take the same detection, three detections are taken by none."""
    matched = match_kdtree(FIGURE_4_TRUTH, FIGURE_4_FOUND, 3)
    assert matched.nearest.tolist() == [1, 1, 2, 4, 5, 6, 8]
    assert sorted(set(range(9)) - set(matched.taken.tolist())) == [0, 3, 7]
    assert matched.ambiguous == 1
    assert (matched.precision, matched.recall) == (6 / 9, 1.0)
    assert matched.f1 == pytest.approx(0.8)


def test_the_radius_itself_is_near_and_nothing_beyond() -> None:
    assert match_kdtree([(0, 0), (10, 0)], [(0, 3), (10, 3.01)], 3).nearest.tolist() == [0, -1]


def test_a_detection_that_three_spots_take_is_one_ambiguous_match() -> None:
    assert match_kdtree([(0, 0), (0, 1), (1, 0)], [(0, 0)], 3).ambiguous == 1


def test_nothing_at_all_has_no_ratio() -> None:
    for truth, found in (([], []), ([], [(1, 1)]), ([(1, 1)], [])):
        matched = match_kdtree(truth, found, 3)
        assert isnan(matched.f1)
        assert matched.ambiguous == 0
    assert match_kdtree([(9, 9)], [(1, 1)], 3).f1 == 0


@pytest.mark.parametrize(("found", "radius"), [([(0, np.nan)], 3), ([0, 1, 2], 3), ([(0, 0)], 0)])
def test_mistakes_are_said(found: list[object], radius: float) -> None:
    with pytest.raises(ConfigError):
        match_kdtree([(0, 0)], found, radius)
