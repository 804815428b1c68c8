from trainings import run

from streamtrack.errors import ConfigError

RECIPE = """
steps = 2
device = "cpu"
batch_size = 1
crop_px = 32
[calibration]
n_frames = 1
frame_px = 32
[evaluation]
n_crops = 1
crop_px = 32
"""


def test_command_trains_and_resumes(tmp_path):
    recipe, out = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(RECIPE, encoding="utf-8")

    first = run(recipe, "--out", out)
    recipe.write_text(RECIPE.replace("steps = 2", "steps = 3"), encoding="utf-8")
    second = run(recipe, "--out", out, "--resume")

    assert first.exit_code == second.exit_code == 0
    assert f"done at step 2: {out / 'checkpoint.pt'}" in first.output
    assert f"done at step 3: {out / 'checkpoint.pt'}" in second.output
    assert "f1_snr4" in first.output


def test_length_on_the_command_line_is_checked(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")

    result = run(recipe, "--out", tmp_path / "run", "--minutes", "-1")

    assert isinstance(result.exception, ConfigError)
    assert "minutes = -1.0 is not valid" in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_recipe_that_is_not_there_is_named(tmp_path):
    result = run(tmp_path / "none.toml", "--out", tmp_path)

    assert isinstance(result.exception, ConfigError)
    assert "none.toml" in str(result.exception)
