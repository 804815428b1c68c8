"""Batches of simulated crops, made while the network learns from the one before."""

import math
import signal
from collections import deque
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamtrack.simulation.crops import CropBatch, seeded_crops
from streamtrack.waiting import done_within
from streamtrack_engines.networks import NETWORKS, Network
from streamtrack_engines.networks.denodet import signal_likeness
from streamtrack_engines.training.losses import Targets
from streamtrack_engines.training.recipe import Recipe

_AHEAD = 2


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
    return _view(recipe, seeded_crops(*_order(recipe, step // recipe.views)), step, device)


def _order(recipe: Recipe, index: int) -> tuple[Any, ...]:
    """Return the arguments of `seeded_crops` for the crops that the steps of a number of views have in common."""
    n_before = recipe.network.n_frames - 1
    return (recipe.seed, index), recipe.batch_size, recipe.crop_px, recipe.crop_ranges, n_before


def _view(recipe: Recipe, crops: CropBatch, step: int, device: torch.device) -> Batch:
    if recipe.views > 1:
        crops = turned(crops, int(np.random.default_rng((recipe.seed, step, 1)).integers(8)))
    return to_batch(crops, NETWORKS[recipe.network.kind], device)


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
    """Yield batches for ever, from that of ``first_step`` on; another process makes the crops, and is ahead.

    A thread would do so at half the pace: only one thread runs at a time of what is not in a library.
    """
    deaf = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=signal.signal, initargs=deaf) as maker:
        first = first_step // recipe.views
        coming = deque(maker.submit(seeded_crops, *_order(recipe, first + ahead)) for ahead in range(_AHEAD))
        for step in count(first_step):
            if step == first_step or step % recipe.views == 0:
                coming.append(maker.submit(seeded_crops, *_order(recipe, step // recipe.views + _AHEAD)))
                ready = coming.popleft()
                done_within(ready, math.inf)
            yield _view(recipe, ready.result(0), step, device)
