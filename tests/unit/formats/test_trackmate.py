from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import pytrackmate
from geff.convert import from_trackmate_xml_to_geff
from geff.core_io import read_to_memory

from streamtrack.errors import ConfigError
from streamtrack.formats.geff import write_geff
from streamtrack.formats.tables import read_tracks
from streamtrack.formats.trackmate import write_trackmate
from streamtrack.formats.trackmate_features import RADIUS_PX


def model(table, path):
    write_trackmate(table, path)
    return ElementTree.parse(path).getroot().find("Model")


@pytest.mark.filterwarnings("ignore::UserWarning")  # TrackMate's own word is micron, too
@pytest.mark.parametrize("name", ["awkward", "crowd"])
def test_geffs_converter_gets_from_our_xml_the_graph_that_we_write_as_geff(name, request, tmp_path):
    table = request.getfixturevalue(name)
    table.attrs["source"] = str(tmp_path / "movie.tif")
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
    sections = [section.tag for section in ElementTree.parse(tmp_path / "a.xml").getroot()]
    assert sections == ["Log", "Model", "Settings", "GUIState", "DisplaySettings"]
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


def settings(table, path):
    write_trackmate(table, path)
    return ElementTree.parse(path).getroot().find("Settings")


def test_the_image_opens_with_it(awkward, tmp_path):
    (tmp_path / "movie.tif").write_bytes(b"")
    awkward.attrs |= {"source": str(tmp_path / "movie.tif"), "shape": (64, 600), "frames": 9}
    image = settings(awkward, tmp_path / "a.xml").find("ImageData").attrib
    assert image == {
        **{"filename": "movie.tif", "folder": str(tmp_path), "width": "600", "height": "64"},
        **{"nslices": "1", "nframes": "9", "pixelwidth": "0.16", "pixelheight": "0.16", "voxeldepth": "1.0"},
        **{"timeinterval": "0.05", "xorigin": "0.0", "yorigin": "0.0"},
    }


def test_without_a_file_its_size_is_that_of_the_tracks(awkward, tmp_path):
    awkward.attrs = {"source": "sim:vesicle?snr=4"}
    image = settings(awkward, tmp_path / "a.xml").find("ImageData").attrib
    assert (image["filename"], image["width"], image["height"], image["nframes"]) == ("", "513", "63", "7")
    assert (image["pixelwidth"], image["timeinterval"]) == ("1.0", "1.0")


def test_all_settings_are_there_without_which_trackmate_fails(awkward, tmp_path):
    read = settings(awkward, tmp_path / "a.xml")
    assert read.find("InitialSpotFilter").attrib == {"feature": "QUALITY", "value": "-1.0", "isabove": "true"}
    needed = {"BasicSettings", "DetectorSettings", "SpotFilterCollection", "TrackerSettings", "TrackFilterCollection"}
    assert needed < {each.tag for each in read}
    analyzers = [each.tag for each in read.find("AnalyzerCollection")]
    assert analyzers == ["SpotAnalyzers", "EdgeAnalyzers", "TrackAnalyzers"]
    assert ElementTree.parse(tmp_path / "a.xml").getroot().find("GUIState").get("state") == "ConfigureViews"


def test_positions_have_the_origin_of_the_movie_but_of_an_image_that_trackmate_opens(awkward, tmp_path):
    awkward.attrs |= {"origin_y_um": 0.05, "origin_x_um": 40.0, "source": "movie.ome.zarr"}
    spot = model(awkward, tmp_path / "a.xml").find(".//Spot")  # y 10, x 20 px
    assert (float(spot.get("POSITION_Y")), float(spot.get("POSITION_X"))) == pytest.approx((1.65, 43.2))
    awkward.attrs |= {"source": "movie.ome.tif"}
    spot = model(awkward, tmp_path / "b.xml").find(".//Spot")
    assert (float(spot.get("POSITION_Y")), float(spot.get("POSITION_X"))) == pytest.approx((1.6, 3.2))


def test_pytrackmate_reads_spots_and_tracks(awkward, tmp_path):
    awkward["diffusion"] = [np.nan, *range(7)]  # not known in a track's first frame
    write_trackmate(awkward, tmp_path / "a.xml")
    assert 'DIFFUSION="NaN"' in (tmp_path / "a.xml").read_text(), "as Java writes it; every spot has every feature"
    spots = pytrackmate.trackmate_peak_import(tmp_path / "a.xml", get_tracks=True)
    expected = awkward.sort_values(["frame", "particle"], ignore_index=True)
    assert spots["t_stamp"].tolist() == expected["frame"].tolist()
    np.testing.assert_allclose(spots[["y", "x"]], expected[["y", "x"]] * 0.16, atol=1e-6)
    np.testing.assert_allclose(spots["t"], expected["frame"] * 0.05)
    linked = expected["particle"].isin([2, 40])  # the others have one spot
    assert spots["label"][linked].nunique() == 2
    assert (spots["label"][linked].astype(int) == pd.factorize(expected["particle"][linked])[0]).all()


def test_what_trackmate_saves_is_read(tmp_path):
    """Edges in either direction, a hidden track, a spot on none, and features that it measured."""
    (tmp_path / "a.xml").write_text(SAVED, encoding="utf-8")
    table = read_tracks(tmp_path / "a.xml")
    assert table[["frame", "particle", "y", "x"]].to_numpy().tolist() == [[0, 3, 4, 2], [1, 3, 6, 3]]
    assert table["score"].tolist() == [9.5, 8.5]
    assert table["mean_intensity_ch1"].tolist() == [100, 120]
    assert table["time_s"].tolist() == [0, 0.1]
    known = {"pixel_size_um": 0.25, "frame_interval_s": 0.1, "shape": (64, 96), "frames": 2}
    assert table.attrs == {**known, "source": str(Path("/data", "m.tif"))}


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ('POSITION_X="left"', 'POSITION_X="0.5"', r"whose POSITION_X is no number; save it anew in TrackMate"),
        ("", ' FRAME="0"', "whose FRAME is no number"),
        ('TRACK_ID="one"', 'TRACK_ID="3"', "whose TRACK_ID is no number"),
        ("", "</TrackMate>", "not whole XML"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><TrackMate", "<TrackMate", "DOCTYPE"),
    ],
)
def test_a_damaged_file_of_trackmate_is_refused_in_one_line(tmp_path, wrong, right, message):
    (tmp_path / "a.xml").write_text(SAVED.replace(right, wrong, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        read_tracks(tmp_path / "a.xml")
    assert "\n" not in str(caught.value)


SAVED = """<TrackMate version="7.13.2"><Log>Saved.</Log>
<Model spatialunits="micron" timeunits="sec"><FeatureDeclarations><SpotFeatures>
<Feature feature="QUALITY" name="Quality" shortname="Quality" dimension="QUALITY" isint="false" />
<Feature feature="POSITION_X" name="X" shortname="X" dimension="POSITION" isint="false" />
<Feature feature="POSITION_Y" name="Y" shortname="Y" dimension="POSITION" isint="false" />
<Feature feature="POSITION_Z" name="Z" shortname="Z" dimension="POSITION" isint="false" />
<Feature feature="POSITION_T" name="T" shortname="T" dimension="TIME" isint="false" />
<Feature feature="FRAME" name="Frame" shortname="Frame" dimension="NONE" isint="true" />
<Feature feature="RADIUS" name="Radius" shortname="R" dimension="LENGTH" isint="false" />
<Feature feature="MEAN_INTENSITY_CH1" name="Mean" shortname="Mean" dimension="INTENSITY" isint="false" />
</SpotFeatures><EdgeFeatures /><TrackFeatures /></FeatureDeclarations>
<AllSpots nspots="5"><SpotsInFrame frame="0">
<Spot ID="11" name="ID11" QUALITY="9.5" POSITION_X="0.5" POSITION_Y="1.0" POSITION_Z="0.0" POSITION_T="0.0" FRAME="0"
 RADIUS="0.3" MEAN_INTENSITY_CH1="100" MANUAL_SPOT_COLOR="-1" />
<Spot ID="14" name="ID14" QUALITY="1" POSITION_X="9" POSITION_Y="9" POSITION_Z="0" POSITION_T="0" FRAME="0" />
</SpotsInFrame><SpotsInFrame frame="1">
<Spot ID="12" name="ID12" QUALITY="8.5" POSITION_X="0.75" POSITION_Y="1.5" POSITION_Z="0" POSITION_T="0.1" FRAME="1"
 RADIUS="0.3" MEAN_INTENSITY_CH1="120" />
<Spot ID="15" name="ID15" QUALITY="1" POSITION_X="9" POSITION_Y="9" POSITION_Z="0" POSITION_T="0.1" FRAME="1" />
<Spot ID="16" name="ID16" QUALITY="1" POSITION_X="5" POSITION_Y="5" POSITION_Z="0" POSITION_T="0.1" FRAME="1" />
</SpotsInFrame></AllSpots>
<AllTracks><Track name="Track_3" TRACK_ID="3" TRACK_INDEX="0"><Edge SPOT_SOURCE_ID="12" SPOT_TARGET_ID="11" /></Track>
<Track name="Track_5" TRACK_ID="5" TRACK_INDEX="1"><Edge SPOT_SOURCE_ID="14" SPOT_TARGET_ID="15" /></Track></AllTracks>
<FilteredTracks><TrackID TRACK_ID="3" /></FilteredTracks></Model>
<Settings><ImageData filename="m.tif" folder="/data" width="96" height="64" nslices="1" nframes="2" pixelwidth="0.25"
 pixelheight="0.25" voxeldepth="1.0" timeinterval="0.1" /></Settings></TrackMate>
"""
