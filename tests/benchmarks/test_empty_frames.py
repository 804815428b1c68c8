from itertools import islice

import numpy as np
import pytest

from benchmarks.detection.empty_frames import EMPTY, SHAPE, texture


@pytest.mark.parametrize("kind", EMPTY)
def test_frames_can_go_to_an_engine_and_repeat_with_their_seed(kind):
    make, _ = EMPTY[kind]
    first, again = (list(islice(make(np.random.default_rng(3)), 2)) for _ in range(2))
    assert {frame.shape for frame in first} == {SHAPE}
    assert {frame.dtype.name for frame in first} <= {"uint8", "uint16"}
    np.testing.assert_array_equal(first, again)


def test_texture_has_its_mean_its_contrast_and_only_broad_waves():
    mean_e = texture(np.random.default_rng(1))
    assert mean_e.mean() == pytest.approx(50)
    assert mean_e.max() / mean_e.min() == pytest.approx(3)
    power = np.abs(np.fft.rfft2(np.log(mean_e) - np.log(mean_e).mean())) ** 2
    cycles_per_px = np.hypot(np.fft.fftfreq(SHAPE[0])[:, None], np.fft.rfftfreq(SHAPE[1]))
    assert power[cycles_per_px > 1.01 / 20].sum() < 1e-6 * power.sum()


def test_noise_is_what_its_name_says():
    frame = {kind: next(make(np.random.default_rng(2))) for kind, (make, _) in EMPTY.items()}
    assert frame["uniform 64 e"].var() == pytest.approx(64, rel=0.02)
    assert frame["read noise"].var() == pytest.approx(1 + 4 + 1 / 12, rel=0.02)
    assert 0.98 < np.mean(frame["half saturated"][:, 256:] == 255) < 1
    assert frame["half saturated"][:, :256].max() < 255
    assert np.all(frame["saturated"] == 255)


def test_only_the_movies_keep_their_texture():
    smooth = {}
    for kind in ("textured", "textured, consecutive"):
        a, b = islice(EMPTY[kind][0](np.random.default_rng(4)), 2)
        smooth[kind] = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    assert smooth["textured, consecutive"] > 0.4
    assert abs(smooth["textured"]) < 0.4
