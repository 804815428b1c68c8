"""What the user says of pixel size and interval goes before what the movie says."""

from contextlib import closing

import numpy as np
import pytest

import streamtrack
from streamtrack.arrays import ArraySource
from streamtrack.calibrated import CalibratedSource
from streamtrack.cli.options import calibration
from streamtrack.cli.running import make_config
from streamtrack.config import PluginConfig, RunConfig
from streamtrack.errors import ConfigError
from streamtrack.parts import ReadyMade, build_parts
from streamtrack.report import read_report
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.types import SourceInfo

ENGINE = PluginConfig(kind="denodet", backend="onnxruntime", threads=1)


def movie(n=4, **said):
    return ArraySource(movie=np.random.default_rng(0).poisson(20, (n, 40, 48)).astype(np.uint16), **said)


def test_what_was_said_goes_before_what_the_source_says_and_the_difference_is_told():
    source = CalibratedSource(movie(pixel_size_um=0.1, frame_interval_s=2.0), 0.2, 0.5)
    assert (source.info.pixel_size_um, source.info.frame_interval_s) == (0.2, 0.5)
    assert [frame.time_s for frame in source.frames()] == [0.0, 0.5, 1.0, 1.5]
    assert source.remarks() == [
        "array says 0.1 um per px; 0.2 is used, as pixel_size_um says",
        "array says 2 s per frame; 0.5 is used, as frame_interval_s says",
    ]


def test_where_the_source_says_the_same_or_nothing_there_is_nothing_to_tell():
    assert CalibratedSource(movie(pixel_size_um=0.1), 0.1005, 0.5).remarks() == []


def test_times_that_frames_have_of_their_own_are_not_changed():
    class Timed:
        info = SourceInfo("camera", (32, 32), "uint8", clock="camera")

    with pytest.raises(ConfigError, match="camera: each frame says when it was taken, leave frame_interval_s"):
        CalibratedSource(Timed(), None, 0.1)


def test_tables_report_and_times_have_what_was_said(tmp_path):
    results = streamtrack.track("sim:receptor?frames=6&size=64", out=tmp_path, pixel_size_um=0.25, frame_interval_s=0.1)
    assert results.tracks.attrs["pixel_size_um"] == 0.25
    np.testing.assert_allclose(results.tracks["time_s"], 0.1 * results.tracks["frame"])
    np.testing.assert_allclose(results.tracks["x_um"], 0.25 * results.tracks["x"], rtol=1e-5)
    assert read_report(tmp_path)["config"]["pixel_size_um"] == 0.25


@pytest.mark.parametrize("said", [{"pixel_size_um": 0}, {"pixel_size_um": float("nan")}, {"frame_interval_s": -1}])
def test_what_cannot_be_is_one_line_before_anything_is_written(said, tmp_path):
    with pytest.raises(ConfigError, match=f"{next(iter(said))} = "):
        streamtrack.track("sim:receptor?frames=4&size=64", out=tmp_path / "out", **said)
    assert not (tmp_path / "out").exists()


def test_commands_take_both():
    config = make_config("sim:receptor", of_run=calibration(0.2, 0.5))
    assert (config.pixel_size_um, config.frame_interval_s) == (0.2, 0.5)
    assert make_config("sim:receptor", of_run=calibration(None, None)).pixel_size_um is None


def test_where_commands_are_armed_microscope_and_user_have_to_agree():
    """In a rehearsal the difference is remarked."""
    said = {"pixel_size_um": 0.2, "engine": ENGINE}

    def parts(mode):
        given = ReadyMade(source=movie(pixel_size_um=0.1), microscope=SimulatedMicroscope())
        return build_parts(RunConfig(mode=mode, **said), given)

    with pytest.raises(ConfigError, match=r"says 0\.1 um per px; 0\.2 is used.*correct the one that is wrong"):
        parts("armed")
    with closing(parts("rehearse")) as built:
        assert built.info.pixel_size_um == 0.2
