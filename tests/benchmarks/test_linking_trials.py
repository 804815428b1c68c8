import gc
import time

import numpy as np
import pytest

from benchmarks.linking.checks import FIRST_STEPS_PX, endure, first_call, unknown_step
from benchmarks.linking.linkers import Ranges
from benchmarks.linking.trials import SKIPPED_FRAMES, Trial, live_ids, run_trial, score, settled_ids, timed, track_table
from benchmarks.shared.particles import ParticleSettings, Simulated, simulate
from streamtrack.linking.imm import ImmLinker
from streamtrack.types import Detections

SMALL = ParticleSettings("switching", 100, 20, seed=9)


def test_timed_tells_waiting_from_working():
    def steps():
        time.sleep(0.02)
        yield "waited"
        begin = time.thread_time()
        while time.thread_time() - begin < 0.02:
            pass
        assert not gc.isenabled()
        yield "worked"

    outputs, (wall, cpu) = timed(steps())
    assert outputs == ["waited", "worked"]
    assert wall[0] >= 19
    assert cpu[0] < 10
    assert cpu[1] >= 19
    assert gc.isenabled()


def test_the_collector_is_back_after_an_error():
    def steps():
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        timed(steps())
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_trial_of_ours_scores_what_was_said_at_once_and_in_the_end():
    row = run_trial(Trial("imm_lag2", SMALL, None))
    assert np.shape(row["ms"]) == (2, SMALL.frames - SKIPPED_FRAMES)
    assert row["settled"].keys() == {"alpha", "beta", "jsc", "jsc_theta", "rmse_px"}
    assert 0.75 < row["live"]["alpha"] <= row["settled"]["alpha"] + 0.01


def test_a_movie_that_is_there_is_linked_as_the_one_that_is_simulated():
    ranges = Ranges(8.0, 1)
    rows = [run_trial(Trial("trackpy", source, ranges)) for source in (SMALL, simulate(SMALL))]
    assert rows[0]["settled"] == rows[1]["settled"]


def test_a_crowd_that_trackpy_refuses_is_a_failure():
    row = run_trial(Trial("trackpy", ParticleSettings("brownian", 2000, 3, seed=1), Ranges(15.0, 0)))
    assert row["failed"].startswith("SubnetOversizeException: search_range")


def test_settled_tracks_are_those_of_the_revisions():
    movie = simulate(ParticleSettings("switching", 500, 25, seed=2))
    linker = ImmLinker(lag=2)
    linker.prepare((512, 512))
    updates = [linker.update(detections, k, float(k)) for k, detections in enumerate(movie.detections)]
    live, settled = live_ids(updates), settled_ids(updates)
    changed = {(f, d) for f in range(25) for d in np.flatnonzero(live[f] != settled[f]).tolist()}
    revised = {(f, d) for u in updates for f, d in zip(u.revised.frame_index, u.revised.detection, strict=True)}
    assert changed
    assert changed <= revised
    last = updates[-1].revised
    assert [settled[f][d] for f, d in zip(last.frame_index, last.detection, strict=True)] == last.particle.tolist()


def owned(n_frames=6):
    """Return a movie of two particles and a false detection, and whose the detections are."""
    truth = simulate(ParticleSettings("brownian", 2, n_frames, seed=1)).truth
    frames, ids = [], []
    for _, rows in truth.groupby("frame"):
        y, x = (np.append(rows[axis], 300.0).astype(np.float32) for axis in "yx")
        frames.append(Detections(y, x, *3 * [np.ones(3, np.float32)]))
        ids.append(np.append(rows["particle"], -1))
    return Simulated(frames, truth), ids


def test_the_true_tracks_score_1():
    perfect = score(*owned())
    assert perfect["alpha"] == pytest.approx(1, abs=1e-5)
    assert perfect["jsc"] == perfect["jsc_theta"] == 1


def test_short_tracks_do_not_count_and_gaps_are_filled():
    movie, ids = owned()
    ids[2][0] = -1  # a gap of the first particle
    assert score(movie, ids)["jsc"] == 1
    for frame in range(6):
        ids[frame][1] = 7 if frame < 2 else -1
    assert score(movie, ids)["jsc_theta"] == 0.5


def test_frames_before_the_first_do_not_count():
    movie, ids = owned(8)
    for frame in range(4):
        ids[frame][:] = -1
    assert score(movie, ids)["jsc"] == 0.5
    assert score(movie, ids, first_frame=4)["jsc"] == 1


def test_the_table_leaves_out_detections_without_a_track():
    movie, ids = owned(3)
    table = track_table(movie.detections, ids)
    assert len(table) == 6
    assert table["frame"].tolist() == [0, 0, 1, 1, 2, 2]


def test_the_first_guess_of_the_step_is_really_changed():
    rows = unknown_step([ParticleSettings("brownian", 100, 32, seed=3)])
    assert [row["first_step_px"] for row in rows] == list(FIRST_STEPS_PX) == [0.5, 2.0, 8.0]
    assert len({row["alpha_known"] for row in rows}) == 1
    assert all(0.5 < row["alpha"] <= 1 for row in rows)


def test_endurance_compares_first_and_last_frames():
    row = endure(ParticleSettings("switching", 30, 400, seed=3), window=50)
    assert row["first"]["p99_ms"] > 0
    assert row["last"]["p99_cpu_ms"] > 0
    assert abs(row["traced_growth_bytes"]) < 1e6


def test_a_first_call_is_timed():
    row = first_call()
    assert 0 < row["prepare_s"] < 120
    assert row["prepare_cpu_s"] > 0
    assert row["first_frame_ms"] > 0
