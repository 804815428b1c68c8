"""The state of a training run, on disk and in memory."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch

from streamtrack.errors import ConfigError, EngineError
from streamtrack.files import replace_file
from streamtrack.output import beside
from streamtrack_engines.deploy import from_onnx
from streamtrack_engines.heads.head import Head
from streamtrack_engines.networks.network import Network
from streamtrack_engines.parts import make_head, make_network
from streamtrack_engines.training.recipe import Recipe
from streamtrack_engines.weights import read_weights


@dataclass(slots=True, eq=False)
class TrainingState:
    """What a run needs to go on as if it had never stopped.

    Attributes
    ----------
    network, average
        The network in training, and the moving average of its weights: the one to evaluate and ship.
    head
        That of the networks.
    optimizer
        AdamW over ``network``.
    calibration
        That of ``average``, once the run is over; until then the head's ``uncalibrated``.
    step
        Steps done.
    elapsed_s
        Wall time spent in the run and its predecessors.
    losses, evaluations
        Rows of the two log files, by column name.
    """

    network: Network
    average: Network
    head: Head
    optimizer: torch.optim.Optimizer
    calibration: tuple[float, ...] = ()
    step: int = 0
    elapsed_s: float = 0.0
    losses: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)


def new_state(recipe: Recipe, device: torch.device) -> TrainingState:
    """Return the state before the first step; the weights depend on the recipe's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        head = make_head(recipe.head)
        network = make_network(recipe.network, head)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    return TrainingState(network, copy.deepcopy(network).eval(), head.to(device), optimizer, head.uncalibrated)


def state_from(recipe: Recipe, weights: str, device: torch.device) -> TrainingState:
    """Return the state before the first step of a network that learns on from some weights.

    Parameters
    ----------
    weights
        Packaged weights, or a deploy file of ours, of the recipe's network or one that it has all layers of; of another
        head all but the last layer is taken.

    Raises
    ------
    ConfigError
        The recipe's norms would learn anew: those of the weights are part of the convolutions.
    EngineError
        There are no such weights, or they are of another network.
    """
    if recipe.norm_fraction > 0:
        raise ConfigError("with --from the recipe must have norm_fraction = 0: norms are part of the weights")
    graph, state = from_onnx(read_weights(weights), weights), new_state(recipe, torch.device("cpu"))
    try:
        for network in (state.network, state.average):
            network.take_folded(graph.network.float().state_dict())
    except ValueError as error:
        raise EngineError(f"weights {weights} are of another network: that of the recipe has no {error}") from error
    for network in (state.network, state.average):
        network.to(device=device)
    state.head.to(device)
    return state


def save_checkpoint(state: TrainingState, recipe: Recipe, path: Path) -> None:
    """Write a checkpoint; a crash meanwhile leaves the one before intact."""
    content = {
        "recipe": recipe.model_dump_json(),
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "calibration": list(state.calibration),
        "step": state.step,
        "elapsed_s": state.elapsed_s,
        "losses": state.losses,
        "evaluations": state.evaluations,
    }
    unfinished = beside(path, "partial")
    torch.save(content, unfinished)
    replace_file(unfinished, path)


def resume_state(recipe: Recipe, path: Path, device: torch.device) -> TrainingState:
    """Return the state that a checkpoint holds; raises EngineError."""
    if not path.exists():
        raise EngineError(f"there is no checkpoint {path}: train first, without --resume")
    state = new_state(recipe, device)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        for part in ("network", "average", "optimizer"):
            getattr(state, part).load_state_dict(content[part])
        state.calibration = tuple(content["calibration"])
        for part in ("step", "elapsed_s", "losses", "evaluations"):
            setattr(state, part, content[part])
    except Exception as error:  # a foreign file makes torch raise almost anything
        raise EngineError(
            f"{path} is not a checkpoint of 'streamtrack train' in this version, or one of another [network]: take the "
            "recipe that it was begun with, or train anew"
        ) from error
    return state
