"""What a tap pushes into its run, and the events that it hands back."""

import threading
from itertools import islice

import numpy as np
import pytest

from streamtrack.errors import MicroscopeError
from streamtrack.types import Frame, LostFrame, SourceInfo

pytest.importorskip("pymmcore")

from streamtrack.feed import QUEUE_FULL
from streamtrack_drivers.micromanager.acquisition_events import as_pycromanager
from streamtrack_drivers.micromanager.pushed import PushedSource

IMAGE = np.zeros((48, 64), np.float32)


def make_source(capacity=4):
    return PushedSource(SourceInfo("tap", (48, 64), "float32"), capacity)


def test_what_finds_the_queue_full_is_lost_and_counted():
    source = make_source(capacity=4)
    for number in range(10):
        source.push(IMAGE, {"ImageNumber": number})
    source.finish()
    items = list(source.frames())
    assert [item.index for item in items] == list(range(10))
    assert [type(item) for item in items] == [Frame] * 4 + [LostFrame] * 6
    assert {item.cause for item in items[4:]} == {QUEUE_FULL}


def test_the_queue_stays_small_whatever_comes():
    source = make_source(capacity=4)
    for number in range(0, 20_000, 2):  # a gap and a full queue, in turn
        source.push(IMAGE, {"ImageNumber": number})
    assert len(source._feed._queue) < 50
    source.finish()
    assert [item.index for item in source.frames()] == list(range(19_999))


def test_the_end_delivers_what_waits_and_refuses_what_comes():
    source = make_source()
    source.push(IMAGE, {})
    source.finish()
    source.push(IMAGE, {})
    assert len(list(source.frames())) == 1
    assert source.info.details["after_the_end"] == 1


def test_closing_from_another_thread_ends_the_frames():
    source = make_source()
    threading.Timer(0.2, source.close).start()
    assert list(source.frames()) == []
    source.close()


def test_frames_wait_for_images():
    source = make_source()
    threading.Timer(0.2, source.push, [IMAGE, {"ImageNumber": 0}]).start()
    [frame] = islice(source.frames(), 1)
    np.testing.assert_array_equal(frame.pixels, IMAGE)


# Events in pycromanager's words


def test_events_are_translated():
    event = {
        "index": {"t": 7},
        "exposure": 5.0,
        "x_pos": 1.0,
        "y_pos": 2.0,
        "z_pos": None,
        "channel": {"config": "DAPI"},
        "properties": [("Camera", "Gain", 2)],
        "metadata": {"streamtrack": {}},
    }
    assert as_pycromanager(event) == {
        "axes": {"t": 7},
        "exposure": 5.0,
        "x": 1.0,
        "y": 2.0,
        "config_group": ["Channel", "DAPI"],
        "properties": [["Camera", "Gain", "2"]],
    }


def test_events_without_an_index_replace_no_image():
    one, other = as_pycromanager({"exposure": 5.0}), as_pycromanager({"exposure": 5.0})
    assert one["axes"] != other["axes"]


def test_the_channel_of_an_added_event_is_told_by_its_axes():
    assert as_pycromanager({"channel": "FITC"})["axes"]["channel"] == "FITC"
    assert "channel" not in as_pycromanager({"exposure": 5.0})["axes"]


def test_what_pycromanager_does_not_know_is_named():
    with pytest.raises(MicroscopeError, match="know no keep_shutter_open"):
        as_pycromanager({"keep_shutter_open": True})
