"""What the deploy graph and the training ask of a network."""

import copy
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from streamtrack_engines.networks.scaling import denoised_signal, frame_scale, normalised, signal_likeness

FramesSeen = Annotated[int, Field(ge=1, le=8)]


class Affine(nn.Module):
    """What is left of a batch norm that no convolution precedes: a factor and a shift for each feature."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        with torch.no_grad():
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # type: ignore[arg-type, operator]
            shift = norm.bias - norm.running_mean * scale  # type: ignore[operator]
        # Of the shape in which they are used: ONNX files have no others.
        self.weight, self.bias = (nn.Parameter(each[:, None, None].clone()) for each in (scale, shift))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x * self.weight + self.bias


class Network(nn.Module):
    """From some frames to channels that a head reads, and perhaps an image; the base of all networks.

    Group ``streamtrack.networks``. The keyword arguments are the settings, keys of the recipe's ``[network]``; one
    named ``head_bias`` is given: the biases of the last layer at first, one for each channel of the head. `n_frames`
    and `forward` must be there, all else has a default.

    Attributes
    ----------
    stride
        Height and width of what the network sees are multiples of this.
    image
        Kind of the image that `forward` gives, of the last frame: ``"denoised"``; None if it gives none.
    n_frames
        Frames that the network sees at once: the current one and those before it.
    """

    stride: ClassVar[int] = 1
    image: ClassVar[str | None] = None
    n_frames: int

    def see(self, counts: Tensor) -> Any:
        """Return what `forward` takes, for frames (B, T, H, W) in counts, float32, the current one last.

        A tensor, or a tuple of some, padded to multiples of `stride`; by default each frame normalised. A frame that is
        not known is all zeros.
        """
        return normalised(counts, self.stride)

    def forward(self, seen: Any) -> tuple[Tensor | None, Tensor]:
        """Return image (B, 1, H, W), None from a network without, and channels (B, C, H, W), of the padded frames."""
        raise NotImplementedError

    def find(self, seen: Any) -> Tensor:
        """Return the second output of `forward`, without the work for the first where that can be left out."""
        found: Tensor = self(seen)[1]
        return found

    def image_scale(self, seen: Any, current: Tensor) -> Tensor:
        """Return the counts of the current frame (B, 1, H, W) that are 1 in its denoised image, to be broadcast."""
        return frame_scale(current)

    def image_counts(self, image: Tensor, seen: Any, current: Tensor) -> Tensor:
        """Return the signal above background, counts, that an image without its padding (B, 1, H, W) shows."""
        return denoised_signal(image, self.image_scale(seen, current))

    def image_target(self, signal: Tensor, seen: Any, current: Tensor) -> Tensor:
        """Return what the sigmoid of the image should be, 0 to 1, for a signal (B, 1, H, W) in counts."""
        return signal_likeness(signal, self.image_scale(seen, current))

    def folded(self) -> "Network":
        """Return a copy for inference whose batch norms are part of the convolutions before them.

        Such are those that follow a convolution in an ``nn.Sequential``, and the ``norms`` of a module that has as many
        ``convs``. Of other batch norms an `Affine` is left; other norms stay.
        """
        network = copy.deepcopy(self).eval()
        for convs, conv, norms, norm in list(_pairs(network)):
            if isinstance(convs[conv], nn.Conv2d) and isinstance(norms[norm], nn.BatchNorm2d):
                convs[conv] = fuse_conv_bn_eval(convs[conv], norms[norm])
                norms[norm] = nn.Identity()
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, Affine(child))
        return network

    @torch.no_grad()
    def take_folded(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a `folded` network, its norms for affine maps of the features that can learn on.

        What the weights do not know, as of a layer that this network has besides, stays as it is, and so does a last
        layer (``found_head``) for the channels of another head. Raises ValueError if they know what this network does
        not have.
        """
        names, mine, used = {module: name for name, module in self.named_modules()}, self.state_dict(), set()
        for convs, conv, norms, norm in _pairs(self):
            bias, target = f"{names[convs[conv]]}.bias", norms[norm]
            if isinstance(target, nn.BatchNorm2d) and bias in weights and bias not in mine:
                target.reset_running_stats()
                target.weight.fill_((1 + target.eps) ** 0.5)
                target.bias.copy_(weights[bias])
                used.add(bias)
        for name, value in weights.items():
            if name in mine and value.shape in (mine[name].shape, (*mine[name].shape, 1, 1)):  # the latter of an Affine
                mine[name].copy_(value.reshape(mine[name].shape))
            elif name not in used and not name.startswith("found_head."):
                raise ValueError(name)


def _pairs(network: nn.Module) -> Iterator[tuple[Any, int, Any, int]]:
    """Yield layers that follow each other: the list of the first and its place there, and those of the second."""
    for module in network.modules():
        convs, norms = getattr(module, "convs", None), getattr(module, "norms", None)
        if isinstance(module, nn.Sequential):
            yield from ((module, place, module, place + 1) for place in range(len(module) - 1))
        elif isinstance(convs, nn.ModuleList) and isinstance(norms, nn.ModuleList) and len(convs) == len(norms):
            yield from ((convs, place, norms, place) for place in range(len(convs)))
