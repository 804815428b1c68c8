import csv
import json
import multiprocessing
import signal
import threading
from collections import deque
from contextlib import closing

import numpy as np
import pytest
import torch
from networks import denodet

from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError, EngineError
from streamtrack_engines.deploy import from_onnx
from streamtrack_engines.heads.presence import Presence
from streamtrack_engines.networks.scaling import denoised_signal, frame_scale, normalise
from streamtrack_engines.parts import make_data, make_head, make_network
from streamtrack_engines.training import data
from streamtrack_engines.training.checkpoint import new_state, state_from
from streamtrack_engines.training.evaluation import evaluate, find, score
from streamtrack_engines.training.loop import train
from streamtrack_engines.training.recipe import CalibrationSettings, EvaluationSettings, Recipe, recipe_of
from streamtrack_engines.training.schedule import learning_rate
from streamtrack_engines.training.step import train_step
from streamtrack_engines.training_data.crops import Crops
from streamtrack_engines.training_data.taught import Taught
from streamtrack_engines.training_data.truth import turned
from streamtrack_engines.weights import read_weights

pytestmark = pytest.mark.usefixtures("crops_made_here")

CPU = torch.device("cpu")
TINY = {
    "device": "cpu",
    "bfloat16": False,
    "batch_size": 2,
    "crop_px": 32,
    "warmup_steps": 2,
    "detection_only_fraction": 0.0,
    "calibration": CalibrationSettings(n_frames=2, frame_px=32),
    "data": PluginConfig(kind="crops", held_out_snr=(4.0,)),
    "evaluation": EvaluationSettings(n_crops=2, crop_px=32),
}


def batch_of(recipe, state, step=0):
    return data.make_batch(recipe, state.network, step, CPU)


def test_loss_falls_on_one_batch():
    plain = {"camera_fraction": 0.0, "empty_fraction": 0.0, "low_density_fraction": 0.0}
    crops = PluginConfig(kind="crops", **plain, density=(800, 900), snr=(5, 9))
    recipe = Recipe(steps=1000, **TINY | {"learning_rate": 5e-3, "crop_px": 64, "data": crops})
    state = new_state(recipe, CPU)
    batch = batch_of(recipe, state)

    history = [train_step(recipe, state, batch, fraction=0.0) for _ in range(60)]

    share = len(batch.points.places) / batch.image.numel()
    chance = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert history[-1]["presence"] < 0.7 * chance  # more than the mere number of particles
    assert history[-1]["position"] < history[0]["position"] - 3
    assert history[-1]["denoising"] < 0.5 * history[0]["denoising"]


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
    assert float(row["presence"]) > 0
    assert "f1_snr4" in (tmp_path / "evaluations.csv").read_text()
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert not list(tmp_path.glob("*.part*"))
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    recipe = recipe_of(json.loads(content["recipe"]), "checkpoint")
    make_network(recipe.network, make_head(recipe.head)).load_state_dict(content["average"])
    assert recipe.steps == 25


def test_run_ends_after_its_minutes(tmp_path):
    outcome = train(Recipe(minutes=0.02, **TINY), tmp_path)

    assert outcome.finished
    assert outcome.step > 0


def test_new_run_does_not_overwrite_an_old_one(tmp_path):
    train(Recipe(steps=1, **TINY), tmp_path)

    with pytest.raises(ConfigError, match=r"already holds checkpoint\.pt: go on with --resume, or choose another"):
        train(Recipe(steps=1, **TINY), tmp_path)


def test_a_users_file_of_the_name_of_a_log_stays(tmp_path):
    (tmp_path / "losses.csv").write_text("of the accountant", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"already holds losses\.csv"):
        train(Recipe(steps=1, **TINY), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["losses.csv"]


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


def test_network_of_another_shape_cannot_resume(tmp_path):
    train(Recipe(steps=1, **TINY), tmp_path)

    with pytest.raises(EngineError, match=r"checkpoint\.pt is not a checkpoint"):
        train(Recipe(steps=2, network=PluginConfig(kind="denodet", n_frames=1), **TINY), tmp_path, resume=True)


@pytest.mark.parametrize("n_frames", [1, 3])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_any_network_trains_and_is_evaluated(tmp_path, n_frames, norm):
    train(Recipe(steps=1, network=PluginConfig(kind="denodet", n_frames=n_frames, norm=norm), **TINY), tmp_path)

    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert 0 <= content["evaluations"][0]["f1_snr4"] <= 1


@pytest.mark.parametrize(("steps", "decay"), [(1, 1 / 11), (3, 3 / 13), (90, 0.8)])
def test_moving_average_takes_in_weights_and_statistics_of_the_norms(steps, decay):
    """With a short memory at first, after which the recipe's holds."""
    recipe = Recipe(steps=1000, average_decay=0.8, **TINY)
    state = new_state(recipe, CPU)
    batch = batch_of(recipe, state)
    state.step = steps - 1
    before = {name: value.clone() for name, value in state.average.state_dict().items()}

    train_step(recipe, state, batch, fraction=0.0)

    latest, after = state.network.state_dict(), state.average.state_dict()
    names = [name for name, value in latest.items() if value.is_floating_point()]
    assert "encoder.0.norms.0.running_var" in names
    for name in names:
        assert not torch.equal(latest[name], before[name]), name
        torch.testing.assert_close(after[name], decay * before[name] + (1 - decay) * latest[name])


def test_norms_keep_their_statistics_from_some_point_of_the_run_on():
    """From there on they also train with them: a frame's outputs no longer depend on the rest of its batch."""
    recipe = Recipe(steps=1000, norm_fraction=0.3, **TINY)
    state = new_state(recipe, CPU)
    batch = batch_of(recipe, state)
    mean, weight = state.network.encoder[0].norms[0].running_mean, state.network.encoder[0].norms[0].weight

    for fraction, learns in ((0.29, True), (0.31, False)):
        mean_before, weight_before = mean.clone(), weight.clone()
        train_step(recipe, state, batch, fraction)
        assert torch.equal(mean, mean_before) != learns
        assert not torch.equal(weight, weight_before)

    alone = state.network(batch.seen[:1])[1]
    torch.testing.assert_close(state.network(batch.seen)[1][:1], alone, rtol=1e-4, atol=1e-5)


def test_batch_is_normalised_and_its_targets_are_those_of_the_last_frame():
    crops = Crops(first_frame_fraction=0.5, empty_fraction=0.0).batch(np.random.default_rng(0), 6, 32, 2)
    noisy = torch.from_numpy(crops.noisy)

    batch = data.to_batch(crops, denodet(), CPU)

    assert batch.seen.shape == (6, 3, 32, 32)
    assert torch.equal(batch.seen, normalise(noisy))
    assert not batch.seen[~noisy.any(-1).any(-1)].any()
    signal = denoised_signal(torch.logit(batch.image), frame_scale(noisy[:, -1:]))
    np.testing.assert_allclose(signal[:, 0], crops.signal, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(batch.points.places, crops.points)


def test_network_that_finds_nothing_scores_nothing():
    network = denodet().eval()
    torch.nn.init.zeros_(network.found_head.weight)

    crops = Crops(held_out_snr=(1.0, 4.0))
    row = evaluate(network, Presence(), crops, EvaluationSettings(n_crops=2, crop_px=32), CPU)

    assert list(row) == ["f1_snr1", "rmse_px_snr1", "f1_snr4", "rmse_px_snr4"]
    assert row["f1_snr1"] == row["f1_snr4"] == 0
    assert np.isnan(row["rmse_px_snr4"])


def test_found_particles_carry_crop_and_score_and_pass_the_threshold():
    """Where every pixel says 0.2, the first one's window makes the peak: 4 pixels of it are on the frame."""
    network, head = denodet(n_frames=1).eval(), Presence()
    with torch.no_grad():
        network.found_head.weight.zero_()
        network.found_head.bias.copy_(torch.tensor([np.log(0.2 / 0.8), 0.25, 0.25, 0.0]))
    crops = Crops().batch(np.random.default_rng(0), 2, 32, 0)

    found = find(network, head, crops, 0.7, CPU)

    np.testing.assert_allclose(found, [[0, 0.75, 0.75, 0.8], [1, 0.75, 0.75, 0.8]], atol=1e-5)
    assert len(find(network, head, crops, 0.9, CPU)) == 0


def test_learning_rate_warms_up_and_falls_to_zero():
    recipe = Recipe(steps=1000, learning_rate=1.0, warmup_steps=99)

    assert learning_rate(recipe, 0, 0.0, [], {}) == pytest.approx(0.01)
    assert learning_rate(recipe, 500, 0.5, [], {}) == pytest.approx(0.5)
    assert learning_rate(recipe, 1000, 1.0, [], {}) == pytest.approx(0.0)


def test_learning_rate_falls_to_a_tenth_when_the_loss_has_not_fallen_for_a_tenth_of_the_run():
    recipe = Recipe(steps=1000, learning_rate=1.0, warmup_steps=0, schedule="plateau")
    falls_until = 300
    rows = [{"step": step, "heat": float(max(falls_until - step, 0)), "image": step} for step in range(0, 1000, 5)]
    rates = [learning_rate(recipe, 0, part, rows, {"heat": 2.0}) for part in (0.3, 0.4, 0.42, 0.52, 0.54, 0.66)]
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.001])


def test_every_step_has_a_batch_of_its_own():
    recipe = Recipe(steps=1, **TINY)
    first, again, second = (data.make_batch(recipe, denodet(), step, CPU).seen for step in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_score_matches_one_to_one_within_the_gate_and_leaves_the_border_out():
    truth = np.array([[0, 20, 20], [0, 40, 40], [1, 30, 30], [1, 2, 2]], np.float32)
    found = np.array([[0, 20, 21], [0, 20, 22], [1, 36, 30], [1, 62, 30]], np.float32)

    f1, rmse_px = score(found, truth, crop_px=64)

    assert f1 == pytest.approx(2 * 1 / (2 * 1 + 2 + 2))
    assert rmse_px == pytest.approx(1.0)


def test_turned_crops_keep_their_particles():
    crops = Crops(empty_fraction=0.0, snr=(9.0, 9.0)).batch(np.random.default_rng(0), 3, 32, 0)
    found = set()
    for symmetry in range(8):
        moved = turned(crops, symmetry)
        crop, y, x = np.rint(moved.points).astype(int).T
        inside = (np.minimum(y, x) >= 0) & (np.maximum(y, x) < 32)
        before = np.rint(crops.points).astype(int)
        np.testing.assert_array_equal(
            moved.signal[crop, y % 32, x % 32][inside],
            crops.signal[before[:, 0], before[:, 1] % 32, before[:, 2] % 32][inside],
        )
        found.add(moved.noisy.tobytes())
    assert len(found) == 8


def test_views_show_the_same_crops_and_other_steps_others():
    recipe = Recipe(steps=9, views=2, **TINY | {"batch_size": 1})
    sums = [float(data.make_batch(recipe, denodet(), step, CPU).image.sum()) for step in range(4)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-4)
    assert sums[2] == pytest.approx(sums[3], rel=1e-4)
    assert sums[0] != pytest.approx(sums[2], rel=1e-4)


def test_what_a_teacher_says_lies_where_the_particles_are_however_the_crops_are_turned():
    crops = Taught(Crops(empty_fraction=0.0, camera_fraction=0.0, snr=(7.0, 7.0)), "denodet")
    truth = crops.batch(np.random.default_rng(0), 2, 64, 2)
    for symmetry in range(8):
        moved = turned(truth, symmetry)
        crop, y, x = np.rint(moved.points).astype(int).T
        inside = (np.minimum(y, x) >= 1) & (np.maximum(y, x) < 63)
        windows = [
            moved.presence[c, i - 1 : i + 2, j - 1 : j + 2].max()
            for c, i, j in zip(crop[inside], y[inside], x[inside], strict=True)
        ]
        assert np.median(windows) > 0
        assert np.median(moved.presence) < -4


@pytest.mark.parametrize(
    ("teacher", "n_before", "message"),
    [
        ("unet-disc", 2, "has another head than 'presence'"),
        ("denodet", 0, "sees 3 frames, the network 1"),
        ("denodt", 2, "there are no weights 'denodt'"),
    ],
)
def test_a_teacher_that_cannot_teach_is_named(teacher, n_before, message):
    with pytest.raises(EngineError, match=message):
        Taught(Crops(), teacher).batch(np.random.default_rng(0), 1, 32, n_before)


def test_a_network_learns_from_a_teacher_too(tmp_path):
    outcome = train(Recipe(steps=2, teacher="denodet", **TINY), tmp_path / "out")
    assert outcome.finished


@pytest.mark.parametrize(("kind", "settings"), [("denodet", {"norm": "batch"}), ("denodet-local", {})])
def test_a_network_that_learns_on_begins_as_the_weights_say(tmp_path, kind, settings):
    recipe = Recipe(steps=1, network=PluginConfig(kind=kind, **settings), norm_fraction=0.0, **TINY)
    state = state_from(recipe, "denodet", CPU)
    shipped = from_onnx(read_weights("denodet")).network
    frames = torch.from_numpy(Crops(camera_fraction=0.0).batch(np.random.default_rng(3), 2, 64, 2).noisy)
    with torch.inference_mode():
        found, expected = state.average.find(state.average.see(frames)), shipped.find(shipped.see(frames))
        if kind == "denodet":
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
        else:  # sees another scale, and nearly the same in a challenge's frame
            assert float(torch.corrcoef(torch.stack((found[:, 0].flatten(), expected[:, 0].flatten())))[0, 1]) > 0.8
    assert train(recipe, tmp_path / "out", weights="denodet").finished


def test_what_cannot_be_learnt_on_from_is_named(tmp_path):
    with pytest.raises(ConfigError, match="norm_fraction = 0"):
        train(Recipe(steps=1, **TINY), tmp_path / "a", weights="denodet")
    recipe = Recipe(steps=1, norm_fraction=0.0, **TINY)
    with pytest.raises(EngineError, match="weights unet are of another network: that of the recipe has no "):
        train(recipe, tmp_path / "b", weights="unet")
    assert not (tmp_path / "b").exists()


def test_batches_of_another_process_are_those_of_the_step():
    recipe = Recipe(steps=9, views=2, **TINY)
    network = denodet()
    with closing(data.batches(recipe, make_data(recipe.data), network, 3, CPU)) as source:
        for step in (3, 4, 5):
            torch.testing.assert_close(
                next(source).seen, data.make_batch(recipe, network, step, CPU).seen, rtol=0, atol=0
            )
        for maker in multiprocessing.active_children():
            maker.kill()
        with pytest.raises(EngineError, match="the process that makes the crops has ended"):
            deque(source, 0)
