import pytest
import torch
from torch import nn

from streamtrack_engines.networks.denodet import Denodet, denoised_signal, frame_std, normalise, signal_likeness


def test_network_has_the_size_and_layers_of_the_paper():
    network = Denodet()

    assert sum(parameter.numel() for parameter in network.parameters()) == 68_154
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 27
    assert sum(isinstance(module, nn.InstanceNorm2d) for module in network.modules()) == 21


@pytest.mark.parametrize(("height", "width"), [(8, 8), (20, 36), (64, 4)])
def test_outputs_have_the_shape_of_the_frame(height, width):
    with torch.inference_mode():
        denoised, heat = Denodet()(torch.randn(2, 1, height, width))

    assert denoised.shape == heat.shape == (2, 1, height, width)


def test_frames_of_a_batch_do_not_influence_each_other():
    network, frames = Denodet(), torch.randn(3, 1, 16, 16)

    with torch.inference_mode():
        together = network(frames)[1]
        alone = torch.cat([network(frame[None])[1] for frame in frames])

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_detection_uses_what_the_denoising_decoder_found():
    network, frame = Denodet(), torch.randn(1, 1, 16, 16)

    with torch.inference_mode():
        before = network(frame)[1]
        network.denoise[1].conv.bias.add_(1.0)
        network.denoise[1].block.norms[2].bias.add_(1.0)

        assert not torch.allclose(before, network(frame)[1])


def test_normalise_removes_gain_and_offset_of_the_camera():
    frame = torch.rand(2, 1, 32, 32) * 100

    normalised = normalise(frame)

    torch.testing.assert_close(normalised, normalise(3.5 * frame + 200), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(normalised.mean((-2, -1)), torch.zeros(2, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(normalised.std((-2, -1), correction=0), torch.ones(2, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 7.0, 65_535.0])
def test_constant_frame_becomes_zeros(value):
    assert torch.equal(normalise(torch.full((1, 1, 8, 8), value)), torch.zeros(1, 1, 8, 8))


def test_logit_of_a_signal_goes_back_to_counts():
    frame, signal = torch.randn(1, 1, 8, 8) * 5 + 100, torch.rand(1, 1, 8, 8) * 50 + 0.1
    std = frame_std(frame)
    logit = torch.logit(signal_likeness(signal, std))

    torch.testing.assert_close(denoised_signal(logit, std), signal, rtol=1e-4, atol=1e-4)


def test_denoised_signal_stays_finite():
    assert torch.isfinite(denoised_signal(torch.tensor(1e4), torch.tensor(100.0)))
