import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.detection.engines import families, movie, score_family, table_of
from benchmarks.detection.engines_figure import draw


def test_there_are_three_families_that_anyone_can_draw_and_those_of_a_folder_where_it_has_them(tmp_path):
    made = families(tmp_path)
    assert {name: len(family.sets) for name, family in made.items()} == {
        "challenge": 9,
        "DeepSpot, simulated": 20,
        "detectSpot A, B": 18,
    }
    (tmp_path / "bbbc039").mkdir()
    (tmp_path / "bbbc039" / "nuclei.csv").write_text("image,y,x,radius_px\n", encoding="utf-8")
    (tmp_path / "deepspot_test" / "dataset1" / "test").mkdir(parents=True)
    assert list(families(tmp_path))[3:] == ["DeepSpot's pairs", "BBBC039"]


def test_a_frame_comes_with_the_two_before_it():
    examples = list(movie("vesicle", 4.0, 5, 2))
    assert [len(frames) for frames, _ in examples] == [3, 3]
    assert len(examples[0][1]) == pytest.approx(500, abs=80)


def test_figures_are_means_over_sets_and_are_drawn(tmp_path):
    rows = [score_family(engine, "detectSpot A, B", tmp_path, 1, 2) for engine in ("denodet", "unet")]
    for row in rows:
        assert list(row["sets"]) == ["A SNR 10", "A SNR 8"]
        assert row["f1"] == pytest.approx(np.mean(list(row["sets"].values())))
        assert row["f1"] > 0.9
        assert row["cpu_ms"] > 0
    assert table_of(rows).row_count == 2
    draw(json.loads(json.dumps({"rows": rows})), tmp_path / "engines.png")
    assert Image.open(tmp_path / "engines.png").size[0] > 300
