import pytest
import torch

from streamtrack_engines.heads.cells import CellHead
from streamtrack_engines.networks.cells import CellNetwork, see


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def frame(height=96, width=128, noise=3.0, ground=100.0):
    counts = ground + noise * random(1, 1, height, width)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (counts + 300.0 * ((y - 40) ** 2 + (x - 60) ** 2 < 144)).round()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (97, 133), (160, 64)])
def test_channels_have_half_of_the_padded_frames_size(height, width):
    network = CellNetwork(head_bias=CellHead.bias).eval()
    with torch.inference_mode():
        image, found = network(network.see(frame(height, width)))
    assert image is None
    assert found.shape == (1, 5, (height + 31) // 32 * 16, (width + 31) // 32 * 16)


def test_its_weights_are_small():
    network = CellNetwork(head_bias=CellHead.bias)
    assert sum(parameter.numel() for parameter in network.parameters()) < 225_000


def test_gain_and_offset_of_the_camera_do_not_matter():
    counts = frame()
    torch.testing.assert_close(see(counts), see(7 * counts + 1000), atol=2e-3, rtol=0)


def test_a_bright_cell_keeps_its_shape_and_noise_its_size():
    """What is seen of the noise is small, whatever else the frame holds; a cell rises above it and is flat."""
    seen = see(frame())[0, 0, :96]
    cell = seen[34:47, 54:67]
    assert cell.min() > 4 * seen[70:, 80:].abs().max()
    assert cell.std() < 0.05 * cell.mean()


def test_a_slope_of_the_light_is_mostly_gone():
    slope = torch.linspace(0, 400, 128)[None, None, None]
    flat, sloped = see(frame(noise=2.0)), see((frame(noise=2.0) + slope).round())
    assert (sloped - flat)[..., 70:, 40:].abs().mean() < 0.35 * flat[..., 34:47, 54:67].mean()


@pytest.mark.parametrize("level", [0.0, 65535.0])
def test_a_constant_frame_shows_nothing(level):
    assert not see(torch.full((1, 1, 64, 64), level)).any()


def test_saturated_cells_stay_bright():
    seen = see(frame().clamp(max=200.0))
    assert seen[0, 0, 34:47, 54:67].min() > 0.5


def test_beside_the_frame_there_is_nothing():
    seen = see(frame(97, 133))
    assert seen.shape == (1, 1, 128, 160)
    assert seen[0, 0, :97, :133].all(1).any()
    assert not seen[0, 0, 97:].any()
    assert not seen[0, 0, :, 133:].any()
