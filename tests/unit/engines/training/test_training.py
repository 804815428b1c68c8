import csv
import json
import signal
import threading

import numpy as np
import pytest
import torch

from streamtrack.errors import ConfigError, EngineError
from streamtrack_engines.networks.denodet import Denodet
from streamtrack_engines.training import data
from streamtrack_engines.training.checkpoint import new_state
from streamtrack_engines.training.evaluation import score
from streamtrack_engines.training.loop import train
from streamtrack_engines.training.recipe import CropSettings, EvaluationSettings, LossWeights, Recipe
from streamtrack_engines.training.step import learning_rate, train_step

CPU = torch.device("cpu")
TINY = {
    "device": "cpu",
    "bfloat16": False,
    "batch_size": 2,
    "crop_px": 32,
    "warmup_steps": 2,
    "evaluation": EvaluationSettings(n_crops=2, crop_px=32, snr=(4.0,)),
}


def test_loss_falls_on_one_batch():
    crops = CropSettings(empty_fraction=0, density=(800, 900), snr=(5, 9))
    weights = LossWeights(divergence=20)
    settings = TINY | {"learning_rate": 5e-3, "detection_only_fraction": 0, "crops": crops, "loss": weights}
    recipe = Recipe(steps=1000, **settings)
    state, batch = new_state(recipe, CPU), data.make_batch(recipe, 0, CPU)

    history = [train_step(recipe, state, batch, fraction=0.0) for _ in range(30)]

    assert history[-1].divergence < 0.5 * history[0].divergence
    assert history[-1].coordinate < 0.5 * history[0].coordinate
    assert history[-1].denoising < 0.5 * history[0].denoising


def test_resumed_run_ends_with_the_same_weights_as_an_uninterrupted_one(tmp_path, monkeypatch):
    recipe = Recipe(steps=6, **TINY)
    train(recipe, tmp_path / "whole")

    def interrupted_batches(*args):
        for number, batch in enumerate(data.batches(*args)):
            if number == 3:
                signal.raise_signal(signal.SIGINT)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr("streamtrack_engines.training.loop.batches", interrupted_batches)
        outcome = train(recipe, tmp_path / "parts")
    assert (outcome.step, outcome.finished) == (4, False)
    outcome = train(recipe, tmp_path / "parts", resume=True)

    assert (outcome.step, outcome.finished) == (6, True)
    whole, parts = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts"))
    for key in ("network", "average"):
        for name, weights in whole[key].items():
            assert torch.equal(weights, parts[key][name]), f"{key} {name}"


def test_ctrl_c_handling_is_undone_after_training(tmp_path):
    before = signal.getsignal(signal.SIGINT)

    train(Recipe(steps=1, **TINY), tmp_path)

    assert signal.getsignal(signal.SIGINT) is before


def test_training_runs_outside_the_main_thread(tmp_path):
    thread = threading.Thread(target=train, args=(Recipe(steps=1, **TINY), tmp_path))
    thread.start()
    thread.join()

    assert (tmp_path / "checkpoint.pt").exists()


def test_run_leaves_logs_curves_and_a_network_to_export(tmp_path):
    train(Recipe(steps=25, **TINY), tmp_path)

    with (tmp_path / "losses.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["step"]) == 25
    assert float(row["divergence"]) > 0
    assert "f1_snr4" in (tmp_path / "evaluations.csv").read_text()
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert not list(tmp_path.glob("*.part*"))
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    Denodet().load_state_dict(content["average"])
    assert json.loads(content["recipe"])["steps"] == 25


def test_run_ends_after_its_minutes(tmp_path):
    outcome = train(Recipe(minutes=0.02, **TINY), tmp_path)

    assert outcome.finished
    assert outcome.step > 0


def test_new_run_does_not_overwrite_an_old_one(tmp_path):
    train(Recipe(steps=1, **TINY), tmp_path)

    with pytest.raises(ConfigError, match="already holds a training run"):
        train(Recipe(steps=1, **TINY), tmp_path)


def test_resuming_nothing_is_an_error(tmp_path):
    with pytest.raises(EngineError, match="no checkpoint"):
        train(Recipe(steps=1, **TINY), tmp_path, resume=True)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_broken_checkpoint_is_an_error(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)

    with pytest.raises(EngineError, match="not a checkpoint of 'streamtrack train'"):
        train(Recipe(steps=1, **TINY), tmp_path, resume=True)


def test_foreign_checkpoint_is_an_error(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "checkpoint.pt")

    with pytest.raises(EngineError, match="not a checkpoint of 'streamtrack train'"):
        train(Recipe(steps=1, **TINY), tmp_path, resume=True)


def test_learning_rate_warms_up_and_falls_to_zero():
    recipe = Recipe(steps=1000, learning_rate=1.0, warmup_steps=99)

    assert learning_rate(recipe, 0, 0.0) == pytest.approx(0.01)
    assert learning_rate(recipe, 500, 0.5) == pytest.approx(0.5)
    assert learning_rate(recipe, 1000, 1.0) == pytest.approx(0.0)


def test_every_step_has_a_batch_of_its_own():
    recipe = Recipe(steps=1, **TINY)
    first, again, second = (data.make_batch(recipe, step, CPU).frames for step in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_score_matches_one_to_one_within_the_gate_and_leaves_the_border_out():
    truth = np.array([[0, 20, 20], [0, 40, 40], [1, 30, 30], [1, 2, 2]], np.float32)
    found = np.array([[0, 20, 21], [0, 20, 22], [1, 36, 30], [1, 62, 30]], np.float32)

    f1, rmse_px = score(found, truth, crop_px=64)

    assert f1 == pytest.approx(2 * 1 / (2 * 1 + 2 + 2))
    assert rmse_px == pytest.approx(1.0)
