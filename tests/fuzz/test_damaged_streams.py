"""The stream that a killed run leaves, damaged: what is recovered is true, row by row, and what is not is said."""

import shutil

import pandas as pd
import pytest

from streamtrack.errors import StreamtrackError
from streamtrack.recovery import recover
from streamtrack.sinks import tables
from streamtrack.testing.sinks import example_results, example_source


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Return the folder of a run that was killed, with a batch for each frame, and all its rows."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_FLUSH_NS", 0)
        sink = tables.TableSink()
        (folder / "run").mkdir()
        sink.open(folder / "run", example_source())
        for result in example_results():
            sink.write(result)
    whole = shutil.copytree(folder / "run", folder / "whole")
    recover(whole)
    return folder / "run", pd.read_parquet(whole / "detections.parquet")


@pytest.mark.inputs(15)
def test_rows_of_a_damaged_stream_are_true_or_counted_as_lost(killed, damage, outcome, tmp_path):
    folder, truth = killed
    copy = shutil.copytree(folder, tmp_path / "run")
    damage(copy / tables.PARTIAL)
    report = outcome(lambda: recover(copy))
    if isinstance(report, StreamtrackError):
        return
    rows = pd.read_parquet(copy / "detections.parquet")
    assert len(rows.merge(truth)) == len(rows) == report["detections"]
    assert len(rows) == len(truth) or report["remarks"]
