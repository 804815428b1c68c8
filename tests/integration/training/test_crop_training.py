"""``streamtrack train`` with the recipe of a network for crops: it learns, goes on as it began, and becomes a file."""

import re

import numpy as np
import pytest
import torch
from trainings import run

from streamtrack_engines.places.command import to_onnx
from streamtrack_engines.places.file import CropFile
from streamtrack_engines.places.particles import PARTICLES, Ranges, simulated
from streamtrack_engines.places.recipe import CropRecipe
from streamtrack_engines.places.training import CropTraining

RECIPE = """
seed = 3
steps = {steps}
batch_size = 32
[network]
kind = "crop_cnn"
crop_px = {crop_px}
widths = [8, 8, 8]
[data]
kind = "particles"
snr = [10.0, 30.0]
offset_px = 2.0
"""


def test_a_recipe_becomes_a_file_that_tells_places(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=300, crop_px=16), encoding="utf-8")
    said = run(recipe, "--out", tmp_path / "out")
    assert said.exit_code == 0, said.output
    losses = [float(each) for each in re.findall(r"loss (-?[\d.]+)", said.output)]
    assert losses[-1] < losses[0]
    file = CropFile(str(tmp_path / "out" / "crops.onnx"), 1)
    crops = simulated(torch.Generator().manual_seed(9), 200, 16, ["spot"], Ranges((20.0, 20.0), 2.0))
    away = file.said(crops.counts.numpy())[:, :2] - crops.truth[:, :2].numpy()
    assert np.sqrt((away**2).mean()) < 0.5 * float(crops.truth[:, :2].std())
    assert "already holds a training" in str(run(recipe, "--out", tmp_path / "out").exception)
    recipe.write_text(RECIPE.format(steps=300, crop_px=18), encoding="utf-8")
    assert "must be a multiple of 4" in str(run(recipe, "--out", tmp_path / "other").exception)
    assert "leave out the options" in str(run(recipe, "--out", tmp_path / "other", "--from", "unet").exception)


def test_a_training_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path):
    def recipe():
        data = {"kind": "particles", "particles": PARTICLES, "diameter_px": (4, 8)}
        return CropRecipe(seed=1, steps=6, batch_size=8, network={"kind": "crop_cnn", "widths": (4, 4, 4)}, data=data)

    whole, first, second = (CropTraining(recipe()) for _ in range(3))
    whole.run(lambda step, loss: None)
    for _ in range(3):
        first._one_step()
    first.save(tmp_path / "state.pt")
    second.load(tmp_path / "state.pt")
    second.run(lambda step, loss: None)
    for one, other in zip(whole.trained.state_dict().values(), second.trained.state_dict().values(), strict=True):
        assert torch.isfinite(one).all()  # also where bright field has no light to learn
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_file_says_what_torch_says(tmp_path, stride):
    network = {"kind": "crop_cnn", "crop_px": 16, "stride": stride, "widths": (4, 4, 4)}
    recipe = CropRecipe(network=network, data={"kind": "particles"})
    training = CropTraining(recipe)
    (tmp_path / "crops.onnx").write_bytes(to_onnx(training.trained, recipe))
    counts = 100 * torch.rand((70, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = training.trained(counts).numpy()
    np.testing.assert_allclose(CropFile(str(tmp_path / "crops.onnx"), 1).said(counts.numpy()), expected, atol=1e-4)


def test_simulated_light_is_what_the_crops_hold():
    ranges = Ranges((500.0, 500.0), 0.7, (6.0, 6.0), (4.0, 4.0), 0.0, 0.0)
    crops = simulated(torch.Generator().manual_seed(2), 40, 48, ["spot", "ring"], ranges, n_frames=2)
    rim = crops.counts[:, :2].mean((1, 2))
    light = (crops.counts - rim[:, None, None]).sum((1, 2))
    np.testing.assert_allclose(light.numpy(), crops.truth[:, 3].exp().numpy(), rtol=0.01)
    assert crops.truth[::2, 3].tolist() == crops.truth[1::2, 3].tolist()
