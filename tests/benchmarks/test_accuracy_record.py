import json

import numpy as np
import pytest

from benchmarks.detection.accuracy import (
    METHODS,
    QUICK,
    assemble,
    cell_tasks,
    frames_of,
    grid,
    kept,
    merge,
    reliability,
)
from benchmarks.detection.accuracy_figure import draw
from benchmarks.detection.scoring import score_cell
from streamtrack.simulation import MovieSettings


@pytest.fixture(scope="module")
def rows():
    settings = [MovieSettings("receptor", snr, 300, 12, 96, 96, 5) for snr in (2.0, 4.0)]
    cells = [score_cell("dog", each) for each in settings]
    return {"cells": cells, "phases": [], "empty": [], "deepspot": []}


def test_every_cell_has_a_seed_of_its_own():
    seeds = [seed for *_, seed in grid()]
    assert len(set(seeds)) == len(seeds) == 36


def test_a_quick_cell_is_one_of_the_full_grid():
    seeds = {task.arguments[1].seed for task in cell_tasks(["dog"], QUICK)}
    assert len(seeds) == 6
    assert seeds <= {seed for *_, seed in grid()}


def test_merge_keeps_only_methods_that_were_not_run():
    old = [{"method": "trackpy", "f1": 1}, {"method": "denodet", "f1": 2}]
    merged = merge([{"method": "denodet", "f1": 3}], old, ["denodet", "dog"])
    assert merged == [{"method": "denodet", "f1": 3}, {"method": "trackpy", "f1": 1}]


def test_figures_of_other_methods_are_kept(rows, tmp_path):
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps({"frames": frames_of(QUICK), "cells": [rows["cells"][0] | {"method": "trackpy"}]}))
    record = assemble(rows, ["dog"], QUICK, kept(path, QUICK, ["dog"]))
    assert [row["method"] for row in record["means"]] == ["dog", "dog", "trackpy"]


def test_figures_of_other_frames_are_not_lost(tmp_path):
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps({"frames": {"seed": 1}}))
    with pytest.raises(SystemExit, match="other frames"):
        kept(path, QUICK, ["dog"])
    assert kept(path, QUICK, METHODS) == {}


def test_a_change_of_the_simulator_makes_other_frames(monkeypatch):
    before = frames_of(QUICK)
    monkeypatch.setattr("streamtrack.simulation.movie.BACKGROUND_E", 17.0)
    assert frames_of(QUICK)["checksums"] != before["checksums"]


def test_reliability_is_counted_per_scenario_and_for_all():
    bins = np.zeros((3, 10))
    bins[:, 4] = 10, 5.0, 8
    table = reliability([("vesicle", bins), ("receptor", bins)])
    assert table["microtubule"] == []
    (row,) = table["pooled"]
    assert row == pytest.approx({"from": 0.46, "to": 0.55, "count": 20, "mean_score": 0.5, "right": 0.8})


def test_the_picture_is_drawn_from_what_json_gives_back(rows, tmp_path):
    record = json.loads(json.dumps(assemble(rows, ["dog"], QUICK, {}), allow_nan=False))
    draw(record, tmp_path / "accuracy.png")
    assert (tmp_path / "accuracy.png").stat().st_size > 20_000
