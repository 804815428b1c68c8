import pytest
import torch

from streamtrack_engines.deploy import from_onnx
from streamtrack_engines.heads.presence import NOTHING_THERE
from streamtrack_engines.networks.local_denodet import LocalDenodet
from streamtrack_engines.weights import read_weights


@pytest.mark.parametrize("weights", ["denodet-local", "denodet"])
def test_what_learns_on_begins_with_what_the_weights_say(weights):
    graph = from_onnx(read_weights(weights), weights)
    network = LocalDenodet(head_bias=NOTHING_THERE)
    network.take_folded(graph.network.state_dict())
    frames = torch.poisson(torch.full((1, 3, 64, 64), 40.0), torch.Generator().manual_seed(0))
    frames[:, :, 30:33, 30:33] += 60
    with torch.inference_mode():
        found = network.eval().find(network.see(frames))
        if weights == "denodet-local":
            torch.testing.assert_close(found, graph.network.find(graph.network.see(frames)), rtol=1e-3, atol=1e-3)
        assert found[0, 0].argmax() == 31 * 64 + 31
