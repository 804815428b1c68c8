"""The training of a network for crops, which goes on where it was interrupted."""

from collections.abc import Callable
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.files import replace_file
from streamtrack.output import beside
from streamtrack_engines.places.networks import CropCnn
from streamtrack_engines.places.particles import PlacedCrops, simulated
from streamtrack_engines.places.recipe import CropRecipe

SAVE_EVERY, REPORT_EVERY = 500, 250
_WARM_UP = 200  # steps
_EMA = 0.998
_MOST_GRADIENT = 5.0
_ROUGH = 0.65  # of the steps


class CropTraining:
    """A network, and how far its training is.

    Parameters
    ----------
    recipe
        Each step draws from its seed and the number of the step: interrupted or not, the crops are the same.
    """

    def __init__(self, recipe: CropRecipe) -> None:
        self._recipe = recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network = CropCnn(**recipe.network.model_dump(exclude={"kind"}))
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean = AveragedModel(self.network, avg_fn=_average)
        self._optimizer = torch.optim.AdamW(self.network.parameters(), recipe.learning_rate, weight_decay=1e-4)
        self.step = 0

    @property
    def trained(self) -> CropCnn:
        """The network whose weights are the mean over the last steps: the one to use."""
        network = self.mean.module
        assert isinstance(network, CropCnn)
        return network

    def crops(self, step: int) -> PlacedCrops:
        """Return the crops of one step."""
        data = self._recipe.data
        generator = torch.Generator().manual_seed(self._recipe.seed * 10_000_019 + step)
        size_px = self._recipe.network.crop_px
        return simulated(generator, self._recipe.batch_size, size_px, data.particles, data.ranges)

    def run(self, report: Callable[[int, float], object], state: Path | None = None) -> None:
        """Train to the end; ``report`` is told the step and the mean loss since it was last told.

        Parameters
        ----------
        state
            File that holds, now and then, what `load` needs to go on.
        """
        total = 0.0
        while self.step < self._recipe.steps:
            total += self._one_step()
            if self.step % REPORT_EVERY == 0 or self.step == self._recipe.steps:
                report(self.step, total / ((self.step - 1) % REPORT_EVERY + 1))
                total = 0.0
            if state is not None and self.step % SAVE_EVERY == 0:
                self.save(state)

    def _one_step(self) -> float:
        crops = self.crops(self.step)
        share = self.step / self._recipe.steps
        rate = self._recipe.learning_rate * min(1.0, (self.step + 1) / _WARM_UP) * (1 + cos(pi * share)) / 2
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(self._said(crops.counts), crops.truth)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _MOST_GRADIENT)
        self._optimizer.step()
        self.mean.update_parameters(self.network)
        self.step += 1
        return float(loss.detach())

    def _said(self, counts: Tensor) -> Tensor:
        """Return what the network says; until the last steps convolutions are in bfloat16, where that is fast."""
        is_rough = self.step < _ROUGH * self._recipe.steps and torch.cpu._is_avx512_bf16_supported()
        seen, scale = self.network.see(counts)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_rough):
            fine, coarse = self.network.features(seen.contiguous(memory_format=torch.channels_last))
        return self.network.tell(scale, fine.float(), coarse.float())

    def save(self, path: Path) -> None:
        """Write what `load` needs; a file of that name that `save` wrote is replaced."""
        state: dict[str, Any] = {
            "recipe": self._recipe.model_dump(mode="json"),
            "step": self.step,
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        unfinished = beside(path, "partial")
        torch.save(state, unfinished)
        replace_file(unfinished, path)

    def load(self, path: Path) -> None:
        """Go on from a file that `save` wrote; raises ConfigError if it is damaged, or of another recipe."""
        with foreign_errors(ConfigError, f"cannot read the training {path}"):
            state = torch.load(path, weights_only=True)
        if state["recipe"] != self._recipe.model_dump(mode="json"):
            raise ConfigError(f"{path} is of another recipe: take that one, or another folder")
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def _average(mean: Tensor, weight: Tensor, n: Tensor | int) -> Tensor:
    """Return the moving average of a weight, over fewer steps at first."""
    share = min(_EMA, (1 + float(n)) / (10 + float(n)))
    return share * mean + (1 - share) * weight


def loss_of(said: Tensor, truth: Tensor) -> Tensor:
    """Return the mean of what Gaussians say of the truth (N, 4), where it is known; each with an error of its own."""
    values, log_errors = said.chunk(2, 1)
    away = (values - truth.nan_to_num(0.0)) * torch.exp(-log_errors)
    per_value = 0.5 * away.clamp(-30, 30) ** 2 + log_errors
    return torch.where(truth.isnan(), 0.0, per_value).sum(1).mean()
