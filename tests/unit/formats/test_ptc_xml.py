from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from streamtrack.errors import ConfigError
from streamtrack.formats.ptc_xml import read_ptc, write_ptc
from streamtrack.formats.tables import read_tracks
from streamtrack.metrics.ptc import fill_gaps

TRACKMATE_EXPORT = """<?xml version="1.0" encoding="UTF-8"?>
<root>
  <TrackContestISBI2012 snr="4" density="mid" scenario="VESICLE" generationDateTime="Mon Nov 26 10:00:00 CET 2012">
    <particle><detection t="3" x="1.5" y="2.5" z="0.0" /><detection t="4" x="1.75" y="2.25" z="0.0" /></particle>
    <particle><detection t="0" x="7" y="8" /></particle>
  </TrackContestISBI2012>
</root>
"""


BILLION_LAUGHS = '<!DOCTYPE lolz [<!ENTITY l "lol"><!ENTITY m "&l;&l;&l;&l;">]><root>&m;</root>'


def test_gaps_come_back_filled_by_straight_lines(awkward, tmp_path):
    write_ptc(fill_gaps(awkward), tmp_path / "a.xml")
    table = read_tracks(tmp_path / "a.xml")
    assert list(table.columns) == ["frame", "particle", "y", "x"]
    particle = dict(enumerate([2, 7, 40, 41]))
    found = {(particle[p], t): (y, x) for t, p, y, x in table.itertuples(index=False)}
    third = pytest.approx(12, abs=5e-4), pytest.approx(22, abs=5e-4)
    assert found == {
        (2, 0): (10, 20),
        (2, 1): (11, 20),
        (2, 2): third,
        (2, 3): (13, 24),
        (2, 4): (14, 26),
        (7, 4): (33.125, 44.25),
        (40, 2): (30, 6.5),
        (40, 3): (40, 8.5),
        (40, 4): (50, 10.5),
        (40, 5): (60, 12.5),
        (40, 6): (61, 13.5),
        (41, 3): (0, 511),
    }


def test_a_gap_is_refused(awkward, tmp_path):
    with pytest.raises(ConfigError, match=r"skips frames after frame \d+, .* fill the gaps first"):
        write_ptc(awkward, tmp_path / "a.xml")
    assert not list(tmp_path.iterdir())


def test_every_spot_of_a_crowd_survives_in_tracks_without_gaps(crowd, tmp_path):
    write_ptc(fill_gaps(crowd), tmp_path / "a.xml")
    table = read_tracks(tmp_path / "a.xml")
    ids = np.unique(crowd["particle"])
    merged = crowd.merge(
        table.assign(particle=ids[table["particle"]]), on=["frame", "particle"], suffixes=("", "_back")
    )
    assert len(merged) == len(crowd)
    np.testing.assert_allclose(merged[["y_back", "x_back"]], merged[["y", "x"]], atol=5.01e-4)
    spans = table.groupby("particle")["frame"].agg(["min", "max", "size"])
    assert (spans["max"] - spans["min"] + 1 == spans["size"]).all()


def test_the_file_is_what_the_scorer_parses(awkward, tmp_path):
    write_ptc(fill_gaps(awkward), tmp_path / "a.xml")
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert [child.tag for child in root] == ["TrackContestISBI2012"]
    tracks = root[0].findall("particle")
    assert [len(track) for track in tracks] == [5, 1, 5, 1]
    assert tracks[1][0].attrib == {"t": "4", "x": "44.250", "y": "33.125", "z": "0"}


def test_a_file_of_another_writer_is_read(tmp_path):
    (tmp_path / "a.xml").write_text(TRACKMATE_EXPORT)
    expected = pd.DataFrame({"frame": [3, 4, 0], "particle": [0, 0, 1], "y": [2.5, 2.25, 8], "x": [1.5, 1.75, 7]})
    pd.testing.assert_frame_equal(read_tracks(tmp_path / "a.xml"), expected)


def test_depth_is_not_lost_silently(tmp_path):
    (tmp_path / "a.xml").write_text(TRACKMATE_EXPORT.replace('z="0.0"', 'z="2.0"', 1))
    assert read_ptc(tmp_path / "a.xml")["z"].tolist() == [2, 0, 0]


def test_no_track_is_an_empty_table(tmp_path):
    (tmp_path / "a.xml").write_text("<root><TrackContestISBI2012/></root>")
    table = read_tracks(tmp_path / "a.xml")
    assert table.empty
    assert list(table.columns) == ["frame", "particle", "y", "x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not whole XML"),
        (TRACKMATE_EXPORT[:-20], "not whole XML"),
        ('<TrackMate version="7"><Model/></TrackMate>', "positions without a unit"),
        ("<Tracks><particle/></Tracks>", "has no <TrackContestISBI2012>"),
        ('<root><track><detection t="0" x="1" y="2"/></track></root>', "has no <TrackContestISBI2012>"),  # Icy
        (TRACKMATE_EXPORT.replace('t="4"', ""), "needs numbers t, x and y"),
        (TRACKMATE_EXPORT.replace('x="1.75"', 'x="left"'), 'x="left".* needs numbers'),
        (TRACKMATE_EXPORT.replace('x="1.75"', 'x="NaN"'), "x = nan in row 2"),
        (TRACKMATE_EXPORT.replace('t="4"', 't="4.5"'), "frame = 4.5"),
        (TRACKMATE_EXPORT.replace('t="4"', 't="1e400"'), "frame = inf"),
        (BILLION_LAUGHS, "has a DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><root/>', "has a DOCTYPE"),
    ],
)
def test_other_xml_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_tracks(tmp_path / "a.xml")
    assert "\n" not in str(caught.value)


def test_elements_within_each_other_cost_nothing(tmp_path):
    (tmp_path / "a.xml").write_text(TRACKMATE_EXPORT.replace("<root>", "<root>" * 100_000))
    with pytest.raises(ConfigError, match="not whole XML"):
        read_tracks(tmp_path / "a.xml")
