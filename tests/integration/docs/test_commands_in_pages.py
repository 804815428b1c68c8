"""Whoever types what stands in the pages finds that it works, in PowerShell 5.1 and cmd, too."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer.main
import zarr

import streamtrack
from streamtrack import registry
from streamtrack.cli import make_app
from streamtrack.simulation import MovieSettings, ground_truth

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("engines/**/*.md")])
COMMAND = re.compile(r"(?:streamtrack|python|pip) .+")


def commands(page):
    """Return the lines of a page that are to be typed: in a fence, or indented as code."""
    found, fenced = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.lstrip().startswith("```")
        if (fenced or line.startswith("    ")) and COMMAND.fullmatch(line.strip()):
            found.append(line.strip())
    return found


TYPED = sorted({command for page in PAGES for command in commands(page)})
OWN = [command for command in TYPED if command.startswith("streamtrack ")]


def test_commands_are_found_in_the_pages():
    assert "python -m pip install ." in TYPED
    assert len(OWN) > 8


@pytest.mark.parametrize("command", TYPED)
def test_a_command_means_the_same_in_every_shell(command):
    assert not re.search(r"&&|'|[\\^`]$|[#;|<>$%*]", command)


@pytest.mark.parametrize("command", OWN)
def test_streamtrack_knows_the_command_and_its_options(command):
    _, name, *words = shlex.split(command)
    if name == "--version":
        return
    known = typer.main.get_command(make_app()).commands
    assert name in known
    within = getattr(known[name], "commands", None)
    options = {
        option
        for parameter in _parameters(name, within[words[0]] if within else known[name])
        for option in parameter.opts
    }
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options


def _parameters(name, command):
    if name not in registry.names("commands"):
        return command.params
    plugin = typer.Typer()
    plugin.command()(registry.load("commands", name))
    return typer.main.get_command(plugin).params


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / target).exists(), target


RUN = [
    "streamtrack --version",
    "streamtrack doctor",
    "streamtrack track movie.ome.zarr --channel 0 --out results",
    "streamtrack track movie.ome.zarr --threshold 0.6 --out results --overwrite",
    "streamtrack track --config run.toml --out results --overwrite",
    "streamtrack evaluate results truth.csv",
    "streamtrack convert results/tracks.parquet --to trackmate",
    "streamtrack convert linked.csv --to parquet",
    "streamtrack relink results/detections.parquet --out best.parquet",
]
"""In the order in which they need each other."""

ELSEWHERE = {
    "streamtrack demo": "in a fresh environment, as README says",
    'streamtrack track "sim:vesicle?snr=4&density=200&frames=60&size=256" --out simulated': "test_command_line",
    "streamtrack demo --movie demo.ome.zarr": "below, a smaller one",
    "streamtrack recover results": "test_recovery",
    "streamtrack stop results": "test_stopping",
    "streamtrack bench --fps 100": "bench/",
    "streamtrack train recipe.toml --out run": "training/",
    "streamtrack train examples/deeptrack/particles.toml --out my_weights": "training/test_train_command",
    "streamtrack track nuclei.tif --engine cells": "test_cell_weights",
    "streamtrack track nuclei.tif --engine density": "test_density_weights",
    "streamtrack track spots.tif --engine detectspot": "test_detectspot_weights",
    "streamtrack train spots.tif --points points.csv --from detectspot --out my_weights": "training/test_fine_tuning",
    "streamtrack track rna.tif --engine deepspot": "test_deepspot_weights",
    "streamtrack train my_images --from cells --out my_weights": "training/test_fine_tuning",
    "streamtrack train my_images --from density --out my_weights": "training/test_fine_tuning",
    "streamtrack track movie.tif --engine density --weights my_weights/weights.onnx": "test_density_weights",
    "streamtrack train my_images --out my_weights": "training/test_own_images_command",
    "streamtrack train my_images --out my_weights --view": "training/test_training_view",
    "streamtrack train movie.tif --points points.csv --out my_weights": "training/test_own_images_command",
    "streamtrack track movie.tif --weights my_weights/weights.onnx": "training/test_own_images_command",
    "streamtrack train --like movie.zarr --out like_weights": "training/test_own_images_command",
    "streamtrack export run/checkpoint.pt --out mine.onnx": "test_export",
    "streamtrack pack spots.onnx --scaling standard --stride 8 --out spots-packed.onnx": "test_pack_command",
    "streamtrack track movie.zarr --weights spots-packed.onnx": "test_pack_command",
    "streamtrack track movie.ome.zarr --out results --resume": "test_resume",
    "streamtrack track movie.ome.zarr --out results --follow": "test_follow",
    "streamtrack track https://host/movie.ome.zarr": "test_remote_movies",
    "streamtrack track movie.tif --pixel-size 0.108 --interval 0.05": "test_said_calibration",
    "streamtrack track movie.ome.zarr --out results --view": "test_view",
    "streamtrack view results --napari": "napari/",
    "streamtrack view results": "test_view_ended",
    "streamtrack ctl results snapshot": "test_view_controls",
    "streamtrack ctl results record off": "test_view_controls",
    "streamtrack ctl results record on": "test_view_controls",
    "streamtrack ctl results event drug": "test_view_controls",
    "streamtrack ctl results state": "test_view_controls",
    "streamtrack ctl results mode rehearse": "test_view_controls",
    "streamtrack ctl results pause centre": "test_view_controls",
    "streamtrack ctl results resume centre": "test_view_controls",
    "streamtrack ctl results threshold 0.6": "test_view_controls",
    "streamtrack ctl results follow 12": "test_view_controls",
    'streamtrack ctl results mark "drug added"': "test_view_controls",
    "streamtrack calibrate stage run.toml": "test_calibrate_command",
    "streamtrack calibrate slm run.toml": "test_slm",
    "streamtrack calibrate psf beads.zarr --step-um 0.05": "unit/calibration/test_psf",
    "streamtrack check run.toml": "test_check_command",
    "streamtrack check run.toml --mode armed": "test_check_command",
}
"""Where those are run that need hardware, another environment, or minutes."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the movie, the truth and the configuration that the pages name."""
    monkeypatch.chdir(tmp_path)
    settings = MovieSettings("vesicle", 7, 300, 8, height_px=64, width_px=64, seed=3)
    movie = streamtrack.simulate("vesicle", snr=7, density=300, frames=8, size=64, seed=3).movie
    group = zarr.create_group("movie.ome.zarr")
    group.create_array("0", data=movie[:, np.newaxis], chunks=(1, 1, 64, 64))
    kinds = {"t": "time", "c": "channel", "y": "space", "x": "space"}
    axes = [{"name": name, "type": kind} for name, kind in kinds.items()]
    scale = {"type": "scale", "scale": [1.0] * 4}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    named = {"channels": [{"label": "GFP"}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}], "omero": named}
    ground_truth(settings).to_csv("truth.csv", index=False)
    ground_truth(settings).to_csv("linked.csv", index=False)
    page = (ROOT / "docs" / "first_movie.md").read_text(encoding="utf-8")
    (tmp_path / "run.toml").write_text(page.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    return tmp_path


def test_the_commands_run_one_after_the_other(cli, folder):
    for command in RUN:
        code, _, err = cli(*shlex.split(command)[1:])
        assert code == 0, f"{command}: {err}"
    assert {"results", "best.parquet", "linked.parquet"} <= {path.name for path in folder.iterdir()}
    assert (folder / "results" / "tracks.trackmate.xml").is_file()


def test_every_command_of_the_pages_is_run_somewhere():
    rest = set(OWN) - set(RUN) - ELSEWHERE.keys()
    assert {command for command in rest if not command.startswith(("streamtrack live", "streamtrack batch"))} == set()
    assert set(RUN) | ELSEWHERE.keys() <= set(OWN), "a page lost a command"


def test_the_demo_makes_a_movie_and_its_truth(cli, tmp_path):
    movie = "sim:vesicle?snr=7&density=300&frames=6&size=64&seed=3"
    assert cli("demo", movie, "--movie", tmp_path / "demo.ome.zarr")[0] == 0
    assert cli("track", tmp_path / "demo.ome.zarr", "--out", tmp_path / "results")[0] == 0
    code, out, _ = cli("evaluate", tmp_path / "results", tmp_path / "demo_truth.csv")
    assert code == 0
    assert "Detection" in out
    code, _, err = cli("demo", movie, "--movie", tmp_path / "demo.ome.zarr")
    assert code == 2
    assert "is there already" in err
