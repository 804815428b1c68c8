"""Frames from a real MMCore with DemoCamera, and everything that can go wrong with them."""

import json
import threading
import time
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from streamtrack import registry
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError, SourceError
from streamtrack.types import Frame, LostFrame

pytest.importorskip("pymmcore", reason="needs streamtrack[micromanager]")
pytest.importorskip("mm_test_adapters", reason="needs the demo camera of mm-test-adapters")

from streamtrack_drivers.micromanager.core import MicroManager
from streamtrack_drivers.micromanager.source import MicroManagerSource

DEMO = Path("MMConfig_demo.cfg")


@pytest.fixture
def scope():
    microscope = MicroManager(config=DEMO, timeout_s=2.0)
    microscope.set_property("Camera", "Mode", "Fluorescent Beads")  # as quick as an exposure; most modes are slow
    yield microscope
    microscope.close()


@contextmanager
def running(scope, **settings):
    """Yield a source and its running frames, of which the first has come."""
    source = MicroManagerSource(microscope=scope, **{"exposure_ms": 2.0, "timeout_s": 1.0, **settings})
    with closing(source):
        frames = source.frames()
        assert next(frames).index == 0
        yield source, frames


def take(frames, n):
    return list(islice(frames, n))


def take_until_after_a_loss(frames):
    items, lost = [], 0
    for item in islice(frames, 100_000):
        items.append(item)
        lost += isinstance(item, LostFrame)
        if lost and isinstance(item, Frame):
            return items
    raise AssertionError("no frame was lost")


def test_it_is_built_from_its_table(scope):
    table = {"kind": "micromanager", "exposure_ms": 10, "roi": [16, 32, 64, 48], "presets": {"Channel": "FITC"}}
    source = registry.build("sources", PluginConfig.model_validate(table), scope).instance
    with closing(source):
        assert source.info.shape == (48, 64)
        assert source.info.details["exposure_ms"] == 10
        assert source.info.details["roi"] == [16, 32, 64, 48]
        assert scope.core.getProperty("Emission", "Label") == "Chroma-HQ535"


def test_info_says_what_the_camera_does(scope):
    with closing(MicroManagerSource(microscope=scope, exposure_ms=3.0)) as source:
        info = source.info
    assert (info.name, info.shape, info.dtype, info.live, info.clock) == ("Camera", (512, 512), "uint16", True, "host")
    assert info.pixel_size_um == 1.0
    assert info.details["driver"] == "DemoCamera.DCam"
    assert info.details["bit_depth"] == 16


def test_every_frame_comes_with_its_time(scope):
    with running(scope, exposure_ms=5.0) as (source, frames):
        items = take(frames, 40)
    assert [item.index for item in items] == list(range(1, 41))
    assert all(isinstance(item, Frame) for item in items)
    assert np.median(np.diff([item.time_s for item in items])) == pytest.approx(0.006, rel=0.5)  # 5 ms and read-out
    waited = source.info.details["core_to_python_ms"]
    assert waited["n"] >= 40
    assert 0 <= waited["p50"] < 5
    json.dumps(dict(source.info.details), allow_nan=False)


def test_a_run_of_given_length_ends_by_itself(scope):
    with closing(MicroManagerSource(microscope=scope, exposure_ms=1.0, frames=12)) as source:
        assert [item.index for item in source.frames()] == list(range(12))
    assert not scope.core.isSequenceRunning()
    assert source.info.n_frames == 12


@pytest.mark.parametrize(("pixel_type", "dtype"), [("8bit", "uint8"), ("16bit", "uint16")])
def test_grey_pixels(scope, pixel_type, dtype):
    scope.set_property("Camera", "PixelType", pixel_type)
    with running(scope) as (source, frames):
        assert source.info.dtype == dtype == take(frames, 1)[0].pixels.dtype.name


@pytest.mark.parametrize("pixel_type", ["32bit", "32bitRGB", "64bitRGB"])
def test_other_pixels_are_refused(scope, pixel_type):
    scope.set_property("Camera", "PixelType", pixel_type)
    with pytest.raises(SourceError, match="8 or 16 bit grey"):
        MicroManagerSource(microscope=scope)


def test_binning_and_roi(scope):
    with running(scope, binning=2, roi=(10, 20, 100, 80)) as (source, frames):
        frame = take(frames, 1)[0]
    assert frame.pixels.shape == source.info.shape == (80, 100)
    assert source.info.pixel_size_um == 2.0
    assert source.info.details["binning"] == "2"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"camera": "XY"}, SourceError, "choose camera XY"),
        ({"camera": "Andor"}, SourceError, "choose camera Andor"),
        ({"presets": {"Channel": "Infrared"}}, SourceError, "Infrared"),
        ({"binning": 3}, SourceError, "cannot bin by 3: give one of 1, 2, 4, 8"),
        ({"roi": (500, 500, 100, 100)}, SourceError, "within 512 x 512 px"),
        ({"roi": (3, 3, -1, 50)}, SourceError, "within 512 x 512 px"),
        ({"roi": (0, 0, 20, 20)}, SourceError, "too small"),
        ({"exposure_ms": -1.0}, ConfigError, "exposure_ms = -1.0"),
        ({"exposure_ms": 1e9}, SourceError, "did not take"),
        ({"buffer_mb": 1}, SourceError, "at least 4"),
        ({"buffer_mb": 10_000_000}, ConfigError, "buffer_mb"),
        ({"frames": 0}, ConfigError, "frames = 0"),
        ({"timeout_s": -1.0}, ConfigError, "timeout_s"),
    ],
)
def test_wrong_settings_are_one_line(scope, settings, error, message):
    with pytest.raises(error, match=message) as caught:
        MicroManagerSource(microscope=scope, **settings)
    assert "\n" not in str(caught.value)


def test_another_kind_of_microscope_is_refused():
    with pytest.raises(ConfigError, match=r"needs a \[microscope\] of kind 'micromanager'"):
        MicroManagerSource(microscope=object())


def test_without_a_camera(scope):
    scope.core.setCameraDevice("")
    with pytest.raises(SourceError, match="there is none"):
        MicroManagerSource(microscope=scope)


def test_a_camera_that_somebody_else_runs_is_left_alone(scope):
    scope.core.startContinuousSequenceAcquisition(0)
    with pytest.raises(SourceError, match="runs already"):
        MicroManagerSource(microscope=scope)
    assert scope.core.isSequenceRunning()


def test_one_of_bundled_cameras_has_to_be_chosen(scope):
    core = scope.core
    core.loadDevice("Second", "DemoCamera", "DCam")
    core.loadDevice("Both", "Utilities", "Multi Camera")
    core.initializeDevice("Second")
    core.initializeDevice("Both")
    core.setProperty("Both", "Physical Camera 1", "Camera")
    core.setProperty("Both", "Physical Camera 2", "Second")
    core.setCameraDevice("Both")
    with pytest.raises(SourceError, match="2 cameras in one"):
        MicroManagerSource(microscope=scope)
    with running(scope, camera="Second") as (source, frames):
        assert take(frames, 3)[-1].index == 3
        assert source.info.name == "Second"


def test_an_overflow_is_an_error_after_the_frames_that_were_saved(scope):
    with running(scope, exposure_ms=1.0, buffer_mb=4) as (source, frames):
        wait_until(lambda: not scope.core.isSequenceRunning())
        items = []
        with pytest.raises(SourceError, match=r"buffer of camera Camera \(4 MB\) overflowed after \d+ frames"):
            items.extend(frames)
    assert source.info.details["overflows"] == 1
    assert source.info.details["most_buffered_frames"] >= 7


def test_an_overflow_with_restart_goes_on_and_counts_what_was_lost(scope):
    with running(scope, exposure_ms=2.0, buffer_mb=4, on_stop="restart") as (source, frames):
        wait_until(lambda: not scope.core.isSequenceRunning())
        time.sleep(0.2)
        items = take_until_after_a_loss(frames)
    lost = [item for item in items if isinstance(item, LostFrame)]
    assert [item.index for item in items] == list(range(1, len(items) + 1)), "every index is a frame or a loss"
    assert {item.cause for item in lost} == {"camera buffer overflowed: number estimated from the time"}
    assert len(lost) > 20, "0.2 s at 2 to 4 ms"
    assert source.info.details["overflows"] == source.info.details["restarts"] == 1
    frames_s = [item.time_s for item in items if isinstance(item, Frame)]
    assert all(np.diff(frames_s) > 0)


def test_a_camera_that_stops_by_itself_is_an_error(scope):
    with running(scope) as (source, frames):
        scope.core.stopSequenceAcquisition()
        with pytest.raises(SourceError, match=r"stopped by itself after \d+ frames: .*on_stop = 'restart'"):
            take(frames, 10_000)
    assert source.info.details["stops"] == 1


def test_a_camera_that_stops_by_itself_is_restarted(scope):
    with running(scope, on_stop="restart", max_restarts=2) as (source, frames):
        for _ in range(2):
            scope.core.stopSequenceAcquisition()
            items = take_until_after_a_loss(frames)
            causes = {item.cause for item in items if isinstance(item, LostFrame)}
            assert causes == {"the camera stopped by itself: number estimated from the time"}
        scope.core.stopSequenceAcquisition()
        with pytest.raises(SourceError, match="2 restarts"):
            take(frames, 10_000)
    assert source.info.details["restarts"] == 2


def test_a_run_of_given_length_keeps_it_over_a_restart(scope):
    with running(scope, on_stop="restart", frames=150) as (_, frames):
        scope.core.stopSequenceAcquisition()
        assert [item.index for item in frames] == list(range(1, 150))


@pytest.mark.parametrize("on_stop", ["fail", "restart"])
def test_an_roi_set_during_a_sequence_is_named(scope, on_stop):
    with running(scope, on_stop=on_stop) as (_, frames):
        scope.core.setROI(10, 10, 100, 64)
        with pytest.raises(SourceError, match="changed from 512 x 512 px uint16 to 64 x 100 px uint16"):
            take(frames, 10_000)


def test_a_buffer_cleared_by_somebody_is_a_counted_loss(scope):
    with running(scope) as (_, frames):
        take(frames, 10)  # the core may clear image 0 of the new count, too; 1 and 2 would not look like going back
        time.sleep(0.1)
        scope.core.clearCircularBuffer()
        items = take_until_after_a_loss(frames)
    lost = [item for item in items if isinstance(item, LostFrame)]
    assert len(lost) > 10, "0.1 s at 2 to 4 ms"
    assert {item.cause for item in lost} == {"camera buffer cleared: number estimated from the time"}


def test_an_exposure_set_during_the_run_is_followed(scope):
    with running(scope, timeout_s=0.2) as (source, frames):
        scope.set_exposure_ms(300.0)
        slow = take(frames, 3)[-2:]
        assert np.diff([frame.time_s for frame in slow])[0] > 0.2
        scope.set_exposure_ms(2.0)
        fast = take(frames, 30)
    assert np.median(np.diff([frame.time_s for frame in fast])) < 0.1
    assert source.info.details["stalls"] == 0


@pytest.mark.parametrize("wait_s", [0.0, 0.2])
def test_close_from_another_thread_ends_the_frames_soon(scope, wait_s):
    with running(scope, exposure_ms=20.0) as (source, frames):
        ended = threading.Event()
        thread = threading.Thread(target=lambda: (list(frames), ended.set()), daemon=True)
        thread.start()
        time.sleep(wait_s)
        source.close()
        assert ended.wait(5.0), "frames() did not end"
        assert not scope.core.isSequenceRunning()
        source.close()


def test_a_source_whose_frames_nobody_takes_any_more_stops_the_camera(scope):
    with running(scope):
        pass
    assert not scope.core.isSequenceRunning()


def test_frames_after_close_do_not_start_the_camera(scope):
    source = MicroManagerSource(microscope=scope)
    source.close()
    assert list(source.frames()) == []
    assert not scope.core.isSequenceRunning()


def test_a_new_run_on_the_same_microscope(scope):
    for _ in range(2):
        with running(scope) as (_, frames):
            assert take(frames, 2)[-1].index == 2


def test_a_stage_that_moves_does_not_hold_up_the_frames(scope):
    scope.core.setProperty("XY", "Velocity", "0.1")  # um/ms
    with running(scope) as (_, frames):
        mover = threading.Thread(target=scope.move_stage_um, args=(50.0, 0.0), daemon=True)
        mover.start()
        stamps = []
        while mover.is_alive():
            stamps.append(next(frames).grabbed_ns)
        mover.join()
    assert len(stamps) > 50
    assert np.percentile(np.diff(stamps), 95) < 50e6


def wait_until(condition, timeout_s=5.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
