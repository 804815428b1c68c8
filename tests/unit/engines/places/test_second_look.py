"""Places told from crops: nearer to the truth, each particle once, and what they are not surer of stays."""

import hashlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from streamtrack.errors import ConfigError, EngineError
from streamtrack.simulation.render import add_spots, round_spot
from streamtrack.types import Detections
from streamtrack_engines.engine import CellEngine, DenodetEngine
from streamtrack_engines.places.file import PACKAGED, CropFile
from streamtrack_engines.places.particles import Ranges, simulated
from streamtrack_engines.places.recipe import CropRecipe, read_crop_recipe
from streamtrack_engines.places.second_look import CropPlaces


def ring_frame(centres, diameter=20.0, amplitude=60.0, ground=40.0, size_px=160):
    image = np.full((size_px, size_px), ground, np.float32)
    row, column = np.mgrid[:size_px, :size_px]
    for y, x in centres:
        image += amplitude * np.exp(-0.5 * ((np.hypot(row - y, column - x) - diameter / 2) / 1.3) ** 2)
    return np.random.default_rng(3).poisson(image).astype(np.uint16)


def said(places, score, error_px):
    y, x = np.asarray(places, np.float32).T
    n = np.ones(len(y), np.float32)
    return Detections(y.copy(), x.copy(), np.asarray(score, np.float32) * n, 1000 * n, error_px * n, {"kind": n.copy()})


def looked_at(frame, found, weights="particles", **settings):
    places = CropPlaces(weights, 1, **settings)
    places.prepare(frame.shape)
    return places.localised(frame, found)


CENTRES = np.array([(40.3, 41.7), (44.8, 110.2), (110.1, 60.4), (100.6, 120.9)])


def test_rings_are_found_by_their_centres_each_once_and_dark_ones_too():
    rng = np.random.default_rng(0)
    twice = np.concatenate([CENTRES + rng.uniform(-2, 2, CENTRES.shape) for _ in range(2)])
    score = np.repeat([0.6, 0.9], 4)
    frame = ring_frame(CENTRES)
    for pixels, is_dark in ((frame, False), ((1000 - frame).astype(np.float32), True)):
        found = looked_at(pixels, said(twice, score, 2.0), is_dark=is_dark)
        assert found.score.tolist() == pytest.approx([0.9] * 4)
        assert np.hypot(found.y - CENTRES[:, 0], found.x - CENTRES[:, 1]).max() < 0.3
        assert found.sigma.max() < 0.3
        assert found.extra["kind"].shape == (4,)


def test_what_is_surer_already_or_at_the_border_or_elsewhere_stays():
    frame = ring_frame(CENTRES)
    places = [(40.0, 42.0), (2.0, 80.0), (80.0, 157.0)]
    found = looked_at(frame, said(places, 0.9, np.array([1e-4, 3.0, 3.0], np.float32)))
    np.testing.assert_array_equal(np.column_stack((found.y, found.x)), np.array(places, np.float32))
    nothing = said(np.empty((0, 2)), np.empty(0), np.empty(0, np.float32))
    assert looked_at(frame, nothing) is nothing


def test_spots_are_as_near_as_they_can_be():
    rng = np.random.default_rng(5)
    side = np.arange(20, 240, 20.0)
    places = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2) + rng.uniform(-0.5, 0.5, (len(side) ** 2, 2))
    image = np.full((256, 256), 20.0, np.float32)
    add_spots(image, *places.T.copy(), np.full(len(places), 112.0), np.zeros(len(places)), round_spot(1.3))
    found = looked_at(
        rng.poisson(image).astype(np.uint16), said(places + rng.normal(0, 0.5, places.shape), 0.9, 0.6), "spots"
    )
    away = np.hypot(found.y - places[:, 0], found.x - places[:, 1])
    assert np.sqrt(np.mean(away**2)) < 0.1  # SNR 10: bound .075
    assert 0.5 < found.sigma.mean() / np.sqrt(np.mean(away**2) / 2) < 2


def detected(make, how, frame):
    engine = make(localise=how, backend="onnxruntime", threads=1)
    try:
        engine.prepare(frame.shape, "uint16")
        found, _ = engine.detect(frame, denoise=False)
        assert engine.info["localise"] == how
        return found
    finally:
        engine.close()


def test_engines_take_them_and_say_so():
    frame, errors = ring_frame(CENTRES), {}
    for how in ("network", "particles"):
        found = detected(CellEngine, how, frame)
        away = np.hypot(found.y[:, None] - CENTRES[:, 0], found.x[:, None] - CENTRES[:, 1]).min(0)
        errors[how] = float(np.sqrt(np.mean(away**2)))
    assert errors["particles"] < 0.5 * errors["network"]


def test_what_is_no_such_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="localise = 'gausian' is none of gaussian, network, spots"):
        DenodetEngine(localise="gausian")
    with pytest.raises(EngineError, match=r"cannot read the weights .*gone\.onnx"):
        CropPlaces(str(tmp_path / "gone.onnx"))
    with pytest.raises(EngineError, match="no weights 'none' for crops: take spots or particles"):
        CropPlaces("none")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nothing")
    with pytest.raises(EngineError, match="damaged or no ONNX file"):
        CropPlaces(str(bad))
    from streamtrack_engines.weights import read_weights

    bad.write_bytes(read_weights("unet"))
    with pytest.raises(EngineError, match="not of a network for crops"):
        CropPlaces(str(bad))


@pytest.mark.parametrize("name", PACKAGED)
def test_the_card_is_that_of_the_file(name):
    folder = files("streamtrack_engines.places").joinpath("weights")
    content = folder.joinpath(f"{name}.onnx").read_bytes()
    assert len(content) < 200_000
    assert hashlib.sha256(content).hexdigest() in folder.joinpath("places.md").read_text(encoding="utf-8")
    recipe = read_crop_recipe(Path(str(files("streamtrack_engines.training") / "recipes" / f"{name}.toml")))
    assert recipe == CropRecipe.model_validate(CropFile(name, 1).metadata.recipe)


@pytest.mark.parametrize(
    ("name", "kind", "snr", "most_px"), [("particles", "bright_field", 5.0, 0.2), ("spots", "spot", 5.0, 0.25)]
)
def test_the_network_knows_its_own_error(name, kind, snr, most_px):
    file = CropFile(name, 1)
    diameter = (6.0, 16.0) if kind == "bright_field" else (2.0, 4.0)
    ranges = Ranges((snr, snr), 0.7, diameter, (20.0, 20.0), 0.0, 0.3)
    crops = simulated(torch.Generator().manual_seed(77), 400, file.metadata.crop_px, [kind], ranges)
    says = file.said(crops.counts.numpy())
    errors = says[:, :2] - crops.truth[:, :2].numpy()
    assert np.sqrt((errors**2).sum(1).mean()) < most_px * 2**0.5
    assert 0.7 < np.sqrt(np.mean((errors / np.exp(says[:, 4:6])) ** 2)) < 1.4
