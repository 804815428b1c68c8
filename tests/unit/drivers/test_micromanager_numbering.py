"""Image numbers become frame indices; stamps become waiting times."""

import ctypes
import time
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from streamtrack_drivers.micromanager import numbering
from streamtrack_drivers.micromanager.numbering import (
    FILETIME_1970,
    CountedFrame,
    FrameCounter,
    image_number,
    waited_ns,
)

pymmcore = pytest.importorskip("pymmcore", reason="needs streamtrack[micromanager]")


def places(numbers_and_times, interval_s=0.01):
    counter = FrameCounter(interval_s)
    return [counter.place(number, time_s) for number, time_s in numbers_and_times]


def test_numbers_without_gap_are_the_indices():
    assert places([(n, n * 0.01) for n in range(3)]) == [CountedFrame(n, 0, False) for n in range(3)]


def test_a_jump_is_as_many_lost_frames_whatever_the_time_says():
    assert places([(0, 0.0), (1, 0.01), (5, 0.02)])[-1] == CountedFrame(5, 3, False)


def test_frames_before_the_first_one_are_lost_too():
    assert places([(2, 0.0)]) == [CountedFrame(2, 2, False)]


def test_numbers_that_start_again_are_a_loss_estimated_from_the_time():
    assert places([(0, 0.0), (1, 0.01), (2, 0.02), (0, 0.07), (1, 0.08)])[-2:] == [
        CountedFrame(7, 4, True),
        CountedFrame(8, 0, False),
    ]


def test_a_number_that_comes_twice_is_no_frame_lost_if_the_time_says_so():
    assert places([(0, 0.0), (1, 0.01), (1, 0.02)])[-1] == CountedFrame(2, 0, True)


def test_the_pace_is_learned_from_the_frames():
    numbers = [(n, n * 0.1) for n in range(30)]
    assert places([*numbers, (0, 3.4)], interval_s=0.005)[-1] == CountedFrame(34, 4, True)


def test_lost_frames_do_not_spoil_the_pace():
    counter = FrameCounter(0.01)
    for number in range(0, 400, 4):
        counter.place(number, number * 0.01)
    assert counter.interval_s == pytest.approx(0.01)


def test_a_new_sequence_lost_one_frame_at_least():
    counter = FrameCounter(0.01)
    counter.place(0, 0.0)
    counter.new_sequence()
    assert counter.place(0, 0.01) == CountedFrame(2, 1, True)
    counter.new_sequence()
    assert counter.place(0, 0.06) == CountedFrame(7, 4, True)


def test_a_core_that_does_not_number_counts_what_comes():
    assert places([(None, n * 0.01) for n in range(3)]) == [CountedFrame(n, 0, False) for n in range(3)]


def test_numbers_of_a_real_core_whose_buffer_overflowed_unseen():
    """In live mode the core clears its buffer when it is full and goes on, without any sign but the numbers."""
    folder = pytest.importorskip("mm_test_adapters").device_adapter_path()
    core = pymmcore.CMMCore()
    core.setDeviceAdapterSearchPaths([folder])
    core.loadSystemConfiguration(f"{folder}/MMConfig_demo.cfg")
    core.setProperty("Camera", "Mode", "Fluorescent Beads")
    core.setExposure(1.0)
    core.setCircularBufferMemoryFootprint(8)
    core.startContinuousSequenceAcquisition(0)
    counter, begun, found = FrameCounter(0.001), time.monotonic(), []
    try:
        while len(found) < 60 and time.monotonic() < begun + 20:
            if core.getRemainingImageCount():
                metadata = pymmcore.Metadata()
                core.popNextImageMD(metadata)
                found.append(
                    counter.place(
                        image_number({"ImageNumber": metadata.GetSingleTag("ImageNumber").GetValue()}),
                        time.monotonic() - begun,
                    )
                )
                if len(found) in (20, 40):
                    time.sleep(0.3)  # 16 images fill the buffer
    finally:
        core.stopSequenceAcquisition()
        core.unloadAllDevices()
    assert not core.isBufferOverflowed()
    assert sum(place.lost for place in found) > 50
    assert [place.index for place in found] == [n + sum(p.lost for p in found[: n + 1]) for n in range(60)]


@pytest.mark.parametrize(("value", "number"), [("0", 0), ("299", 299), ("", None), ("-1", None), ("1.5", None)])
def test_the_number_of_an_image(value, number):
    assert image_number({"ImageNumber": value}) == number


def test_an_image_without_tags():
    assert image_number({}) is None
    assert waited_ns({}, datetime(2026, 1, 1)) is None


@pytest.mark.parametrize(
    ("age", "expected_ns"),
    [
        (timedelta(microseconds=250), 250_000),
        (timedelta(0), 0),
        (timedelta(seconds=3), 3_000_000_000),
        (-timedelta(milliseconds=1), None),
        (timedelta(hours=1), None),
        (-timedelta(hours=1), None),
    ],
)
def test_the_time_in_the_buffer_unless_the_clock_was_set(age, expected_ns):
    now = datetime(2026, 10, 25, 2, 30)
    stamp = (now - age).isoformat(sep=" ", timespec="microseconds")
    assert waited_ns({"TimeReceivedByCore": stamp}, now) == expected_ns


def test_a_stamp_that_is_none():
    assert waited_ns({"TimeReceivedByCore": "just now"}, datetime(2026, 1, 1)) is None


@pytest.fixture
def windows_clocks(monkeypatch):
    """As with Python 3.11 and 3.12 on Windows: ``datetime.now`` moves in steps of 15.625 ms, another clock does not."""

    class Coarse(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(time.time() // 0.015625 * 0.015625, tz)

    def precise(filetime):
        filetime._obj.value = FILETIME_1970 + time.time_ns() // 100

    kernel32 = SimpleNamespace(GetSystemTimePreciseAsFileTime=precise)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel32), raising=False)
    monkeypatch.setattr(numbering, "datetime", Coarse)
    return numbering._windows_now


def test_windows_time_is_as_fine_as_the_stamps(windows_clocks):
    before, now, after = datetime.now(), windows_clocks(), datetime.now()
    assert before - timedelta(microseconds=10) <= now <= after + timedelta(microseconds=10)


@pytest.mark.timing
def test_frame_times_do_not_move_in_the_steps_of_the_windows_clock(windows_clocks, monkeypatch):
    pytest.importorskip("mm_test_adapters")
    from streamtrack_drivers.micromanager import sequence
    from streamtrack_drivers.micromanager.core import MicroManager
    from streamtrack_drivers.micromanager.source import MicroManagerSource

    stamps_s = []

    def note(tags, now):
        stamps_s.append(datetime.fromisoformat(tags["TimeReceivedByCore"]).timestamp())
        return waited_ns(tags, now)

    monkeypatch.setattr(sequence, "wall_clock", windows_clocks)
    monkeypatch.setattr(sequence, "waited_ns", note)
    microscope = MicroManager(config=Path("MMConfig_demo.cfg"))
    microscope.set_property("Camera", "Mode", "Fluorescent Beads")
    source = MicroManagerSource(microscope=microscope, exposure_ms=5.0)
    try:
        times_s = np.array([frame.time_s for frame in islice(source.frames(), 40)])
        assert source.info.details["clock_jumps"] == 0
    finally:
        source.close()
        microscope.close()
    off_s = times_s - stamps_s[: len(times_s)]
    assert np.all(np.diff(times_s) > 0)
    assert np.median(np.abs(off_s - np.median(off_s))) < 1e-3
