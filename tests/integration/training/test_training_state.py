import os
import sys
from importlib.resources import files
from pathlib import Path
from subprocess import run

import pytest
import torch

from streamtrack_engines.training.checkpoint import new_state, resume_state, save_checkpoint
from streamtrack_engines.training.data import make_batch
from streamtrack_engines.training.recipe import read_recipe
from streamtrack_engines.training.step import train_step

FOLDER = Path(__file__).parents[3] / "training_state"
CPU = torch.device("cpu")


NAMES = ("compact", "denodet-local")


def recipe_of(name):
    return read_recipe(files("streamtrack_engines.training") / "recipes" / f"{name}.toml")


@pytest.mark.parametrize("name", NAMES)
def test_a_training_that_is_not_over_goes_on(name):
    recipe = recipe_of(name)
    state = resume_state(recipe, FOLDER / f"{name}.pt", CPU)
    step = state.step
    assert step > 5_000
    small = recipe.model_copy(update={"batch_size": 1, "crop_px": 64, "bfloat16": False})
    terms = train_step(small, state, make_batch(small, state.network, step, CPU), 0.5)
    assert float(terms["presence"]) < 0.05  # of a network that knows nothing 0.1
    assert state.step == step + 1


@pytest.mark.parametrize("name", NAMES)
def test_its_checkpoint_is_small(name):
    assert (FOLDER / f"{name}.pt").stat().st_size < 2_000_000


def test_what_is_forgotten_at_random_depends_on_seed_and_step_alone():
    recipe = recipe_of("detectspot").model_copy(update={"batch_size": 1, "crop_px": 48, "bfloat16": False})
    before, losses = torch.get_rng_state(), []
    for seed, step in ((1, 4), (1, 4), (1, 5), (2, 4)):
        state = new_state(recipe, CPU)
        state.step = step
        batch = make_batch(recipe, state.network, 0, CPU)
        losses.append(float(train_step(recipe.model_copy(update={"seed": seed}), state, batch, 0.5)["patches"]))
        assert torch.equal(torch.get_rng_state(), before)
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_a_checkpoint_made_small_is_the_same_but_for_rounding(tmp_path):
    recipe = recipe_of("compact")
    state = new_state(recipe, CPU)
    state.step, state.elapsed_s = 7, 90.0
    save_checkpoint(state, recipe, tmp_path / "large.pt")
    command = [sys.executable, str(FOLDER / "shrink.py"), str(tmp_path / "large.pt"), str(tmp_path / "small.pt")]
    run(command, check=True, capture_output=True, env=os.environ)
    again = resume_state(recipe, tmp_path / "small.pt", CPU)
    assert (again.step, again.elapsed_s) == (7, 0.0)
    for one, other in zip(state.average.parameters(), again.average.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
