"""Example frames travel in the deploy file, and what is proved on load is proved on them."""

import json

import numpy as np
import onnx
import pytest

from streamtrack.errors import EngineError
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.backends.example import EXAMPLE_KEY, example_of, example_properties, movie_of
from streamtrack_engines.backends.proof import reference_movie
from streamtrack_engines.backends.runner import FrameSize
from streamtrack_engines.weights import read_weights

SPOTS = reference_movie(4, FrameSize(128, 128, 2)).astype(np.uint16)


def written(path, example):
    """The shipped weights with example frames of their own."""
    model = onnx.load_from_string(read_weights("denodet"))
    del model.metadata_props[1:]
    for key, value in example_properties(example).items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_frames_come_back_as_they_were(tmp_path):
    file = read_deploy_file(written(tmp_path / "mine.onnx", SPOTS))
    np.testing.assert_array_equal(file.example, SPOTS)


def test_weights_that_find_nothing_in_their_own_example_are_refused(tmp_path):
    nothing = np.random.default_rng(0).poisson(100, (4, 128, 128)).astype(np.uint16)
    with pytest.raises(EngineError, match="find none of the particles in their example frames"):
        read_deploy_file(written(tmp_path / "mine.onnx", nothing))


@pytest.mark.parametrize("size", [FrameSize(32, 40, 1), FrameSize(128, 128, 2), FrameSize(300, 513, 2)])
def test_example_frames_fill_any_size(size):
    movie = movie_of(SPOTS, 6, size)
    assert movie.shape == (6, size.height, size.width)
    assert movie.dtype.itemsize == size.itemsize
    first = movie[0, :32, :32] / movie[0, :32, :32].max()
    np.testing.assert_allclose(first, SPOTS[0, :32, :32] / SPOTS[0, :32, :32].max(), atol=0.01)
    np.testing.assert_array_equal(movie[4], movie[0])


@pytest.mark.parametrize(
    "said",
    ["", "[]", '{"shape": [1, 2]}', '{"shape": [1, 8, 8], "zlib": "eA=="}', '{"shape": [-1, 8, 8], "zlib": "###"}'],
)
def test_damaged_frames_are_one_line(said):
    with pytest.raises(EngineError, match="the example frames of mine are damaged"):
        example_of({EXAMPLE_KEY: said}, "mine")


def test_frames_that_claim_more_than_they_hold_are_refused():
    said = json.loads(example_properties(SPOTS)[EXAMPLE_KEY]) | {"shape": [4, 1 << 20, 1 << 20]}
    with pytest.raises(EngineError, match="damaged"):
        example_of({EXAMPLE_KEY: json.dumps(said)}, "mine")
