"""One step of the optimizer."""

import math
from dataclasses import fields

import torch

from streamtrack_engines.training.checkpoint import TrainingState
from streamtrack_engines.training.data import Batch
from streamtrack_engines.training.losses import LossParts, loss_parts
from streamtrack_engines.training.recipe import Recipe


def train_step(recipe: Recipe, state: TrainingState, batch: Batch, fraction: float) -> LossParts:
    """Take one step of the optimizer and of the moving average; returns the loss terms, detached.

    ``fraction`` is the part of the run that is over, 0 to 1.
    """
    _set_norms(state.network, learning=fraction < recipe.norm_fraction)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(recipe, state.step, fraction)
    joint = recipe.loss.denoising > 0 and fraction >= recipe.detection_only_fraction
    device = batch.targets.points.device
    with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16(recipe, device)):
        denoised, found = state.network(batch.seen) if joint else (None, state.network.find(batch.seen))
    parts = loss_parts(denoised, found, batch.targets)
    state.optimizer.zero_grad(set_to_none=True)
    total_loss(recipe, parts).backward()
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), recipe.largest_gradient)
    state.optimizer.step()
    state.step += 1
    _update_average(recipe, state)
    return LossParts(*(getattr(parts, term.name).detach() for term in fields(parts)))


def in_bfloat16(recipe: Recipe, device: torch.device) -> bool:
    """Return whether to compute in bfloat16: by default where the processor can, as it is 8 times slower where not."""
    if recipe.bfloat16 != "auto":
        return recipe.bfloat16
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()


def total_loss(recipe: Recipe, parts: LossParts) -> torch.Tensor:
    """Return the weighted sum of the terms."""
    weights = recipe.loss
    return weights.presence * parts.presence + weights.position * parts.position + weights.denoising * parts.denoising


def learning_rate(recipe: Recipe, step: int, fraction: float) -> float:
    """Return the rate at a step: linear warm-up, then a half cosine down to 0 over the run."""
    warm_up = min(1.0, (step + 1) / (recipe.warmup_steps + 1))
    return recipe.learning_rate * warm_up * (1 + math.cos(math.pi * min(fraction, 1.0))) / 2


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


def _numbers(network: torch.nn.Module) -> list[torch.Tensor]:
    """Return the weights, and the means and variances of the batch norms."""
    return [value for value in network.state_dict().values() if value.is_floating_point()]
