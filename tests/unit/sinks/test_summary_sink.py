"""A row a track: against formulas, trackpy, and what was simulated."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trackpy.motion import imsd

from streamtrack.config import RunConfig
from streamtrack.errors import SinkError
from streamtrack.session import Session
from streamtrack.sinks.summary import SUMMARIES, SummarySink, mean_square_displacements, summaries, summarised
from streamtrack.testing.sinks import example_source


def walks(n=300, n_frames=60, diffusion=0.8, interval=0.1, error_px=0.3, velocity=0.0, seed=0):
    """Brownian walks, seen with an error of localisation."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, np.sqrt(2 * diffusion * interval), (n, n_frames, 2))
    steps[..., 0] += velocity * interval
    places = steps.cumsum(axis=1) + rng.normal(0, error_px, steps.shape)
    particle, frame = (each.ravel() for each in np.indices((n, n_frames)))
    y, x = places.reshape(-1, 2).T
    table = pd.DataFrame({"particle": particle, "frame": frame, "y": y, "x": x, "mass": 10.0 * particle})
    return table.sample(frac=1, random_state=seed)


def columns(table):
    return {name: table[name].to_numpy() for name in table}


def test_free_diffusion_is_found_whatever_the_error_of_localisation():
    found = summarised(columns(walks(n=3000, error_px=0.5)), 0.1)
    assert np.mean(found["diffusion"]) == pytest.approx(0.8, rel=0.03)
    exact = summarised(columns(walks(error_px=0)), 0.1)
    assert np.median(exact["alpha"]) == pytest.approx(1, abs=0.06)
    assert np.median(summarised(columns(walks(velocity=40)), 0.1)["alpha"]) == pytest.approx(2, abs=0.05)


def test_gaps_and_steps_of_other_tracks_count_nothing():
    whole = walks()
    gaps = whole[whole["frame"] % 7 != 3]
    assert np.mean(summarised(columns(gaps), 0.1)["diffusion"]) == pytest.approx(0.8, rel=0.05)


def test_mean_square_displacements_are_those_of_trackpy():
    table = walks(n=5).sort_values(["particle", "frame"])
    rows = columns(table)
    found = mean_square_displacements(rows["particle"], rows["frame"], rows["y"], rows["x"], 5)
    np.testing.assert_allclose(found, imsd(table, mpp=1, fps=1, max_lagtime=10).to_numpy(), rtol=1e-9)


def test_a_short_track_by_hand():
    rows = pd.DataFrame({"particle": [7, 7, 7, 9], "frame": [2, 3, 5, 4], "y": [0.0, 3, 3, 1], "x": [0.0, 4, 16, 1]})
    found = summarised(columns(rows.assign(mass=[1.0, 2, 6, 5])))
    assert found["particle"].tolist() == [7, 9]
    assert found["detections"].tolist() == [3, 1]
    assert (found["start_frame"].tolist(), found["end_frame"].tolist()) == ([2, 4], [5, 4])
    assert found["path_px"].tolist() == [17, 0]
    assert found["net_displacement_px"][0] == pytest.approx(np.hypot(3, 16))
    assert found["confinement_ratio"][0] == pytest.approx(np.hypot(3, 16) / 17)
    assert found["mean_speed"][0] == pytest.approx(17 / 3)
    assert found["mean_mass"].tolist() == [3, 5]
    for name in ("mean_speed", "confinement_ratio", "diffusion", "alpha"):
        assert np.isnan(found[name][1])


def write_tracks(folder, table, **metadata):
    rows = pa.Table.from_pandas(table.sort_values(["frame", "particle"]), preserve_index=False)
    pq.write_table(rows.replace_schema_metadata(metadata), folder / "tracks.parquet", row_group_size=1000)


def test_what_is_written(tmp_path):
    write_tracks(tmp_path, walks(n=30), pixel_size_um="0.5", frame_interval_s="0.1", time_unit="s")
    sink = SummarySink()
    sink.open(tmp_path, example_source())
    sink.close()
    table, text = pd.read_parquet(tmp_path / SUMMARIES[0]), pd.read_csv(tmp_path / SUMMARIES[1])
    assert table["particle"].tolist() == list(range(30))
    np.testing.assert_allclose(table["diffusion_um2_s"], table["diffusion"] / 4)
    np.testing.assert_allclose(table["mean_speed_um_s"], table["path_um"] / table["duration"])
    pd.testing.assert_frame_equal(table, text, atol=1e-6, check_dtype=False)


def test_parts_make_the_same_table(tmp_path):
    write_tracks(tmp_path, walks(n=30))
    in_parts = pd.concat([each.to_pandas() for each in summaries(tmp_path / "tracks.parquet", rows_at_once=200)])
    at_once = pd.concat([each.to_pandas() for each in summaries(tmp_path / "tracks.parquet")])
    pd.testing.assert_frame_equal(in_parts.reset_index(drop=True), at_once.reset_index(drop=True))
    assert len(in_parts) == 30


def test_parts_of_tracks_that_come_and_go_leave_no_file(tmp_path):
    table = walks(n=700, n_frames=12)
    table["frame"] += table["particle"] * 3 % 500
    table["particle"] = table["particle"] * 1_000_003 % 2**40  # numbers in no order, far apart
    write_tracks(tmp_path, table)
    with pq.ParquetFile(tmp_path / "tracks.parquet") as file:
        assert file.metadata.num_rows > 5000
    in_parts = pd.concat([each.to_pandas() for each in summaries(tmp_path / "tracks.parquet", rows_at_once=90)])
    at_once = pd.concat([each.to_pandas() for each in summaries(tmp_path / "tracks.parquet")])
    pd.testing.assert_frame_equal(in_parts.reset_index(drop=True), at_once.reset_index(drop=True))
    assert [path.name for path in tmp_path.iterdir()] == ["tracks.parquet"]


def test_no_tracks_and_no_tables(tmp_path):
    sink = SummarySink()
    sink.open(tmp_path, example_source())
    with pytest.raises(SinkError, match="needs the sink 'tables'"):
        sink.close()
    write_tracks(tmp_path, walks(n=1).iloc[:0])
    sink.close()
    assert len(pd.read_parquet(tmp_path / SUMMARIES[0])) == 0


def test_in_a_run_the_tracks_are_there_by_then(tmp_path):
    source = {"kind": "sim", "scenario": "vesicle", "frames": 12, "size": 64, "snr": 7}
    tables = {"source": source, "engine": {"kind": "denodet", "threads": 1}, "sinks": [{"kind": "tables"}]}
    report = Session(RunConfig.model_validate(tables), tmp_path, sinks={"summary": SummarySink()}).run()
    assert report["status"] == "completed"
    tracks, summary = (pd.read_parquet(tmp_path / name) for name in ("tracks.parquet", SUMMARIES[0]))
    assert summary["particle"].tolist() == sorted(tracks["particle"].unique())
    assert summary["detections"].sum() == len(tracks)
