"""What goes out in each format comes back: all but what the page of files says is lost."""

import json

import numpy as np
import pandas as pd
import pytest

from streamtrack.formats.geff import write_geff
from streamtrack.formats.napari import write_napari, write_napari_points, write_napari_tracks
from streamtrack.formats.ptc_xml import write_ptc, write_simple_tracks
from streamtrack.formats.tables import read_tracks, write_csv, write_parquet
from streamtrack.formats.text_exports import write_thunderstorm, write_trackmate_table
from streamtrack.formats.trackmate import write_trackmate
from streamtrack.metrics.ptc import fill_gaps

UNITS = {"pixel_size_um": 0.16, "frame_interval_s": 0.05, "origin_y_um": 12.5, "origin_x_um": -3.25}
MEASURED = ["score", "sigma", "mass", "intensity", "time_s"]
ALL = {*MEASURED, "kind"}
NONE = set()


def write_filled(table, path):
    write_ptc(fill_gaps(table), path)


FORMATS = {  # how it is written; error of positions, px; columns, units and what else comes back
    "parquet": (write_parquet, ".parquet", 0, ALL, set(UNITS), True),
    "csv, as trackpy's": (write_csv, ".csv", 5.1e-5, ALL, NONE, True),
    "TrackMate": (write_trackmate, ".xml", 3.2e-6, ALL, set(UNITS), True),
    "TrackMate's table": (write_trackmate_table, ".csv", 1e-9, ALL, {"frame_interval_s"}, True),
    "TrackMate's simple XML": (write_simple_tracks, ".xml", 3.2e-6, NONE, {"frame_interval_s"}, False),
    "GEFF": (write_geff, ".geff", 0, ALL, set(UNITS), True),
    "napari": (write_napari, ".npy", 0, NONE, NONE, True),
    "napari's points": (write_napari_points, ".csv", 0, ALL, NONE, True),
    "napari's tracks": (write_napari_tracks, ".csv", 0, ALL, NONE, True),
    "ThunderSTORM": (write_thunderstorm, ".csv", 1e-9, ALL, NONE, True),
    "Particle Tracking Challenge": (write_filled, ".xml", 5.1e-4, NONE, NONE, False),
}


def by_track(table):
    return table.sort_values(["particle", "frame"], ignore_index=True)


@pytest.fixture
def tracks():
    """40 tracks of 3 to 12 frames with a gap each, and what is measured of them."""
    rng = np.random.default_rng(3)
    spans = [np.delete(np.arange(n) + particle, 1) for particle, n in enumerate(rng.integers(4, 13, 40))]
    frame = np.concatenate(spans)
    table = pd.DataFrame({"frame": frame, "particle": np.repeat(3 * np.arange(40), [len(each) for each in spans])})
    table[["y", "x"]] = rng.uniform(0, 512, (len(table), 2))
    table = table.assign(**{name: rng.uniform(0.5, 900, len(table)) for name in MEASURED}, kind=frame % 3)
    table["time_s"] = table["frame"] * 0.05
    table.loc[::7, "intensity"] = np.nan  # not measured
    table.attrs = {**UNITS, "units": {"intensity": "counts"}}
    return table.sample(frac=1, random_state=2)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_gives_back_what_it_holds(tracks, tmp_path, name):
    write, ending, error_px, columns, units, keeps_ids = FORMATS[name]
    path = tmp_path / f"tracks{ending}"
    write(tracks, path)
    size = UNITS["pixel_size_um"] if "pixel_size_um" not in units else None
    back = by_track(read_tracks(path, pixel_size_um=size))
    expected = by_track(fill_gaps(tracks) if write is write_filled else tracks)
    if not keeps_ids:
        expected["particle"] = pd.factorize(expected["particle"])[0]
    pd.testing.assert_frame_equal(back[["frame", "particle"]], expected[["frame", "particle"]])
    np.testing.assert_allclose(back[["y", "x"]], expected[["y", "x"]], rtol=1e-12, atol=error_px)
    for column in columns:
        np.testing.assert_allclose(back[column], expected[column], rtol=1e-8, err_msg=column)
    assert columns >= ALL & set(back) - {"time_s"}, "more than the table of formats says"
    for unit in units:
        assert back.attrs[unit] == pytest.approx(UNITS[unit]), unit
    if size is None:
        assert {unit for unit in UNITS if unit in back.attrs} == units


def test_lengths_and_their_units_survive_trackmate(tracks, tmp_path):
    tracks = tracks.assign(width=1.5)
    tracks.attrs["units"] = {"intensity": "counts", "width": "px"}
    write_trackmate(tracks, tmp_path / "a.xml")
    back = read_tracks(tmp_path / "a.xml")
    np.testing.assert_allclose(back["width"], 1.5)
    assert back.attrs["units"] == {"width": "px"}


@pytest.fixture
def branching():
    """Track 4 divides into 5 and 9 after frame 2; 9 and 7 merge into 6 after frame 4, and 8 after frame 3, too."""
    spans = {4: (0, 3), 5: (3, 6), 9: (3, 5), 7: (0, 5), 8: (1, 4), 6: (5, 8), 2: (0, 4)}
    rows = [(f, p, 10.0 * p + f, p) for p, span in spans.items() for f in range(*span)]
    table = pd.DataFrame(rows, columns=["frame", "particle", "y", "x"])
    others = {"parent": {5: 4, 9: 4}, "merged_into": {9: 6, 7: 6, 8: 6}}
    return table.assign(**{name: [each.get(p, -1) for p in table["particle"]] for name, each in others.items()})


@pytest.mark.parametrize(
    ("write", "ending", "keeps_ids"),
    [
        (write_geff, ".geff", True),
        (write_trackmate, ".xml", False),
        (write_parquet, ".parquet", True),
        (write_csv, ".csv", True),
    ],
)
def test_what_tracks_came_out_of_comes_back(branching, tmp_path, write, ending, keeps_ids):
    write(branching, tmp_path / f"a{ending}")
    back = read_tracks(tmp_path / f"a{ending}").sort_values(["frame", "y", "x"], ignore_index=True)
    expected = branching.sort_values(["frame", "y", "x"], ignore_index=True)
    columns = ["particle", "parent", "merged_into"]
    if keeps_ids:
        assert back[columns].equals(expected[columns])
    number = dict(zip(expected["particle"], back["particle"], strict=True)) | {-1: -1}
    assert len(set(number.values())) == 8
    for name in columns:
        assert back[name].tolist() == expected[name].map(number).tolist()


def test_a_table_in_the_folder_of_a_run_has_the_runs_calibration(tracks, tmp_path):
    source = {"name": "movie.tif", "shape": [64, 96], "pixel_size_um": 0.25, "frame_interval_s": 0.1}
    source |= {"origin_um": [1.5, 2.5]}
    (tmp_path / "report.json").write_text(json.dumps({"status": "completed", "source": source}))
    write_csv(tracks, tmp_path / "tracks.csv")
    known = read_tracks(tmp_path / "tracks.csv").attrs
    assert known == {
        **{"pixel_size_um": 0.25, "frame_interval_s": 0.1, "origin_y_um": 1.5, "origin_x_um": 2.5},
        **{"source": "movie.tif", "shape": (64, 96)},
    }
    write_trackmate_table(tracks, tmp_path / "spots.csv")  # micron, which asks for a pixel size
    assert np.isfinite(read_tracks(tmp_path / "spots.csv")["y"]).all()
    assert read_tracks(tmp_path / "tracks.csv", pixel_size_um=0.5).attrs["pixel_size_um"] == 0.5
