import tomllib
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from rich.console import Console

from streamtrack.errors import ConfigError
from streamtrack_engines.parts import make_data
from streamtrack_engines.training import fine_tuning
from streamtrack_engines.training.fine_tuning import as_toml, recipe_for, spot_size_of, write_recipe
from streamtrack_engines.training.recipe import read_recipe, recipe_of
from streamtrack_engines.weights import read_weights


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        tifffile.imwrite(tmp_path / f"{number}.tif", rng.poisson(100, (160, 160)).astype(np.uint16))
        marks = pd.DataFrame(rng.uniform(10, 150, (6, 2)), columns=["y", "x"]).assign(radius_px=12.0)
        marks.to_csv(tmp_path / f"{number}.csv", index=False)
    return tmp_path


def test_a_table_as_toml_reads_the_same():
    table = {
        "minutes": 2.5,
        "weights": 'a "b"\\c',
        "flag": True,
        "none": None,
        "data": {"snr": [1.0, 2.0], "x": {"c": 1}},
    }
    read = tomllib.loads(as_toml(table))
    assert read == {name: value for name, value in table.items() if value is not None}


def test_the_recipe_for_images_is_one_that_can_be_read(folder, tmp_path):
    not_said = {"spot_size": None, "pixel_size_um": None, "empty_frames": None, "source": None}
    table = recipe_for({"kind": "folder", "path": folder, **not_said}, "denodet", 3.0)
    write_recipe(table, tmp_path / "recipe.toml")
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert (recipe.weights, recipe.teacher, recipe.minutes) == ("denodet", "denodet", 3.0)
    assert recipe.network.kind == "denodet"
    assert Path(recipe.data.settings["path"]) == folder
    with pytest.raises(ConfigError, match="is there already"):
        write_recipe(table, tmp_path / "recipe.toml")


def test_wide_objects_are_looked_for_at_their_size(folder):
    assert spot_size_of({"kind": "folder", "path": folder}) == pytest.approx(16.8)
    assert recipe_for({"kind": "folder", "path": folder}, "denodet", None)["data"]["spot_size"] == pytest.approx(16.8)
    for table in folder.glob("*.csv"):
        pd.read_csv(table).drop(columns="radius_px").to_csv(table, index=False)
    assert spot_size_of({"kind": "folder", "path": folder}) is None


def test_paths_in_a_recipe_are_from_its_folder(folder):
    recipe = folder / "recipe.toml"
    recipe.write_text('steps = 1\n[data]\nkind = "folder"\npath = "."\n', encoding="utf-8")
    assert Path(read_recipe(recipe).data.settings["path"]) == folder


def test_images_of_cells_are_mixed_with_simulated_ones(folder):
    table = recipe_for({"kind": "folder", "path": folder}, "cells", None)
    assert (table["head"]["kind"], table["data"]["simulated"]) == ("cells", {"kind": "cells"})
    assert "spot_size" not in table["data"]
    assert recipe_for({"kind": "folder", "path": folder}, "density", None)["data"]["beyond_px"] == 30
    with pytest.raises(ConfigError, match="weights cells know particles of 6 to 48 px as they are"):
        recipe_for({"kind": "folder", "path": folder, "spot_size": 20.0}, "cells", None)


def test_patches_are_cut_from_images_and_from_simulated_ones_that_tell_of_spots_beyond(folder):
    recipe = recipe_of(recipe_for({"kind": "folder", "path": folder}, "detectspot", None), "the recipe")
    assert (recipe.network.kind, recipe.head.kind, recipe.weights) == ("detectspot", "patch", "detectspot")
    data = make_data(recipe.data)
    assert (data.beyond_px, data.simulated) == (14, {"kind": "type_ab"})
    lots = [data.batch(np.random.default_rng(seed), 1, 128, 0) for seed in range(12)]
    assert any(lot.points[:, 1:].max() > 130 for lot in lots)


def test_a_training_to_count_ends_with_how_far_counts_are_off(folder, monkeypatch):
    def export_shipped(checkpoint, out, settings):
        out.write_bytes(read_weights("density"))

    monkeypatch.setattr(fine_tuning, "export", export_shipped)
    recipe = recipe_of(recipe_for({"kind": "folder", "path": folder}, "density", None), "the recipe")
    text = StringIO()
    assert fine_tuning.finish(recipe, folder / "checkpoint.pt", Console(file=text, width=500)) is None
    how_good, command, _ = text.getvalue().splitlines()
    assert "6 particles in 1 frame that it did not learn from: on average a count is off by" in how_good
    assert command == f"streamtrack track MOVIE --engine density --weights {folder / 'weights.onnx'}"
