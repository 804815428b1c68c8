"""The shipped half-precision file finds what the float32 file finds."""

import numpy as np
import onnx
import pytest
import torch

from benchmarks.studies.half_precision import movies
from streamtrack_engines.agreement import agreement, as_bytes, as_on_a_gpu, in_onnxruntime, in_torch
from streamtrack_engines.deploy import from_onnx
from streamtrack_engines.weights import half_precision_of, read_weights

WEIGHTS = "denodet"
THRESHOLD = 0.45

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def half():
    return read_weights(half_precision_of(WEIGHTS))


@pytest.fixture(scope="module")
def exact():
    return in_torch(from_onnx(read_weights(WEIGHTS)))


@pytest.fixture(scope="module")
def some_frames():
    """One of each scene at each SNR."""
    return [frames for _, frames in movies(1, 96)][1::3]


def test_weights_are_the_rounded_ones(half):
    rounded, exact = (from_onnx(content).state_dict() for content in (half, read_weights(WEIGHTS)))
    assert rounded.keys() == exact.keys()
    for name, weight in exact.items():
        assert torch.equal(weight.half(), rounded[name]), name


def test_only_the_network_is_in_half_precision(half):
    """What is measured in counts or px is not: 2049 is no half-precision number."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(half))
    halves = {v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
    of_halves = {node.op_type for node in model.graph.node if halves & set(node.input)}
    assert of_halves <= {"Conv", "Relu", "Add", "MaxPool", "DepthToSpace", "Concat", "Slice", "Cast"}
    assert {o.type.tensor_type.elem_type for o in model.graph.output} == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("compute", ["as on a GPU", "in ONNX Runtime"])
def test_half_precision_finds_the_same(compute, half, exact, some_frames):
    other = in_onnxruntime(half) if compute == "in ONNX Runtime" else in_torch(as_on_a_gpu(from_onnx(half)))
    found = agreement([(exact(frames), other(frames)) for frames in some_frames], THRESHOLD)
    assert found.n_frames == len(some_frames) == 12
    assert found.n_detections > 100
    assert found.f1 >= 0.995  # of so few, one may be at the threshold; of 200 frames it is above .999
    assert 0 < found.position_median_px <= 0.002
    assert found.score_max <= 0.01


def test_rounded_as_torch_rounds(half, some_frames):
    """The stand-in for a GPU is as far from float32 as torch's own half precision, and near to that."""
    (frames,) = some_frames[4:5]
    window = np.ascontiguousarray(frames[:, :48, :48])
    raw = torch.tensor(as_bytes(window))
    graph = from_onnx(half)
    with torch.inference_mode():
        own = graph(raw)[1]
        stand_in = as_on_a_gpu(from_onnx(half))(raw)[1]
        exact = from_onnx(read_weights(WEIGHTS))(raw)[1]
    error, error_of_stand_in = (float((image - exact).std()) for image in (own, stand_in))
    assert error > 0
    assert error_of_stand_in == pytest.approx(error, rel=0.5)


def test_agreement_counts_what_only_one_has():
    table = np.array([[10, 10, 0.9, 1, 1], [30, 30, 0.8, 1, 1], [50, 50, 0.46, 1, 1], [0, 0, 0, 0, 0]], "f4")
    other = table + np.array([0.0, 0.1, -0.02, 0, 0], "f4")
    found = agreement([(table, other), (table, table)], THRESHOLD)
    assert (found.n_frames, found.n_detections) == (2, 6)
    assert found.f1 == pytest.approx(10 / 11)
    assert found.position_max_px == pytest.approx(0.1, rel=1e-4)
    assert found.score_max == pytest.approx(0.02, rel=1e-4)


def test_agreement_of_nothing():
    empty = np.zeros((4, 5), np.float32)
    found = agreement([(empty, empty)], THRESHOLD)
    assert (found.n_frames, found.n_detections, found.f1) == (1, 0, 0.0)
    assert np.isnan(found.position_median_px)
