import csv
from dataclasses import replace

import numpy as np
import onnx
import pandas as pd
import pytest
import tifffile
import zarr
from deploy_graphs import CALIBRATION, SETTINGS
from networks import denodet, untrained
from trainings import mark_images, run

import streamtrack
from streamtrack.errors import ConfigError
from streamtrack.simulation import Movie, MovieSettings
from streamtrack.simulation.camera import Camera
from streamtrack_engines.engine import GraphEngine
from streamtrack_engines.export import describe
from streamtrack_engines.training import fine_tuning
from streamtrack_engines.training.recipe import read_recipe
from streamtrack_engines.weights import read_weights

RECIPE = """
steps = 2
device = "cpu"
batch_size = 1
crop_px = 32
norm_fraction = 0.0
weights = "denodet"
learning_rate = 1e-6
[data]
kind = "folder"
path = "images"
spot_size = {spot_size}
[calibration]
n_frames = 8
frame_px = 64
[evaluation]
n_crops = 1
crop_px = 32
"""


@pytest.fixture
def folder(tmp_path):
    mark_images(tmp_path / "images", 3, snr=7.0)
    return tmp_path


def test_weights_report_and_picture_follow_a_training(folder):
    (folder / "recipe.toml").write_text(RECIPE.format(spot_size=3.0), encoding="utf-8")
    result = run(folder / "recipe.toml", "--out", folder / "out")
    assert result.exit_code == 0, result.output
    assert "before (denodet): F1 " in result.output
    assert f"streamtrack track MOVIE --weights {folder / 'out' / 'weights.onnx'}" in result.output.replace("\n", "")
    with (folder / "out" / "held_out.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert float(row["f1_before"]) > 0.9
    assert float(row["f1_after"]) > 0.8
    assert (folder / "out" / "held_out.png").stat().st_size > 10_000
    image = tifffile.imread(folder / "images" / "0.tif")
    weights = folder / "out" / "weights.onnx"
    assert len(streamtrack.detect(image, engine={"weights": str(weights)})) > 20
    assert str(folder).encode() not in weights.read_bytes()
    again = run(folder / "recipe.toml", "--out", folder / "out")
    assert "already holds" in str(again.exception)


def test_the_file_knows_at_what_size_it_learnt_to_see(folder, exported):
    (folder / "recipe.toml").write_text(RECIPE.format(spot_size=7.0), encoding="utf-8")
    trained = replace(untrained(denodet(), CALIBRATION), recipe=read_recipe(folder / "recipe.toml"))
    model = onnx.load(exported("any"))
    onnx.helper.set_model_props(model, describe(trained, SETTINGS).to_properties())
    weights = folder / "weights.onnx"
    onnx.save(model, weights)
    assert GraphEngine(weights=str(weights)).info["binning"] == 2
    assert GraphEngine(weights=str(weights), spot_size=3.0).info["binning"] == 1
    assert str(folder).encode() not in weights.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name one: a folder of images"),
        (["{images}/0.tif"], "neither a folder of images nor a recipe"),
        (["{images}", "--like", "{images}/0.tif"], "name one: a folder of images"),
        (["--like", "{images}/0.tif", "--spot-size", "9"], "are for images of one's own alone"),
        (["--like", "{images}/0.tif"], "has 1 frames, too few to tell noise from what stays"),
        (["--like", "{images}/nan.npy"], "nan.npy has NaN or infinite pixels, which say nothing of a camera"),
        (["{images}", "--from", "nothing"], "there are no weights 'nothing'"),
        (["{images}", "--minutes", "0"], "minutes = 0.0 is not valid"),
        (["recipe.toml", "--channel", "0"], "--channel is for images and movies alone"),
        (["recipe.toml", "--spot-size", "0"], "are for images of one's own alone"),
    ],
)
def test_a_mistake_is_one_line_and_makes_no_folder(folder, arguments, message):
    if "{images}/nan.npy" in arguments:
        np.save(folder / "images" / "nan.npy", np.full((20, 32, 32), np.nan, np.float32))
    words = [word.format(images=folder / "images") for word in arguments]
    result = run(*words, "--out", folder / "out")
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (folder / "out").exists()


def test_points_of_a_movie_are_learnt_from(folder, tmp_path, monkeypatch):
    def export(checkpoint, out, settings):  # spares the time of one
        out.write_bytes(read_weights("denodet"))

    monkeypatch.setattr(fine_tuning, "export", export)
    movie = Movie(MovieSettings("vesicle", 7.0, 400.0, 8, height_px=96, width_px=96, seed=9))
    np.save(tmp_path / "movie.npy", np.stack([movie.noisy(t) for t in range(8)]))
    points = movie.tracks[["frame", "y", "x"]].set_axis(["axis-0", "axis-1", "axis-2"], axis=1)
    points.rename_axis("index").to_csv(tmp_path / "points.csv")
    text = RECIPE.format(spot_size=3.0).replace('"folder"', '"clicks"').replace('"images"', '"movie.npy"')
    text = text.replace('path = "movie.npy"', 'path = "movie.npy"\npoints = "points.csv"')
    (tmp_path / "clicks.toml").write_text(text, encoding="utf-8")
    result = run(tmp_path / "clicks.toml", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "all marks are of one movie" in result.output
    table = pd.read_csv(tmp_path / "out" / "held_out.csv")
    assert table["frame"].tolist() == [6, 7]


def test_a_resumed_training_that_was_not_begun_is_refused(folder):
    with pytest.raises(ConfigError, match=r"no training to go on with in .*: begin one without --resume"):
        raise run(folder / "images", "--out", folder / "out", "--resume").exception


def test_a_training_goes_on_with_what_it_began_with(folder):
    (folder / "out").mkdir()
    data = {"kind": "folder", "path": folder / "images", "spot_size": 3.0}
    fine_tuning.write_recipe({"data": data}, folder / "out" / "recipe.toml")
    for arguments, said in (
        ((folder / "others",), f"began with path = {(folder / 'images').as_posix()}, not "),
        ((folder / "images", "--spot-size", "9"), "began with spot_size = 3.0, not 9.0: leave that out"),
        ((folder / "images", "--channel", "1"), "began with source = None, not {'channel': '1'}"),
        ((folder / "images", "--spot-size", "3"), "there is no checkpoint"),
    ):
        assert said in str(run(*arguments, "--out", folder / "out", "--resume").exception)


@pytest.mark.slow
def test_a_folder_is_all_that_must_be_named(folder):
    result = run(folder / "images", "--out", folder / "out", "--minutes", "0.02")
    assert result.exit_code == 0, result.output
    assert 'weights = "denodet"' in (folder / "out" / "recipe.toml").read_text(encoding="utf-8")
    streamtrack.detect(tifffile.imread(folder / "images" / "0.tif"), {"weights": str(folder / "out" / "weights.onnx")})


@pytest.mark.slow
def test_points_in_a_movie_are_named_beside_it(folder, tmp_path):
    movie = Movie(MovieSettings("vesicle", 7.0, 400.0, 6, height_px=96, width_px=96, seed=9))
    tifffile.imwrite(tmp_path / "movie.tif", np.stack([movie.noisy(t) for t in range(6)]), photometric="minisblack")
    movie.tracks[["frame", "y", "x"]].to_csv(tmp_path / "points.csv", index=False)
    words = [tmp_path / "movie.tif", "--points", tmp_path / "points.csv", "--out", folder / "out", "--minutes", "0.02"]
    result = run(*words)
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_a_movie_without_marks_is_measured_and_simulated(folder):
    camera, rng = Camera(gain=2.0, offset_counts=100.0, read_noise_e=2.0), np.random.default_rng(0)
    movie = Movie(MovieSettings("vesicle", 7.0, 300.0, 60, height_px=128, width_px=128, seed=9))
    light = 20 + 12 * np.linspace(-1, 1, 128, dtype=np.float32)
    frames = [camera.expose(rng, movie.clean(t) - 16 + light) for t in range(60)]
    zarr.save_array(str(folder / "movie.zarr"), np.stack(frames).astype(np.uint16))
    result = run("--like", folder / "movie.zarr", "--out", folder / "out", "--minutes", "0.02")
    assert result.exit_code == 0, result.output
    recipe = read_recipe(folder / "out" / "recipe.toml").data.settings
    assert recipe["gain"][0] < 2.0 < recipe["gain"][1]
    assert recipe["spot_sigma_px"][0] < 1.15 < recipe["spot_sigma_px"][1]
    assert "after: F1" in result.output
    page = (folder / "out" / "likeness.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 8
    assert "http" not in page.replace("http-equiv", "")
