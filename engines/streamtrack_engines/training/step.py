"""One step of the optimizer."""

from collections.abc import Mapping

import torch
from torch import Tensor

from streamtrack_engines.training.checkpoint import TrainingState
from streamtrack_engines.training.data import Batch
from streamtrack_engines.training.denoising import denoising_loss
from streamtrack_engines.training.recipe import Recipe
from streamtrack_engines.training.schedule import learning_rate

DENOISING = "denoising"
"""Name of the loss of the image."""

Terms = dict[str, Tensor]
"""Of the loss, scalars by name, not weighted."""


def train_step(recipe: Recipe, state: TrainingState, batch: Batch, fraction: float) -> Terms:
    """Take one step of the optimizer and of the moving average; returns the terms of the loss, detached.

    ``fraction`` is the part of the run that is over, 0 to 1.
    """
    _set_norms(state.network, learning=fraction < recipe.norm_fraction)
    rate = learning_rate(recipe, state.step, fraction, state.losses, state.head.weights)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    joint = batch.image is not None and recipe.denoising > 0 and fraction >= recipe.detection_only_fraction
    device = batch.points.places.device
    # What a network forgets at random (dropout) depends on the step alone, or a resumed run would be another.
    precision = torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16(recipe, device))
    with torch.random.fork_rng(devices=[]), precision:
        torch.manual_seed(hash((recipe.seed, state.step)))
        image, found = state.network(batch.seen) if joint else (None, state.network.find(batch.seen))
    terms = state.head.loss(found.float(), batch.points, fraction)
    if state.network.image is not None:  # 0 where nobody knows the image, or it is not its turn yet
        terms[DENOISING] = found.new_zeros(())
        if image is not None and batch.image is not None:
            terms[DENOISING] = denoising_loss(image.float(), batch.image)
    state.optimizer.zero_grad(set_to_none=True)
    total_loss({**state.head.weights, DENOISING: recipe.denoising}, terms).backward()
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), recipe.largest_gradient)
    state.optimizer.step()
    state.step += 1
    _update_average(recipe, state)
    return {name: term.detach() for name, term in terms.items()}


def in_bfloat16(recipe: Recipe, device: torch.device) -> bool:
    """Return whether to compute in bfloat16: by default where the processor can, as it is 8 times slower where not."""
    if recipe.bfloat16 != "auto":
        return recipe.bfloat16
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()


def total_loss(weights: Mapping[str, float], terms: Terms) -> Tensor:
    """Return the weighted sum of the terms."""
    first, *others = (weights[name] * term for name, term in terms.items())
    return sum(others, first)


def _set_norms(network: torch.nn.Module, *, learning: bool) -> None:
    """Let batch norms follow the batches, or keep what they have learnt of the data: then they train as deployed."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train(learning)


@torch.no_grad()
def _update_average(recipe: Recipe, state: TrainingState) -> None:
    # A short memory at first, or the random initial weights would linger in the average.
    decay = min(recipe.average_decay, state.step / (state.step + 10))
    averages, latest = (_numbers(network) for network in (state.average, state.network))
    torch._foreach_lerp_(averages, latest, 1 - decay)


def _numbers(network: torch.nn.Module) -> list[Tensor]:
    """Return the weights, and the means and variances of the batch norms."""
    return [value for value in network.state_dict().values() if value.is_floating_point()]
