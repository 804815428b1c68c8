import json

import numpy as np
import pytest
from matplotlib.image import imread

from streamtrack.bench.compare import compare, differences, read_record
from streamtrack.bench.files import write
from streamtrack.bench.summary import summarise
from streamtrack.errors import ConfigError, SinkError


def test_a_benchmark_leaves_a_record_stamps_and_a_picture(measured, tmp_path):
    write(measured[0], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.npz", "bench.png"]
    record = read_record(tmp_path / "bench.json")
    with np.load(tmp_path / "bench.npz", allow_pickle=False) as arrays:
        index, stamps = arrays["engine, paced, index"], arrays["engine, paced, stamps_ns"]
    slowest = np.diff(stamps, axis=1)[index >= 5].max() / 1e6
    assert record["measurements"]["engine, paced"]["stages_ms"]["detect"]["max"] == pytest.approx(slowest, abs=1e-4)
    picture = imread(tmp_path / "bench.png")[..., :3]
    assert min(picture.shape[:2]) > 800
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_a_picture_can_be_drawn_when_nothing_was_left_after_the_warm_up(measured, tmp_path):
    result = measured[0]
    result.record["extent"]["warm_up_frames"], before = 10_000, result.record["extent"]["warm_up_frames"]
    try:
        write(result, tmp_path)
    finally:
        result.record["extent"]["warm_up_frames"] = before


def test_a_folder_that_cannot_be_written_is_named(measured, tmp_path):
    with pytest.raises(SinkError, match=r"bench\.json"):
        write(measured[0], tmp_path / "nowhere")


def test_ratios_are_b_over_a(record):
    twice = json.loads(json.dumps(record))
    for figures in twice["measurements"].values():
        for stage in figures["stages_ms"].values():
            stage.update({key: 2 * value for key, value in stage.items() if value is not None})
    rows = {row.what: row for row in compare(record, twice)}
    assert rows["engine, back to back: detect p50, ms"].ratio == 2.0
    assert rows["run, paced: total max, ms"].ratio == 2.0
    assert rows["engine, back to back: detect p99, ms"].ratio is None, "too few frames for it"
    assert rows["cold start, total, ms"].ratio == 1.0


def test_what_only_one_of_them_has_is_shown_without_a_ratio(record):
    other = json.loads(json.dumps(record))
    del other["measurements"]["run, paced"]
    row = next(row for row in compare(record, other) if row.what == "run, paced: total p50, ms")
    assert row.b is None
    assert row.ratio is None


def test_differences_in_circumstances_are_named(record):
    other = json.loads(json.dumps(record))
    assert differences(record, other) == []
    other["computer"]["processor"] = "another one"
    other["fps"] = 1000.0
    found = differences(record, other)
    assert any("another one" in line for line in found)
    assert "fps: 50.0 -> 1000.0" in found


@pytest.mark.parametrize("content", ["", "[1]", '{"schema": "something else"}', "\x00"])
def test_what_is_no_record_is_refused(tmp_path, content):
    path = tmp_path / "bench.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"bench\.json"):
        read_record(path)
    with pytest.raises(ConfigError, match="nowhere"):
        read_record(tmp_path / "nowhere.json")


def test_dropped_frames_have_no_place_in_the_percentiles(measured):
    line = measured[0].timelines["run, paced"]
    figures = summarise(line, 0)
    assert figures["stages_ms"]["total"]["n"] == len(line)
