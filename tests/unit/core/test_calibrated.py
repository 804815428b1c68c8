"""What the settings say of pixels and frames goes before what the source says, and moves nothing by two sizes."""

import math
from dataclasses import replace

import numpy as np
import pytest

from streamtrack.calibrated import calibrated, check_moves, contradictions
from streamtrack.config import RunConfig, validate
from streamtrack.errors import ConfigError, SourceError
from streamtrack.offline.blocks import SeenFrame
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.types import Frame, LostFrame, SourceInfo

FILE = SourceInfo("movie", (32, 32), "uint16", 3, pixel_size_um=0.1, frame_interval_s=1.0, clock="camera")
CAMERA = replace(FILE, name="camera", n_frames=None, live=True, frame_interval_s=None, clock="host")
PIXELS = np.zeros((32, 32), np.uint16)
MOVES = {"actuators": {"stage": "stage"}, "safety": {"x_um": [-10, 10]}}


class Source:
    """Two frames with times of their own, and a lost one between them."""

    def __init__(self, info):
        self.info, self.closed = info, False

    def frames(self):
        yield Frame(4, PIXELS, 0, 4.25)
        yield LostFrame(5, "the shutter stuck")
        yield SeenFrame(6, PIXELS, 0, 6.5, seen="as it was")

    def remarks(self):
        return ["its own"]

    def close(self):
        self.closed = True


def test_frames_are_as_far_apart_as_was_said():
    source = calibrated(Source(FILE), RunConfig(pixel_size_um=0.2, frame_interval_s=0.5))
    first, lost, last = source.frames()
    assert (first.time_s, lost.index, last.time_s, last.seen) == (2.0, 5, 3.0, "as it was")
    assert (source.info.pixel_size_um, source.info.frame_interval_s, source.info.clock) == (0.2, 0.5, "nominal")
    assert source.uncalibrated == FILE


def test_what_is_not_said_stays():
    source = Source(FILE)
    assert calibrated(source, RunConfig()) is source
    source = calibrated(source, RunConfig(pixel_size_um=0.2))
    assert [item.time_s for item in source.frames() if isinstance(item, Frame)] == [4.25, 6.5]
    assert (source.info.frame_interval_s, source.info.clock) == (1.0, "camera")


def test_a_live_source_keeps_the_times_at_which_its_frames_came():
    source = calibrated(Source(CAMERA), RunConfig(frame_interval_s=0.5))
    assert [item.time_s for item in source.frames() if isinstance(item, Frame)] == [4.25, 6.5]
    assert (source.info.frame_interval_s, source.info.clock) == (0.5, "host")


def test_more_than_a_hundredth_is_a_line():
    assert contradictions(FILE, RunConfig(pixel_size_um=0.1009, frame_interval_s=0.991)) == []
    said = "the source says pixel_size_um = 0.1, the settings 0.102: 0.102 is used"
    assert contradictions(FILE, RunConfig(pixel_size_um=0.102)) == [said]
    assert calibrated(Source(FILE), RunConfig(pixel_size_um=0.102)).remarks() == [said, "its own"]
    assert contradictions(replace(FILE, pixel_size_um=None), RunConfig(pixel_size_um=5)) == []


@pytest.mark.parametrize("name", ["pixel_size_um", "frame_interval_s"])
@pytest.mark.parametrize("value", [0, -0.1, math.nan, math.inf])
def test_what_cannot_be_is_one_line_with_the_cure(name, value):
    with pytest.raises(ConfigError, match=rf"run: {name} = .*leave it out for") as error:
        validate(RunConfig, {name: value}, "run")
    assert "\n" not in str(error.value)


def test_a_calibration_that_cannot_be_meant_is_replaced_by_one_that_can():
    broken = Source(replace(FILE, pixel_size_um=1e9))
    with pytest.raises(
        SourceError, match=r"movie: pixel_size_um = 1000000000\.0 cannot be; give --pixel-size 1e-06 to"
    ):
        calibrated(broken, RunConfig())
    assert calibrated(broken, RunConfig(pixel_size_um=0.1)).info.pixel_size_um == 0.1
    with pytest.raises(SourceError, match="frame_interval_s = 1e-12 cannot be"):
        calibrated(Source(FILE), RunConfig(frame_interval_s=1e-12))


@pytest.mark.parametrize("mode", ["rehearse", "armed"])
def test_nothing_moves_by_two_sizes_of_a_pixel(mode):
    config = RunConfig(pixel_size_um=0.102, **MOVES)
    source, microscope = calibrated(Source(CAMERA), config), SimulatedMicroscope(um_per_px=0.1)
    with pytest.raises(ConfigError, match=r"camera says pixel_size_um = 0\.1, not 0\.102: leave --pixel-size out, or"):
        check_moves(source, microscope, config, mode)
    unknown = calibrated(Source(replace(CAMERA, pixel_size_um=None)), config)
    check_moves(unknown, microscope, config, mode)
    with pytest.raises(ConfigError, match=r"the stage moves by 0\.2 um per pixel, not pixel_size_um = 0\.102"):
        check_moves(unknown, SimulatedMicroscope(um_per_px=0.2), config, mode)


def test_two_sizes_of_a_pixel_are_no_error_where_nothing_moves():
    config, microscope = RunConfig(pixel_size_um=0.2, **MOVES), SimulatedMicroscope(um_per_px=0.1)
    source = calibrated(Source(CAMERA), config)
    check_moves(source, microscope, config, "observe")
    for still in ({"safety": {}}, {"actuators": {}}):
        check_moves(source, microscope, RunConfig(pixel_size_um=0.2, **{**MOVES, **still}), "armed")
    never_measured = SimulatedMicroscope(um_per_px=None)
    check_moves(calibrated(Source(FILE), config), never_measured, config, "armed")
