import sys

import numpy as np
import pytest
from geff import GeffMetadata, validate_structure
from geff.core_io import read_to_memory, write_arrays
from geff.validate.data import ValidationConfig

from streamtrack.errors import ConfigError
from streamtrack.formats.geff import MEMBERS, write_geff
from streamtrack.formats.tables import read_tracks

EVERYTHING = ValidationConfig(graph=True, lineage=True, tracklet=True)


def test_geff_reads_our_graph_back_and_finds_it_valid(awkward, tmp_path):
    write_geff(awkward, tmp_path / "a.geff")
    validate_structure(tmp_path / "a.geff")
    graph = read_to_memory(tmp_path / "a.geff", data_validation=EVERYTHING)
    assert graph["node_ids"].tolist() == list(range(8))
    assert graph["edge_ids"].tolist() == [[0, 1], [1, 2], [4, 5], [5, 6]]
    values = {name: prop["values"].tolist() for name, prop in graph["node_props"].items()}
    assert values == {
        "t": [0, 1, 4, 4, 2, 5, 6, 3],
        "particle": [2, 2, 2, 7, 40, 40, 40, 41],
        "y": [10, 11, 14, 33.125, 30, 60, 61, 0],
        "x": [20, 20, 26, 44.25, 6.5, 12.5, 13.5, 511],
        "score": [0.9, 0.8, 0.7, 0.6, 1.0, 0.5, 0.4, 0.25],
    }
    assert {path.name for path in (tmp_path / "a.geff").iterdir()} <= MEMBERS


def test_a_crowd_is_valid(crowd, tmp_path):
    write_geff(crowd, tmp_path / "a.geff")
    graph = read_to_memory(tmp_path / "a.geff", data_validation=EVERYTHING)
    assert len(graph["node_ids"]) == len(crowd)
    assert len(graph["edge_ids"]) == len(crowd) - crowd["particle"].nunique()


def test_axes_have_units_and_scales(awkward, tmp_path):
    write_geff(awkward, tmp_path / "a.geff")
    axes = {axis.name: axis for axis in GeffMetadata.read(tmp_path / "a.geff").axes}
    assert list(axes) == ["t", "y", "x"]
    assert (axes["t"].unit, axes["t"].scale, axes["t"].scaled_unit) == ("frame", 0.05, "second")
    for name in "yx":
        assert (axes[name].unit, axes[name].scale, axes[name].scaled_unit) == ("pixel", 0.16, "micrometer")


def test_the_origin_is_the_offset_of_the_axes(awkward, tmp_path):
    awkward.attrs |= {"origin_y_um": 0.05, "origin_x_um": -3.0}
    write_geff(awkward, tmp_path / "a.geff")
    axes = {axis.name: axis for axis in GeffMetadata.read(tmp_path / "a.geff").axes}
    assert (axes["y"].offset, axes["x"].offset, axes["t"].offset) == (0.05, -3.0, None)


def test_a_graph_of_another_program_is_read(tmp_path):
    """Axes in micron under other names, no tracklets, a division, a value that is missing."""
    metadata = GeffMetadata.model_validate(
        {
            "directed": True,
            "axes": [
                {"name": "time", "type": "time", "unit": "frame", "scale": 2.0, "scaled_unit": "second"},
                {"name": "Y", "type": "space", "unit": "micrometer"},
                {"name": "X", "type": "space", "unit": "micrometer"},
            ],
            "node_props_metadata": {},
            "edge_props_metadata": {},
        }
    )
    values = {"time": [0, 1, 2, 2], "Y": [1.0, 1.5, 2.0, 1.0], "X": [3.0, 3.0, 4.0, 2.0]}
    properties = {name: {"values": np.array(each), "missing": None} for name, each in values.items()}
    properties["area"] = {"values": np.array([5, 6, 7, 0]), "missing": np.array([False, False, False, True])}
    edges = np.array([[70, 60], [60, 50], [60, 40]])
    write_arrays(tmp_path / "a.geff", np.array([70, 60, 50, 40]), properties, edges, {}, metadata)
    with pytest.raises(ConfigError, match=r"positions in micrometer.* --pixel-size"):
        read_tracks(tmp_path / "a.geff")
    table = read_tracks(tmp_path / "a.geff", pixel_size_um=0.5)
    assert table[["frame", "particle", "parent"]].to_numpy().tolist() == [[0, 0, -1], [1, 0, -1], [2, 1, 0], [2, 2, 0]]
    assert table[["y", "x"]].to_numpy().tolist() == [[2, 6], [3, 6], [4, 8], [2, 4]]
    assert table["area"].tolist()[:3] == [5, 6, 7]
    assert np.isnan(table["area"].iloc[3])
    assert table.attrs == {"pixel_size_um": 0.5, "frame_interval_s": 2.0}


def test_what_is_no_geff_is_refused_in_one_line(tmp_path):
    (tmp_path / "a.geff").mkdir()
    with pytest.raises(ConfigError, match=r"a\.geff is no GEFF that can be read") as caught:
        read_tracks(tmp_path / "a.geff")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"no such folder"):
        read_tracks(tmp_path / "b.geff")


def test_unknown_units_leave_no_scale(awkward, tmp_path):
    awkward.attrs = {}
    write_geff(awkward, tmp_path / "a.geff")
    for axis in GeffMetadata.read(tmp_path / "a.geff").axes:
        assert axis.scale is None
        assert axis.scaled_unit is None


def test_columns_that_geff_cannot_hold_are_left_out(awkward, tmp_path):
    table = awkward.assign(label="a", mass=np.float32(2), flag=True, half=np.float16(1)).rename(
        columns={"score": "../up"}
    )
    write_geff(table, tmp_path / "in" / "a.geff")
    assert set(read_to_memory(tmp_path / "in" / "a.geff")["node_props"]) == {"t", "particle", "y", "x", "mass"}
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_only_single_spots_make_a_graph_without_edges(awkward, tmp_path):
    write_geff(awkward[awkward["particle"].isin([7, 41])], tmp_path / "a.geff")
    graph = read_to_memory(tmp_path / "a.geff", data_validation=EVERYTHING)
    assert graph["edge_ids"].shape == (0, 2)
    assert len(graph["node_ids"]) == 2


def test_a_missing_package_is_named_with_the_cure(awkward, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "geff.core_io", None)  # what the import system makes of a missing package
    with pytest.raises(ConfigError, match=r'pip install "\.\[geff\]"'):
        write_geff(awkward, tmp_path / "a.geff")
