"""What the deploy graph and the training ask of a network."""

from typing import Any

from torch import Tensor, nn


class Network(nn.Module):
    """Finds particles in the last of some frames, and denoises it; the base of all networks.

    Attributes
    ----------
    n_frames
        Frames that the network sees at once: the current one and those before it.
    """

    n_frames: int

    @staticmethod
    def see(counts: Tensor) -> Any:
        """Return what `find` takes, for frames (B, T, H, W) in counts, float32, the current one last.

        A tensor, or a tuple of some, padded to sizes that the network takes. A frame that is not known is all zeros.
        """
        raise NotImplementedError

    @staticmethod
    def image_scale(seen: Any, current: Tensor) -> Tensor:
        """Return the counts of the current frame (B, 1, H, W) that are 1 in its denoised image, to be broadcast."""
        raise NotImplementedError

    def find(self, seen: Any) -> Tensor:
        """Return what is found in each pixel of the padded current frame, (B, 4, H, W)."""
        raise NotImplementedError
