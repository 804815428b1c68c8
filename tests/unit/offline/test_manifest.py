"""What a batch knows of those before it in the same folder."""

import json
from dataclasses import replace

import pytest

from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError
from streamtrack.offline.manifest import MANIFEST, Manifest, decisive
from streamtrack.offline.movies import BatchMovie, contradicted
from streamtrack.types import SourceInfo

INFO = SourceInfo("movie", (32, 32), "uint16", 20)
A, B = (BatchMovie(name, {"kind": "zarr", "path": f"/data/{name}.zarr"}, INFO) for name in "ab")


def completed(folder, movie):
    """The report of a movie that was tracked to its end."""
    source = {"shape": [32, 32], "dtype": "uint16", "n_frames": 20, "pixel_size_um": None, "frame_interval_s": None}
    (folder / movie.name).mkdir()
    report = {"status": "completed", "source": source}
    (folder / movie.name / "report.json").write_text(json.dumps(report))
    return report


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "7",
        '{"jobs": []}',
        '{"streamtrack": "1", "movies": {}, "settings": [1]}',
        '{"streamtrack": "1"}',
        "no",
        "",
    ],
)
def test_a_file_that_no_batch_wrote_is_named_and_left(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"batch\.json (was not written by streamtrack|cannot be read)"):
            Manifest(tmp_path, {}, overwrite)
    assert (tmp_path / MANIFEST).read_text() == content


def test_other_settings_are_refused_and_where_they_replace_some_results_the_others_are_not_theirs(tmp_path):
    Manifest(tmp_path, {"roi": None}, False).add([A, B])
    for movie in (A, B):
        completed(tmp_path, movie)
    assert Manifest(tmp_path, {"roi": None}, False).report_of(B)
    with pytest.raises(ConfigError, match="holds a batch with roi = None, not 0:9,0:9"):
        Manifest(tmp_path, {"roi": "0:9,0:9"}, False)
    Manifest(tmp_path, {"roi": "0:9,0:9"}, True).add([A])
    assert Manifest(tmp_path, {"roi": "0:9,0:9"}, False).report_of(A)
    assert Manifest(tmp_path, {"roi": "0:9,0:9"}, False).report_of(B) is None


def test_a_folder_of_another_movie_is_refused_unless_it_was_moved_away(tmp_path):
    Manifest(tmp_path, {}, False).add([A])
    other = BatchMovie("a", {"kind": "zarr", "path": "/elsewhere/a.zarr"}, INFO)
    Manifest(tmp_path, {}, False).check([other])
    completed(tmp_path, A)
    with pytest.raises(ConfigError, match=r"holds the results of .*/data/a\.zarr"):
        Manifest(tmp_path, {}, False).check([other])
    Manifest(tmp_path, {}, True).check([other])


def test_results_of_a_movie_that_has_grown_are_told(tmp_path):
    manifest = Manifest(tmp_path, {}, False)
    report = completed(tmp_path, A)
    assert manifest.changed(A, report, RunConfig()) == ""
    grown = BatchMovie("a", A.source, SourceInfo("movie", (32, 32), "uint16", 30))
    assert "of the movie with n_frames = 20, not 30: move that folder away" in manifest.changed(
        grown, report, RunConfig()
    )


def test_results_hold_for_the_calibration_that_was_said(tmp_path):
    manifest = Manifest(tmp_path, {}, False)
    report = completed(tmp_path, A)
    said = RunConfig(pixel_size_um=0.2)
    assert "with pixel_size_um = None, not 0.2" in manifest.changed(A, report, said)
    report["source"]["pixel_size_um"] = 0.2
    assert manifest.changed(A, report, said) == ""
    assert decisive(said, [A])["pixel_size_um"] == 0.2
    other = replace(INFO, pixel_size_um=0.1)
    movies = [replace(movie, info=other) for movie in (A, B)]
    assert contradicted([*movies, replace(A, name="c")], said) == [
        "a and 1 more: the source says pixel_size_um = 0.1, the settings 0.2: 0.2 is used"
    ]
