import pytest
import torch
import torch.nn.functional as F
from networks import denodet
from torch import nn

from streamtrack_engines.networks.denodet import DecoderLevel, Denodet
from streamtrack_engines.networks.scaling import denoised_signal, frame_scale, normalise, signal_likeness

NORMS = ("batch", "instance")
STRIDE = Denodet.stride
REACH_PX = 56
"""Further than the convolutions see, poolings and upsamplings included."""


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(n_frames=1, norm="batch"):
    """Return a network in evaluation whose batch norms have seen data."""
    torch.manual_seed(0)
    network = denodet(n_frames=n_frames, norm=norm)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # learn the statistics at once
    with torch.no_grad():
        network(random(4, n_frames, 32, 32))
    return network.eval()


@pytest.mark.parametrize(("n_frames", "n_parameters"), [(1, 102_117), (3, 102_261)])
@pytest.mark.parametrize(("norm", "layer"), [("batch", nn.BatchNorm2d), ("instance", nn.InstanceNorm2d)])
def test_network_has_the_layers_of_the_paper_and_a_context(n_frames, n_parameters, norm, layer):
    network = denodet(n_frames=n_frames, norm=norm)

    assert sum(parameter.numel() for parameter in network.parameters()) == n_parameters
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 27 + 2
    assert sum(isinstance(module, layer) for module in network.modules()) == 21


PRINTED = {"n_frames": 1, "norm": "instance", "upsampling": "bilinear", "coupled": True, "context": False}


def test_the_network_as_printed_has_its_layers_and_no_others():
    network = Denodet(**PRINTED, head_bias=(0.0,))

    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 27
    assert sum(parameter.numel() for parameter in network.parameters()) == 68_154
    frame = random(1, 1, 24, 32)
    with torch.inference_mode():
        denoised, found = network(frame)
        assert denoised.shape == found.shape == frame.shape
        assert torch.equal(network.find(frame), found)


def test_coupled_detection_sees_what_the_denoising_decoder_does():
    network, frame = Denodet(**PRINTED, head_bias=(0.0,)), random(1, 1, 16, 16)
    with torch.inference_mode():
        before = network.find(frame)
        network.denoising[1].conv.weight.zero_()
        assert not torch.allclose(network.find(frame), before, atol=1e-3)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_frames", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (20, 36), (64, 12)])
def test_outputs_have_the_shape_of_the_frame(norm, n_frames, height, width):
    with torch.inference_mode():
        denoised, found = denodet(n_frames=n_frames, norm=norm)(random(2, n_frames, height, width))

    assert denoised.shape == (2, 1, height, width)
    assert found.shape == (2, 4, height, width)


@pytest.mark.parametrize("norm", NORMS)
def test_frames_of_a_batch_do_not_influence_each_other_once_trained(norm):
    network, frames = trained(3, norm), random(3, 3, 16, 16)

    with torch.inference_mode():
        together = network(frames)[1]
        alone = torch.cat([network(each[None])[1] for each in frames])

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_every_frame_of_the_past_matters():
    network, frames = trained(3), random(1, 3, 16, 16)

    with torch.inference_mode():
        found = network(frames)[1]
        for frame in range(3):
            without = frames.clone()
            without[:, frame] = 0
            assert not torch.allclose(found, network(without)[1], atol=1e-3)


def test_finding_alone_gives_what_both_together_give():
    network, frames = trained(3), random(2, 3, 24, 32)

    with torch.inference_mode():
        assert torch.equal(network.find(frames), network(frames)[1])


def test_neither_decoder_waits_for_the_other():
    network, frame = trained(), random(1, 1, 16, 16)
    with torch.inference_mode():
        denoised, found = network(frame)
        for parameter in network.denoising.parameters():
            parameter.zero_()
        assert torch.equal(network(frame)[1], found)
        assert not torch.allclose(network(frame)[0], denoised)


@pytest.mark.parametrize("decoder", ["denoising", "detection"])
def test_new_decoders_upsample_without_a_chequerboard(decoder):
    for level in getattr(denodet(), decoder):
        up = F.pixel_shuffle(level.conv(random(1, level.conv.in_channels, 4, 4)), 2)
        assert torch.equal(up, F.interpolate(up[..., ::2, ::2], scale_factor=2))


def test_subpixel_convolution_can_be_upsampling_and_a_convolution():
    """Weights set by hand: features are the image, upsampled bilinearly."""
    level, printed, image = DecoderLevel(1, 1, "batch"), DecoderLevel(1, 1, "batch", "bilinear"), random(1, 1, 6, 9)
    near, far = torch.tensor([0.0, 0.75, 0.25]), torch.tensor([0.25, 0.75, 0.0])
    with torch.inference_mode():
        phases = [torch.outer(y, x) for y in (far, near) for x in (far, near)]
        level.conv.weight.copy_(torch.stack(phases)[:, None])
        level.conv.bias.zero_()
        printed.conv.weight.zero_()
        printed.conv.weight[..., 1, 1] = 1.0
        printed.conv.bias.zero_()
        level.block = printed.block = nn.Identity()

        up, wanted = (each(image, torch.zeros(1, 0, 12, 18)) for each in (level, printed))

    torch.testing.assert_close(wanted, F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False))
    torch.testing.assert_close(up[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1])


def test_a_far_pixel_matters_through_the_context_alone():
    network, frame = trained(), random(1, 1, 64, 64 + 2 * REACH_PX)
    other = frame.clone()
    other[..., :32] += 3.0
    far = (..., slice(32 + REACH_PX, None))

    with torch.inference_mode():
        assert not torch.allclose(network(frame)[1][far], network(other)[1][far], atol=0.01)

        network.context[-1].weight.zero_()
        torch.testing.assert_close(network(frame)[1][far], network(other)[1][far])


def test_outputs_move_with_the_frame_but_for_the_context():
    network, frame = trained(), random(1, 1, 2 * REACH_PX + 24, 2 * REACH_PX + 24)
    shifted = frame.roll((STRIDE, 2 * STRIDE), (-2, -1))
    inside = (..., slice(REACH_PX + 8, -REACH_PX), slice(REACH_PX + 8, -REACH_PX))

    with torch.inference_mode():
        network.context[-1].weight.zero_()
        for here, there in zip(network(frame), network(shifted), strict=True):
            torch.testing.assert_close(here.roll((STRIDE, 2 * STRIDE), (-2, -1))[inside], there[inside])


def test_normalise_removes_gain_and_offset_of_the_camera():
    frame = 100 + 10 * random(2, 1, 32, 32)

    torch.testing.assert_close(normalise(frame), normalise(3.5 * frame + 200), rtol=1e-3, atol=1e-3)


def test_frames_are_normalised_each_on_its_own():
    frames = random(2, 3, 16, 16) * torch.tensor([1.0, 5.0, 20.0])[:, None, None] + 50

    alone = torch.stack([torch.stack([normalise(frame) for frame in crop]) for crop in frames])

    torch.testing.assert_close(normalise(frames), alone, rtol=1e-5, atol=1e-5)


def test_frames_have_mean_0_and_standard_deviation_1_before_they_are_compressed():
    frame = 1000 + 7 * random(1, 1, 256, 256)

    assert float(frame_scale(frame)) == pytest.approx(float(frame.std()), rel=1e-3)
    assert float(normalise(frame).mean()) == pytest.approx(0, abs=0.01)
    assert 0.85 < float(normalise(frame).std()) < 1


def test_bright_pixels_are_compressed_and_keep_their_order():
    frame = random(1, 1, 64, 64)
    frame[..., 32, 10:60:10] = torch.tensor([20.0, 100.0, 500.0, 2_000.0, 10_000.0])
    peaks = normalise(frame)[0, 0, 32, 10:60:10]

    assert (peaks.diff() > 0).all()
    assert 5**0.5 < float(peaks[-1] / peaks[-2]) < 3


@pytest.mark.parametrize("value", [0.0, 7.0, 12_345.0, 65_535.0])
@pytest.mark.parametrize("shape", [(8, 8), (128, 256), (33, 47), (1200, 1000)])
def test_constant_frame_becomes_zeros(value, shape):
    assert torch.equal(normalise(torch.full((1, 1, *shape), value)), torch.zeros(1, 1, *shape))


def test_logit_of_a_signal_goes_back_to_counts():
    frame, signal = 100 + 5 * random(1, 1, 8, 8), random(1, 1, 8, 8).abs() * 50 + 0.1
    scale = frame_scale(frame)
    likeness = signal_likeness(signal, scale)

    assert likeness.min() > 0
    assert likeness.max() < 1
    torch.testing.assert_close(denoised_signal(torch.logit(likeness), scale), signal, rtol=1e-4, atol=1e-4)


def test_denoised_signal_stays_finite():
    assert torch.isfinite(denoised_signal(torch.tensor(1e4), torch.tensor(100.0)))
