import tracemalloc
from itertools import combinations, permutations
from math import isnan, sqrt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrack.errors import ConfigError
from streamtrack.metrics.detection import match, score_detections, score_links

# A coarse grid makes duplicates, ties and distances exactly at the gate common.
POINTS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=5)
GATES = st.sampled_from([1.0, 2.0, 5.0, 20.0])


def brute_force_cost(truth, found, gate_px):
    """Smallest sum of distances plus the gate for every truth left alone, over all one-to-one pairings."""
    best = len(truth) * gate_px
    for n in range(1, min(len(truth), len(found)) + 1):
        for rows in combinations(range(len(truth)), n):
            for columns in permutations(range(len(found)), n):
                d = [np.hypot(*np.subtract(truth[i], found[j])) for i, j in zip(rows, columns, strict=True)]
                if max(d) < gate_px:
                    best = min(best, sum(d) + (len(truth) - n) * gate_px)
    return best


@settings(deadline=None)
@given(truth=POINTS, found=POINTS, gate_px=GATES)
def test_matching_is_the_cheapest_of_all(truth, found, gate_px):
    i, _, distance = match(truth, found, gate_px)
    cost = distance.sum() + (len(truth) - len(i)) * gate_px
    assert cost == pytest.approx(brute_force_cost(truth, found, gate_px))


@settings(deadline=None)
@given(truth=POINTS, found=POINTS, gate_px=GATES)
def test_matching_is_one_to_one_within_the_gate(truth, found, gate_px):
    i, j, distance = match(truth, found, gate_px)
    assert len(set(i.tolist())) == len(set(j.tolist())) == len(i)
    assert (distance < gate_px).all()
    expected = [np.hypot(*np.subtract(truth[a], found[b])) for a, b in zip(i, j, strict=True)]
    np.testing.assert_allclose(distance, expected)
    assert (np.diff(i) > 0).all()


def test_a_pair_exactly_at_the_gate_is_no_pair():
    assert len(match([[0, 0]], [[3, 4]], 5.0)[0]) == 0
    assert len(match([[0, 0]], [[3, 4]], 5.0001)[0]) == 1


def test_a_close_pair_is_not_broken_to_make_two_far_ones():
    truth, found = [[0.0, 0.0], [0.0, 4.9]], [[0.0, 4.9], [0.0, 9.7]]
    i, j, distance = match(truth, found, 5.0)
    assert (i.tolist(), j.tolist(), distance.tolist()) == ([1], [0], [0.0])


def test_duplicates_are_used_once_each():
    i, j, _ = match([[1, 1], [1, 1]], [[1, 1], [1, 1], [1, 1]], 2.0)
    assert i.tolist() == [0, 1]
    assert len(set(j.tolist())) == 2


@pytest.mark.parametrize("gate_px", [0.0, -1.0, np.nan, np.inf])
def test_a_gate_that_is_no_distance_is_refused(gate_px):
    with pytest.raises(ConfigError, match="gate_px is"):
        match([[0, 0]], [[0, 0]], gate_px)


@pytest.mark.parametrize("bad", [[[0, np.nan]], [[np.inf, 0]], [[1, 2, 3]], [1, 2]])
def test_positions_must_be_finite_pairs(bad):
    with pytest.raises(ConfigError, match="position"):
        match(bad, [[0, 0]], 5.0)


def test_no_dense_cost_matrix_is_made():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 1200, (5000, 2))
    tracemalloc.start()
    pairs = match(truth, truth + rng.normal(0, 0.5, truth.shape), 5.0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs[0]) > 4990
    assert peak_bytes < 20e6  # all pairs would take 200 MB


def positions(*rows):
    return pd.DataFrame(rows, columns=["frame", "y", "x"])


def test_score_counts_all_frames_together():
    truth = positions((0, 10, 10), (0, 20, 20), (1, 10, 10), (2, 30, 30))
    found = positions((0, 11, 10), (0, 20, 23), (1, 40, 40), (3, 5, 5))
    at_5, at_2 = score_detections(truth, found)
    assert (at_5.gate_px, at_5.tp, at_5.fp, at_5.fn) == (5.0, 2, 2, 2)
    assert (at_5.precision, at_5.recall, at_5.f1) == (0.5, 0.5, 0.5)
    assert at_5.rmse_px == pytest.approx(sqrt((1 + 9) / 2))
    assert (at_2.tp, at_2.fp, at_2.fn, at_2.rmse_px) == (1, 3, 3, pytest.approx(1.0))


def test_frames_limits_what_is_scored():
    truth = positions((0, 10, 10), (1, 10, 10))
    found = positions((1, 10, 10), (7, 1, 1))
    (score,) = score_detections(truth, found, gates_px=[5], frames=range(1, 3))
    assert (score.tp, score.fp, score.fn) == (1, 0, 0)


def test_row_order_does_not_matter():
    rng = np.random.default_rng(1)
    truth = pd.DataFrame({"frame": rng.integers(0, 9, 300), "y": rng.uniform(0, 60, 300), "x": rng.uniform(0, 60, 300)})
    found = truth.assign(y=truth.y + rng.normal(0, 1, 300)).drop(index=range(40))
    shuffled = found.sample(frac=1, random_state=2)
    a, b = score_detections(truth, found, [5.0])[0], score_detections(truth, shuffled, [5.0])[0]
    assert (a.tp, a.fp, a.fn, a.rmse_px) == (b.tp, b.fp, b.fn, pytest.approx(b.rmse_px))


def test_without_truth_or_without_detections():
    one, none = positions((0, 1, 1)), positions()
    missed = score_detections(one, none, [5.0])[0]
    assert (missed.tp, missed.fp, missed.fn, missed.recall, missed.f1) == (0, 0, 1, 0, 0)
    assert isnan(missed.precision)
    assert isnan(missed.rmse_px)
    false = score_detections(none, one, [5.0])[0]
    assert (false.tp, false.fp, false.fn, false.precision, false.f1) == (0, 1, 0, 0, 0)
    assert isnan(score_detections(none, none, [5.0])[0].f1)


def test_scores_go_into_json_without_nan():
    (score,) = score_detections(positions((0, 1, 1), (0, 9, 9)), positions((0, 1, 2)), [5.0])
    assert score.as_dict() == {
        **{"gate_px": 5.0, "tp": 1, "fp": 0, "fn": 1, "rmse_px": 1.0},
        **{"precision": 1.0, "recall": 0.5, "f1": 2 / 3},
    }
    empty = score_links(tracks(), tracks()).as_dict()
    assert (empty["precision"], empty["recall"], empty["f1"]) == (None, None, None)


def test_missing_columns_are_named():
    with pytest.raises(ConfigError, match=r"ground truth lacks the column\(s\) frame, x; it has y, t"):
        score_detections(pd.DataFrame({"y": [1.0], "t": [0]}), positions())
    with pytest.raises(ConfigError, match=r"tracks lacks the column\(s\) particle"):
        score_links(positions().assign(particle=[]), positions())


def tracks(*rows):
    return pd.DataFrame(rows, columns=["frame", "particle", "y", "x"])


TWO_LINES = tracks(*[(t, p, 20.0 * p, 2.0 * t) for t in range(5) for p in range(2)])


def test_perfect_links_under_other_names():
    renamed = TWO_LINES.assign(particle=TWO_LINES.particle + 70, y=TWO_LINES.y + 1)
    score = score_links(TWO_LINES, renamed)
    assert (score.tp, score.fp, score.fn, score.precision, score.recall) == (8, 0, 0, 1, 1)


def test_a_swap_costs_the_links_across_it():
    swapped = TWO_LINES.copy()
    late = swapped.frame >= 3
    swapped.loc[late, "particle"] = 1 - swapped.particle[late]
    score = score_links(TWO_LINES, swapped)
    assert (score.tp, score.fp, score.fn) == (6, 2, 2)


def test_a_broken_track_loses_one_link_and_adds_none():
    broken = TWO_LINES.copy()
    broken.loc[(broken.particle == 0) & (broken.frame >= 3), "particle"] = 9
    score = score_links(TWO_LINES, broken)
    assert (score.tp, score.fp, score.fn) == (7, 0, 1)


def test_a_missed_point_loses_the_links_on_both_sides():
    holed = TWO_LINES[~((TWO_LINES.particle == 1) & (TWO_LINES.frame == 2))]
    score = score_links(TWO_LINES, holed)
    assert (score.tp, score.fp, score.fn) == (6, 0, 2)


def test_links_of_false_tracks_are_false():
    ghost = tracks(*[(t, 5, 100.0, 100.0) for t in range(3)])
    score = score_links(TWO_LINES, pd.concat([TWO_LINES, ghost]))
    assert (score.tp, score.fp, score.fn) == (8, 2, 0)


def test_links_of_empty_tables():
    score = score_links(TWO_LINES, tracks())
    assert (score.tp, score.fp, score.fn, score.recall) == (0, 0, 8, 0)
    assert isnan(score.precision)


def test_a_particle_twice_in_a_frame_is_refused():
    with pytest.raises(ConfigError, match="tracks has particle 3 twice in frame 1; keep one row each"):
        score_links(TWO_LINES, tracks((1, 3, 0.0, 0.0), (1, 3, 9.0, 9.0)))


def count_links_slowly(truth, found, gate_px):
    """Follow every true link through the per-frame pairings, one by one."""
    partner = {}
    for frame in set(truth.frame):
        a, b = truth[truth.frame == frame], found[found.frame == frame]
        i, j, _ = match(a[["y", "x"]], b[["y", "x"]], gate_px)
        partner |= {(frame, a.particle.iloc[m]): b.particle.iloc[n] for m, n in zip(i, j, strict=True)}
    return sum((t + 1, p) in partner and partner[t + 1, p] == q for (t, p), q in partner.items())


@settings(deadline=None)
@given(st.data())
def test_links_equal_a_slow_count(data):
    cell = st.tuples(st.integers(0, 3), st.integers(0, 2))
    draw = st.dictionaries(cell, st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=9)
    truth, found = (tracks(*[(*key, *yx) for key, yx in data.draw(draw).items()]) for _ in range(2))
    assert score_links(truth, found, 3.0).tp == count_links_slowly(truth, found, 3.0)
