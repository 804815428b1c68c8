"""What the deploy graph and the training ask of a head."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from streamtrack.types import Column
from streamtrack_engines.heads.peaks import background_ring
from streamtrack_engines.networks.network import Network
from streamtrack_engines.training_data.truth import TrainingData

COLUMNS = (
    Column("y", "px"),
    Column("x", "px"),
    Column("score"),
    Column("intensity", "counts"),
    Column("sigma", "px"),
)
"""The first of every table: position, (0, 0) the centre of the first pixel; probability that a particle is there, 0 to
1; counts above the local background; standard deviation of the position along each axis."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The particles in the last frame of some crops.

    Attributes
    ----------
    places
        (M, 3), float32: crop, y, x in px; a few lie up to 2 px outside, or as far as `Head.beyond_px` asks for.
    known
        What else is known of each, by name, (M,) float32.
    presence
        (B, 1, H, W), float32: logits of what another network says of each pixel, to learn from beside the truth.
    frame
        (B, 1, H, W), float32 counts: the last frame itself, to learn an image that is made of it. None where nobody
        gives it.
    """

    places: Tensor
    known: Mapping[str, Tensor] = field(default_factory=dict)
    presence: Tensor | None = None
    frame: Tensor | None = None


class Head(nn.Module):
    """What the channels of a network mean, how they are learnt, and the table of particles made of them.

    Group ``streamtrack.heads``; the keyword arguments are the settings, keys of the recipe's ``[head]``. A head has no
    weights: it ends in operations that ONNX Runtime and TensorRT have, and no shape depends on what a frame shows.

    Attributes
    ----------
    bias
        One number for each channel that the head reads: what its network says at first. Few pixels hold a particle, or
        the first steps of a training would only learn that.
    columns
        Of the table: `COLUMNS`, then whatever else this head says of a particle.
    uncalibrated
        What `table` takes as ``calibration`` before `calibrate` was called.
    image
        Kind of the image that `picture` makes of the channels; None where it makes none, and the network's is shown.
    beyond_px
        How far beyond a crop the training data must know the particles, px.
    weights
        Of the terms of the loss, by name.
    ring
        `background_ring`; a constant of the graph, as a CUDA graph cannot take up what comes from the host.
    """

    bias: ClassVar[tuple[float, ...]]
    columns: ClassVar[tuple[Column, ...]] = COLUMNS
    uncalibrated: ClassVar[tuple[float, ...]] = ()
    image: ClassVar[str | None] = None
    beyond_px: float = 0.0
    weights: Mapping[str, float]
    ring: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ring", background_ring(), persistent=False)

    def loss(self, found: Tensor, points: Points, fraction: float) -> dict[str, Tensor]:
        """Return the terms of the loss by name, not weighted; ``fraction`` of the training is over, 0 to 1.

        ``found`` is (B, C, H, W), float32.
        """
        raise NotImplementedError

    def table(self, found: Tensor, frame: Tensor, *, k: int, calibration: tuple[float, ...]) -> Tensor:
        """Return the `k` likeliest particles of each tile of the frame, of each the best first, (tiles * k, columns).

        float32; rows without a particle are zero. `streamtrack_engines.heads.peaks.best` makes the tiles.

        Parameters
        ----------
        found
            (1, C, H, W) float32, H and W at least 32.
        frame
            The raw frame in counts, (1, 1, H, W) float32.
        k
            Number of rows for each tile.
        calibration
            `uncalibrated`, or what `calibrate` found.
        """
        raise NotImplementedError

    def picture(self, found: Tensor, frame: Tensor, *, calibration: tuple[float, ...]) -> Tensor:
        """Return the head's image of a frame (1, 1, H, W), of the same shape; the arguments are those of `table`."""
        raise NotImplementedError

    def calibrate(self, network: Network, data: TrainingData, *, n_frames: int, size_px: int) -> tuple[float, ...]:
        """Return what makes the scores of a trained network probabilities, from frames of its training's kind."""
        return self.uncalibrated
