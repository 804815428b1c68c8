import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from streamtrack.errors import ConfigError
from streamtrack.report import write_report
from streamtrack.run_folder import RunFolder, refuse_long
from streamtrack.sinks.raw_movie import RawMovie
from streamtrack.types import Frame, SourceInfo

links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


OURS = {"status": "completed", "versions": {"streamtrack": "0.1.0"}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def clear(folder, files=(), sources=()):
    """What a run with --overwrite does before it writes."""
    run_folder = RunFolder(folder)
    run_folder.check(overwrite=True, files=files, sources=sources)
    run_folder.begin({"status": "running"})
    run_folder.commit()
    (folder / "report.json").unlink()


def recorded(path):
    """A movie as the sink 'raw' leaves it."""
    path.parent.mkdir(exist_ok=True)
    movie = RawMovie(path, SourceInfo("camera", (32, 32), "uint16"), 0)
    movie.add(Frame(0, np.ones((32, 32), np.uint16), 0, 0.0))
    movie.close({})
    return path


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_not_named_stays_whatever_it_is_called(folder):
    mine = [
        "thesis.partial.docx",
        "cell3.partial.zarr/zarr.json",
        "download.partial.d/a.txt",
        "events/a.txt",
        "stop.txt",
    ]
    for name in mine:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    (folder / "report.json").write_text("{}")
    (folder / "diary.txt").write_text("old")
    clear(folder, ["diary.txt"])
    assert names(folder) == sorted(str(Path(name)) for name in mine)


def test_what_the_last_run_wrote_goes_too(folder):
    write_report(folder, {**OURS, "files": ["report.json", "overview.png", "events/"]})
    (folder / "overview.png").write_text("old")
    recorded(folder / "events" / "0001_frame7.ome.zarr")
    with pytest.raises(ConfigError, match=r"already holds report\.json, overview\.png, events"):
        RunFolder(folder).check(overwrite=False)
    clear(folder)
    assert list(folder.iterdir()) == []


def test_what_the_report_of_another_program_lists_stays_and_so_does_that_report(folder):
    (folder / "thesis.docx").write_text("mine")
    (folder / "report.json").write_text('{"files": ["thesis.docx"], "tests": 12}')
    with pytest.raises(ConfigError, match=r"report\.json was not written by streamtrack; move it away"):
        clear(folder)
    (folder / "report.json").write_text('{"status": "passed", "files": ["thesis.docx"]}')
    clear(folder)
    assert (folder / "thesis.docx").read_text() == "mine"


@pytest.mark.parametrize("name", ["..", "../mine", "/etc", "", ".", "a/b", r"a\b", "C:mine", 7, None])
def test_a_report_with_paths_for_names_reaches_nothing_outside(folder, name):
    (folder.parent / "mine").write_text("mine")
    write_report(folder, {**OURS, "files": [name]})
    clear(folder)
    assert (folder.parent / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "files", "what"),
    [
        ("events/notes.txt", ["events/"], r"events.notes\.txt"),
        ("events", ["events/"], "events"),
        ("raw.ome.zarr/zarr.json", ["raw.ome.zarr/"], r"raw\.ome\.zarr.zarr\.json"),
        ("tracks.csv/mine.csv", ["tracks.csv"], r"tracks\.csv"),
        ("commands.jsonl/mine.txt", [], r"commands\.jsonl"),
    ],
)
def test_what_the_user_put_under_a_name_of_ours_is_refused_in_one_line(folder, name, files, what):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=rf"{what} was not written by streamtrack; move it away") as caught:
            RunFolder(folder).check(overwrite, files)
        assert len(str(caught.value).splitlines()) == 1
    assert (folder / name).exists()


def test_what_was_added_to_a_recorded_movie_is_not_lost(folder):
    movie = recorded(folder / "raw.ome.zarr")
    zarr.create_group(movie / "labels")
    with pytest.raises(ConfigError, match="labels was not written by streamtrack"):
        clear(folder, ["raw.ome.zarr/"])
    (movie / "labels" / "zarr.json").unlink()
    (movie / "labels").rmdir()
    clear(folder, ["raw.ome.zarr/"])
    assert not movie.exists()


@links
def test_a_link_is_not_followed(folder, tmp_path):
    movie = recorded(tmp_path / "raw.ome.zarr")
    (folder / "raw.ome.zarr").symlink_to(movie)
    with pytest.raises(ConfigError, match="was not written by streamtrack"):
        clear(folder, ["raw.ome.zarr/"])
    (tmp_path / "mine.csv").write_text("mine")
    (folder / "tracks.csv").symlink_to(tmp_path / "mine.csv")
    clear(folder, ["tracks.csv"])
    assert not (folder / "tracks.csv").is_symlink()
    assert (tmp_path / "mine.csv").read_text() == "mine"
    assert movie.exists()


@pytest.mark.parametrize("inside", ["", "0"])
def test_what_is_tracked_stays_and_the_rest_is_replaced(folder, inside):
    movie = recorded(folder / "raw.ome.zarr")
    write_report(folder, {**OURS, "files": ["tracks.csv", "raw.ome.zarr/"]})
    (folder / "tracks.csv").write_text("old")
    clear(folder, ["tracks.csv"], [movie / inside])
    assert [path.name for path in folder.iterdir()] == ["raw.ome.zarr"]
    assert (zarr.open_array(movie / "0", mode="r")[:] == 1).all()


def test_a_tracked_event_keeps_the_events(folder):
    movie = recorded(folder / "events" / "0001_frame7.ome.zarr")
    write_report(folder, {**OURS, "files": ["events/"]})
    clear(folder, sources=[str(movie)])
    assert movie.exists()


@links
def test_a_source_is_known_under_every_name(folder, tmp_path):
    movie = recorded(folder / "raw.ome.zarr")
    write_report(folder, {**OURS, "files": ["raw.ome.zarr/"]})
    (tmp_path / "link.zarr").symlink_to(movie)
    (tmp_path / "way").symlink_to(folder)
    clear(folder, sources=[tmp_path / "link.zarr"])
    clear(tmp_path / "way", sources=[movie])
    assert movie.exists()


def test_a_run_does_not_record_over_its_own_source(folder):
    movie = recorded(folder / "raw.ome.zarr")
    with pytest.raises(ConfigError, match=r"would write .*raw\.ome\.zarr over its own source"):
        clear(folder, ["raw.ome.zarr/"], [movie])


def test_results_do_not_go_into_the_movie_itself(tmp_path):
    movie = recorded(tmp_path / "movie.ome.zarr")
    for folder in (movie, movie / "results", movie / "0"):
        with pytest.raises(ConfigError, match=r"lies inside .*movie\.ome\.zarr.*, which is tracked"):
            RunFolder(folder).check(overwrite=True, sources=[movie / "0"])


def test_a_folder_of_images_may_hold_the_results(folder):
    (folder / "a.tif").write_text("image")
    clear(folder, ["raw.ome.zarr/"], [str(folder)])
    assert names(folder) == ["a.tif"]


def test_a_folder_made_for_nothing_goes_again(tmp_path):
    run_folder = RunFolder(tmp_path / "a" / "b")
    run_folder.lock()
    run_folder.release()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    run_folder.lock()
    (tmp_path / "a" / "b" / "result").write_text("")
    run_folder.release()
    assert names(tmp_path) == [str(Path("a", "b", "result"))]


def test_a_run_that_cannot_begin_leaves_the_results_that_are_there(folder):
    movie = recorded(folder / "raw.ome.zarr")
    write_report(folder, {**OURS, "files": ["report.json", "raw.ome.zarr/"]})
    (folder / "diary.txt").write_text("old")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run_folder = RunFolder(folder)
    run_folder.check(overwrite=True, files=["diary.txt"])
    run_folder.begin({"status": "running"})
    assert {path.name for path in folder.glob("[!.]*.streamtrack-old")} == {
        "report.json.streamtrack-old",
        "diary.txt.streamtrack-old",
        "raw.ome.zarr.streamtrack-old",
    }
    (folder / "diary.txt").write_text("new")
    run_folder.roll_back()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert movie.exists()


def test_old_results_make_room_for_the_first_report(folder, monkeypatch):
    (folder / "diary.txt").write_text("old")
    run_folder = RunFolder(folder)
    run_folder.check(overwrite=True, files=["diary.txt"])

    def replace(source, to, _replace=os.replace):
        if Path(to).name == "report.json" and any(folder.glob("*-old")):
            raise OSError(28, "No space left on device")
        _replace(source, to)

    monkeypatch.setattr(os, "replace", replace)
    run_folder.begin({"status": "running"})
    assert names(folder) == ["report.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no file that is open, nor its folder")
def test_a_run_notices_that_its_folder_was_replaced(folder):
    run_folder = RunFolder(folder)
    run_folder.lock()
    run_folder.begin({"status": "running"})
    (folder / "run.lock").unlink()  # by somebody who tidies up
    assert run_folder.is_still_there()
    (folder / "report.json").write_text("of another run")
    ended = run_folder.end({"status": "completed", "error": None, "frames": {}})
    assert ended["status"] == "failed"
    assert "replaced during the run" in ended["error"]
    assert (folder / "report.json").read_text() == "of another run"
    run_folder.release()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_line(folder):
    folder.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot write into"):
        RunFolder(folder).lock()


def test_the_last_report_is_written_in_place_when_there_is_no_room(folder, monkeypatch):
    run_folder = RunFolder(folder)
    run_folder.lock()
    run_folder.begin({"status": "running"})

    def full(source, to):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    ended = run_folder.end({"status": "completed", "error": None, "frames": {"lost_frames": ["x" * 100_000]}})
    assert ended["status"] == "completed"
    assert json.loads((folder / "report.json").read_text()) == ended
    assert ended["frames"]["lost_frames"] == []
    run_folder.release()
    assert names(folder) == ["report.json"]


def test_a_folder_whose_files_would_be_too_deep_for_windows_is_refused_at_the_start(tmp_path):
    refuse_long(Path("C:/results"))
    with pytest.raises(ConfigError, match="too many for Windows: choose a folder of 149 characters at most"):
        refuse_long(tmp_path / ("n" * 150))


def test_a_folder_that_onedrive_uploads_is_remarked(tmp_path):
    assert not RunFolder(tmp_path / "results").remarks()
    (remark,) = RunFolder(tmp_path / "OneDrive - Lab" / "results").remarks()
    assert "OneDrive" in remark
