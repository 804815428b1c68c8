"""The weights in the package are there, do what they are for, and their card tells the truth about the file."""

import hashlib
from importlib.resources import files

import numpy as np
import onnxruntime
import pytest

from streamtrack.metrics.detection import match
from streamtrack.simulation import Movie, MovieSettings
from streamtrack_engines.backends.metadata import DeployMetadata
from streamtrack_engines.backends.onnxruntime import OnnxRuntimeEngine
from streamtrack_engines.weights import packaged_weights, read_weights

WEIGHTS = "denodet"
SIZE_PX = 256


@pytest.fixture(scope="module")
def engine():
    engine = OnnxRuntimeEngine(weights=WEIGHTS)
    engine.prepare((SIZE_PX, SIZE_PX), "uint8")
    return engine


def test_every_file_has_a_card_that_is_filled_in():
    names = packaged_weights()
    assert WEIGHTS in names
    for name in names:
        card = files("streamtrack_engines.weights").joinpath(f"{name}.md").read_text(encoding="utf-8")
        assert hashlib.sha256(read_weights(name)).hexdigest() in card
        assert "FILL" not in card
        for word in ("Training", "F1", "RMSE", "Limits"):
            assert word in card


def test_file_says_how_it_was_made():
    session = onnxruntime.InferenceSession(read_weights(WEIGHTS))
    metadata = DeployMetadata.from_properties(session.get_modelmeta().custom_metadata_map, WEIGHTS)
    assert session.get_inputs()[0].shape == [1, 1, "height", "width", "bytes"]
    assert metadata.network == WEIGHTS
    assert metadata.training_steps > 1000
    assert metadata.training_data["snr"]
    assert metadata.max_detections >= 1024


@pytest.mark.parametrize("scenario", ["vesicle", "receptor"])
def test_finds_what_is_there(engine, scenario):
    """SNR 4 at the density of the challenge's middle level, seeds of no training."""
    movie = Movie(MovieSettings(scenario, 4.0, 500.0, 4, SIZE_PX, SIZE_PX, seed=77))
    pixels = movie.noisy(2)
    assert pixels.dtype == np.uint8
    truth = movie.tracks.query("frame == 2")[["y", "x"]].to_numpy()
    found, _ = engine.detect(pixels, denoise=False)
    positions = np.column_stack((found.y, found.x))
    pairs, partners, distance_px = match(truth, positions, 5.0)
    assert 2 * len(pairs) / (len(truth) + len(found)) > 0.95
    assert np.sqrt(np.mean(distance_px**2)) < 0.35
    assert np.abs((positions[partners] - truth[pairs]).mean(0)).max() < 0.07  # no shift of the coordinate system


def test_finds_nothing_where_nothing_is(engine):
    rng = np.random.default_rng(5)
    found = [engine.detect(rng.poisson(16, (SIZE_PX, SIZE_PX)).astype(np.uint8), denoise=False)[0] for _ in range(8)]
    assert sum(map(len, found)) <= 1  # 8 quarters of a 512x512 frame, of which each may have half a detection


def test_denoised_frame_is_closer_to_the_truth(engine):
    movie = Movie(MovieSettings("receptor", 4.0, 500.0, 4, SIZE_PX, SIZE_PX, seed=77))
    noisy, clean = movie.noisy(1), movie.clean(1)
    _, denoised = engine.detect(noisy, denoise=True)
    assert np.square(denoised - clean).mean() < 0.2 * np.square(noisy - clean).mean()
