"""The training of a classifier."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from streamtrack.errors import ConfigError
from streamtrack_engines.classify.images import Labelled
from streamtrack_engines.classify.networks import NETWORKS, Classifier, moved, random_maps
from streamtrack_engines.classify.recipe import ClassifierRecipe

_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, eq=False)
class TrainedClassifier:
    """What a training brought.

    Attributes
    ----------
    classifier
        In evaluation mode.
    confusion
        (C, C) int64, of the images held out: row the class, column what it was taken for.
    """

    classifier: Classifier
    confusion: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share of the images held out that were told right."""
        return float(self.confusion.trace() / self.confusion.sum())

    @property
    def balanced_accuracy(self) -> float:
        """Mean over the classes of the share told right."""
        counts = self.confusion.sum(1)
        return float((self.confusion.diagonal()[counts > 0] / counts[counts > 0]).mean())


def train_classifier(
    recipe: ClassifierRecipe, images: Labelled, report: Callable[[int, float], object] = lambda epoch, loss: None
) -> TrainedClassifier:
    """Train on all images but those held out, on the CPU; ``report`` is told each epoch and its mean loss.

    Raises ConfigError where a class is held out as a whole.
    """
    learnt, held_out = _split(recipe, images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        settings = recipe.network.model_dump(exclude={"kind"})
        network = NETWORKS[recipe.network.kind](len(images.classes), **settings)
        _fit(network, recipe, *_tensors(images, learnt), report)
    network.eval()
    patches, labels = _tensors(images, held_out)
    logits = _logits(network, patches)
    n_classes = len(images.classes)
    pairs = labels * n_classes + logits.argmax(1)
    confusion = torch.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes).numpy()
    return TrainedClassifier(Classifier(network, _temperature(logits, labels)).eval(), confusion)


def _split(recipe: ClassifierRecipe, images: Labelled) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.random.default_rng((recipe.seed, 1)).permutation(len(images.labels))
    n_held_out = max(1, round(recipe.held_out * len(order)))
    counts = np.bincount(images.labels[order[n_held_out:]], minlength=len(images.classes))
    if not counts.all():
        raise ConfigError(
            f"held_out = {recipe.held_out:g} leaves no image of the class {images.classes[int(counts.argmin())]!r} to "
            "learn from: hold fewer out"
        )
    return order[n_held_out:], order[:n_held_out]


def _tensors(images: Labelled, which: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images.patches[which]), torch.from_numpy(images.labels[which])


def _fit(
    network: nn.Module,
    recipe: ClassifierRecipe,
    patches: Tensor,
    labels: Tensor,
    report: Callable[[int, float], object],
) -> None:
    if recipe.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(network.parameters(), recipe.learning_rate)
    else:
        optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=1e-2)
    n_batches = -(-len(patches) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * n_batches)
    network.train()
    for epoch in range(recipe.epochs):
        total = 0.0
        for which in torch.randperm(len(patches)).tensor_split(n_batches):
            logits = network(_augmented(recipe, patches[which]))
            loss = F.cross_entropy(logits, labels[which], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(which)
        report(epoch + 1, total / len(patches))


def _augmented(recipe: ClassifierRecipe, patches: Tensor) -> Tensor:
    how = recipe.augmentation
    return moved(patches, random_maps(len(patches), **how.model_dump())) if how.is_any else patches


@torch.inference_mode()
def _logits(network: nn.Module, patches: Tensor) -> Tensor:
    return torch.cat([network(part) for part in patches.split(_AT_ONCE)])


def _temperature(logits: Tensor, labels: Tensor) -> float:
    """Return what to divide the logits by so that the labels are likeliest (Guo et al., ICML 2017)."""
    log_temperature = torch.zeros((), requires_grad=True)
    logits = logits.clone()  # made in inference mode
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(logits / log_temperature.exp(), labels)
        value.backward()
        return value

    optimizer.step(loss)
    return float(log_temperature.detach().exp().clamp(0.05, 20.0))
