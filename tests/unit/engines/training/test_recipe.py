from dataclasses import fields
from importlib.resources import files

import onnxruntime
import pytest

from streamtrack.errors import ConfigError
from streamtrack.simulation.crops import CropRanges
from streamtrack_engines.backends.metadata import DeployMetadata
from streamtrack_engines.training.recipe import LossWeights, NetworkSettings, Recipe, read_recipe


def _write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_recipe_is_valid():
    recipe = read_recipe(files("streamtrack_engines.training") / "recipes" / "denodet.toml")

    assert recipe.loss == LossWeights()
    assert recipe.network == NetworkSettings(n_frames=3, norm="batch")


def test_recipe_of_the_compact_network_sees_every_kind_of_crop():
    recipe = read_recipe(files("streamtrack_engines.training") / "recipes" / "compact.toml")
    assert recipe.network.kind == "compact"
    names = [each.name for each in fields(CropRanges) if each.name.endswith("_fraction")]
    assert all(getattr(recipe.crop_ranges, name) > 0 for name in names)


def test_shipped_recipe_has_the_crops_of_the_shipped_weights():
    recipe = read_recipe(files("streamtrack_engines.training") / "recipes" / "denodet.toml")
    session = onnxruntime.InferenceSession(files("streamtrack_engines.weights") / "denodet.onnx")
    metadata = DeployMetadata.from_properties(session.get_modelmeta().custom_metadata_map, "denodet")
    assert Recipe.model_validate(metadata.recipe).crop_ranges == recipe.crop_ranges


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 3\nlearnin_rate = 1", "unknown key 'learnin_rate'; did you mean 'learning_rate'?"),
        ("steps = 3\n[crops]\nsnrr = [1, 2]", "unknown key 'crops.snrr'; did you mean 'snr'?"),
        ("steps = 3\n[loss]\nposition = -1", "loss.position = -1 is not valid"),
        ("steps = 3\n[network]\nnorm = 'group'", "network.norm = 'group' is not valid"),
        ("steps = 3\n[network]\nn_frames = 0", "network.n_frames = 0 is not valid"),
        ("steps = 3\n[loss]\ngamma = 1", "unknown key 'loss.gamma'"),
        ("steps = 3\ncrop_px = 130", "crop_px = 130 is not valid"),
        ("steps = 3\ndevice = 'gpu'", "device = 'gpu' is not valid"),
        ("steps = 3\n[crops]\nsnr = [5, 1]", "crops.snr = [5, 1] is not valid"),
        ("steps = 3\n[crops]\nsnr = [0, 1]", "crops.snr = [0, 1] is not valid"),
        ("steps = 3\n[crops]\ndeath = [0, 0.1]", "both numbers must be above 0"),
        ("steps = 3\n[crops]\nempty_fraction = 1.5", "a share lies between 0 and 1"),
        ("steps =", "not valid TOML"),
    ],
)
def test_mistake_is_named_in_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        read_recipe(_write(tmp_path / "recipe.toml", text))

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read_recipe(tmp_path / "nowhere.toml")


def test_minutes_replace_the_length(tmp_path):
    path = _write(tmp_path / "recipe.toml", "steps = 3\n[crops]\nsnr = [2, 3]")

    recipe = read_recipe(path, minutes=1.5)

    assert (recipe.steps, recipe.minutes) == (None, 1.5)
    assert recipe.crop_ranges.snr == (2, 3)
