import numpy as np
import pytest
import torch
from networks import denodet, unet


@pytest.fixture(autouse=True)
def _one_thread(one_torch_thread):
    """In all tests of this file."""


def test_it_has_a_channel_of_the_head_for_each_pixel_and_an_image():
    network = unet().eval()
    assert 250_000 < sum(weight.numel() for weight in network.parameters()) < 500_000
    seen = network.see(torch.rand(1, 3, 70, 100))
    image, found = network(seen)
    assert (image.shape, found.shape) == ((1, 1, 80, 112), (1, 4, 80, 112))
    torch.testing.assert_close(network.find(seen), found)


def test_it_sees_what_denodet_sees():
    counts = torch.rand(1, 3, 64, 64) * 100
    torch.testing.assert_close(unet().see(counts), denodet().see(counts))


def test_folded_norms_change_nothing():
    network = unet()
    frames = torch.randn(2, 3, 64, 64)
    for _ in range(3):
        network(frames)  # norms learn other statistics than those of the start
    network.eval()
    with torch.inference_mode():
        torch.testing.assert_close(network.folded().find(frames), network.find(frames), rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.folded().modules())


def test_each_pixel_answers_for_its_own_place():
    network = unet().eval()
    frames = torch.zeros(1, 3, 64, 64)
    spot = frames.clone()
    spot[:, :, 21, 34] = 5.0
    with torch.inference_mode():
        changed = (network.find(spot) - network.find(frames)).abs().amax(1)[0]
    rows, columns = np.nonzero(changed.numpy())
    assert rows.min() < 21 < rows.max()
    assert columns.min() < 34 < columns.max()
