import sys
import threading
import time
from itertools import islice, pairwise

import numpy as np
import pytest

from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError, SourceError
from streamtrack.session import Session
from streamtrack.testing.sources import SourceTests
from streamtrack.types import Frame, LostFrame

pytest.importorskip("zmq")

from streamtrack_drivers.micromanager.bridge import PycroManager
from streamtrack_drivers.micromanager.live import NOT_SEEN, PycroManagerSource


@pytest.fixture
def gui(microscope):
    """The core as Micro-Manager's own window uses it; live mode is on."""
    close, core = microscope.open_core()
    core.startContinuousSequenceAcquisition(0.0)
    yield core
    close()


class TestConformance(SourceTests):
    max_frames = 10

    @pytest.fixture(autouse=True)
    def live_mode(self, microscope, gui):
        self.microscope = microscope

    def make_source(self, tmp_path):
        return PycroManagerSource(microscope=self.microscope)


def take(source, n):
    try:
        return list(islice(source.frames(), n))
    finally:
        source.close()


def test_frames_are_those_that_the_core_shows(microscope, gui):
    source = PycroManagerSource(microscope=microscope)
    frames = [item for item in take(source, 20) if isinstance(item, Frame)]
    assert source.info.live
    assert source.info.shape == (96, 128)
    assert source.info.pixel_size_um == 1.0
    assert all(np.ptp(frame.pixels) > 0 for frame in frames), "the demo camera draws waves"
    steps_ms = 1000 * np.diff([frame.time_s for frame in frames]) / np.diff([frame.index for frame in frames])
    assert np.median(steps_ms) == pytest.approx(10, abs=4), "as long as the exposure"


def test_no_frame_is_taken_from_the_buffer(microscope, gui):
    take(PycroManagerSource(microscope=microscope), 20)
    assert gui.getRemainingImageCount() >= 20


def test_what_comes_and_goes_between_two_looks_is_counted(microscope, gui):
    source = PycroManagerSource(microscope=microscope, poll_ms=100.0)
    items = take(source, 40)
    assert [item.index for item in items] == list(range(40))
    lost = [item for item in items if isinstance(item, LostFrame)]
    assert len(lost) > 20
    assert {item.cause for item in lost} == {NOT_SEEN}
    assert source.info.details["not_seen"] >= len(lost)


def test_an_at_sign_in_the_metadata_does_no_harm(start_micromanager):
    standin = start_micromanager("--tag", "Objective-Label=60x@1.4NA")
    microscope = PycroManager(port=standin.port)
    close, core = microscope.open_core()
    core.startContinuousSequenceAcquisition(0.0)
    assert len(take(PycroManagerSource(microscope=microscope), 10)) == 10
    close()
    microscope.close()


def test_without_tags_a_new_image_is_known_by_its_pixels(start_micromanager):
    standin = start_micromanager("--bare")
    microscope = PycroManager(port=standin.port)
    close, core = microscope.open_core()
    core.setExposure(50.0)
    core.startContinuousSequenceAcquisition(0.0)
    source = PycroManagerSource(microscope=microscope, poll_ms=5.0)
    began = time.monotonic()
    frames = take(source, 10)
    assert time.monotonic() - began > 0.3, "not one frame for every look"
    assert all((a.pixels != b.pixels).any() for a, b in pairwise(frames))
    close()
    microscope.close()


def test_live_mode_off_is_a_source_error_after_the_patience(microscope):
    source = PycroManagerSource(microscope=microscope, patience_s=0.5)
    with pytest.raises(SourceError, match=r"no new image from Micro-Manager for 0.5 s; live mode is off: switch it on"):
        take(source, 1)


def test_live_mode_off_for_a_moment_is_survived(microscope, gui):
    source = PycroManagerSource(microscope=microscope, patience_s=5.0)
    frames = source.frames()
    before = next(frames)
    gui.stopSequenceAcquisition()
    threading.Timer(0.3, gui.startContinuousSequenceAcquisition, [0.0]).start()
    give_up = time.monotonic() + 10
    while source.info.details["restarts"] == 0 and time.monotonic() < give_up:
        after = next(frames)
    source.close()
    assert source.info.details["restarts"] == 1
    assert after.index > before.index
    if isinstance(after, Frame):
        assert after.time_s > before.time_s + 0.2


def test_another_channel_is_refused_unless_one_is_chosen(microscope, gui):
    gui.setConfig("Channel", "DAPI")
    source = PycroManagerSource(microscope=microscope)
    frames = source.frames()
    assert next(frames).index == 0
    gui.setConfig("Channel", "FITC")
    with pytest.raises(SourceError, match=r"several streams \(c: DAPI, FITC\) .* only=\{'c': 'DAPI'\}"):
        list(islice(frames, 200))
    source.close()


def test_images_of_another_channel_are_left_out_where_one_is_chosen(microscope, gui):
    gui.setConfig("Channel", "DAPI")
    source = PycroManagerSource(microscope=microscope, only={"c": "DAPI"})
    frames = source.frames()
    next(frames)
    gui.setConfig("Channel", "FITC")
    threading.Timer(0.5, gui.setConfig, ["Channel", "DAPI"]).start()
    while source.info.details["left_out"] == 0:
        next(frames)
    assert source.info.details["stream"]["c"] == "DAPI"
    assert isinstance(next(frames), Frame | LostFrame)
    source.close()


def test_a_channel_that_never_comes_is_a_source_error_after_the_patience(microscope, gui):
    gui.setConfig("Channel", "DAPI")
    source = PycroManagerSource(microscope=microscope, only={"c": "DAPY"}, patience_s=0.5)
    with pytest.raises(SourceError, match=r"no c = 'DAPY' .* \(it has c: DAPI\); did you mean 'DAPI'"):
        take(source, 1)


def test_two_cameras_in_one_device_are_refused_unless_one_is_chosen(start_micromanager):
    standin = start_micromanager("--two-cameras")
    microscope = PycroManager(port=standin.port)
    close, core = microscope.open_core()
    core.startContinuousSequenceAcquisition(0.0)
    with pytest.raises(SourceError, match=r"several streams \(camera: Camera, 1 \(Second\)\)"):
        PycroManagerSource(microscope=microscope)
    source = PycroManagerSource(microscope=microscope, only={"camera": "Second"})
    assert len([item for item in take(source, 20) if isinstance(item, Frame)]) > 0
    assert source.info.details["stream"]["camera"] == 1
    assert source.info.details["left_out"] > 0
    close()
    microscope.close()


def test_another_roi_is_a_source_error(microscope, gui):
    source = PycroManagerSource(microscope=microscope)
    frames = source.frames()
    next(frames)
    gui.stopSequenceAcquisition()
    gui.setROI(0, 0, 64, 48)
    gui.startContinuousSequenceAcquisition(0.0)
    with pytest.raises(SourceError, match=r"was \(96, 128\) uint16 and is now \(48, 64\) uint16"):
        list(islice(frames, 200))
    source.close()


def test_a_micromanager_that_dies_is_a_source_error(micromanager, microscope, gui):
    source = PycroManagerSource(microscope=microscope)
    frames = source.frames()
    next(frames)
    micromanager.kill()
    with pytest.raises(SourceError, match="is it still running"):
        list(islice(frames, 500))
    source.close()


def test_colour_images_are_refused(microscope):
    microscope.set_property("Camera", "PixelType", "32bitRGB")
    with pytest.raises(SourceError, match="Camera gives pixels of 4 bytes and 4 colours: set its pixel type"):
        PycroManagerSource(microscope=microscope)


@pytest.mark.parametrize("settings", [{"poll_ms": -1.0}, {"poll_ms": float("nan")}, {"patience_s": 0.0}])
def test_settings_out_of_range_are_refused(microscope, settings):
    ((name, value),) = settings.items()
    with pytest.raises(ConfigError, match=f"{name} = {value}"):
        PycroManagerSource(microscope=microscope, **settings)


def test_another_kind_of_microscope_is_refused():
    with pytest.raises(ConfigError, match=r'needs \[microscope\] kind = "pycromanager"'):
        PycroManagerSource(microscope=object())


CENTRE_THE_NEAREST = {
    "mode": "armed",
    "source": {"kind": "pycromanager"},
    "triggers": [{"kind": "nearest", "do": "stage", "action": {"centre": True}, "cool_down_s": 0.3}],
    "actuators": {"stage": {"kind": "stage"}},
    "safety": {"x_um": [-500, 500], "y_um": [-500, 500]},
    "sinks": [{"kind": "memory"}],
}


@pytest.mark.usefixtures("lab_plugins")
def test_a_particle_is_centred_through_the_bridge(micromanager, microscope, gui, tmp_path):
    gui.stopSequenceAcquisition()
    microscope.set_property("Camera", "Mode", "Fluorescent Beads")
    microscope.set_exposure_ms(30.0)
    gui.startContinuousSequenceAcquisition(0.0)
    table = {"kind": "pycromanager", "port": micromanager.port, "stage_um_per_px": [1.0, 1.0]}
    session = Session(RunConfig.model_validate({**CENTRE_THE_NEAREST, "microscope": table}), tmp_path)
    began = time.monotonic()

    def until_centred(progress):
        if progress.processed >= 60 or time.monotonic() - began > 60:
            session.stop()

    report = session.run(until_centred)
    assert report["status"] == "interrupted", report
    assert report["frames"]["in"] == report["frames"]["processed"] + report["frames"]["lost"]
    assert report["microscope"]["kind"] == "pycromanager"
    assert microscope.stage_um() != pytest.approx((0.0, 0.0), abs=0.1), "the stage has moved"
    found = sys.modules["lab_plugins"].Memory.kept[-1].detections
    assert np.hypot(found.y - 47.5, found.x - 63.5).min() < 1.0
