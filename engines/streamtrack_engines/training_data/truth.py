"""What networks learn from, whatever it is made of: frames, and the truth about the last of them. Without torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

OWN = "own"
"""Name of the part of what is held out that is of somebody's own images."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Crops of some frames, and the truth about the last frame of each.

    Attributes
    ----------
    noisy
        Shape (B, T, S, S), float32 counts: T frames in a row, the current one last. One not known is all zeros.
    points
        Shape (M, 3), float32: crop, y, x of the particles, px, up to 2 px outside the crop, or as far as a
        setting ``beyond_px`` of the data says.
    signal
        Shape (B, S, S), float32 counts: the particles of the last frame alone, without noise; None where nobody knows.
    known
        What else is known of each particle, by name: shape (M,), float32.
    presence
        Shape (B, S, S), float32: logits of what another network says of each pixel, for the head to learn from.
    """

    noisy: NDArray[np.float32]
    points: NDArray[np.float32]
    signal: NDArray[np.float32] | None = None
    known: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    presence: NDArray[np.float32] | None = None


class TrainingData(Protocol):
    """Makes or reads crops. Group ``streamtrack.training_data``; goes to another process, so that it is pickled.

    The keyword arguments are the settings, keys of the recipe's ``[data]``.
    """

    def batch(self, rng: np.random.Generator, n: int, size_px: int, n_before: int) -> Truth:
        """Return ``n`` crops of ``size_px`` squared with ``n_before`` frames before the current one."""
        ...

    def held_out(self, seed: int, n: int, size_px: int, n_before: int) -> Iterable[tuple[str, Truth]]:
        """Yield crops that no training sees, the same each time, by the name that they have in the log."""
        ...

    def example(self, n_frames: int, height: int, width: int) -> NDArray[np.float32]:
        """Return a movie (n_frames, H, W), counts, that any trained network must find something in; always the same."""
        ...


def seeded(data: TrainingData, seed: Sequence[int], n: int, size_px: int, n_before: int) -> Truth:
    """Return the batch that belongs to a seed; for another process to call."""
    return data.batch(np.random.default_rng(seed), n, size_px, n_before)


def turned(truth: Truth, symmetry: int) -> Truth:
    """Return crops after one of the eight symmetries of a square, 0 to 7."""
    turns, is_mirrored = symmetry % 4, symmetry >= 4
    crop, y, x = truth.points.T
    last = truth.noisy.shape[-1] - 1
    if is_mirrored:
        x = last - x
    for _ in range(turns):
        y, x = last - x, y

    def moved(images: NDArray[np.float32]) -> NDArray[np.float32]:
        images = images[..., ::-1] if is_mirrored else images
        return np.ascontiguousarray(np.rot90(images, turns, axes=(-2, -1)))

    points = np.column_stack((crop, y, x)).astype(np.float32)
    signal, presence = (None if each is None else moved(each) for each in (truth.signal, truth.presence))
    return Truth(moved(truth.noisy), points, signal, truth.known, presence)


def joined(crops: Sequence[Truth]) -> Truth:
    """Return crops of one size as one batch; of what else is known that stays which all know, but no image."""
    numbers = np.repeat(np.arange(len(crops)), [len(crop.points) for crop in crops])
    points = np.concatenate([crop.points for crop in crops])
    points[:, 0] = numbers
    names = set.intersection(*(set(crop.known) for crop in crops))
    known = {name: np.concatenate([crop.known[name] for crop in crops]) for name in names}
    return Truth(np.concatenate([crop.noisy for crop in crops]), points, known=known)
