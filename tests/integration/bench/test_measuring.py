import gc
import time
from dataclasses import replace

import numpy as np
import pytest

from streamtrack import garbage
from streamtrack.bench.measuring import RunLength, measure_engine, measure_step, run_timeline
from streamtrack.bench.record import LEVELS, MODES, Plan
from streamtrack.bench.replay import load_movie
from streamtrack.bench.summary import summarise
from streamtrack.bench.timings import TIMING_DTYPE
from streamtrack.errors import ConfigError
from streamtrack.garbage import frozen_gc
from streamtrack.step import Step
from streamtrack.types import Detections, TrackUpdate

MOVIE = "sim:vesicle?size=48&frames=6&density=100"
NO_IDS = np.empty(0, np.int64)


class Sleeper:
    """Takes its time as engine and as linker."""

    info = {}  # noqa: RUF012

    def __init__(self, detect_s=0.0, link_s=0.0):
        self.detect_s, self.link_s = detect_s, link_s
        self.resets = 0

    def reset(self):
        self.resets += 1

    def detect(self, pixels, *, denoise):
        time.sleep(self.detect_s)
        return Detections.empty(), None

    def update(self, detections, frame_index, time_s):
        time.sleep(self.link_s)
        return TrackUpdate(NO_IDS, np.empty(0, np.float32), NO_IDS, NO_IDS, NO_IDS, 0, frame_index)


@pytest.fixture(scope="module")
def movie():
    return load_movie(MOVIE)


@pytest.mark.timing
def test_the_engine_alone_is_timed_frame_by_frame(movie):
    line = measure_engine(Sleeper(detect_s=0.004), movie, RunLength(0.0, 25, 5))
    ((stage, ms),) = line.durations_ms()
    assert stage == "detect"
    assert len(ms) == line.n_due == 25
    assert ms.min() >= 4
    assert np.median(ms) < 20


def test_a_measurement_lasts_as_long_as_it_is_told(movie):
    begin = time.monotonic()
    line = measure_engine(Sleeper(detect_s=0.001), movie, RunLength(0.2, 3, 0))
    assert 0.2 <= time.monotonic() - begin < 60
    assert len(line) > 3


@pytest.mark.timing
def test_a_step_is_timed_by_its_stages(movie):
    both = Sleeper(detect_s=0.001, link_s=0.006)
    stages = dict(measure_step(Step(both, both), movie, RunLength(0.0, 20, 0)).durations_ms())
    assert stages["link"].min() >= 6
    assert stages["detect"].min() >= 1
    assert np.median(stages["detect"]) < np.median(stages["link"])
    assert (stages["total"] >= stages["detect"] + stages["link"]).all()
    assert both.resets == 1, "frames follow each other"


def test_who_is_slower_than_the_camera_misses_frames_and_deadlines(movie):
    line = measure_engine(Sleeper(detect_s=0.025), movie, RunLength(0.0, 10, 0), interval_ns=10_000_000)
    figures = summarise(line, 0)
    assert figures["processed"] == 10
    assert figures["dropped"] >= 10
    assert figures["deadline_misses"] == 10


@pytest.mark.timing
def test_who_is_faster_than_the_camera_waits_for_it(movie):
    line = measure_engine(Sleeper(), movie, RunLength(0.0, 20, 0), interval_ns=8_000_000)
    figures = summarise(line, 0)
    assert figures["processed"] == 20
    assert figures["frames_per_s"] < 160, "hardly faster than the camera: only the first frame may have been late"
    assert figures["stages_ms"]["detect"]["p50"] < 4, "waiting for the camera is not the engine's time"


def rows_of(frames_ms):
    """Rows of a run from (frame, grabbed, dequeued), ms; the other stages take 1 ms each."""
    rows = np.zeros(len(frames_ms), TIMING_DTYPE)
    for k, (frame, grabbed, dequeued) in enumerate(frames_ms):
        rows[k] = (frame, *(ms * 1_000_000 for ms in (grabbed, *range(dequeued, dequeued + 5))), 0)
    return rows


def test_what_is_left_in_the_queue_when_the_camera_stops_does_not_count():
    rows = rows_of([(0, 0, 0), (4, 40, 80), (8, 80, 95), (9, 90, 180)])
    line = run_timeline(rows, 10, interval_ns=10_000_000)
    assert line.index.tolist() == [0, 4, 8]
    assert line.n_due == 9
    assert dict(line.durations_ms())["queue"].tolist() == [0.0, 40.0, 15.0]
    assert dict(line.durations_ms())["total"].tolist() == [3.0, 43.0, 18.0]


def test_of_a_source_that_waits_all_frames_count():
    line = run_timeline(rows_of([(0, 0, 0), (1, 1, 100), (2, 2, 200)]), 3, interval_ns=None)
    assert len(line) == line.n_due == 3


def test_what_is_there_before_is_frozen_for_the_collector(monkeypatch):
    monkeypatch.setattr(garbage, "_inside", 0)  # all tests are within such a block
    gc.unfreeze()
    with frozen_gc():
        with frozen_gc():
            assert gc.get_freeze_count() > 0
            assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
    gc.freeze()


def test_everything_is_measured_in_both_modes(measured):
    result, heard = measured
    names = [f"{level}, {mode}" for level in LEVELS for mode in MODES]
    assert sorted(result.timelines) == sorted(names)
    assert heard[:2] == ["movie", "cold start"]
    assert sorted(heard[2:]) == sorted(names)


def test_the_record_says_how_and_on_what(record):
    assert record["movie"]["shape"] == [64, 64]
    assert record["engine"]["threads"] == 1
    assert record["extent"]["warm_up_frames"] == 5
    assert record["computer"]["cores"] >= 1
    assert record["computer"]["versions"]["python"]
    assert "frozen" in record["gc"]
    assert record["memory_mib"]["peak"] >= record["memory_mib"]["end"] > 10


def test_figures_are_those_of_the_stamps(measured, record):
    line = measured[0].timelines["step, back to back"].split(5)[1]
    for stage, ms in line.durations_ms():
        assert record["measurements"]["step, back to back"]["stages_ms"][stage]["max"] == pytest.approx(
            ms.max(), abs=1e-4
        )


def test_a_run_accounts_for_every_frame(record):
    paced = record["measurements"]["run, paced"]
    assert paced["due"] == paced["processed"] + paced["dropped"]
    assert paced["interval_ms"] == 20.0
    run = record["runs"]["run, paced"]
    assert run["frames"]["processed"] + run["frames"]["lost"] >= paced["due"] + 5
    assert run["sinks"]["timings"]["dropped"] == 0
    assert record["runs"]["run, back to back"]["frames"]["lost"] == 0


def test_a_cold_start_is_a_process_of_its_own(record):
    cold = record["cold_start"]
    stages = {name: ms for name, ms in cold["ms"].items() if name != "total"}
    assert set(stages) == {"import", "build", "prepare", "first frame"}
    assert cold["ms"]["total"] == pytest.approx(sum(stages.values()), rel=0.01)
    assert stages["import"] > 50, "nothing is imported in a new process"
    assert cold["memory_mib"] > 20


def test_a_rate_that_is_none_is_refused():
    plan = Plan(MOVIE, {"kind": "denodet"}, 100.0, RunLength(1, 1, 0))
    with pytest.raises(ConfigError, match="fps = -3"):
        replace(plan, fps=-3.0)
