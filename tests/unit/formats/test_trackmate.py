from xml.etree import ElementTree

import numpy as np
import pytest
from geff.convert import from_trackmate_xml_to_geff
from geff.core_io import read_to_memory

from streamtrack.formats.geff import write_geff
from streamtrack.formats.trackmate import RADIUS_PX, write_trackmate


def model(table, path):
    write_trackmate(table, path)
    return ElementTree.parse(path).getroot().find("Model")


@pytest.mark.filterwarnings("ignore::UserWarning")  # the converter misses Settings, which TrackMate does not
@pytest.mark.parametrize("name", ["awkward", "crowd"])
def test_geffs_converter_gets_from_our_xml_the_graph_that_we_write_as_geff(name, request, tmp_path):
    table = request.getfixturevalue(name)
    pixel_size, interval = table.attrs.get("pixel_size_um", 1), table.attrs.get("frame_interval_s", 1)
    write_trackmate(table, tmp_path / "a.xml")
    from_trackmate_xml_to_geff(tmp_path / "a.xml", tmp_path / "theirs.geff")
    write_geff(table, tmp_path / "ours.geff")
    theirs, ours = read_to_memory(tmp_path / "theirs.geff"), read_to_memory(tmp_path / "ours.geff")

    order = np.argsort(theirs["node_ids"])
    their = {name: prop["values"][order] for name, prop in theirs["node_props"].items()}
    our = {name: prop["values"] for name, prop in ours["node_props"].items()}
    np.testing.assert_array_equal(theirs["node_ids"][order], ours["node_ids"])
    np.testing.assert_array_equal(their["FRAME"], our["t"])
    np.testing.assert_allclose(their["POSITION_X"], our["x"] * pixel_size, atol=1e-6)
    np.testing.assert_allclose(their["POSITION_Y"], our["y"] * pixel_size, atol=1e-6)
    np.testing.assert_allclose(their["POSITION_T"], our["t"] * interval, rtol=1e-8)
    assert sorted(theirs["edge_ids"].tolist()) == sorted(ours["edge_ids"].tolist())
    linked = np.unique(ours["edge_ids"])
    np.testing.assert_array_equal(their["TRACK_ID"][linked], our["particle"][linked])


def test_units_are_those_of_the_table_or_pixels_and_frames(awkward, tmp_path):
    known = model(awkward, tmp_path / "a.xml")
    assert known.attrib == {"spatialunits": "micron", "timeunits": "sec"}
    assert known.find(".//Spot").get("RADIUS") == f"{0.16 * RADIUS_PX:g}"
    awkward.attrs = {}
    unknown = model(awkward, tmp_path / "b.xml")
    assert unknown.attrib == {"spatialunits": "pixel", "timeunits": "frame"}
    last = unknown.findall(".//Spot")[-1]
    assert (last.get("POSITION_X"), last.get("POSITION_T"), last.get("RADIUS")) == ("13.500000", "6", "2.5")


def test_single_spots_are_spots_but_no_tracks(awkward, tmp_path):
    read = model(awkward, tmp_path / "a.xml")
    assert read.find("AllSpots").get("nspots") == "8"
    assert len(read.findall("AllSpots/SpotsInFrame/Spot")) == 8
    tracks = read.findall("AllTracks/Track")
    assert [(track.get("name"), track.get("TRACK_ID"), track.get("TRACK_INDEX"), len(track)) for track in tracks] == [
        ("Track_2", "2", "0", 2),
        ("Track_40", "40", "1", 2),
    ]
    assert [track.get("TRACK_ID") for track in read.findall("FilteredTracks/TrackID")] == ["2", "40"]


def test_the_reader_finds_every_section_and_declaration_it_asks_for(awkward, tmp_path):
    read = model(awkward, tmp_path / "a.xml")
    assert ElementTree.parse(tmp_path / "a.xml").getroot().get("version") >= "2.1.0"
    assert [section.tag for section in read] == ["FeatureDeclarations", "AllSpots", "AllTracks", "FilteredTracks"]
    declared = {feature.get("feature") for feature in read.findall("FeatureDeclarations/SpotFeatures/Feature")}
    assert set(read.find(".//Spot").attrib) - {"ID", "name"} == declared
    declared = {feature.get("feature") for feature in read.findall("FeatureDeclarations/EdgeFeatures/Feature")}
    assert set(read.find(".//Edge").attrib) == declared
    frames = [int(frame.get("frame")) for frame in read.findall("AllSpots/SpotsInFrame")]
    assert frames == [0, 1, 2, 3, 4, 5, 6]


def test_quality_is_the_score_or_one(awkward, tmp_path):
    scored = [float(spot.get("QUALITY")) for spot in model(awkward, tmp_path / "a.xml").findall(".//Spot")]
    assert scored == [0.9, 0.8, 1.0, 0.25, 0.7, 0.6, 0.5, 0.4]
    plain = model(awkward.drop(columns="score"), tmp_path / "b.xml")
    assert {spot.get("QUALITY") for spot in plain.findall(".//Spot")} == {"1"}
