"""Heights by fits of an astigmatic spot: as near to the truth as can be, and said so."""

import numpy as np
import pytest

from streamtrack.errors import ConfigError
from streamtrack.psf import STANDARD
from streamtrack.simulation.astigmatic import depth_frame
from streamtrack.testing.engines import EngineTests
from streamtrack.types import Detections
from streamtrack_engines.astigmatism import AstigmaticSpots
from streamtrack_engines.engine import CellEngine, DenodetEngine

SIZE_PX = 256


def lattice(rng, apart_px=32):
    """Return y, x, z of particles apart from each other, (N, 3)."""
    middle = np.arange(apart_px / 2, SIZE_PX, apart_px)
    places = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
    return np.column_stack((places + rng.uniform(-0.5, 0.5, places.shape), rng.uniform(-0.5, 0.5, len(places))))


def said(places, score=0.9):
    """Return what a network says that finds them with some error."""
    y, x = np.asarray(places, np.float32).T
    n = np.ones(len(y), np.float32)
    return Detections(y.copy(), x.copy(), score * n, 1000 * n, 0.3 * n, {"kind": np.arange(len(y), dtype="f4")})


@pytest.fixture(scope="module")
def spots():
    spots = AstigmaticSpots(STANDARD)
    spots.prepare((SIZE_PX, SIZE_PX))
    return spots


def measured(spots, rng, truth, snr):
    frame = depth_frame(rng, *truth.T, snr, (SIZE_PX, SIZE_PX))
    return spots.localised(frame, said(truth[:, :2] + rng.normal(0, 0.3, (len(truth), 2))))


def test_heights_are_as_near_to_the_truth_as_is_said(spots):
    rng = np.random.default_rng(1)
    truth = lattice(rng)
    found = measured(spots, rng, truth, 8)
    error = found.extra["z_um"] - truth[:, 2]
    assert float(np.sqrt(np.mean(error**2))) < 0.045
    assert 0.7 < float(np.sqrt(np.mean((error / found.extra["sigma_z_um"]) ** 2))) < 1.4
    assert np.hypot(found.y - truth[:, 0], found.x - truth[:, 1]).max() < 0.5


def test_gain_and_offset_of_the_camera_do_not_matter(spots):
    rng = np.random.default_rng(2)
    truth = lattice(rng)
    frame, start = depth_frame(rng, *truth.T, 6, (SIZE_PX, SIZE_PX)), said(truth[:, :2])
    found, scaled = spots.localised(frame, start), spots.localised((frame * 20.0 + 300).astype(np.uint16), start)
    np.testing.assert_allclose(scaled.extra["z_um"], found.extra["z_um"], atol=1e-3)
    dark = AstigmaticSpots(STANDARD, is_dark=True).localised((5000 - frame.astype(np.int64)).astype(np.uint16), start)
    np.testing.assert_allclose(dark.extra["z_um"], found.extra["z_um"], atol=1e-3)


def test_a_long_spot_that_was_found_in_two_parts_counts_once(spots):
    rng = np.random.default_rng(3)
    truth = lattice(rng)
    truth[:, 2] = 0.5  # wider along x
    frame = depth_frame(rng, *truth.T, 10, (SIZE_PX, SIZE_PX))
    parts = np.concatenate((truth[:, :2] + (0, 1.2), truth[:, :2] - (0, 1.2)))
    found = spots.localised(frame, said(parts, np.repeat((0.9, 0.5), len(truth)).astype(np.float32)))
    assert len(found) == len(truth)
    assert found.score.min() == pytest.approx(0.9)
    assert list(found.extra["kind"]) == list(range(len(truth)))


def test_a_neighbours_light_is_taken_away(spots):
    rng = np.random.default_rng(4)
    alone = lattice(rng, 64)
    truth = np.concatenate((alone, alone + np.array([5.0, 4.0, 0.0])))
    truth[:, 2] = rng.uniform(-0.4, 0.4, len(truth))
    found = measured(spots, rng, truth, 10)
    known = np.isfinite(found.extra["z_um"])
    assert known.mean() > 0.8
    assert float(np.median(np.abs(found.extra["z_um"] - truth[:, 2])[known])) < 0.05


def test_what_is_no_point_has_no_height_and_keeps_its_place(spots):
    row, column = np.mgrid[:SIZE_PX, :SIZE_PX]
    disc = 20 + 200 * (np.hypot(row - 100, column - 120) < 7)
    frame = np.random.default_rng(5).poisson(disc).astype(np.uint16)
    found = spots.localised(frame, said([(101.0, 119.5), (30.0, 200.0)]))
    assert np.isnan(found.extra["z_um"]).all()
    assert found.y.tolist() == [101.0, 30.0]
    empty = spots.localised(frame, said(np.empty((0, 2))))
    assert [*empty.extra] == ["kind", "z_um", "sigma_z_um"]


def test_an_engine_that_finds_what_has_a_size_tells_no_height(tmp_path):
    (tmp_path / "psf.toml").write_text(STANDARD.toml(), encoding="utf-8")
    with pytest.raises(ConfigError, match="heights of points"):
        CellEngine(psf=tmp_path / "psf.toml")


class TestDenodetWithAPsf(EngineTests):
    """The suite's round spots are at height 0."""

    @pytest.fixture(autouse=True)
    def _calibrated(self, tmp_path):
        narrow = {"sigma_px": 1.02}
        axes = {axis: getattr(STANDARD, axis).model_copy(update=narrow) for axis in ("y", "x")}
        (tmp_path / "psf.toml").write_text(STANDARD.model_copy(update=axes).toml(), encoding="utf-8")
        self.folder = tmp_path

    def make_engine(self):
        return DenodetEngine(psf="psf.toml", config_folder=self.folder)

    def test_heights_are_those_of_the_spots(self, engine):
        engine.prepare((64, 96), "uint8")
        found, _ = engine.detect(self.frame(), denoise=False)
        assert np.abs(found.extra["z_um"]).max() < 0.15
