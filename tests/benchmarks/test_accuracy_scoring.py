import numpy as np
import pandas as pd
import pytest

from benchmarks.detection import scoring
from benchmarks.detection.detectors import Candidates
from benchmarks.detection.scoring import (
    best_threshold,
    count_false,
    score_cell,
    score_frames,
    score_pairs,
    score_phases,
)
from streamtrack.metrics.detection import score_detections
from streamtrack.simulation import Movie, MovieSettings
from streamtrack_engines.engine import DenodetEngine

SMALL = MovieSettings("vesicle", snr=7, density=300, frames=22, height_px=128, width_px=160, seed=77)


def clouds(rng, n_frames):
    """Return truth and candidates of which the true ones tend to be stronger."""
    truth, candidates = [], []
    for _ in range(n_frames):
        true = rng.uniform(0, 300, (40, 2))
        yx = np.concatenate([true + rng.normal(0, 0.5, true.shape), rng.uniform(0, 300, (60, 2))])
        candidates.append(Candidates.strongest(yx, np.concatenate([rng.normal(2, 1, 40), rng.normal(0, 1, 60)])))
        truth.append(true)
    return truth, candidates


def test_best_threshold_is_that_of_a_full_search():
    truth, candidates = clouds(np.random.default_rng(2), 4)

    def f1(threshold):
        return score_frames(truth, [each.above(threshold) for each in candidates], 5.0).f1

    best = max(f1(threshold) for threshold in np.concatenate([each.strength for each in candidates]))
    assert f1(best_threshold(truth, candidates, 5.0)) > best - 0.01


def test_best_threshold_of_nothing_is_defined():
    nothing = Candidates(np.empty((0, 2)), np.empty(0))
    assert best_threshold([np.zeros((1, 2))], [nothing], 5.0) == 0.0


def test_frames_are_scored_as_by_the_metrics_of_the_package():
    truth, candidates = clouds(np.random.default_rng(4), 3)
    found = [each.above(0.5) for each in candidates]
    tables = [
        pd.concat([pd.DataFrame({"frame": k, "y": yx[:, 0], "x": yx[:, 1]}) for k, yx in enumerate(frames)])
        for frames in (truth, found)
    ]
    assert score_frames(truth, found, 5.0) == score_detections(*tables, gates_px=[5.0])[0]


@pytest.mark.parametrize("method", ["denodet", "denodet_first_frame", "matched_filter", "dog", "wavelet", "trackpy"])
def test_every_method_masters_an_easy_cell(method):
    row = score_cell(method, SMALL)
    assert row["frames"] == 2
    assert row["f1_5px"] > 0.9
    assert row["rmse_px"] < 0.35


def test_score_bins_count_what_is_above_the_least_score():
    count, total, right = np.array(score_cell("denodet", SMALL)["score_bins"])
    assert right.sum() <= count.sum()
    assert right[-1] > 0
    filled = count > 0
    mean = total[filled] / count[filled]
    assert np.all((scoring.SCORE_BINS[:-1][filled] <= mean + 1e-6) & (mean <= scoring.SCORE_BINS[1:][filled] + 1e-6))


class RecordingEngine(DenodetEngine):
    """The real engine, which also notes what it is shown."""

    def __init__(self):
        super().__init__(threads=1)
        self.seen = []

    def reset(self):
        super().reset()
        self.seen.append("reset")

    def detect(self, pixels, *, denoise):
        self.seen.append(pixels.sum())
        return super().detect(pixels, denoise=denoise)


@pytest.mark.parametrize(("method", "shown"), [("denodet", (10, 11, 12)), ("denodet_first_frame", (12,))])
def test_the_engine_sees_the_frames_before_and_no_others(monkeypatch, method, shown):
    movie, engine = Movie(SMALL), RecordingEngine()
    engine.prepare((SMALL.height_px, SMALL.width_px), "uint8")
    monkeypatch.setattr(scoring, "_engine", lambda ours, shape, dtype: engine)
    engine.seen.clear()
    scoring._finder(method, movie)(12)
    assert engine.seen == ["reset", *(movie.noisy(index).sum() for index in shown)]


def test_locked_positions_show_as_error_by_phase():
    rng = np.random.default_rng(6)
    spots = rng.uniform(0, 100, (40_000, 2))
    noise = rng.normal(0, 0.1, spots.shape)
    locked, free = (scoring._by_phase(spots, noise + bias) for bias in (-0.1 * np.sin(2 * np.pi * spots), 0))
    assert locked["rms_px"] == pytest.approx(0.1 / np.sqrt(2), rel=0.05)
    assert locked["largest_px"] == pytest.approx(0.1, abs=0.02)
    assert free["rms_px"] < 0.003
    assert free["largest_px"] < 5 * free["largest_se_px"]


def test_phases_of_a_short_movie():
    row = score_phases("dog", SMALL)
    assert row["spots"] > 300
    assert row["phases"] > 80
    assert row["rms_px"] < 0.15


def test_count_false_finds_nothing_in_the_background_of_the_challenge():
    assert count_false("uniform 16 e, consecutive", 2, seed=1)["detections_per_frame"] < 1


def test_deepspot_pairs_are_scored_per_set_and_together(shared_data):
    rows = {row["set"]: row for row in score_pairs("dog", shared_data / "deepspot_test")}
    assert {name: row["pairs"] for name, row in rows.items()} == {"dataset1": 50, "dataset2": 50, "pooled": 100}
    assert rows["dataset1"]["f1_3px"] > 0.95
    assert rows["dataset2"]["f1_3px"] > 0.98
    assert rows["pooled"]["f1_3px"] <= max(row["f1_3px"] for row in rows.values())
