"""What is common to a whole frame."""

from torch import Tensor, nn


class Context(nn.Sequential):
    """Adds what the whole frame says, above all how many particles it holds, to the features of each pixel.

    It says it through the mean of the features, as in squeeze and excitation (Hu et al., arXiv:1709.01507).
    """

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        # In half precision a sum over so many pixels would be wrong, or infinite.
        mean = features.float().mean((-2, -1), keepdim=True)
        said: Tensor = super().forward(mean.to(features.dtype))  # type: ignore[no-untyped-call]
        return features + said
