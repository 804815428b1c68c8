from importlib.resources import files

import pytest
import torch

from streamtrack_engines.heads.enhanced import Enhanced
from streamtrack_engines.networks.deepspot import DeepSpot
from streamtrack_engines.networks.network import Affine
from streamtrack_engines.parts import make_head, make_network
from streamtrack_engines.training.recipe import read_recipe


@pytest.fixture(autouse=True)
def _one_thread(one_torch_thread):
    """In all tests of this file."""


def deepspot(seed=0, **settings):
    torch.manual_seed(seed)
    return DeepSpot(**settings, head_bias=Enhanced.bias)


def learnt(**settings):
    """Return a network whose norms have other statistics than at the start."""
    network = deepspot(**settings)
    for _ in range(3):
        network(torch.rand(2, 1, 64, 64))
    return network.eval()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (97, 133)])
def test_it_has_a_channel_of_the_head_for_each_pixel_of_the_padded_frame(height, width):
    network = deepspot().eval()
    with torch.inference_mode():
        image, found = network(network.see(torch.rand(1, 1, height, width)))
    assert image is None
    assert found.shape == (1, 1, (height + 7) // 8 * 8, (width + 7) // 8 * 8)


def test_gain_and_offset_of_the_camera_do_not_matter_and_a_constant_frame_shows_nothing():
    network, counts = deepspot(), 100 * torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(network.see(counts), network.see(7 * counts + 1000), atol=1e-5, rtol=0)
    assert not network.see(torch.full((1, 1, 64, 64), 65535.0)).any()


def test_folded_it_is_the_same_and_has_a_factor_only_where_no_convolution_precedes_a_norm():
    network, frames = learnt(), torch.rand(1, 1, 64, 64)
    folded = network.folded()
    with torch.inference_mode():
        torch.testing.assert_close(folded.find(frames), network.find(frames), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert sum(isinstance(module, Affine) for module in folded.modules()) == 3


def test_another_learns_on_from_a_folded_one():
    taught, other, frames = learnt(), deepspot(1).eval(), torch.rand(1, 1, 64, 64)
    other.take_folded(taught.folded().state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(other.find(frames), taught.find(frames), rtol=1e-3, atol=1e-4)


def test_features_are_left_out_in_training_only():
    frames = torch.rand(2, 1, 64, 64)
    network = deepspot(dropout=0.5)
    assert not torch.equal(network.find(frames), network.find(frames))
    network.eval()
    assert torch.equal(network.find(frames), network.find(frames))


def test_a_spot_changes_what_is_said_around_it():
    network, frames = learnt(), torch.zeros(1, 1, 128, 128)
    spot = frames.clone()
    spot[..., 43, 86] = 1.0
    with torch.inference_mode():
        changed = (network.find(spot) - network.find(frames)).abs()[0, 0]
    rows, columns = changed.nonzero().T
    assert rows.min() < 43 < rows.max()
    assert columns.min() < 86 < columns.max()


@pytest.mark.parametrize(("name", "least", "most"), [("deepspot", 0.2e6, 0.4e6), ("deepspot-published", 4e6, 6e6)])
def test_recipes_are_of_the_size_that_they_say(name, least, most):
    recipe = read_recipe(files("streamtrack_engines.training") / "recipes" / f"{name}.toml")
    network = make_network(recipe.network, make_head(recipe.head))
    assert least < sum(weight.numel() for weight in network.parameters()) < most
