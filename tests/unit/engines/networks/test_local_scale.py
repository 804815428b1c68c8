import numpy as np
import pytest
import torch
from networks import compact, local_denodet
from scipy.ndimage import gaussian_filter

from streamtrack_engines.networks.local_scale import KNEE, see


@pytest.fixture(autouse=True)
def _one_thread(one_torch_thread):
    """In all tests of this file."""


def movie(background_e=20.0, n_frames=3, size_px=128, seed=0):
    background = np.broadcast_to(background_e, (size_px, size_px))
    return np.random.default_rng(seed).poisson(background, (n_frames, size_px, size_px)).astype(np.float32)


def seen(frames):
    return see(torch.from_numpy(np.asarray(frames, np.float32))[None], 8)


def whole(seen_frames, frame=-1):
    """Return one frame in units of the noise, (H, W)."""
    return 4 * KNEE * seen_frames[0, frame].numpy()


def test_pixels_stay_in_their_places():
    frame = movie()[:1] + np.arange(128.0) % 3
    image = whole(seen(frame).frames)
    assert np.corrcoef(image[8:-8, 8:-8].ravel(), frame[0, 8:-8, 8:-8].ravel())[0, 1] > 0.99


def test_noise_is_near_one_whatever_its_background_gain_and_offset():
    for background, gain, offset in ((4.0, 1.0, 0.0), (20.0, 2.2, 100.0), (400.0, 0.5, 300.0)):
        image = whole(seen(np.rint(gain * movie(background) + offset)).frames)
        assert image.std() == pytest.approx(1.0, abs=0.2)
        assert abs(image.mean()) < 0.2


def test_a_slope_of_the_light_is_gone():
    slope = 25.0 * (1 + 0.6 * np.linspace(-1, 1, 128))
    image = whole(seen(movie(np.broadcast_to(slope, (128, 128)))).frames)
    for part in np.array_split(image, 4, axis=1):
        assert abs(part.mean()) < 0.2
        assert part.std() == pytest.approx(1.0, abs=0.25)


def test_a_blinding_object_hides_nothing_beside_it():
    plain, frames = movie(), movie()
    y, x = np.mgrid[:128, :128]
    frames += np.rint(60000 * np.exp(-((y - 64) ** 2 + (x - 64) ** 2) / 2 / 10**2)).astype(np.float32)
    far = np.hypot(y - 64, x - 64) > 62
    difference = np.abs(whole(seen(frames).frames) - whole(seen(plain).frames))
    assert np.median(difference[far]) < 0.1
    assert whole(seen(frames).frames).max() < 250


def test_texture_tells_noise_that_a_filter_has_spread():
    smooth = np.rint(gaussian_filter(10 * movie(), (0, 1.5, 1.5)))
    assert seen(movie()).texture.abs().max() < 0.6
    assert seen(smooth).texture[:, 0].max() < -0.6


def test_frames_that_are_not_known_and_constant_parts_are_zeros():
    frames = movie()
    frames[0] = 0
    frames[:, :, :40] = 7
    image = seen(frames).frames
    assert not whole(image, 0).any()
    assert not whole(image)[:, :40].any()
    assert whole(image)[:, 44:].std() == pytest.approx(1.0, abs=0.2)


def test_frames_before_are_on_the_scale_of_the_current_one():
    frames = movie()
    frames[0] *= 10
    image = seen(frames).frames
    assert whole(image, 0).std() > 4
    assert whole(image).std() == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("frame", [np.zeros((3, 40, 56)), np.full((3, 40, 56), 65535.0)])
def test_nothing_is_seen_of_constant_frames(frame):
    for part in seen(frame)[:2]:
        assert torch.isfinite(part).all()
    assert not seen(frame).frames.any()


@pytest.mark.parametrize("make", [compact, local_denodet])
def test_frames_of_any_size_are_padded(make):
    network = make().eval()
    frames = torch.from_numpy(movie()[:, :61, :75])[None]
    result = network.see(frames)
    padded = tuple((size + network.stride - 1) // network.stride * network.stride for size in (61, 75))
    assert result.frames.shape == (1, 3, *padded)
    with torch.inference_mode():
        denoised, found = network(result)
        torch.testing.assert_close(network.find(result), found)
    assert denoised.shape == (1, 1, *padded)
    assert found.shape == (1, 4, *padded)
    assert network.image_scale(result, torch.zeros(1, 1, 61, 75)).shape == (1, 1, 61, 75)


@pytest.mark.parametrize("make", [compact, local_denodet])
def test_folding_what_comes_before_and_after_convolutions_changes_nothing(make):
    torch.manual_seed(0)
    network = make()
    frames = seen(movie())
    with torch.no_grad():
        network.texture.weight.normal_()
        network.train()(frames)
        network.eval()
        for one, other in zip(network(frames), network.folded()(frames), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
        for one, other in zip(network(frames), network.folded().folded()(frames), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
