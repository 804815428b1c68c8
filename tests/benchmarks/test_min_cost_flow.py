from itertools import pairwise
from math import log, pi

import numpy as np
import pandas as pd
import pytest

from benchmarks.linking import min_cost_flow
from benchmarks.linking.min_cost_flow import link_offline

pytest.importorskip("ortools", reason="the most probable tracks need ortools")

AREA_PX = 400.0
STEP_PX = 2.0


def table(*rows, **columns):
    return pd.DataFrame(rows, columns=["frame", "y", "x"]).astype({"frame": int}).assign(**columns)


def link(rows, **settings):
    settings = {"score": 0.95, "sigma": 0.3, "area_px": AREA_PX} | settings
    return link_offline(rows["frame"], rows["y"], rows["x"], **settings).particle.tolist()


@pytest.fixture
def two_pixel_steps(monkeypatch):
    """Link once, for the step that the estimation begins with."""
    monkeypatch.setattr(min_cost_flow, "MOST_ROUNDS", 1)


def log_likelihood_ratio(detections, particle):
    """The equation of the module's first lines, one track after the other; detections are in order of their frames."""
    first, last = detections[0].frame, detections[-1].frame
    density = sum(each.score for each in detections) / ((last - first + 1) * AREA_PX)
    following = [0.98**g * 0.05 ** (g - 1) * 0.95 for g in (1, 2, 3, 4)]
    total = 0.0
    for name in set(particle) - {-1}:
        track = [each for each, its in zip(detections, particle, strict=True) if its == name]
        total += log(1 - sum(following[: track[0].frame - first]))
        total += log(1 - sum(following[: last - track[-1].frame]))
        total += sum(log(each.score / (1 - each.score)) for each in track)
        for one, other in pairwise(track):
            steps = other.frame - one.frame
            var = steps * STEP_PX**2 + one.sigma**2 + other.sigma**2
            squared = (one.y - other.y) ** 2 + (one.x - other.x) ** 2
            total += log(following[steps - 1] / (2 * pi * var) / density) - squared / (2 * var)
    return total


def all_tracks(frames, particle=()):
    """Yield every way to call detections, in order of their frames, false, new, or the next of a track."""
    k = len(particle)
    if k == len(frames):
        yield list(particle)
        return
    last = {track: frame for frame, track in zip(frames, particle, strict=False)}
    choices = [track for track, frame in last.items() if track >= 0 and 1 <= frames[k] - frame <= 4]
    for choice in (-1, max(particle, default=-1) + 1, *choices):
        yield from all_tracks(frames, (*particle, choice))


@pytest.mark.usefixtures("two_pixel_steps")
@pytest.mark.parametrize("seed", range(100))
def test_no_other_tracks_are_more_probable(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 7)
    yx = 10 + rng.normal(0, 2.5, (n, 2))
    rows = table(*zip(np.sort(rng.integers(0, 7, n)), *yx.T, strict=True))
    rows = rows.assign(score=rng.uniform(0.3, 0.95, n), sigma=rng.uniform(0.1, 1.0, n))
    found = link(rows, score=rows.score, sigma=rows.sigma)
    detections = list(rows.itertuples())
    best = max(log_likelihood_ratio(detections, each) for each in all_tracks(rows.frame.tolist()))
    assert log_likelihood_ratio(detections, found) == pytest.approx(best, abs=0.01)


def line(frames, y):
    return [(t, y, 5.0) for t in frames]


def test_up_to_three_missed_frames_are_bridged():
    rows = table(*line([*range(6), *range(9, 15)], 3.0), *line([*range(6), *range(10, 15)], 17.0))
    assert link(rows) == [0] * 12 + [1] * 6 + [2] * 5


def test_a_lone_detection_is_false_unless_it_may_have_been_there_before():
    around = line(range(20), 3.0)
    assert link(table(*around, (10, 17.0, 5.0)))[-1] == -1
    assert link(table(*around, (10, 17.0, 5.0), (11, 17.5, 5.0), (12, 17.0, 5.0)))[-3:] == [1, 1, 1]
    assert link(table(*around, (0, 17.0, 5.0)))[-1] == -1


@pytest.mark.usefixtures("two_pixel_steps")
def test_scores_decide_what_is_false():
    rows = table(*line(range(20), 3.0), *line(range(8, 12), 17.0))
    score = np.repeat([0.95, 0.95], [20, 4])
    assert link(rows, score=score)[20:] == [1] * 4
    score[20:] = 0.2
    assert link(rows, score=score)[20:] == [-1] * 4


def test_tracks_are_numbered_as_they_begin_whatever_the_order_of_rows():
    rows = table(*line(range(3, 12), 17.0), *line(range(12), 3.0))
    assert link(rows) == [1] * 9 + [0] * 12
    assert link(rows[::-1]) == [0] * 12 + [1] * 9


@pytest.mark.parametrize("step_px", [0.5, 2.0, 6.0])
def test_the_step_is_found(step_px):
    """Of 60 particles that are found in 95 of 100 frames, with the error that the settings say."""
    rng = np.random.default_rng(1)
    place = rng.uniform(0, 512, (60, 2)) + np.cumsum(rng.normal(0, step_px, (50, 60, 2)), axis=0)
    seen = place + rng.normal(0, 0.3, place.shape)
    frame, particle = np.nonzero((rng.random(seen.shape[:2]) < 0.95) & ((seen >= 0) & (seen < 512)).all(2))
    y, x = seen[frame, particle].T
    found = link_offline(frame, y, x, score=0.95, sigma=0.3, area_px=512.0**2)
    assert found.step_px == pytest.approx(step_px, rel=0.08)
