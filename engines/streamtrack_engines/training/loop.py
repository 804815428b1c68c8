"""The training run."""

import copy
import math
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from streamtrack.errors import ConfigError, EngineError
from streamtrack.interrupts import on_ctrl_c
from streamtrack_engines.training.checkpoint import TrainingState, new_state, resume_state, save_checkpoint, state_from
from streamtrack_engines.training.data import Batch, batches, data_of
from streamtrack_engines.training.evaluation import evaluate
from streamtrack_engines.training.recipe import Recipe
from streamtrack_engines.training.records import NAMES, write_records
from streamtrack_engines.training.step import Terms, train_step
from streamtrack_engines.training.view import TrainingView
from streamtrack_engines.training_data.truth import TrainingData

CHECKPOINT_NAME = "checkpoint.pt"

_LOG_EVERY_STEPS = 25


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call of `train` ended: at which step, whether the run is done, and where its checkpoint is."""

    step: int
    finished: bool
    checkpoint: Path


def train(
    recipe: Recipe,
    out_dir: Path,
    *,
    resume: bool = False,
    weights: str | None = None,
    console: Console | None = None,
    view: TrainingView | None = None,
) -> Outcome:
    """Train a network, until the recipe's end or Ctrl-C; either way the checkpoint is complete.

    Parameters
    ----------
    recipe
        What to do.
    out_dir
        Gets ``checkpoint.pt``, ``losses.csv``, ``evaluations.csv`` and ``curves.png``; made if missing.
    resume
        Go on from the checkpoint in ``out_dir``.
    weights
        Learn on from these, packaged or a deploy file; by default from the recipe's.
    console
        Where progress is shown; nowhere by default.
    view
        A page that shows the training, and may end it.

    Raises
    ------
    ConfigError
        A new run would overwrite another one, there is no CUDA device though the recipe asks for one, or ``out_dir``
        cannot be made.
    EngineError
        The checkpoint or the weights cannot be read, or the loss is no longer a number.
    """
    device = _device(recipe)
    weights = weights or recipe.weights
    path = out_dir / CHECKPOINT_NAME
    if not resume:
        check_new(out_dir)
    if resume:
        state = resume_state(recipe, path, device)
    else:
        state = state_from(recipe, weights, device) if weights else new_state(recipe, device)
    make_folder(out_dir)
    stop = threading.Event() if view is None else view.stopping
    with _progress(console) as progress, on_ctrl_c(stop.set):
        run = _Run(recipe, state, data_of(recipe), device, path, progress, view)
        run.go(stop)
    return Outcome(state.step, run.fraction >= 1, path)


def check_new(out_dir: Path, besides: Sequence[str] = ()) -> None:
    """Raise ConfigError where a folder holds files of a training, or of some names besides."""
    taken = [name for name in (CHECKPOINT_NAME, *NAMES, *besides) if (out_dir / name).exists()]
    if taken:
        raise ConfigError(f"{out_dir} already holds {taken[0]}: go on with --resume, or choose another folder")


def make_folder(out_dir: Path) -> None:
    """Make a folder if it is missing; raises ConfigError."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {out_dir}: {error.strerror}") from error


@dataclass(slots=True, eq=False)
class _Run:
    recipe: Recipe
    state: TrainingState
    data: TrainingData
    device: torch.device
    checkpoint: Path
    progress: Progress
    view: TrainingView | None
    recent: list[Terms] = field(default_factory=list)
    """Loss terms since the last row of the log."""

    @property
    def fraction(self) -> float:
        """Part of the run that is over: in steps, or in wall time, which also fits a machine that others slow down."""
        if self.recipe.steps is not None:
            return self.state.step / self.recipe.steps
        return self.state.elapsed_s / (60 * self.recipe.minutes)

    def go(self, stop: threading.Event) -> None:
        """Train until the end, or until somebody sets the event."""
        task = self.progress.add_task("training", total=1.0)
        began_s = time.monotonic() - self.state.elapsed_s
        next_checkpoint_s = self.state.elapsed_s + 60 * self.recipe.evaluation.every_minutes
        with closing(self._batches()) as source:
            while self.fraction < 1 and not stop.is_set():
                self.recent.append(train_step(self.recipe, self.state, next(source), self.fraction))
                self._log()
                if self.state.elapsed_s > next_checkpoint_s:
                    self._evaluate()
                    self._save()
                    next_checkpoint_s = self.state.elapsed_s + 60 * self.recipe.evaluation.every_minutes
                self.state.elapsed_s = time.monotonic() - began_s
                self.progress.update(task, completed=self.fraction)
        if not stop.is_set():
            self.progress.update(task, description="calibrating the scores")
            self._tell("calibrates the scores")
            self.state.calibration = self._calibrated()
            self._evaluate()
        self._save()
        self._tell("over" if stop.is_set() else "writes what it has learnt")

    def _tell(self, phase: str) -> None:
        if self.view is not None:
            self.view.note(phase, self.fraction, self.state.losses, self.state.evaluations)

    def _batches(self) -> Generator[Batch]:
        return batches(self.recipe, self.data, self.state.network, self.state.step, self.device)

    def _calibrated(self) -> tuple[float, ...]:
        settings = self.recipe.calibration
        network, head = copy.deepcopy(self.state.average).to("cpu"), copy.deepcopy(self.state.head).to("cpu")
        return head.calibrate(network, self.data, n_frames=settings.n_frames, size_px=settings.frame_px)

    def _log(self) -> None:
        if self.state.step % _LOG_EVERY_STEPS:
            return
        names = self.recent[-1]
        means = {name: sum(float(terms[name]) for terms in self.recent) / len(self.recent) for name in names}
        self.recent.clear()
        if not all(math.isfinite(value) for value in means.values()):
            raise EngineError(f"the loss is not a number any more at step {self.state.step}: lower learning_rate")
        self.state.losses.append({"step": self.state.step, "elapsed_s": round(self.state.elapsed_s, 1), **means})
        self.progress.update(self.progress.task_ids[0], description=f"step {self.state.step} {_in_words(means)}")
        self._tell(f"step {self.state.step}")

    def _evaluate(self) -> None:
        state = self.state
        shown = {} if self.view is None else {"show": self.view.show}
        scores = evaluate(state.average, state.head, self.data, self.recipe.evaluation, self.device, **shown)
        elapsed_s = round(self.state.elapsed_s, 1)
        self.state.evaluations.append({"step": self.state.step, "elapsed_s": elapsed_s, **scores})
        line = f"{min(self.fraction, 1):.0%} step {self.state.step} {_in_words(scores)}"
        self.progress.console.print(line, soft_wrap=True)

    def _save(self) -> None:
        save_checkpoint(self.state, self.recipe, self.checkpoint)
        write_records(self.checkpoint.parent, self.state.losses, self.state.evaluations)


def _in_words(values: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in values.items())


def _device(recipe: Recipe) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if recipe.device == "cuda" and not has_cuda:
        raise ConfigError("device = 'cuda' but PyTorch finds no CUDA device: use device = 'auto' or 'cpu'")
    return torch.device("cuda" if has_cuda and recipe.device != "cpu" else "cpu")


def _progress(console: Console | None) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console or Console(quiet=True))
