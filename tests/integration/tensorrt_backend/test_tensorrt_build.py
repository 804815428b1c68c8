"""Weights through the real parser and builder of TensorRT for RTX, which need no GPU."""

import re
import time
from collections import Counter
from dataclasses import replace

import pytest

from streamtrack.errors import EngineError
from streamtrack_engines.backends import tensorrt_build
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.backends.plan_cache import PlanCache, PlanKey
from streamtrack_engines.backends.runner import FrameSize
from streamtrack_engines.backends.tensorrt_build import Log, build_plan
from streamtrack_engines.backends.tensorrt_runner import TensorrtRunner
from streamtrack_engines.weights import packaged_weights

SIZE = FrameSize(64, 96, 2)


def quiet(line):
    pass


def both_plans(rtx, file, size):
    return {denoise: build_plan(rtx, file, size, quiet, denoise=denoise) for denoise in (False, True)}


@pytest.fixture
def untrained(exported):
    """A fresh export of an untrained network, for frames of 64 x 96 px of two bytes."""
    return replace(read_deploy_file(str(exported("fixed"))), name="untrained")


@pytest.mark.parametrize("size", [FrameSize(32, 32, 1), FrameSize(97, 133, 2), FrameSize(520, 1030, 2)])
@pytest.mark.parametrize("name", packaged_weights())
def test_packaged_weights_build(rtx, name, size):
    started, file = time.monotonic(), read_deploy_file(name)
    if file.metadata.image is None:
        assert 1e6 < len(build_plan(rtx, file, size, quiet, denoise=False)) < 2e7
    else:
        plans = both_plans(rtx, file, size)
        assert 1e6 < len(plans[False]) < len(plans[True]) < 2e7
    assert time.monotonic() - started < 120


CONVOLUTIONS = {
    "denodet": 29,
    "denodet-paper": 27,
    "detectspot": 6,
    "deepspot": 32,
    "denodet-local": 31,
    "unet": 19,
    "unet-disc": 20,
}
CONVOLUTIONS |= dict.fromkeys(("cells", "cells-simulated", "density"), 18)


@pytest.mark.parametrize("name", packaged_weights())
def test_what_the_parser_makes_of_packaged_weights(rtx, name):
    log = Log(rtx)
    builder = rtx.Builder(log.sink)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, log.sink)
    file = read_deploy_file(name)
    assert parser.parse(file.content)
    network.get_input(0).shape = (1, file.metadata.n_frames, 512, 512, 2)
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    assert [(tensor.name, tensor.dtype) for tensor in inputs] == [("frame", rtx.DataType.UINT8)]
    assert [(tensor.name, tuple(tensor.shape), tensor.dtype) for tensor in outputs] == [
        ("detections", (file.metadata.max_detections, len(file.metadata.columns)), rtx.DataType.FLOAT),
        ("denoised", (512, 512), rtx.DataType.FLOAT),
    ][: 1 if file.metadata.image is None else 2]
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    kinds = Counter(layer.type.name for layer in layers)
    assert kinds["CONVOLUTION"] == CONVOLUTIONS[name.removesuffix(".half")]
    assert not kinds.keys() & {"PLUGIN", "PLUGIN_V2", "PLUGIN_V3", "NON_ZERO", "NMS", "LOOP_OUTPUT", "CONDITION"}
    assert kinds["NORMALIZATION"] == (21 if name == "denodet-paper" else 0)  # batch norm is in the convolutions
    precisions = {layer.get_output(0).dtype for layer in layers if layer.type.name == "CONVOLUTION"}
    assert precisions == {rtx.DataType.HALF if file.metadata.precision == "float16" else rtx.DataType.FLOAT}


def test_a_file_for_one_size_builds_for_no_other(rtx, untrained):
    assert build_plan(rtx, untrained, SIZE, quiet, denoise=True)
    with pytest.raises(EngineError, match=r"untrained are for frames \(3, 64, 96, 2\) .*: export without --height"):
        build_plan(rtx, untrained, FrameSize(64, 96, 1), quiet, denoise=True)


def convolutions(graph):
    return {node.name for node in graph.node if node.op_type == "Conv"}


def test_without_the_denoised_frame_a_plan_has_no_convolution_that_only_this_needs(rtx, untrained):
    """Which ones are needed says `onnx`; a plan has the names of the layers that it is made of."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(untrained.content)
    wanted = {True: convolutions(model.graph)}
    wanted[False] = convolutions(onnx.utils.Extractor(model).extract_model(["frame"], ["detections"]).graph)
    assert (len(wanted[True]), len(wanted[False])) == (29, 20)
    plans = both_plans(rtx, untrained, SIZE)
    for denoise, plan in plans.items():
        assert {name for name in wanted[True] if re.search(rb"\b%b(?!\d)" % name.encode(), plan)} == wanted[denoise]
    assert len(plans[False]) < len(plans[True])


def test_a_plan_is_kept_and_refused_elsewhere(rtx, weights, tmp_path):
    plan = build_plan(rtx, weights, SIZE, quiet, denoise=False)
    library = f"tensorrt_rtx {rtx.__version__}"
    key = PlanKey(weights.sha256, (1, 3, 64, 96, 2), ("detections",), "", library, "any", "none", "any")
    cache = PlanCache(tmp_path)
    cache.store(key, plan)
    assert cache.load(key) == plan
    assert cache.load(replace(key, library="tensorrt_rtx 0.0")) is None


def test_a_plan_that_is_no_plan_is_refused_by_the_real_runtime(rtx, weights, bench):
    plans = both_plans(rtx, weights, SIZE)
    damaged = {denoise: plan[: len(plan) // 2] for denoise, plan in plans.items()}
    with pytest.raises(EngineError, match="TensorRT refuses the plan without the denoised frame"):
        TensorrtRunner(rtx, bench.cuda, damaged, weights, SIZE)
    assert not bench.cuda.streams


@pytest.mark.parametrize("denoise", [False, True], ids=["without", "with"])
def test_progress_rises_to_the_end(rtx, weights, monkeypatch, denoise):
    monkeypatch.setattr(tensorrt_build, "_REPORT_EVERY_S", 0.0)
    lines = []
    build_plan(rtx, weights, SIZE, lines.append, denoise=denoise)
    what = f"building the plan of denodet for 64 x 96 px {'with' if denoise else 'without'} the denoised frame: "
    assert all(line.startswith(what) for line in lines)
    percents = [int(line.rsplit(" ", 1)[1].rstrip("%")) for line in lines]
    assert percents == sorted(percents)
    assert percents[0] < 20
    assert 70 < percents[-1] <= 100


def test_ctrl_c_ends_a_build(rtx, weights, monkeypatch):
    monkeypatch.setattr(tensorrt_build, "_REPORT_EVERY_S", 0.0)
    said = []

    def interrupted(line):
        said.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(rtx, weights, SIZE, interrupted, denoise=True)
    assert len(said) < 5


def broken(weights, content):
    return replace(weights, name="broken", content=content)


def test_damaged_weights(rtx, weights):
    for content in (b"", b"no ONNX file", weights.content[:-1000]):
        with pytest.raises(EngineError, match=r"weights broken.*(damaged|export)") as caught:
            build_plan(rtx, broken(weights, content), SIZE, quiet, denoise=True)
        assert "\n" not in str(caught.value)


def onnx_file(input_type, k, shape=(1, 3, 64, 96, 2)):
    """A graph that casts its input and gives the k largest values."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    number = onnx.TensorProto
    nodes = [
        make.make_node("Cast", ["frame"], ["counts"], to=number.FLOAT),
        make.make_node("Flatten", ["counts"], ["row"], axis=0),
        make.make_node("TopK", ["row", "k"], ["detections", "places"], axis=1),
    ]
    inputs = [make.make_tensor_value_info("frame", getattr(number, input_type), shape)]
    outputs = [make.make_tensor_value_info("detections", number.FLOAT, (1, k))]
    graph = make.make_graph(nodes, "graph", inputs, outputs, [make.make_tensor("k", number.INT64, [1], [k])])
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=9).SerializeToString()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (("UINT16", 8), "an input of a type that TensorRT lacks.*'streamtrack export'"),
        (("UINT8", 4000), "more rows than TensorRT can sort: export it with --max-detections 3840 or less"),
        (("UINT8", 8, (64, 96)), "broken take no frames"),
        (("UINT8", 8, (1, 2, 64, 96, 2)), r"broken are for frames \(2, 64, 96, 2\)"),
    ],
)
def test_files_that_tensorrt_does_not_take_are_refused_with_the_cure(rtx, weights, content, words):
    with pytest.raises(EngineError, match=words) as caught:
        build_plan(rtx, broken(weights, onnx_file(*content)), SIZE, quiet, denoise=True)
    assert "\n" not in str(caught.value)


def test_the_most_rows_that_are_promised_build(rtx, weights):
    assert build_plan(rtx, broken(weights, onnx_file("UINT8", 3840)), SIZE, quiet, denoise=False)
