"""A proof lets half precision pass and finds what is wrong."""

from dataclasses import replace
from functools import cache

import numpy as np
import onnxruntime
import pytest

from streamtrack.errors import EngineError
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.backends.proof import TOLERANCE, Difference, compare, prove, reference_movie
from streamtrack_engines.backends.runner import FrameSize
from streamtrack_engines.weights import packaged_weights

SIZE = FrameSize(96, 128, 2)


@cache
def session_of(content):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options)


class PlainRunner:
    """A runner in ONNX Runtime; `fault` changes what it gives."""

    def __init__(self, file, size, fault=lambda table, denoised: (table, denoised)):
        self.info = {}
        self.session = session_of(file.content)
        self.frames = np.zeros((file.metadata.n_frames, size.height, size.width), f"u{size.itemsize}")
        self.current = self.frames[-1]
        self.fault = fault

    def run(self, *, denoise):
        raw = self.frames.view(np.uint8).reshape(1, *self.frames.shape, self.frames.itemsize)
        table, *image = self.session.run(None, {"frame": raw})
        table, denoised = self.fault(table, image[0] if image else None)
        self.advance()
        return table, denoised if denoise else None

    def advance(self):
        self.frames[:-1] = self.frames[1:].copy()

    def clear(self):
        self.frames.fill(0)

    def close(self):
        self.session = None


@pytest.fixture(scope="module")
def weights():
    return read_deploy_file("denodet")


@pytest.mark.parametrize("size", [FrameSize(32, 32, 1), FrameSize(33, 90, 2), SIZE])
def test_a_right_runner_passes_and_has_seen_nothing_after(weights, size):
    runner = PlainRunner(weights, size)
    difference = prove(runner, weights, size)
    assert difference == Difference(0, 0, 0, 0, 0)
    assert not runner.frames.any()


@pytest.mark.parametrize("name", [name for name in packaged_weights() if "half" in name])
def test_half_precision_passes_with_room(weights, name):
    difference = prove(PlainRunner(read_deploy_file(name), SIZE), weights, SIZE)
    assert 0 < difference.denoised < TOLERANCE.denoised / 2
    assert difference.position_px < TOLERANCE.position_px / 4
    assert difference.missed == 0


class LateRunner(PlainRunner):
    """Its frames before stay where they are."""

    def advance(self):
        pass


class SwappedRunner(PlainRunner):
    """The frames before are in the wrong order."""

    def advance(self):
        self.frames[[0, 1]] = self.frames[[2, 0]]


class StaleRunner(PlainRunner):
    """Without the denoised frame it replays the results of the first frame."""

    first = None

    def run(self, *, denoise):
        table, denoised = super().run(denoise=denoise)
        self.first = table if self.first is None else self.first
        return (table if denoise else self.first), denoised


@pytest.mark.parametrize("kind", [LateRunner, SwappedRunner, StaleRunner])
def test_faults_of_a_runner_are_found(weights, kind):
    with pytest.raises(EngineError, match="differ from ONNX Runtime"):
        prove(kind(weights, SIZE), weights, SIZE)


def with_rows(table, start, stop, values):
    table = table.copy()
    table[start:stop] = values
    return table


FAULTS = {
    "denoised 3 % brighter": lambda table, denoised: (table, denoised * 1.03),
    "denoised not a number": lambda table, denoised: (table, denoised * np.nan),
    "table not a number": lambda table, denoised: (table + np.nan, denoised),
    "one pixel to the right": lambda table, denoised: (table, np.roll(denoised, 1, 1)),
    "0.01 px down": lambda table, denoised: (table + np.float32([0.01, 0, 0, 0, 0]), denoised),
    "scores": lambda table, denoised: (table * np.float32([1, 1, 0.99, 1, 1]), denoised),
    "intensities": lambda table, denoised: (table * np.float32([1, 1, 1, 1.01, 1]), denoised),
    "nothing found": lambda table, denoised: (table * 0, denoised),
    "one missed": lambda table, denoised: (with_rows(table, 0, 1, 0), denoised),
    "one too many": lambda table, denoised: (with_rows(table, -1, None, [8, 8, 0.9, 1, 0.1]), denoised),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_numbers_are_found_with_figures(weights, fault):
    with pytest.raises(EngineError, match=r"\(missed .*, position_px .*; at most .*\).*another engine back end"):
        prove(PlainRunner(weights, SIZE, FAULTS[fault]), weights, SIZE)


def with_a_lost_skip(content):
    """Return the file, once for each residual block: what the block adds at its end is lost."""
    onnx = pytest.importorskip("onnx")
    nodes = onnx.load_from_string(content).graph.node
    made_by = {output: node for node in nodes for output in node.output}
    kinds = [sorted(made_by[name].op_type for name in node.input if name in made_by) for node in nodes]
    for index, (node, kind) in enumerate(zip(nodes, kinds, strict=True)):
        if node.op_type == "Add" and kind == ["Conv", "Relu"]:
            (convolved,) = [name for name in node.input if made_by[name].op_type == "Conv"]
            broken = onnx.load_from_string(content)
            broken.graph.node[index].CopyFrom(onnx.helper.make_node("Identity", [convolved], node.output))
            yield made_by[convolved], broken.SerializeToString()


def test_a_lost_residual_addition_is_found_wherever_it_is(weights):
    """The fault of NVIDIA/TensorRT issue 4854."""
    size = FrameSize(128, 128, 2)
    broken = [content for conv, content in with_a_lost_skip(weights.content) if is_3x3(conv)]
    assert len(broken) == 7  # residual blocks; the 1x1 convolutions are of the context, which adds to every pixel
    for content in broken:
        with pytest.raises(EngineError, match="differ from"):
            prove(PlainRunner(replace(weights, content=content), size), weights, size)


def is_3x3(conv):
    (kernel,) = [attribute.ints for attribute in conv.attribute if attribute.name == "kernel_shape"] or [[3, 3]]
    return list(kernel) == [3, 3]


@pytest.mark.parametrize("itemsize", [1, 2])
def test_the_movie_uses_the_whole_range_and_is_the_same_each_time(itemsize):
    movie = reference_movie(4, FrameSize(64, 96, itemsize))
    assert (movie.shape, movie.dtype.itemsize) == ((4, 64, 96), itemsize)
    assert movie.max() > (150 if itemsize == 1 else 15_000)
    assert not np.array_equal(movie[0], movie[1])
    np.testing.assert_array_equal(movie, reference_movie(4, FrameSize(64, 96, itemsize)))


def test_nothing_found_by_either_is_no_difference(weights):
    nothing = np.zeros((2048, 5), np.float32), np.ones((32, 32), np.float32)
    assert compare(weights, nothing, nothing) == Difference(0, 0, 0, 0, 0)


@pytest.mark.parametrize("size", [FrameSize(32, 32, 1), FrameSize(32, 32, 2), FrameSize(40, 33, 1)])
@pytest.mark.parametrize("name", packaged_weights())
def test_the_smallest_frames_show_something_of_the_example(name, size):
    """Or no back end could be proved for them."""
    file = read_deploy_file(name)
    assert prove(PlainRunner(file, size), file, size).missed == 0
