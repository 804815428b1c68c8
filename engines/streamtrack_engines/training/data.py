"""Batches of crops, made while the network learns from the one before."""

import math
import os
import signal
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamtrack.errors import EngineError
from streamtrack.waiting import done_within
from streamtrack_engines.heads.head import Points
from streamtrack_engines.networks.network import Network
from streamtrack_engines.parts import make_data
from streamtrack_engines.training.recipe import Recipe
from streamtrack_engines.training_data.taught import Taught
from streamtrack_engines.training_data.truth import TrainingData, Truth, seeded, turned

_AHEAD = 2


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the network sees of some crops, and what it should say of the last frame of each.

    Attributes
    ----------
    seen
        By the network's ``see``.
    image
        (B, 1, H, W), float32, 0 to 1: the network's ``image_target``; None where it gives no image, or nobody knows it.
    points
        The particles.
    """

    seen: Any
    image: Tensor | None
    points: Points


def to_batch(truth: Truth, network: Network, device: torch.device) -> Batch:
    """Return the tensors for crops with known particles, as a network sees them."""
    noisy = torch.from_numpy(truth.noisy).to(device)
    seen = network.see(noisy)
    image = None
    if network.image and truth.signal is not None:
        image = network.image_target(torch.from_numpy(truth.signal)[:, None].to(device), seen, noisy[:, -1:])
    known = {name: torch.from_numpy(values).to(device) for name, values in truth.known.items()}
    presence = None if truth.presence is None else torch.from_numpy(truth.presence)[:, None].to(device)
    points = Points(torch.from_numpy(truth.points).to(device), known, presence, noisy[:, -1:])
    return Batch(seen, image, points)


def data_of(recipe: Recipe) -> TrainingData:
    """Return what the recipe learns from."""
    data: TrainingData = make_data(recipe.data)
    return Taught(data, recipe.teacher) if recipe.teacher else data


def make_batch(recipe: Recipe, network: Network, step: int, device: torch.device) -> Batch:
    """Return the batch of one step. It depends on the seed and the step alone, so that a resumed run sees the same."""
    truth = seeded(data_of(recipe), *_order(recipe, network, step // recipe.views))
    return _view(recipe, truth, network, step, device)


def _order(recipe: Recipe, network: Network, index: int) -> tuple[Any, ...]:
    """Return the arguments of `seeded` for the crops that the steps of a number of views have in common."""
    return (recipe.seed, index), recipe.batch_size, recipe.crop_px, network.n_frames - 1


def _view(recipe: Recipe, truth: Truth, network: Network, step: int, device: torch.device) -> Batch:
    if recipe.views > 1:
        truth = turned(truth, int(np.random.default_rng((recipe.seed, step, 1)).integers(8)))
    return to_batch(truth, network, device)


def batches(
    recipe: Recipe, data: TrainingData, network: Network, first_step: int, device: torch.device
) -> Generator[Batch]:
    """Yield batches for ever, from that of ``first_step`` on; another process makes the crops, and is ahead.

    A thread would do so at half the pace: only one thread runs at a time of what is not in a library. Raises
    EngineError where that process is gone.
    """
    try:
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=begin_making) as maker:
            first = first_step // recipe.views
            coming = deque(
                maker.submit(seeded, data, *_order(recipe, network, first + ahead)) for ahead in range(_AHEAD)
            )
            for step in count(first_step):
                if step == first_step or step % recipe.views == 0:
                    coming.append(maker.submit(seeded, data, *_order(recipe, network, step // recipe.views + _AHEAD)))
                    ready = coming.popleft()
                    done_within(ready, math.inf)
                yield _view(recipe, ready.result(0), network, step, device)
    except BrokenExecutor as error:
        raise EngineError(
            "the process that makes the crops has ended, perhaps for want of memory: close other programs, or lower "
            "batch_size, and go on with --resume"
        ) from error


def begin_making() -> None:
    """Leave Ctrl-C to the process that trains, and end with it, also where it was killed and could say nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
