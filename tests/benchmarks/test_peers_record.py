import numpy as np
import pytest

from benchmarks.detection import peers
from benchmarks.detection.detectors import Candidates
from benchmarks.detection.peers_figure import draw
from benchmarks.detection.peers_methods import METHODS, Method, NotHere, open_method
from streamtrack.simulation import Movie, MovieSettings

SETTINGS = MovieSettings("vesicle", 7.0, 400.0, 8, 96, 96, 3)


@pytest.fixture(scope="module")
def movie():
    return Movie(SETTINGS)


@pytest.fixture(scope="module")
def frames(movie):
    return [movie.noisy(index).astype(np.uint16) for index in range(len(movie))]


@pytest.fixture(scope="module")
def truth(movie):
    return [peers._truth(movie, index) for index in range(len(movie))]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_can_run_finds_the_particles(name, frames, truth):
    try:
        method = open_method(name, SETTINGS, threads=1)
    except NotHere as reason:
        pytest.skip(str(reason))
    took, found = peers.measure({name: method}, frames)
    (row,) = peers.score({name: method}, took, found, truth)
    method.close()
    assert row["ms"]["n"] == len(frames) - peers.WARM_UP_FRAMES
    if method.has_weights:
        assert row["f1_5px"] > 0.8
        assert row["oracle"] == (not name.startswith(("ours_", "unet_", "torch_")))
    else:
        assert row["f1_5px"] is None, "random weights: a figure of their accuracy would be nonsense"


def test_torch_with_the_shipped_weights_finds_what_ours_finds(frames):
    try:
        eager, ours = (open_method(name, SETTINGS, 1) for name in ("torch_eager_channels_last", "ours_onnxruntime"))
    except NotHere as reason:
        pytest.skip(str(reason))
    for pixels in frames:
        expected = ours.find(pixels)
        found = eager.find(pixels).above(eager.threshold)
        assert len(found) == len(expected.yx)
        apart_px = np.abs(np.array(sorted(map(tuple, found))) - sorted(map(tuple, expected.yx))).max(axis=1)
        assert np.quantile(apart_px, 0.8) < 0.01  # a bright spot or two the engine locates by a fit
        assert apart_px.max() < 0.2


def test_every_frame_goes_to_all_methods_in_turn():
    asked = []

    def method(name):
        def find(pixels):
            asked.append((name, int(pixels[0, 0])))
            return Candidates(np.zeros((0, 2)), np.zeros(0))

        return Method(find)

    frames = [np.full((4, 4), k, np.uint16) for k in range(3)]
    took, found = peers.measure({"a": method("a"), "b": method("b")}, frames)
    assert asked == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert all((took[name] > 0).all() and len(found[name]) == 3 for name in "ab")


def test_ratios_are_to_the_fastest_of_ours():
    medians = {"ufish": 120.0, "ours_openvino": 10.0, "ours_onnxruntime": 20.0}
    rows = [{"method": name, "ms": {"p50": ms}} for name, ms in medians.items()]
    assert peers.ratios(rows) == {"ufish": 12.0, "ours_openvino": 1.0, "ours_onnxruntime": 2.0}
    assert peers.ratios(rows[:1]) == {}


def test_both_linkers_are_timed_on_what_their_detectors_found(truth):
    found = [Candidates(yx, np.ones(len(yx))) for yx in truth]
    rows = [{"method": "trackpy", "threshold": 0.5}, {"method": "ours_onnxruntime", "threshold": 0.5}]
    figures = peers.linking(rows, {"trackpy": found, "ours_onnxruntime": found})
    assert set(figures) == {"trackpy.link_iter", "ours"}
    assert all(ms["n"] == len(truth) - peers.WARM_UP_FRAMES for ms in figures.values())


def test_a_picture_is_drawn(tmp_path):
    ms = {"p50": 3.0, "p99": None, "max": 5.0}
    rows = [
        {"method": name, "ms": ms, "f1_5px": f1, "oracle": name == "dog"}
        for name, f1 in (("dog", 0.9), ("ours_onnxruntime", 0.95), ("torch_eager_as_trained", None))
    ]
    draw({"methods": rows, "computer": {"processor": "a chip"}, "threads": 2}, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 10_000
