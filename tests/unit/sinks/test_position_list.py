"""A list of places of the stage to come back to."""

import csv
import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from streamtrack.clock import monotonic_ns
from streamtrack.errors import ConfigError, SinkError
from streamtrack.sinks.position_list import LIST, TABLE, PositionList
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.testing.sinks import example_results, example_source
from streamtrack.types import Command, Event, Stream


@pytest.fixture
def microscope():
    with closing(SimulatedMicroscope(um_per_px=0.1)) as microscope:
        microscope.move_stage_um(100, 200)
        microscope.move_focus_um(7.5)
        yield microscope


@pytest.fixture
def sink(microscope, tmp_path):
    sink = PositionList(microscope=microscope)
    sink.open(tmp_path, example_source())  # 64 x 96 px: the middle is (31.5, 47.5)
    return sink


def result(*particles, stage_um=(100.0, 200.0), y=41.5, x=27.5, do="position_list", **frame):
    (plain,) = example_results(1)
    now = monotonic_ns()
    commands = tuple(Command(do, {}, 0, now, now, "a rule", Event(particle, y, x), now) for particle in particles)
    values = dict(zip(("stage_x_um", "stage_y_um"), stage_um, strict=True))
    return replace(plain, commands=commands, values=values, frame=replace(plain.frame, **frame))


def positions(folder):
    """Return label and devices' places as Micro-Manager reads them: by the length of the array."""
    content = json.loads((folder / LIST).read_text(encoding="utf-8"))
    assert content.keys() == {"encoding", "format", "major_version", "minor_version", "map"}
    assert (content["format"], content["major_version"]) == ("Micro-Manager Property Map", 2)
    listed = content["map"]["StagePositions"]
    assert listed["type"] == "PROPERTY_MAP"
    for each in listed["array"]:
        assert {name: part["type"] for name, part in each.items()} == {
            "DefaultXYStage": "STRING",
            "DefaultZStage": "STRING",
            "DevicePositions": "PROPERTY_MAP",
            "GridCol": "INTEGER",
            "GridRow": "INTEGER",
            "Label": "STRING",
            "Properties": "PROPERTY_MAP",
        }
    return {
        each["Label"]["scalar"]: {
            device["Device"]["scalar"]: device["Position_um"]["array"] for device in each["DevicePositions"]["array"]
        }
        for each in listed["array"]
    }


def rows(folder):
    with (folder / TABLE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_where_the_stage_has_to_go_to_have_the_track_in_the_middle(sink, microscope, tmp_path):
    sink.write(result(3))
    # 20 px to the left of the middle and 10 px below it, at 0.1 um per px
    assert positions(tmp_path) == {"track3": {"XYStage": [98.0, 201.0], "ZStage": [7.5]}}
    (row,) = rows(tmp_path)
    assert row == {
        "label": "track3",
        "particle": "3",
        "frame": "0",
        "time_s": "0.0",
        "rule": "a rule",
        "y_px": "41.5",
        "x_px": "27.5",
        "stage_x_um": "98.0",
        "stage_y_um": "201.0",
        "focus_um": "7.5",
    }
    assert [call[0] for call in microscope.calls] == ["move_stage_um", "move_focus_um"], "the fixture's own"


def test_a_track_is_noted_once_and_all_is_there_after_each(sink, tmp_path):
    for particles, labels in (((1, 2), 2), ((2, 1), 2), ((5,), 3)):
        sink.write(result(*particles))
        assert len(positions(tmp_path)) == len(rows(tmp_path)) == labels
    assert sink.remarks() == ["3 positions are in positions.pos"]
    assert {path.name for path in tmp_path.iterdir()} == {LIST, TABLE}


def test_commands_for_others_are_no_business_of_it(sink, tmp_path):
    sink.write(result(1, do="raw"))
    assert list(tmp_path.iterdir()) == []
    assert sink.remarks() == []


def test_an_event_without_a_place_stands_for_the_middle(sink, tmp_path):
    sink.write(result(-1, -1, y=np.nan, x=np.nan))
    assert [*positions(tmp_path).values()] == 2 * [{"XYStage": [100.0, 200.0], "ZStage": [7.5]}]
    assert rows(tmp_path)[0]["y_px"] == ""


def test_a_place_that_is_not_known_is_not_noted_but_may_be_later(sink, tmp_path):
    sink.write(result(1, stage_um=(np.nan, np.nan)))
    assert not (tmp_path / LIST).exists()
    sink.write(result(1))
    assert [*positions(tmp_path)] == ["track1"]
    assert sink.remarks()[1] == ("1 positions were not noted: the stage was moving, or where it was is not known")


def test_a_stage_that_was_moved_by_hand_is_not_taken_for_where_the_run_left_it(sink, microscope, tmp_path):
    microscope.move_stage_um(150, 200)
    sink.write(result(1))
    assert not (tmp_path / LIST).exists()
    assert "was moved by hand" in sink.remarks()[0]
    said = {"stage_x_um": 100.0, "stage_y_um": 200.0}  # by the frame itself: it is right, wherever the stage is now
    sink.write(result(1, values=said))
    assert positions(tmp_path)["track1"]["XYStage"] == [98.0, 201.0]


def test_there_are_no_more_than_most(microscope, tmp_path):
    sink = PositionList(microscope=microscope, most=2)
    sink.open(tmp_path, example_source())
    sink.write(result(1, 2, 3, 4))
    assert [*positions(tmp_path)] == ["track1", "track2"]
    assert sink.remarks() == ["2 positions are in positions.pos", "2 positions were not noted: most = 2"]


def test_tracks_of_several_streams_are_told_apart(sink, tmp_path):
    plain = result(1)
    for channel in (0, 1):
        commands = tuple(replace(command, stream=Stream(channel=channel)) for command in plain.commands)
        sink.write(replace(plain, commands=commands))
    assert [*positions(tmp_path)] == ["track1_p0_c0_z0", "track1_p0_c1_z0"]


def test_without_a_focus_drive_there_is_no_height(microscope, tmp_path):
    from streamtrack.errors import MicroscopeError

    def none():
        raise MicroscopeError("there is no focus drive")

    microscope.focus_um = none
    sink = PositionList(microscope=microscope)
    sink.open(tmp_path, example_source())
    sink.write(result(1))
    assert positions(tmp_path) == {"track1": {"XYStage": [98.0, 201.0]}}
    assert rows(tmp_path)[0]["focus_um"] == ""


def test_which_way_the_image_moves_has_to_be_known_before_the_run():
    with pytest.raises(ConfigError, match="a list of positions cannot be made: which way the image moves"):
        PositionList(microscope=SimulatedMicroscope(um_per_px=None))


def test_a_folder_that_is_gone_is_an_error_in_one_line(sink, tmp_path):
    sink._folder = tmp_path / "gone"
    with pytest.raises(SinkError) as caught:
        sink.write(result(1))
    assert len(str(caught.value).splitlines()) == 1
