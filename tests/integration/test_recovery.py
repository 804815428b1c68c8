"""What is recovered of a run that was broken off at any moment."""

import json
import shutil
import time

import numpy as np
import pandas as pd
import pytest

from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError, SinkError
from streamtrack.recovery import recover
from streamtrack.report import read_report, write_report
from streamtrack.run_folder import RunFolder
from streamtrack.session import Session
from streamtrack.sinks import tables
from streamtrack.sinks.files import partial_of
from streamtrack.sinks.frame_table import FRAMES_PARTIAL
from streamtrack.sinks.making import TABLES
from streamtrack.sinks.making import recover as recover_tables
from streamtrack.sinks.raw_movie import RawMovie
from streamtrack.sinks.stream import read_schema
from streamtrack.sinks.summary import SPILLED, SUMMARIES
from streamtrack.sinks.tables import PARTIAL
from streamtrack.types import Frame, SourceInfo

pytestmark = pytest.mark.usefixtures("lab_plugins")


def config(**rest):
    source = {"kind": "lab-camera", "frames": 40}
    sinks = [{"kind": "tables"}, {"kind": "overview"}]
    return RunConfig.model_validate({"source": source, "engine": {"kind": "brightest"}, "sinks": sinks, **rest})


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """The folder of a run as it is when frame 30 has been written: what a kill leaves there."""
    monkeypatch.setattr(tables, "_FLUSH_NS", 0)
    copy = tmp_path / "killed"

    def look(progress):
        if progress.processed == 30:
            while (tmp_path / "run" / PARTIAL).stat().st_size < 8000:  # some batches
                time.sleep(0.01)
            shutil.copytree(tmp_path / "run", copy)

    Session(config(), tmp_path / "run").run(look)
    (copy / "run.lock").unlink()
    assert {path.name for path in copy.iterdir()} == {"report.json", PARTIAL, FRAMES_PARTIAL}
    return copy


def assert_recovered(folder):
    report = recover(folder)
    assert report == read_report(folder)
    assert report["status"] == "interrupted"
    detections = pd.read_parquet(folder / "detections.parquet")
    assert report["detections"] == len(detections) == 2 * report["frames"]["processed"]
    assert set(detections.frame) == set(range(report["frames"]["processed"]))
    assert report["frames"]["in"] == report["frames"]["processed"] + report["frames"]["lost"]
    assert (folder / "overview.png").stat().st_size > 10_000
    assert not (folder / "run.lock").exists()
    return report


def test_tables_report_and_picture_of_a_killed_run(killed):
    report = assert_recovered(killed)
    assert 0 < report["frames"]["processed"] <= 40
    assert report["source"]["name"] == "lab-camera"
    assert "the process died" in report["error"]
    assert report["config"]["engine"]["kind"] == "brightest"
    with pytest.raises(ConfigError, match=r"has ended \(interrupted\); there is nothing to recover"):
        recover(killed)


@pytest.mark.parametrize("report", [None, "", "[]", "{", "[" * 100_000])
def test_the_stream_is_enough(killed, report):
    (killed / "report.json").unlink()
    if report is not None:
        (killed / "report.json").write_text(report)
    recovered = assert_recovered(killed)
    assert recovered["source"]["shape"] == [48, 64]
    assert recovered["source"]["n_frames"] == 40


def test_killed_between_the_tables_and_the_report(killed):
    write_report(killed, {**(first := read_report(killed)), "status": "running"})
    recover_tables(killed)
    assert not (killed / PARTIAL).exists()
    report = assert_recovered(killed)
    assert 0 < report["frames"]["processed"] <= 40
    assert report["started"] == first["started"]


def test_killed_while_tracks_were_summarised(killed):
    files = [*TABLES, *SUMMARIES, SPILLED]
    write_report(killed, {**read_report(killed), "status": "running", "files": files})
    recover_tables(killed)
    for name in SUMMARIES:
        partial_of(killed / name).write_bytes(b"half")
    (killed / SPILLED).write_bytes(b"half")
    recover(killed)
    assert len(pd.read_parquet(killed / SUMMARIES[0])) == pd.read_parquet(killed / TABLES[1])["particle"].nunique() > 0
    assert not [path.name for path in killed.iterdir() if ".partial" in path.name]


def test_killed_before_the_first_frame(tmp_path):
    run_folder = RunFolder(tmp_path)
    run_folder.lock()
    source = {"name": "movie", "shape": (48, 64), "dtype": "uint16"}
    run_folder.begin({"status": "running", "source": source, "frames": {"in": 0, "lost_by_cause": {}}, "error": None})
    run_folder.release()
    report = recover(tmp_path)
    assert (report["status"], report["frames"]["processed"], report["detections"]) == ("interrupted", 0, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json"}


def test_a_damaged_part_is_said_in_the_report_and_kept(killed):
    content = bytearray((killed / PARTIAL).read_bytes())
    content[len(read_schema(killed / PARTIAL).serialize())] ^= 1
    (killed / PARTIAL).write_bytes(content)
    report = recover(killed)
    unread = report["recovered"]
    assert report["frames"]["lost"] == sum(report["frames"]["lost_by_cause"].values()) == unread["unread_frames"] == 1
    assert f"{unread['unread_bytes']} bytes of {PARTIAL}, 1 frames, could not be read" in report["remarks"][-1]
    assert report["detections"] == len(pd.read_parquet(killed / "detections.parquet"))
    assert (killed / PARTIAL).read_bytes() == content
    assert recover(killed) == report, "again is no harm"
    assert (killed / PARTIAL).exists()


def test_a_stream_that_could_not_be_deleted_is_no_killed_run(tmp_path):
    report = Session(config(), tmp_path).run()
    (tmp_path / PARTIAL).write_bytes(b"what is left")
    with pytest.raises(ConfigError, match="already holds"):
        Session(config(), tmp_path)
    assert recover(tmp_path)["status"] == report["status"] == "completed"
    assert not (tmp_path / PARTIAL).exists()


def test_a_run_that_lives_is_left_alone(killed):
    run_folder = RunFolder(killed)
    run_folder.lock()
    before = (killed / PARTIAL).read_bytes()
    with pytest.raises(ConfigError, match="is in use"):
        recover(killed)
    run_folder.release()
    assert (killed / PARTIAL).read_bytes() == before
    assert not (killed / TABLES[0]).exists()


@pytest.mark.parametrize("there", [None, "empty", "stream"])
def test_what_is_no_run_is_one_line(tmp_path, there):
    folder = tmp_path / "folder"
    if there is not None:
        folder.mkdir()
    if there == "stream":
        (folder / PARTIAL).write_bytes(b"no stream")
    with pytest.raises((ConfigError, SinkError)) as caught:
        recover(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert "nothing to recover" in str(caught.value) or "there is no folder" in str(caught.value)


def test_nothing_is_written_where_the_picture_was_not_asked_for(killed):
    report = read_report(killed)
    names = [name for name in report["files"] if not name.startswith("overview")]
    (killed / "report.json").write_text(json.dumps({**report, "files": names}))
    recover(killed)
    assert not (killed / "overview.png").exists()


def test_a_recording_that_lacks_its_end_says_so(killed):
    movie = RawMovie(killed / "raw.ome.zarr", SourceInfo("lab-camera", (48, 64), "uint16"), 3)
    for index in range(3, 8):
        movie.add(Frame(index, np.zeros((48, 64), np.uint16), 0, 0.0))
    movie.flush()  # and never closed
    (remark,) = [each for each in recover(killed)["remarks"] if "raw" in each]
    assert remark.startswith("raw.ome.zarr ends with frame 7: what came within the last second")
