from importlib.resources import files

import onnxruntime
import pytest

from streamtrack.errors import ConfigError, PluginNotFoundError
from streamtrack_engines.backends.metadata import DeployMetadata
from streamtrack_engines.training.recipe import read_recipe, recipe_of

NOT_PRINTED = {"upsampling": "subpixel", "coupled": False, "context": True}


def _write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_recipe_is_valid():
    recipe = read_recipe(files("streamtrack_engines.training") / "recipes" / "denodet.toml")

    assert (recipe.network.kind, recipe.network.settings) == (
        "denodet",
        {"n_frames": 3, "norm": "batch", **NOT_PRINTED},
    )
    assert (recipe.head.kind, recipe.head.settings) == ("presence", {"presence": 800.0, "position": 0.5})


@pytest.mark.parametrize("kind", ["compact", "denodet-local"])
def test_recipe_for_anyones_images_sees_every_kind_of_crop(kind):
    recipe = read_recipe(files("streamtrack_engines.training") / "recipes" / f"{kind}.toml")
    assert recipe.network.kind == kind
    shares = {name: value for name, value in recipe.data.settings.items() if name.endswith("_fraction")}
    assert len(shares) > 10
    assert all(value > 0 for value in shares.values())


def test_shipped_recipe_has_the_crops_of_the_shipped_weights():
    recipe = read_recipe(files("streamtrack_engines.training") / "recipes" / "denodet.toml")
    session = onnxruntime.InferenceSession(files("streamtrack_engines.weights") / "denodet.onnx")
    metadata = DeployMetadata.from_properties(session.get_modelmeta().custom_metadata_map, "denodet")
    assert recipe_of(metadata.recipe, "the weights").data == recipe.data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 3\nlearnin_rate = 1", "unknown key 'learnin_rate'; did you mean 'learning_rate'?"),
        ("steps = 3\n[data]\nkind = 'crops'\nsnrr = [1, 2]", "data 'crops': unknown key 'snrr'; did you mean 'snr'?"),
        ("steps = 3\n[head]\nkind = 'presence'\nposition = -1", "head 'presence': position = -1 is not valid"),
        ("steps = 3\n[network]\nnorm = 'group'", "network 'denodet': norm = 'group' is not valid"),
        ("steps = 3\n[network]\nn_frames = 0", "network 'denodet': n_frames = 0 is not valid"),
        ("steps = 3\n[network]\nkind = 'compcat'", "unknown network 'compcat'; did you mean 'compact'?"),
        ("steps = 3\n[head]\nkind = 'prezence'", "unknown head 'prezence'; did you mean 'presence'?"),
        ("steps = 3\n[data]\nkind = 'crop'", "unknown training data 'crop'; did you mean 'crops'?"),
        ("steps = 3\n[head]\nkind = 'presence'\ngamma = 1", "head 'presence': unknown key 'gamma'"),
        ("steps = 3\n[head]\npresence = 1", "'head.kind' is missing"),
        ("steps = 3\ncrop_px = 130", "crop_px = 130 is not valid: network 'denodet' takes multiples of 4"),
        ("steps = 3\nteacher = 'denodet'\n[head]\nkind = 'disc'", "only the head 'presence' can learn from another"),
        ("steps = 3\n[head]\nkind = 'density'", "'density' has to know particles 30 px beyond a crop, beyond_px = 30"),
        ("steps = 3\ndevice = 'gpu'", "device = 'gpu' is not valid"),
        ("steps = 3\n[crops]\nsnr = [5, 1]", "'crops': snr = (5.0, 1.0): the second number must not be smaller"),
        ("steps = 3\n[crops]\nsnr = [0, 1]", "'crops': snr = (0.0, 1.0): all numbers must be above 0"),
        ("steps = 3\n[crops]\ndeath = [0, 0.1]", "all numbers must be above 0"),
        ("steps = 3\n[crops]\nempty_fraction = 1.5", "a share lies between 0 and 1"),
        ("steps =", "not valid TOML"),
    ],
)
def test_mistake_is_named_in_one_line(tmp_path, text, message):
    with pytest.raises((ConfigError, PluginNotFoundError)) as caught:
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
    assert recipe.data.settings["snr"] == (2, 3)


def test_a_recipe_of_old_means_what_it_meant():
    old = {
        "steps": 3,
        "network": {"kind": "full", "n_frames": 2, "norm": "instance"},
        "loss": {"presence": 700.0, "position": 0.4, "denoising": 0.3},
        "crops": {"snr": [2, 3]},
        "evaluation": {"snr": [4], "density": 100, "n_crops": 2},
    }
    recipe = recipe_of(old, "old.toml")
    assert recipe.network.model_dump() == {"kind": "denodet", "n_frames": 2, "norm": "instance", **NOT_PRINTED}
    assert recipe.head.model_dump() == {"kind": "presence", "presence": 700.0, "position": 0.4}
    assert (recipe.denoising, recipe.evaluation.n_crops) == (0.3, 2)
    data = recipe.data.settings
    assert (data["snr"], data["held_out_snr"], data["held_out_density"]) == ((2, 3), (4,), 100)
    assert recipe_of(recipe.model_dump(), "new.toml") == recipe
