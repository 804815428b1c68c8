"""The engine ``detectspot`` on the images of its paper, of seeds that no training saw."""

from contextlib import closing

import numpy as np
import pytest

import streamtrack
from benchmarks.detection.papers import GROUPS, score
from streamtrack.errors import ConfigError
from streamtrack.metrics.detection import match
from streamtrack.simulation.spot_images import spot_image
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.engine import DenodetEngine, DetectSpotEngine
from streamtrack_engines.weights import read_weights


def test_the_file_is_small_and_computes_in_float32():
    assert len(read_weights("detectspot")) < 2_000_000
    metadata = read_deploy_file("detectspot").metadata
    assert (metadata.precision, metadata.network.settings["stride"], metadata.image) == ("float32", 3, None)


@pytest.mark.parametrize("group", [name for name in GROUPS if name.startswith("detectSpot")])
def test_spots_are_found_as_often_as_the_paper_says(group):
    row = score("detectspot", group, 1)
    assert row["f1"] > row["printed"]["f1"] - 0.02  # of one image a set
    assert row["sets"]["SNR 6"]["rmse_px"] < 1.5


def test_back_ends_find_the_same():
    pixels, places = spot_image(np.random.default_rng(5), "A", 5.0, size_px=160)
    found = []
    for backend in ("onnxruntime", "openvino"):
        with closing(DetectSpotEngine(backend=backend, threads=1)) as engine:
            engine.prepare(pixels.shape, pixels.dtype.name)
            detections, nothing = engine.detect(pixels, denoise=True)
        assert nothing is None
        found.append(np.stack([detections.y, detections.x, detections.score], 1))
    assert len(match(found[0][:, :2], found[1][:, :2], 0.05)[0]) >= len(found[0]) - 1
    assert len(match(places, found[0][:, :2], 5.0)[0]) > 0.8 * len(places)


def test_a_movie_is_tracked(tmp_path):
    pixels, _ = spot_image(np.random.default_rng(6), "A", 10.0, size_px=96)
    results = streamtrack.track(np.stack([pixels] * 3), engine="detectspot", out=tmp_path / "run")
    assert (results.tracks.groupby("particle").size() == 3).sum() >= 4


@pytest.mark.parametrize(("engine", "weights"), [(DetectSpotEngine, "denodet"), (DenodetEngine, "detectspot")])
def test_weights_of_another_network_are_refused(engine, weights):
    with pytest.raises(ConfigError, match=rf"weights {weights} are of the network .*--engine {weights}$"):
        engine(weights=weights)
