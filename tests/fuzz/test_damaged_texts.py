"""Configurations, tables, XML and reports, damaged: a result, or one line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streamtrack.config import RunConfig, read_toml, validate
from streamtrack.formats.ptc_xml import write_ptc
from streamtrack.formats.tables import read_tracks, write_csv, write_parquet
from streamtrack.report import read_report
from streamtrack.results import Results

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))


@pytest.mark.inputs(50)
def test_a_damaged_configuration_is_one_or_is_refused(seed, damage, outcome, tmp_path):
    example = EXAMPLES[seed % len(EXAMPLES)]
    path = tmp_path / "run.toml"
    path.write_bytes(example.read_bytes())
    damage(path)
    outcome(lambda: validate(RunConfig, read_toml(path), str(path)))


TRACKS = pd.DataFrame(
    {
        "frame": np.tile(np.arange(20), 3),
        "particle": np.repeat([0, 1, 7], 20),
        "y": 10 + np.linspace(0, 5, 60),
        "x": 7.25,
    }
)
WRITERS = {"a.csv": write_csv, "a.parquet": write_parquet, "a.xml": write_ptc}


@pytest.mark.inputs(60)
def test_a_damaged_table_is_finite_and_whole_or_is_refused(seed, damage, outcome, tmp_path):
    name = list(WRITERS)[seed % len(WRITERS)]
    WRITERS[name](TRACKS, tmp_path / name)
    damage(tmp_path / name)
    table = outcome(lambda: read_tracks(tmp_path / name))
    if isinstance(table, pd.DataFrame):
        assert table["frame"].dtype == np.int64
        assert np.isfinite(table[["y", "x"]]).all(axis=None)


@pytest.mark.inputs(20)
def test_a_damaged_report_is_one_or_is_refused(damage, outcome, tmp_path):
    frames = {"processed": 3, "lost": 0, "lost_by_cause": {}, "lost_frames": []}
    report = {"status": "completed", "frames": frames, "config": {"source": {"kind": "sim"}}, "detections": 7}
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    damage(tmp_path / "report.json")
    outcome(lambda: read_report(tmp_path))
    outcome(lambda: repr(Results(tmp_path)))
