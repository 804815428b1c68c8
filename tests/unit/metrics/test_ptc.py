from itertools import permutations
from math import isnan, nan, sqrt

import numpy as np
import pandas as pd
import pytest

from streamtrack.errors import ConfigError
from streamtrack.metrics.ptc import PtcScore, fill_gaps, score_ptc

GATE_PX = 5.0


def tracks(*rows):
    return pd.DataFrame(rows, columns=["frame", "particle", "y", "x"]).astype({"frame": int, "particle": int})


def line(particle, frames, y=0.0):
    return tracks(*[(t, particle, y, 2.0 * t) for t in frames])


def as_places(table):
    """Return, for each particle, where it is in which frame."""
    return [
        {row.frame: (row.y, row.x) for row in rows.itertuples()} for _, rows in table.groupby("particle", sort=False)
    ]


def distance(one, other):
    """Distance of two tracks in the challenge's sense, frame by frame; a dummy is {}."""
    shared = one.keys() & other.keys()
    near = sum(min(GATE_PX, np.hypot(*np.subtract(one[t], other[t]))) for t in shared)
    return near + GATE_PX * len(one.keys() ^ other.keys())


def enumerated_score(truth, found):
    """Try all ways to pair true tracks with found ones or dummies; among equals, take the one with most dummies."""
    truth, found = as_places(truth), as_places(found)
    others = found + [{} for _ in truth]
    cost = [[distance(one, other) for other in others] for one in truth]
    pairings = permutations(range(len(others)), len(truth))
    d, n_paired, best = min(
        (sum(row[k] for row, k in zip(cost, chosen, strict=True)), sum(k < len(found) for k in chosen), chosen)
        for chosen in pairings
    )
    d0 = sum(row[-1] for row in cost)
    s = sum(distance(found[k], {}) for k in range(len(found)) if k not in best)
    near = [
        np.hypot(*np.subtract(one[t], others[k][t]))
        for one, k in zip(truth, best, strict=True)
        for t in one.keys() & others[k].keys()
    ]
    near = [each for each in near if each < GATE_PX]
    return PtcScore(
        alpha=1 - d / d0,
        beta=(d0 - d) / (d0 + s),
        jsc=len(near) / (sum(map(len, truth)) + sum(map(len, found)) - len(near)),
        jsc_theta=n_paired / (len(truth) + len(found) - n_paired),
        rmse_px=sqrt(np.mean(np.square(near))) if near else nan,
    )


def random_tracks(rng, n_tracks):
    """Tracks of up to 8 frames, close together, most of them with gaps."""
    parts = [tracks()]
    for particle in rng.permutation(n_tracks):
        frames = np.sort(rng.choice(8, rng.integers(1, 9), replace=False))
        yx = rng.uniform(0, 8, 2) + rng.normal(0, 1.5, (len(frames), 2))
        parts.append(pd.DataFrame({"frame": frames, "particle": particle, "y": yx[:, 0], "x": yx[:, 1]}))
    return pd.concat(parts).sample(frac=1, random_state=int(rng.integers(1000)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_true", range(1, 5))
@pytest.mark.parametrize("n_found", range(4))
def test_same_as_trying_all_pairings(n_true, n_found, seed):
    rng = np.random.default_rng((n_true, n_found, seed))
    truth, found = random_tracks(rng, n_true), random_tracks(rng, n_found)
    score, expected = score_ptc(truth, found), enumerated_score(truth, found)
    assert score.as_dict() == pytest.approx(expected.as_dict(), nan_ok=True)


def test_perfect_tracks_under_other_names():
    truth = pd.concat([line(0, range(5)), line(1, range(3, 9), y=20.0)])
    assert score_ptc(truth, truth.assign(particle=7 - truth.particle)) == PtcScore(1, 1, 1, 1, 0)


def test_a_shifted_track():
    truth = line(0, range(10))
    score = score_ptc(truth, truth.assign(y=1.0))
    assert score == PtcScore(alpha=0.8, beta=0.8, jsc=1.0, jsc_theta=1.0, rmse_px=1.0)


def test_a_spurious_track_lowers_all_but_alpha():
    truth = line(0, range(10))
    score = score_ptc(truth, pd.concat([truth, line(5, range(10), y=100.0)]))
    assert score == PtcScore(alpha=1.0, beta=0.5, jsc=0.5, jsc_theta=0.5, rmse_px=0.0)


def test_a_track_broken_in_two_counts_by_its_longer_half():
    truth = line(0, range(10))
    score = score_ptc(truth, truth.assign(particle=[0] * 6 + [1] * 4))
    assert score == PtcScore(alpha=0.6, beta=30 / 70, jsc=6 / 14, jsc_theta=0.5, rmse_px=0.0)


def test_a_found_track_goes_to_one_true_track_only():
    truth = pd.concat([line(0, range(6)), line(1, range(6, 10))])
    score = score_ptc(truth, truth.assign(particle=3))
    assert score == PtcScore(alpha=0.2, beta=0.2, jsc=6 / 14, jsc_theta=0.5, rmse_px=0.0)


def test_frames_skipped_are_lost_until_they_are_filled():
    truth = line(0, range(10))
    holed = truth[~truth.frame.isin([3, 4, 7])]
    assert score_ptc(truth, holed) == PtcScore(0.7, 0.7, 0.7, 1.0, 0.0)
    assert score_ptc(truth, fill_gaps(holed)) == PtcScore(1, 1, 1, 1, 0)


def test_pairs_that_gain_nothing_tie_with_the_dummy_and_do_not_count():
    truth = line(0, range(3))
    as_long_beside_as_on_it = line(0, range(6))
    assert score_ptc(truth, as_long_beside_as_on_it) == PtcScore(0, 0, 0, 0, pytest.approx(nan, nan_ok=True))
    just_at_the_gate = truth.assign(y=GATE_PX)
    assert score_ptc(truth, just_at_the_gate).jsc_theta == 0
    assert score_ptc(truth, truth.assign(y=GATE_PX - 0.01)).jsc_theta == 1


def test_positions_at_the_gate_or_beyond_are_no_true_positives():
    truth = line(0, range(4))
    score = score_ptc(truth, truth.assign(y=[0.0, 3.0, 5.0, 70.0]))
    assert (score.alpha, score.jsc, score.jsc_theta) == (pytest.approx(7 / 20), 2 / 6, 1)
    assert score.rmse_px == pytest.approx(sqrt(9 / 2))


def test_frames_far_away_and_below_zero():
    truth = pd.concat([line(0, range(-3, 4)), line(1, range(10**9, 10**9 + 5), y=3.0)])
    assert score_ptc(truth, truth.assign(y=truth.y + 1)) == PtcScore(*[pytest.approx(v) for v in (0.8, 0.8, 1, 1, 1)])


def test_nothing_against_something():
    some, none = line(0, range(3)), tracks()
    nothing_found = score_ptc(some, none)
    assert (nothing_found.alpha, nothing_found.beta, nothing_found.jsc, nothing_found.jsc_theta) == (0, 0, 0, 0)
    assert isnan(nothing_found.rmse_px)
    nothing_there = score_ptc(none, some)
    assert (nothing_there.beta, nothing_there.jsc, nothing_there.jsc_theta) == (0, 0, 0)
    assert isnan(nothing_there.alpha)
    assert set(score_ptc(none, none).as_dict().values()) == {None}


@pytest.mark.parametrize("gate_px", [0.0, -1.0, np.nan, np.inf])
def test_a_gate_that_is_no_distance_is_refused(gate_px):
    with pytest.raises(ConfigError, match="gate_px is"):
        score_ptc(tracks(), tracks(), gate_px=gate_px)


def test_bad_tables_are_refused():
    good = line(0, range(3))
    with pytest.raises(ConfigError, match=r"ground truth lacks the column\(s\) particle"):
        score_ptc(good.drop(columns="particle"), good)
    with pytest.raises(ConfigError, match="tracks has particle 0 twice in frame 1"):
        score_ptc(good, pd.concat([good, line(0, [1])]))
    with pytest.raises(ConfigError, match="NaN"):
        fill_gaps(good.assign(y=np.nan))


def test_gaps_are_filled_in_a_straight_line():
    holed = tracks((7, 2, 1.0, 1.0), (4, 2, 4.0, -2.0), (0, 9, 5.0, 5.0), (5, 9, 0.0, 5.0), (6, 9, 1.0, 1.0))
    filled = fill_gaps(holed)
    expected = [(4, 2, 4, -2), (5, 2, 3, -1), (6, 2, 2, 0), (7, 2, 1, 1)]
    expected += [(t, 9, 5 - t, 5) for t in range(6)] + [(6, 9, 1, 1)]
    np.testing.assert_allclose(filled[["frame", "particle", "y", "x"]].to_numpy(), expected)
    assert filled[["frame", "particle"]].dtypes.tolist() == [np.int64, np.int64]


def test_gaps_that_no_memory_holds_are_refused():
    tracks = pd.DataFrame({"frame": [0, 2**61], "particle": 0, "y": 1.0, "x": 1.0})
    with pytest.raises(ConfigError, match=r"would be 2\.31e\+18, as particle 0 skips from frame 0 to 2305"):
        fill_gaps(tracks)


def test_tracks_without_gaps_stay_as_they_are():
    whole = line(0, range(4))
    pd.testing.assert_frame_equal(fill_gaps(whole), whole)
    assert len(fill_gaps(tracks())) == 0
