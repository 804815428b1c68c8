"""Batches of simulated crops, made while the network learns from the one before."""

import math
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamtrack.simulation.crops import CropBatch, sample_crops
from streamtrack.waiting import done_within
from streamtrack_engines.networks.denodet import frame_scale, normalise, signal_likeness
from streamtrack_engines.training.losses import Targets
from streamtrack_engines.training.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Normalised frames (B, T, H, W), float32, and what the network should say of the last of them."""

    frames: Tensor
    targets: Targets


def to_batch(crops: CropBatch, device: torch.device) -> Batch:
    """Return the tensors for crops with known particles."""
    noisy = torch.from_numpy(crops.noisy).to(device)
    signal = torch.from_numpy(crops.signal)[:, None].to(device)
    points = torch.from_numpy(crops.points).to(device)
    frames = normalise(noisy).contiguous(memory_format=torch.channels_last)
    return Batch(frames, Targets(signal_likeness(signal, frame_scale(noisy[:, -1:])), points))


def make_batch(recipe: Recipe, step: int, device: torch.device) -> Batch:
    """Return the batch of one step. It depends on the seed and the step alone, so that a resumed run sees the same."""
    rng = np.random.default_rng((recipe.seed, step))
    n_before = recipe.network.n_frames - 1
    return to_batch(sample_crops(rng, recipe.batch_size, recipe.crop_px, recipe.crop_ranges, n_before=n_before), device)


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
