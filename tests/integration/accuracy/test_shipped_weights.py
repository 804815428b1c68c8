"""The weights in the package are there, do what they are for, and their card tells the truth about the file."""

import hashlib
from importlib.resources import files

import numpy as np
import onnxruntime
import pytest

from streamtrack.metrics.detection import match
from streamtrack.simulation import Movie, MovieSettings
from streamtrack_engines.backends.metadata import DeployMetadata
from streamtrack_engines.engine import DenodetEngine
from streamtrack_engines.weights import half_precision_of, packaged_weights, read_weights

WEIGHTS = DenodetEngine.default_weights
IN_HALVES = "denodet"
SIZE_PX = 256


@pytest.fixture(scope="module")
def prepared():
    engine = DenodetEngine(weights=WEIGHTS, threshold=0.1, backend="onnxruntime")
    engine.prepare((SIZE_PX, SIZE_PX), "uint8")
    return engine


@pytest.fixture
def detect(prepared):
    """Show frames in a row, as the first of a movie; return what is found in the last, and that denoised."""
    prepared.reset()
    return lambda frames: [prepared.detect(pixels, denoise=True) for pixels in frames][-1]


def metadata_of(weights):
    session = onnxruntime.InferenceSession(read_weights(weights))
    return DeployMetadata.from_properties(session.get_modelmeta().custom_metadata_map, weights)


def default_threshold():
    return metadata_of(WEIGHTS).threshold


def test_every_file_has_a_card_that_is_filled_in():
    names = packaged_weights()
    assert {WEIGHTS, IN_HALVES, half_precision_of(IN_HALVES)} <= set(names)
    for name in names:
        card_of = name.removesuffix(".half")  # weights in half precision share the card
        card = files("streamtrack_engines.weights").joinpath(f"{card_of}.md").read_text(encoding="utf-8")
        assert hashlib.sha256(read_weights(name)).hexdigest() in card
        assert "FILL" not in card
        for word in ("Training", "F1", "RMSE", "Limits"):
            assert word in card


def test_file_says_how_it_was_made():
    session = onnxruntime.InferenceSession(read_weights(WEIGHTS))
    metadata = metadata_of(WEIGHTS)
    assert session.get_inputs()[0].shape == [1, 3, "height", "width", "bytes"]
    assert metadata.network.kind == WEIGHTS
    assert metadata.training_steps > 1000
    assert metadata.training_data["snr"]
    assert metadata.max_detections >= 1024
    assert metadata.n_rows(512, 512) == metadata.max_detections
    assert metadata.n_rows(2048, 2048) == 16 * metadata.max_detections
    assert metadata.n_rows(513, 32) == 2 * metadata.max_detections


def test_half_precision_file_is_of_the_same_training():
    half = metadata_of(half_precision_of(IN_HALVES))
    assert half.precision == "float16"
    assert half.model_copy(update={"precision": "float32"}) == metadata_of(IN_HALVES)


def test_weights_without_half_precision():
    assert half_precision_of("denodet.half") is None
    assert half_precision_of("mine.onnx") is None


def positions_of(found, threshold):
    sure = found.score >= threshold
    return np.column_stack((found.y, found.x))[sure]


def three_frames(scenario, snr, seed=77):
    """Return the frames of a movie and where the particles of the last one are; seeds of no training."""
    movie = Movie(MovieSettings(scenario, snr, 500.0, 4, SIZE_PX, SIZE_PX, seed=seed))
    truth = movie.tracks.query("frame == 2")[["y", "x"]].to_numpy()
    return [movie.noisy(frame) for frame in range(3)], truth


@pytest.mark.parametrize("scenario", ["vesicle", "receptor"])
def test_finds_what_is_there(detect, scenario):
    """SNR 4 at the density of the challenge's middle level, with one threshold for all."""
    frames, truth = three_frames(scenario, 4.0)
    positions = positions_of(detect(frames)[0], default_threshold())
    pairs, partners, distance_px = match(truth, positions, 5.0)
    assert 2 * len(pairs) / (len(truth) + len(positions)) > 0.96
    assert np.sqrt(np.mean(distance_px**2)) < 0.33
    assert np.abs((positions[partners] - truth[pairs]).mean(0)).max() < 0.07  # no shift of the coordinate system


def test_comets_are_found_at_their_heads(detect):
    frames, truth = three_frames("microtubule", 7.0)
    positions = positions_of(detect(frames)[0], default_threshold())
    pairs, _, distance_px = match(truth, positions, 5.0)
    assert 2 * len(pairs) / (len(truth) + len(positions)) > 0.95
    assert np.sqrt(np.mean(distance_px**2)) < 0.5  # a symmetric fit sits 2.5 px behind


def test_frames_before_help_at_low_snr(prepared, detect):
    frames, truth = three_frames("microtubule", 2.0)
    with_history, _ = detect(frames)
    prepared.reset()
    alone, _ = detect(frames[2:])
    assert f1(truth, with_history) > f1(truth, alone) + 0.02


def f1(truth, found):
    positions = positions_of(found, default_threshold())
    return 2 * len(match(truth, positions, 5.0)[0]) / (len(truth) + len(positions))


def test_scores_are_probabilities(detect):
    """Of the detections with a score from 0.1 on, as many are right as the scores add up to, to 15 %."""
    frames, truth = three_frames("vesicle", 2.0)
    found, _ = detect(frames)
    pairs, _, _ = match(truth, positions_of(found, 0.1), 3.0)
    assert float(found.score.sum()) == pytest.approx(len(pairs), rel=0.15)


def test_finds_nothing_where_nothing_is():
    engine = DenodetEngine(weights=WEIGHTS, backend="onnxruntime")
    engine.prepare((512, 512), "uint8")
    rng = np.random.default_rng(5)
    found = [engine.detect(rng.poisson(16, (512, 512)).astype(np.uint8), denoise=False)[0] for _ in range(6)]
    assert sum(map(len, found)) <= 1


def test_denoised_frame_is_closer_to_the_truth(detect):
    movie = Movie(MovieSettings("receptor", 4.0, 500.0, 4, SIZE_PX, SIZE_PX, seed=77))
    noisy, clean = movie.noisy(1), movie.clean(1)
    _, denoised = detect([movie.noisy(0), noisy])
    assert np.square(denoised - clean).mean() < 0.2 * np.square(noisy - clean).mean()
