import numpy as np
import pytest

from benchmarks.detection.everyday import score, table_of
from benchmarks.detection.everyday_scenes import BACKGROUND_E, FAMILIES, amplitude, spots


@pytest.mark.parametrize("family", FAMILIES)
def test_particles_that_count_are_where_the_last_frame_shows_them(family):
    scene = FAMILIES[family].make(np.random.default_rng(0))
    assert scene.frames.shape[0] == 3
    assert scene.frames.dtype == np.uint16
    assert len(scene.truth) <= len(scene.all)
    if len(scene.truth) == 0 or "SNR 2" in family:
        return
    row, column = np.rint(scene.truth).astype(int).T
    last = scene.frames[-1].astype(float)
    surplus = last[row, column].mean() - np.median(last)
    assert surplus < 0 if family.startswith("dark") else surplus > 0


def test_a_spot_is_integrated_over_its_pixels():
    image = spots(np.array([[20.0, 30.25]]), 100.0, 1.3, 64)
    assert image.sum() == pytest.approx(100 * 2 * np.pi * 1.3**2, rel=1e-3)
    y, x = np.mgrid[:64, :64]
    assert (image * y).sum() / image.sum() == pytest.approx(20.0, abs=1e-3)
    assert (image * x).sum() / image.sum() == pytest.approx(30.25, abs=1e-3)


def test_the_snr_is_that_of_the_challenge():
    height = float(amplitude(4.0))
    assert height / np.sqrt(height + BACKGROUND_E) == pytest.approx(4.0)


def test_a_family_is_scored():
    row = score("log", "ten spots 100 times brighter", 1)
    assert 0 < row["f1"] <= 1
    nothing = score("log", "edges of nuclei", 1)
    assert nothing["f1"] is None
    assert nothing["false_per_frame"] >= 0
    assert table_of([row, nothing]).row_count == 2


@pytest.mark.parametrize("family", ["dark, SNR 10", "sigma 6 px, SNR 10"])
@pytest.mark.parametrize("method", ["denodet", "log", "trackpy"])
def test_detectors_are_told_what_somebody_with_such_images_would_tell_them(family, method):
    assert score(method, family, 1)["f1"] > 0.8
