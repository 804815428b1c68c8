"""Devices that hang or fail: written in Python, driven by a real core through pymmcore-plus."""

import threading
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from streamtrack.errors import MicroscopeError, SourceError
from streamtrack.types import Frame, LostFrame

pytest.importorskip("pymmcore", reason="needs streamtrack[micromanager]")
pytest.importorskip("pymmcore_plus.experimental.unicore", reason="needs streamtrack[micromanager]")
pytest.importorskip("mm_test_adapters", reason="needs the demo devices of mm-test-adapters")

import mm_test_adapters
from pymmcore_plus.experimental import unicore

from streamtrack_drivers.micromanager.core import MicroManager
from streamtrack_drivers.micromanager.source import MicroManagerSource


class FaultyCamera(unicore.CameraDevice):
    """Sends ``good`` images in each sequence, then does what the test says."""

    def __init__(self, good, then):
        super().__init__()
        self.good, self.then, self.image = good, then, np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)

    def get_exposure(self):
        return 2.0

    def set_exposure(self, exposure):
        pass

    def shape(self):
        return self.image.shape

    def dtype(self):
        return self.image.dtype

    def start_sequence(self, n, get_buffer):
        for number in range(n or 2**31):
            if number == self.good:
                self.then()
            time.sleep(0.002)
            get_buffer(self.image.shape, self.image.dtype)[:] = self.image
            yield {}


class HangingStage(unicore.XYStageDevice):
    """Never returns from a move, as long as ``over`` is not set."""

    def __init__(self):
        super().__init__()
        self.over, self.stops = threading.Event(), 0

    def set_position_um(self, x, y):
        self.over.wait(30)

    def get_position_um(self):
        return 0.0, 0.0

    def stop(self):
        self.stops += 1

    def home(self):
        pass

    def set_origin_x(self):
        pass

    def set_origin_y(self):
        pass


@pytest.fixture
def core():
    core = unicore.UniMMCore(adapter_paths=[mm_test_adapters.device_adapter_path()])
    core.loadSystemConfiguration(Path(mm_test_adapters.device_adapter_path()) / "MMConfig_demo.cfg")
    yield core
    core.unloadAllDevices()


@pytest.fixture
def camera(core):
    """Return a function that makes the core's camera, and a source of it."""
    over, scopes = threading.Event(), []

    def make(good, then=None, **settings):
        core.loadPyDevice("Faulty", FaultyCamera(good, then or (lambda: over.wait(30))))
        core.initializeDevice("Faulty")
        core.setCameraDevice("Faulty")
        scopes.append(MicroManager.around(core, timeout_s=1.0))
        return MicroManagerSource(microscope=scopes[-1], timeout_s=0.3, **settings)

    yield make
    over.set()
    for scope in scopes:
        scope.close()


def test_a_camera_that_sends_nothing_any_more_is_an_error(camera):
    with closing(camera(good=5)) as source:
        frames = source.frames()
        assert [frame.index for frame in islice(frames, 5)] == list(range(5))
        with pytest.raises(SourceError, match=r"Faulty has sent nothing for [\d.]+ s after 5 frames: .*trigger"):
            next(frames)
    assert source.info.details["stalls"] == 1


def test_a_camera_that_sends_nothing_any_more_is_restarted(camera):
    with closing(camera(good=5, on_stop="restart", max_restarts=1)) as source:
        frames = source.frames()
        items = list(islice(frames, 5))
        items += [next(item for item in frames if isinstance(item, Frame))]
        lost = items[-1].index - 5
        assert 50 < lost < 5000, "0.3 s and the time that the camera takes to stop, at 2 ms"
        with pytest.raises(SourceError, match="and 1 restarts"):
            list(frames)
    assert source.info.details["stalls"] == 2
    assert source.info.details["restarts"] == 1


def test_what_is_lost_in_a_stall_has_its_cause(camera):
    with closing(camera(good=5, on_stop="restart")) as source:
        lost = [item for item in islice(source.frames(), 40) if isinstance(item, LostFrame)]
    assert lost
    assert {item.cause for item in lost} == {"the camera sent nothing: number estimated from the time"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_camera_that_fails_is_an_error(camera):
    def fail():
        raise RuntimeError("sensor too warm")

    with closing(camera(good=3, then=fail)) as source, pytest.raises(SourceError, match="stopped by itself after 3"):
        list(source.frames())


def test_a_stage_that_hangs_holds_up_neither_frames_nor_shutter(core):
    stage = HangingStage()
    core.loadPyDevice("Stuck", stage)
    core.initializeDevice("Stuck")
    core.setXYStageDevice("Stuck")
    core.setProperty("Camera", "Mode", "Fluorescent Beads")
    scope = MicroManager.around(core, timeout_s=0.2)
    errors = []

    def move():
        try:
            scope.move_stage_um(1.0, 2.0)
        except MicroscopeError as error:
            errors.append(str(error))

    with closing(MicroManagerSource(microscope=scope, exposure_ms=2.0)) as source:
        frames = source.frames()
        next(frames)
        mover = threading.Thread(target=move, daemon=True)
        mover.start()
        scope.set_shutter("White Light Shutter", False)
        stamps = [next(frames).grabbed_ns for _ in range(100)]
        mover.join(5.0)
    assert not mover.is_alive(), "the caller was not released"
    assert "move Stuck to (1, 2) um: no answer within 1.2 s" in errors[0]
    assert stage.stops == 1
    assert np.percentile(np.diff(stamps), 95) < 50e6
    stage.over.set()
    scope.close()
