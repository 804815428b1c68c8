import shutil
from pathlib import Path

import pandas as pd
import pytest
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

SHORTER = {
    "minutes = 20": "steps = 50",
    "batch_size = 4": "batch_size = 2",
    "views = 4": "views = 8",
    "crop_px = 128": "crop_px = 64",
    "[16, 32, 64]": "[8, 12, 16]",
    "base = 128": "base = 16",
    "n_frames = 40": "n_frames = 1",
    "frame_px = 256": "frame_px = 64",
    "every_minutes = 4": "n_crops = 1\ncrop_px = 64",
}


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


def test_the_multi_particle_u_net_learns_from_images_of_deeptrack(tmp_path, one_torch_thread):
    pytest.importorskip("deeptrack", reason="needs the extra deeptrack")
    folder = Path(__file__).parents[3] / "examples" / "deeptrack"
    shutil.copy(folder / "particles.py", tmp_path)
    recipe = (folder / "particles.toml").read_text(encoding="utf-8")
    for now, short in SHORTER.items():
        assert now in recipe
        recipe = recipe.replace(now, short)
    (tmp_path / "recipe.toml").write_text(recipe, encoding="utf-8")

    result = run(tmp_path / "recipe.toml", "--out", tmp_path / "run")

    assert result.exit_code == 0, result.exception
    first, last = pd.read_csv(tmp_path / "run" / "losses.csv")["disc"].iloc[[0, -1]]
    assert last < 0.6 * first
    assert "f1_pipeline" in result.output
