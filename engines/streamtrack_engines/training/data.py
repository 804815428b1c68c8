"""Batches of simulated crops, made while the network learns from the one before."""

import math
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamtrack.simulation.crops import CropBatch, sample_crops
from streamtrack.waiting import done_within
from streamtrack_engines.networks import NETWORKS, Network
from streamtrack_engines.networks.denodet import signal_likeness
from streamtrack_engines.training.losses import Targets
from streamtrack_engines.training.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the network sees of some crops, and what it should say of the last frame of each."""

    seen: Any
    targets: Targets


def to_batch(crops: CropBatch, network: type[Network], device: torch.device) -> Batch:
    """Return the tensors for crops with known particles, as a network sees them."""
    noisy = torch.from_numpy(crops.noisy).to(device)
    signal = torch.from_numpy(crops.signal)[:, None].to(device)
    points = torch.from_numpy(crops.points).to(device)
    seen = network.see(noisy)
    return Batch(seen, Targets(signal_likeness(signal, network.image_scale(seen, noisy[:, -1:])), points))


def make_batch(recipe: Recipe, step: int, device: torch.device) -> Batch:
    """Return the batch of one step. It depends on the seed and the step alone, so that a resumed run sees the same."""
    crops = _crops(recipe, step // recipe.views)
    if recipe.views > 1:
        crops = turned(crops, int(np.random.default_rng((recipe.seed, step, 1)).integers(8)))
    return to_batch(crops, NETWORKS[recipe.network.kind], device)


@lru_cache(maxsize=1)
def _crops(recipe: Recipe, index: int) -> CropBatch:
    rng = np.random.default_rng((recipe.seed, index))
    n_before = recipe.network.n_frames - 1
    return sample_crops(rng, recipe.batch_size, recipe.crop_px, recipe.crop_ranges, n_before=n_before)


def turned(crops: CropBatch, symmetry: int) -> CropBatch:
    """Return crops after one of the eight symmetries of a square, 0 to 7."""
    turns, is_mirrored = symmetry % 4, symmetry >= 4
    crop, y, x = crops.points.T
    last = crops.noisy.shape[-1] - 1
    if is_mirrored:
        x = last - x
    for _ in range(turns):
        y, x = last - x, y

    def moved(images: NDArray[np.float32]) -> NDArray[np.float32]:
        images = images[..., ::-1] if is_mirrored else images
        return np.ascontiguousarray(np.rot90(images, turns, axes=(-2, -1)))

    points = np.column_stack((crop, y, x)).astype(np.float32)
    return CropBatch(moved(crops.noisy), moved(crops.signal), moved(crops.background), points)


def batches(recipe: Recipe, first_step: int, device: torch.device) -> Generator[Batch]:
    """Yield batches for ever, from that of ``first_step`` on; one thread stays one batch ahead."""
    with ThreadPoolExecutor(1, thread_name_prefix="crops") as maker:
        coming = maker.submit(make_batch, recipe, first_step, device)
        step = first_step
        while True:
            step += 1
            ready, coming = coming, maker.submit(make_batch, recipe, step, device)
            done_within(ready, math.inf)
            yield ready.result(0)
