import json
import math
import signal
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from streamtrack import workers
from streamtrack.arrays import ArraySource
from streamtrack.commands import FATES
from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError, EngineError, PluginNotFoundError, SinkError, SourceError
from streamtrack.session import Session
from streamtrack.types import Stamps

pytestmark = pytest.mark.usefixtures("lab_plugins")


def make_config(*, source=None, engine=None, sinks=None, **rest):
    tables = {
        "source": {"kind": "lab-camera", **(source or {})},
        "engine": {"kind": "brightest", **(engine or {})},
        "sinks": sinks if sinks is not None else [{"kind": "memory"}],
        **rest,
    }
    return RunConfig.model_validate(tables)


def run(folder, **tables):
    report = Session(make_config(**tables), folder).run()
    assert json.loads(json.dumps(report)) == json.loads((folder / "report.json").read_text(encoding="utf-8"))
    frames = report["frames"]
    assert frames["in"] == frames["processed"] + frames["lost"], "a frame is unaccounted for"
    return report


def kept():
    return sys.modules["lab_plugins"].Memory.kept


def test_a_run_hands_every_frame_to_every_stage_in_order(tmp_path):
    report = run(tmp_path)
    assert report["status"] == "completed"
    assert report["frames"]["processed"] == 20
    assert report["detections"] == 40
    assert [result.frame.index for result in kept()] == list(range(20))
    ids = np.array([result.tracks.particle for result in kept()])
    assert (ids == ids[0]).all(), "two separate particles keep their two tracks"
    for result in kept():
        s: Stamps = result.stamps
        assert s.grabbed <= s.dequeued <= s.detected <= s.linked <= s.decided
    assert {"queue", "total"}.isdisjoint(report["latency_ms"]), "of frames that are read ahead they say nothing"
    assert report["frames_per_second"] > 0
    assert report["latency_ms"]["detect"]["n"] == 20
    assert report["latency_ms"]["write memory"]["n"] == 20


def test_a_lost_frame_is_named_and_the_run_is_incomplete(tmp_path):
    report = run(tmp_path, source={"lost_at": 7})
    assert report["status"] == "incomplete"
    assert report["frames"]["lost_frames"] == [{"first": 7, "last": 7, "cause": "the shutter stuck"}]
    assert 7 not in [result.frame.index for result in kept()]


def test_nan_pixels_are_masked_and_counted(tmp_path):
    report = run(tmp_path, source={"nan_at": 3})
    assert report["status"] == "completed"
    assert report["frames"]["masked_pixels"] == 3
    assert report["frames"]["with_masked_pixels"] == 1
    assert len(kept()[3].detections) == 2


def test_the_denoised_frame_is_there_only_when_asked_for(tmp_path):
    run(tmp_path)
    assert kept()[0].denoised is None
    run(tmp_path / "second", sinks=[{"kind": "memory", "denoised": True}])
    assert kept()[0].denoised.shape == (48, 64)


@pytest.mark.parametrize(
    ("tables", "error"),
    [
        ({"source": {"fail_at": 5}}, "the cable is out; plug it in"),
        ({"source": {"silent_at": 5}, "ingest": {"stall_timeout_s": 0.6}}, "no frame from lab-camera for 0.6 s"),
        ({"engine": {"fail_at": 5}}, "ValueError: a bug in the lab's engine"),
        ({"sinks": [{"kind": "memory", "fail_in": "write"}]}, "sink 'memory' failed: OSError: disk full in write"),
        ({"sinks": [{"kind": "memory", "fail_in": "close"}]}, "sink 'memory' failed: OSError: disk full in close"),
    ],
)
def test_a_failure_in_the_middle_ends_the_run_as_failed(tmp_path, tables, error):
    before = threading.active_count()
    report = run(tmp_path, **tables)
    assert report["status"] == "failed"
    assert error in report["error"]
    assert sys.modules["lab_plugins"].Memory.closed == 1
    assert threading.active_count() == before, "a thread was left behind"


def test_frames_decided_before_a_failure_are_written(tmp_path):
    run(tmp_path, engine={"fail_at": 5})
    assert [result.frame.index for result in kept()] == [0, 1, 2, 3, 4]


def test_a_failed_uncritical_sink_does_not_fail_the_run(tmp_path):
    report = run(tmp_path, sinks=[{"kind": "memory", "fail_in": "write", "critical": False}])
    assert report["status"] == "completed"
    assert report["frames"]["processed"] == 20
    outcome = report["outputs"]["sinks"]["memory"]
    assert "disk full" in outcome["error"]
    assert outcome["frames"] + outcome["dropped"] == 20
    assert any(line.startswith("the sink 'memory' failed: ") and "disk full" in line for line in report["remarks"])


@pytest.mark.parametrize(("policy", "complete"), [("block", True), ("latest", False), ("drop_newest", False)])
def test_a_slow_engine_loses_frames_only_where_the_policy_allows_it_and_counts_them(tmp_path, policy, complete):
    ingest = {"policy": policy, "capacity": 2}
    report = run(tmp_path, source={"frames": 30}, engine={"pause_s": 0.01}, ingest=ingest)
    assert report["status"] == ("completed" if complete else "incomplete")
    indices = [result.frame.index for result in kept()]
    assert indices == sorted(set(indices))
    if not complete:
        assert set(report["frames"]["lost_by_cause"]) == {"queue of 2 full"}
        assert (29 in indices) == (policy == "latest"), "the newest frame wins under 'latest' only"


def test_a_live_source_is_never_held_up_by_default(tmp_path):
    report = run(tmp_path, source={"frames": 40, "live": True}, engine={"pause_s": 0.02})
    assert report["frames"]["lost"] > 0


def once_at_50(action):
    """Do something when 50 frames are through."""

    def on_progress(progress):
        if progress.processed == 50:
            action()

    return on_progress


def test_stop_finishes_what_is_decided(tmp_path):
    session = Session(make_config(source={"frames": 10_000, "pause_s": 0.001}), tmp_path)
    report = session.run(once_at_50(lambda: threading.Thread(target=session.stop).start()))
    assert report["status"] == "interrupted"
    assert 0 < report["frames"]["processed"] < 10_000
    assert report["frames"]["processed"] == len(kept())
    assert report["frames"]["in"] == report["frames"]["processed"] + report["frames"]["lost"]


def test_ctrl_c_interrupts_and_the_handler_is_given_back(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    session = Session(make_config(source={"frames": 10_000, "pause_s": 0.001}), tmp_path)
    report = session.run(once_at_50(lambda: signal.raise_signal(signal.SIGINT)))
    assert report["status"] == "interrupted"
    assert signal.getsignal(signal.SIGINT) is handler


def test_results_are_not_overwritten_unless_asked(tmp_path):
    run(tmp_path, sinks=[{"kind": "diary"}])
    (tmp_path / "notes.txt").write_text("the user's own")
    with pytest.raises(ConfigError, match=r"already holds report.json, diary.txt.*--overwrite"):
        Session(make_config(), tmp_path)
    assert Session(make_config(), tmp_path, overwrite=True).run()["status"] == "completed"
    assert not (tmp_path / "diary.txt").exists(), "an old result must not pass for a new one"
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize(
    "calibration", [{"pixel_size_um": math.inf}, {"pixel_size_um": "0.1"}, {"frame_interval_s": 1e300}]
)
def test_a_calibration_that_cannot_be_is_refused_before_anything_is_removed(tmp_path, calibration):
    run(tmp_path, sinks=[{"kind": "diary"}])
    movie = ArraySource(movie=np.ones((3, 48, 64), np.float32), **calibration)
    with pytest.raises(SourceError, match=r"(pixel_size_um|frame_interval_s) = \S+ cannot be"):
        Session(make_config(), tmp_path, overwrite=True, source=movie)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "diary.txt"}


class Followed(ArraySource):
    """Eight frames that lay there for a minute, and as many that were written while the run went on."""

    def __init__(self):
        super().__init__(movie=np.random.default_rng(0).integers(1, 99, (16, 48, 64)).astype(np.float32))
        self._info = replace(self._info, n_frames=None, follow_s=5.0)

    def frames(self):
        for frame in super().frames():
            yield replace(frame, written_ns=frame.grabbed_ns - 60_000_000_000 * (frame.index < 8))


def test_how_late_frames_are_is_of_those_that_were_written_meanwhile(tmp_path):
    report = Session(make_config(), tmp_path, source=Followed()).run()
    latency = report["latency_ms"]
    assert report["status"] == "completed"
    assert latency["noticed"]["n"] == latency["tracked"]["n"] == 8
    assert latency["noticed"]["max"] == 0
    assert latency["tracked"]["max"] < 60_000
    assert "noticed" not in Session(make_config(), tmp_path / "other").run()["latency_ms"]


def test_a_followed_movie_may_be_silent_for_longer_than_a_camera(tmp_path):
    class Pausing(Followed):
        def frames(self):
            for frame in super().frames():
                if frame.index == 3:
                    time.sleep(0.6)
                yield frame

    report = Session(make_config(ingest={"stall_timeout_s": 0.1}), tmp_path, source=Pausing()).run()
    assert report["status"] == "completed"


def test_an_unknown_frame_interval_is_said(tmp_path):
    movie = np.ones((3, 48, 64), np.float32)
    (remark,) = Session(make_config(), tmp_path / "a", source=ArraySource(movie=movie)).run()["remarks"]
    assert "the frame interval is not known" in remark
    known = ArraySource(movie=movie, frame_interval_s=0.1)
    assert Session(make_config(), tmp_path / "b", source=known).run()["remarks"] == []


@pytest.mark.parametrize(
    ("remark", "said"),
    [("the lamp flickers", "the lamp flickers"), ("fail", "MemoryError: it needs more memory than there is")],
)
def test_what_an_engine_remarks_is_in_the_report_and_its_failure_costs_nothing_else(tmp_path, remark, said):
    report = run(tmp_path, engine={"remark": remark})
    assert report["status"] == "completed"
    assert report["remarks"][0].endswith(said)


def test_a_sink_that_names_no_files_is_refused(tmp_path, monkeypatch):
    run(tmp_path / "first")
    monkeypatch.delattr(sys.modules["lab_plugins"].Memory, "files")
    with pytest.raises(ConfigError, match="sink 'memory' does not say what it writes"):
        Session(make_config(), tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_a_killed_run_never_reads_as_completed(tmp_path):
    seen = []

    def look(progress):
        seen.append(json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["status"])

    Session(make_config(), tmp_path).run(look)
    assert set(seen) == {"running"}


def test_what_cannot_begin_raises(tmp_path):
    with pytest.raises(PluginNotFoundError, match="unknown linker 'imn'; did you mean 'imm'"):
        Session(make_config(linker={"kind": "imn"}), tmp_path)
    with pytest.raises(SinkError, match=r"sink 'memory' cannot write into .*: disk full in open"):
        Session(make_config(sinks=[{"kind": "memory", "fail_in": "open"}]), tmp_path).run()
    with pytest.raises(EngineError, match="nothing"):
        Session(make_config(engine={"kind": "denodet", "weights": "nothing"}), tmp_path / "x").run()


def test_a_run_that_cannot_begin_leaves_the_results_of_the_one_before(tmp_path):
    run(tmp_path, sinks=[{"kind": "diary"}])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sinks = [{"kind": "diary"}, {"kind": "memory", "fail_in": "open"}]
    with pytest.raises(SinkError):
        Session(make_config(sinks=sinks), tmp_path, overwrite=True).run()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_hardware_is_left_safe_when_a_run_cannot_begin(tmp_path):
    log = tmp_path / "log"
    actuators = {"stage": {"kind": "notebook", "path": str(log)}}
    session = Session(make_config(sinks=[{"kind": "memory", "fail_in": "open"}], actuators=actuators), tmp_path)
    with pytest.raises(SinkError):
        session.run()
    assert log.read_text().split() == ["safe"]
    assert session._source._closed.is_set()


def test_out_may_not_be_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        Session(make_config(), tmp_path / "file")


EVERY_FRAME = {"kind": "every", "do": "stage", "confirmed": False, "max_per_minute": 10_000, "valid_ms": 60_000}


@pytest.mark.parametrize(
    ("mode", "valid_ms", "expected"),
    [
        ("observe", 60_000, "recorded"),
        ("rehearse", 60_000, "recorded"),
        ("armed", 60_000, "sent"),
        ("armed", 1e-6, "stale"),
    ],
)
def test_commands_are_sent_only_when_armed_and_fresh(tmp_path, mode, valid_ms, expected):
    log = tmp_path / "log.txt"
    report = run(
        tmp_path / "out",
        triggers=[{**EVERY_FRAME, "valid_ms": valid_ms}],
        actuators={"stage": {"kind": "notebook", "path": str(log)}},
        mode=mode,
    )
    outcome = report["outputs"]["actuators"]["stage"]
    assert outcome[expected] == 20
    assert sum(outcome[fate] for fate in FATES) == 20
    logged = [json.loads(line) for line in (tmp_path / "out" / "commands.jsonl").read_text().splitlines()]
    assert [(line["fate"], line["frame"], line["rule"]) for line in logged] == [
        (expected, i, "every") for i in range(20)
    ]
    assert all(("grabbed_to_commanded_ms" in line) == (expected == "sent") for line in logged)
    lines = log.read_text().split()
    assert lines[:-2] == ([str(i) for i in range(20)] if expected == "sent" else [])
    assert lines[-2:] == ["safe", "safe"], "by its worker, and again when all is over"


def test_an_actuator_that_throws_is_counted_and_the_loop_goes_on(tmp_path):
    report = run(
        tmp_path / "out",
        triggers=[EVERY_FRAME],
        actuators={"stage": {"kind": "notebook", "path": str(tmp_path / "log"), "fail": True}},
        mode="armed",
    )
    assert report["status"] == "completed"
    assert report["outputs"]["actuators"]["stage"]["failed"] == 20
    assert "does not answer" in report["outputs"]["actuators"]["stage"]["error"]


def test_a_stop_file_ends_the_run_and_the_commands(tmp_path):
    session = Session(
        make_config(
            source={"frames": 10_000, "live": True, "pause_s": 0.005},
            triggers=[EVERY_FRAME],
            actuators={"stage": {"kind": "notebook", "path": str(tmp_path / "log")}},
            mode="armed",
        ),
        tmp_path / "out",
    )
    begun = time.monotonic()
    report = session.run(once_at_50((tmp_path / "out" / "stop").touch))
    assert time.monotonic() - begun < 40, "all frames take 50 s"
    assert report["status"] == "interrupted"
    assert 0 < report["frames"]["processed"] < 10_000
    assert (tmp_path / "log").read_text().split()[-1] == "safe"
    assert not (tmp_path / "out" / "stop").exists(), "or the next run would end at once"


def test_a_slow_actuator_does_not_stall_a_live_loop(tmp_path):
    report = run(
        tmp_path,
        source={"frames": 500, "live": True},
        triggers=[{**EVERY_FRAME, "max_per_minute": 1_000_000}],
        actuators={"stage": {"kind": "notebook", "path": str(tmp_path / "log"), "pause_s": 0.01}},
        ingest={"policy": "block"},
        mode="armed",
    )
    assert report["frames"]["processed"] == 500
    outcome = report["outputs"]["actuators"]["stage"]
    assert outcome["dropped"] > 0
    assert sum(outcome[fate] for fate in FATES) == 500


def test_a_slow_sink_does_not_stall_a_live_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "SINK_QUEUE", 4)
    report = run(
        tmp_path,
        source={"frames": 400, "live": True, "pause_s": 0.002},
        sinks=[{"kind": "memory", "pause_s": 0.05, "critical": False}],
        ingest={"policy": "latest"},
    )
    outcome = report["outputs"]["sinks"]["memory"]
    assert outcome["dropped"] > 0, "400 times 0.05 s are 20 s"
    assert outcome["frames"] + outcome["dropped"] == report["frames"]["processed"]
    assert any(f"results of {outcome['dropped']} frames are missing" in line for line in report["remarks"])
