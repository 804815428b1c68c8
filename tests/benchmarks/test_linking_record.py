import json

import numpy as np
import pytest

from benchmarks.linking import comparison
from benchmarks.linking.__main__ import describe
from benchmarks.linking.checks import endure
from benchmarks.linking.comparison import (
    FULL,
    QUICK,
    RANGES_PX,
    attempt,
    cell,
    compare,
    grid,
    in_parallel,
    rank,
    spread,
)
from benchmarks.linking.figure import draw
from benchmarks.linking.linkers import TUNED, Ranges, missing
from benchmarks.linking.tables import print_tables
from benchmarks.linking.trials import Trial
from benchmarks.shared.child import Child
from benchmarks.shared.particles import MOTIONS, ParticleSettings

TINY = QUICK._replace(movies=2, numbers=(100,), frames=12)


@pytest.fixture(scope="module")
def child():
    with Child() as child:
        yield child


@pytest.fixture(scope="module")
def cells(child):
    ranked = {"trackpy": [Ranges(10.0, 1)]}
    return [
        cell(child, (motion, 100), method, ranked, TINY) for motion in MOTIONS for method in ("imm_lag2", "trackpy")
    ]


def test_there_are_search_ranges_for_every_number_of_particles():
    assert set(FULL.numbers) | set(QUICK.numbers) == set(RANGES_PX)
    assert set(grid(500, QUICK)) < set(grid(500, FULL))
    assert len(grid(500, FULL)) == 12


def test_a_cell_holds_time_and_accuracy_of_all_its_movies(cells):
    ours, trackpy = cells[:2]
    assert ours["ms"].keys() == {"median", "p99", "max"}
    assert len(ours["alpha_by_seed"]) == 2
    assert ours["alpha"] == pytest.approx(sum(ours["alpha_by_seed"]) / 2)
    assert "live" in ours
    assert "live" not in trackpy
    assert (trackpy["search_range"], trackpy["memory"]) == (10.0, 1)
    assert ours["motion"] == trackpy["motion"] == "brownian"


def test_a_setting_that_fails_is_passed_over_for_the_next(child):
    extent = TINY._replace(movies=1, frames=8)
    crowded = [Ranges(20.0, 1), Ranges(5.0, 1)]
    row = cell(child, ("brownian", 2000), "trackpy", {"trackpy": crowded}, extent)
    assert row["search_range"] == 5.0
    assert "failed" not in row
    row = cell(child, ("brownian", 2000), "trackpy", {"trackpy": crowded[:1]}, extent)
    assert row["failed"].startswith("SubnetOversizeException")


def test_settings_are_ranked_by_alpha_and_hopeless_ones_left_out(child):
    source = ParticleSettings("brownian", 300, 8, seed=4)
    ranked = rank(child, source, [Ranges(2.0, 0), Ranges(6.0, 0), Ranges(100.0, 0), Ranges(150.0, 1)])
    assert ranked["trackpy"] == [Ranges(6.0, 0), Ranges(2.0, 0)]
    assert Ranges(100.0, 0) in ranked["trackpy_velocity"]
    assert ranked.keys() == {each for each in TUNED if not missing(each)}


def test_what_stalls_is_recorded(child):
    row = attempt(child, 0.001, Trial("trackpy", ParticleSettings("brownian", 1000, 30, seed=1), Ranges(6.0, 1)))
    assert row == {"failed": "timed out after 0.001 s"}


def test_jobs_done_in_parallel_keep_their_order(monkeypatch):
    monkeypatch.setattr(comparison, "warm_up", None)

    class Silent:
        def track(self, results, **_):
            return results

    doubled = in_parallel(lambda child, n: child.call(30, int.__mul__, n, 2), [1, 2, 3, 4], Silent(), "doubling")
    assert doubled == [2, 4, 6, 8]


def test_ours_is_compared_with_peers_of_the_same_movies():
    def row(method, n, median, alpha):
        return {"motion": "directed", "n": n, "method": method, "ms": {"median": median}, "alpha": alpha}

    ours = [row("imm_lag2", 500, 0.5, 0.9), row("imm_lag2", 1000, 1.0, 0.8)]
    peers = [
        row("trackpy", 500, 5.0, 0.4),
        row("lapmod", 500, 0.6, 0.5),
        row("trackpy", 1000, 1.0, 0.1) | {"failed": "timed out"},
    ]
    first, second = compare(ours + peers)
    assert first["times_faster_than_trackpy"] == pytest.approx(10)
    assert first["alpha_above_lapmod"] == pytest.approx(0.4)
    assert second["times_faster_than_trackpy"] is None


def test_of_methods_that_take_whole_movies_only_the_mean_is_told():
    ms = np.array([1.0, 2.0, 6.0])
    assert spread(ms, whole=True) == {"mean": 3.0}
    assert spread(ms, whole=False) == {"median": 2.0, "p99": pytest.approx(5.92), "max": 6.0}


def test_tables_and_picture_come_from_what_json_gives_back(cells, tmp_path, capsys):
    images = {"scenario": "vesicle", "snr": 4.0, "method": "imm_lag2", "alpha": 0.9, "beta": 0.8, "jsc": 0.8}
    step = {"motion": "brownian", "n": 500, "first_step_px": 0.5, "true_step_px": 2.0, "alpha": 0.7, "alpha_known": 0.7}
    call = {"prepare_s": 0.4, "prepare_cpu_s": 0.3, "first_frame_ms": 1.0}
    failed = {"motion": "brownian", "n": 100, "method": "lapmod", "failed": "timed out after 60 s"}
    record = describe() | {
        "extent": TINY._asdict(),
        "cells": [*cells, failed],
        "compared": compare(cells),
        "end_to_end": [images],
        "unknown_step": [step],
        "endurance": endure(ParticleSettings("brownian", 20, 300, seed=1), window=40),
        "first_call": {"cold": call, "warm": call},
    }
    record = json.loads(json.dumps(record, allow_nan=False))
    print_tables(record)
    printed = capsys.readouterr().out
    assert "timed out after 60 s" in printed
    assert "times as fast as tuned trackpy" in printed
    draw(record, tmp_path / "linking.png")
    assert (tmp_path / "linking.png").stat().st_size > 20_000
