"""The deploy graph in torch; what an export makes of it is tested in tests/integration/test_export.py."""

import numpy as np
import pytest
import torch
from deploy_graphs import as_input, graph_of, lively_network, movie, run_torch, still

from streamtrack.testing.engines import example_frame
from streamtrack_engines.deploy import DeployGraph
from streamtrack_engines.heads.presence import Presence
from streamtrack_engines.networks.network import Network
from streamtrack_engines.networks.scaling import normalise

pytestmark = pytest.mark.usefixtures("one_torch_thread", "no_pairs")


class Transparent(Network):
    """Shows the last normalised frame, padding included, as denoised image and presence, so that all is known."""

    n_frames, stride, image = 3, 4, "denoised"
    GAIN, SHIFT = 2.0, 6.0

    def forward(self, x):
        self.seen = x
        last = x[:, -1:]
        rest = torch.zeros_like(last)
        return last, torch.cat([self.GAIN * last - self.SHIFT, rest, rest, rest], 1)


@pytest.fixture(scope="module")
def lively():
    return graph_of(lively_network())


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(64, 96), (61, 95), (62, 94), (63, 93)])
def test_statistics_are_those_of_each_frame_alone(shape, dtype):
    """The network sees every frame as training does, whatever is padded to it and whatever the others show."""
    frames = movie(shape, dtype) * np.array([1, 2, 1], dtype)[:, None, None]
    graph = graph_of(Transparent())
    table, _ = run_torch(graph, frames)
    seen = graph.network.seen.numpy()[0]
    assert all(size % 4 == 0 for size in seen.shape[1:])
    normal = normalise(torch.from_numpy(frames.astype("f8"))).numpy()
    np.testing.assert_allclose(seen[:, : shape[0], : shape[1]], normal, rtol=1e-4, atol=1e-4)
    presence = 1 / (1 + np.exp(Transparent.SHIFT - Transparent.GAIN * normal[-1]))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(presence, 1), (3, 3)).sum((2, 3))
    assert table[0, 2] == pytest.approx(around[np.unravel_index(presence.argmax(), shape)].clip(max=1), rel=1e-4)


@pytest.mark.parametrize("shape", [(61, 95), (62, 94), (63, 93), (33, 47)])
def test_odd_sizes_shift_nothing(shape):
    """Every corner of the frame is where it is without padding, and nothing lies in the padding."""
    frame = np.full(shape, 10, np.uint8)
    corners = [(0, 0), (0, shape[1] - 1), (shape[0] - 1, 0), (shape[0] - 1, shape[1] - 1)]
    for place in [*corners, (20, 30)]:
        frame[place] = 200
    table, denoised = run_torch(graph_of(Transparent()), still(frame))
    found = table[table[:, 2] > 0.5]
    found = sorted(map(tuple, found[:, :2].round(2).tolist()))
    np.testing.assert_allclose(found, sorted([*corners, (20, 30)]), atol=0.01)
    assert denoised.shape == shape


@pytest.mark.parametrize("level", [0, 1, 200, 65535])
@pytest.mark.parametrize("shape", [(33, 47), (512, 512)])
def test_what_has_no_contrast_is_unknown(level, shape):
    """Exactly: the mean of so many bright pixels is not exact in float32."""
    graph = graph_of(Transparent())
    frames = still(example_frame(shape, "uint16"))
    frames[0] = level
    run_torch(graph, frames)
    assert not graph.network.seen[0, :2].any()
    assert graph.network.seen[0, 2].any()


def test_outputs_are_of_the_last_frame():
    """Positions, intensities and the denoised image follow it wherever the others are."""
    frames = movie(dtype="uint16") * 10
    frames[:2] = frames[:2, ::-1, ::-1] + 3000
    graph = graph_of(Transparent())
    for output, alone in zip(run_torch(graph, frames), run_torch(graph, still(frames[-1])), strict=True):
        np.testing.assert_array_equal(output, alone)


def test_frames_before_matter_and_their_order_too():
    network = lively_network()
    with torch.no_grad():
        network.found_head.bias[0] = -7.0  # not all scores are 1
    graph = graph_of(network)
    frames = movie()
    scores = [run_torch(graph, frames[order])[0][:, 2] for order in ([0, 1, 2], [1, 0, 2], [1, 1, 2])]
    scores.append(run_torch(graph, still(frames[2]))[0][:, 2])
    for i, one in enumerate(scores):
        assert not any(np.allclose(one, other, atol=1e-3) for other in scores[:i])


def test_frames_of_one_content_agree_for_both_types():
    frames = movie()
    graph = graph_of(lively_network())
    for one, other in zip(run_torch(graph, frames), run_torch(graph, frames.astype(np.uint16)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_byte_pairs_are_exact(precision):
    """All 65,536 counts arrive."""
    frames = np.arange(65536, dtype=np.uint16).reshape(4, 128, 128)
    graph = DeployGraph(Transparent(), Presence(), precision=precision)
    counts = graph._counts(torch.from_numpy(as_input(frames)))
    np.testing.assert_array_equal(counts[0].numpy(), frames)


def test_denoised_image_has_the_mean_of_the_frame():
    frames = movie(dtype="uint16") * np.array([1, 40, 20], np.uint16)[:, None, None]
    _, denoised = run_torch(graph_of(lively_network()), frames)
    assert denoised.mean(dtype="f8") == pytest.approx(frames[-1].mean(), rel=1e-4)


@pytest.mark.parametrize("level", [0, 1, 200, 65535])
def test_no_contrast_no_detection(level, lively):
    frames = movie((33, 47), "uint16")
    frames[-1] = level
    table, denoised = run_torch(lively, frames)
    assert not table.any()
    np.testing.assert_allclose(denoised, level, rtol=1e-6)
