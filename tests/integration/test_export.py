"""The ONNX file made of a deploy graph, and ``streamtrack export``: an export takes seconds."""

import os
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from deploy_graphs import (
    CALIBRATION,
    FIXED,
    SETTINGS,
    K,
    graph_of,
    lively_network,
    metadata_of,
    movie,
    run_torch,
    still,
)
from networks import compact, denodet, local_denodet, untrained

from streamtrack.errors import ConfigError, EngineError, SinkError
from streamtrack_engines import export as module
from streamtrack_engines.backends.metadata import DeployMetadata
from streamtrack_engines.deploy import DeployGraph, from_onnx
from streamtrack_engines.export import (
    ExportSettings,
    check_parity,
    describe,
    export,
    export_command,
    to_onnx,
)
from streamtrack_engines.heads.disc import Disc
from streamtrack_engines.heads.presence import Presence
from streamtrack_engines.networks.denodet import Denodet
from streamtrack_engines.onnx_model import store_in_half
from streamtrack_engines.training.checkpoint import new_state, save_checkpoint
from streamtrack_engines.training.recipe import Recipe
from streamtrack_engines.training_data.crops import Crops

pytestmark = pytest.mark.usefixtures("one_torch_thread", "no_pairs")


@pytest.fixture(scope="module")
def lively():
    return graph_of(lively_network())


@pytest.fixture(scope="module")
def content(exported):
    return exported("any").read_bytes()


@pytest.fixture(scope="module")
def fixed_content(exported):
    return exported("fixed").read_bytes()


# The file


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (64, 64), (133, 162), (512, 512)])
def test_onnxruntime_equals_torch(shape, dtype, lively, content):
    """One file for any size and both types."""
    frames = np.random.default_rng(0).poisson(40 if dtype == "uint8" else 4000, (3, *shape)).astype(dtype)
    for each in (frames, still(frames[0])):
        assert run_torch(lively, each)[0][:, 2].max() > 0.4  # something is compared
        check_parity(content, lively, each, threshold=0.4)


def test_fixed_file_equals_torch(lively, fixed_content):
    check_parity(fixed_content, lively, movie(dtype="uint16"), threshold=0.4)


def test_a_network_of_one_frame_and_the_papers_norm(exported):
    content = exported("single").read_bytes()
    network = lively_network(n_frames=1, norm="instance")
    assert onnxruntime.InferenceSession(content).get_inputs()[0].shape == [1, 1, 64, 96, 2]
    check_parity(content, graph_of(network), movie(dtype="uint16")[:1], threshold=0.4)


def test_parity_check_sees_another_network(content):
    with pytest.raises(EngineError, match="disagree"):
        check_parity(content, graph_of(lively_network(seed=1)), movie(), threshold=0.4)


def test_parity_check_sees_what_is_not_a_number(content):
    network = lively_network()
    with torch.no_grad():
        network.denoised_head.bias.fill_(torch.nan)
    with pytest.raises(EngineError, match="images of"):
        check_parity(content, graph_of(network), movie(), threshold=0.4)


def test_file_is_single_and_names_its_sizes(content):
    session = onnxruntime.InferenceSession(content)
    (frame,) = session.get_inputs()
    detections, denoised = session.get_outputs()
    assert (frame.name, frame.type, frame.shape) == ("frame", "tensor(uint8)", [1, 3, "height", "width", "bytes"])
    assert (detections.name, detections.shape) == ("detections", ["rows", 5])
    assert (denoised.name, denoised.shape) == ("denoised", ["height", "width"])
    assert not any(tensor.external_data for tensor in onnx.load_from_string(content).graph.initializer)
    assert len(content) < 2 * sum(p.numel() * 4 for p in denodet().parameters())


def test_weights_in_half_precision_are_the_rounded_ones_and_compute_in_float32(content, lively):
    model = onnx.load_from_string(content)
    store_in_half(model)
    onnx.checker.check_model(model, full_check=True)
    halved = model.SerializeToString()
    assert len(halved) < 0.65 * len(content)
    weights = {name: weight for name, weight in from_onnx(halved).state_dict().items() if weight.numel() >= 1000}
    for name, weight in weights.items():
        assert torch.equal(weight, lively.state_dict()[name].half().float()), name
    rounded = graph_of(lively_network())
    rounded.network.load_state_dict(rounded.network.state_dict() | {n.split(".", 1)[1]: w for n, w in weights.items()})
    check_parity(halved, rounded, movie(), threshold=0.4)


def test_file_tells_nothing_of_the_machine(content):
    for part in (str(Path(module.__file__).parent), os.sep + "site-packages", "stack_trace", ".py"):
        assert part.encode() not in content


def test_metadata_come_back(content):
    properties = onnxruntime.InferenceSession(content).get_modelmeta().custom_metadata_map
    metadata = DeployMetadata.from_properties(properties, "file")
    assert metadata == metadata_of()
    assert [column.name for column in metadata.columns] == ["y", "x", "score", "intensity", "sigma"]
    assert (metadata.network.kind, metadata.head.kind, metadata.image) == ("denodet", "presence", "denoised")
    assert metadata.n_frames == 3
    assert metadata.recipe["steps"] == 1
    assert metadata.training_data["kind"] == "crops"


def test_fixed_file_has_what_tensorrt_takes(fixed_content):
    """Measured with TensorRT-RTX 1.7's parser: no shape that depends on data, uint8 goes straight into a Cast."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(fixed_content)).graph
    ops = Counter(node.op_type for node in graph.node)
    refused = {"NonZero", "NonMaxSuppression", "Unique", "BitShift", "BitwiseAnd", "Loop", "If", "Shape"}
    assert not refused & ops.keys()
    assert not any("Scatter" in op for op in ops)
    assert not any("Normalization" in op for op in ops)  # folded into the convolutions
    assert ops["Conv"] == 29
    assert {node.op_type for node in graph.node if "frame" in node.input} == {"Cast"}
    for value in (*graph.value_info, *graph.input, *graph.output):
        assert all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim), value.name


# The command


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "checkpoint.pt"
    recipe = Recipe(steps=7)
    state = new_state(recipe, torch.device("cpu"))
    state.step, state.calibration = 7, CALIBRATION
    with torch.no_grad():
        for parameter in state.average.parameters():
            parameter *= 1.1  # unlike the network in training
            parameter += 1e-3 * torch.randn_like(parameter)  # the exporter keeps one of weights that are the same
    save_checkpoint(state, recipe, path)
    return path


def test_export_writes_the_averaged_network(checkpoint, tmp_path, capsys):
    out = tmp_path / "spots.onnx"
    height, width, dtype = FIXED  # takes a quarter of the time
    export_command(checkpoint, out, 0.3, 64, height, width, dtype)
    assert list(tmp_path.iterdir()) == [out]
    assert "7 steps" in capsys.readouterr().out
    trained = module.read_checkpoint(checkpoint)
    average = trained.network
    assert trained.calibration == CALIBRATION
    graph = DeployGraph(average, Presence(), calibration=CALIBRATION, max_detections=64)
    check_parity(out.read_bytes(), graph, movie(dtype=dtype), threshold=0.01)
    metadata = DeployMetadata.from_properties(
        onnxruntime.InferenceSession(out).get_modelmeta().custom_metadata_map, out.name
    )
    assert (metadata.threshold, metadata.max_detections, metadata.training_steps) == (0.3, 64, 7)
    assert metadata.recipe["steps"] == 7
    assert metadata.training_data["snr"] == [0.8, 12.0]


def test_export_in_half_precision(checkpoint, tmp_path, lively):
    out = tmp_path / "spots.half.onnx"
    height, width, dtype = FIXED
    export_command(checkpoint, out, 0.3, K, height, width, dtype, half=True)
    model = onnx.load(out)
    metadata = DeployMetadata.from_properties({each.key: each.value for each in model.metadata_props}, out.name)
    assert metadata.precision == "float16"
    weights = [each for each in model.graph.initializer if each.name.startswith("network.")]
    assert {each.data_type for each in weights} == {onnx.TensorProto.FLOAT16}
    network = module.read_checkpoint(checkpoint).network
    halved = DeployGraph(network, Presence(), precision="float16").state_dict()
    for name, weight in from_onnx(out.read_bytes()).state_dict().items():
        assert torch.equal(weight, halved[name]), name
    average = graph_of(network)
    check_parity(out.read_bytes(), average, movie(dtype=dtype), threshold=0.3, precision="float16")
    with pytest.raises(EngineError, match="disagree"):  # half precision does not excuse another network
        check_parity(out.read_bytes(), lively, movie(dtype=dtype), threshold=0.3, precision="float16")


def test_a_wrong_file_is_not_written(checkpoint, content, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "to_onnx", lambda *args, **options: content)  # as an exporter with a bug would
    with pytest.raises(EngineError, match="disagree"):
        export(checkpoint, tmp_path / "spots.onnx", SETTINGS)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(checkpoint, content, tmp_path, monkeypatch):
    for out, message in ((tmp_path / "spots", "must end in .onnx"), (tmp_path / "no" / "spots.onnx", "does not exist")):
        with pytest.raises(ConfigError, match=re.escape(message)):
            export(checkpoint, out, SETTINGS)
    (tmp_path / "folder.onnx").mkdir()
    monkeypatch.setattr(module, "to_onnx", lambda *args, **options: content)  # spares the time of an export
    monkeypatch.setattr(module, "check_parity", lambda *args: None)
    with pytest.raises(SinkError, match="cannot write"):
        export(checkpoint, tmp_path / "folder.onnx", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.onnx"]


def test_a_file_that_is_there_stays_unless_told(checkpoint, content, tmp_path, monkeypatch):
    out = tmp_path / "spots.onnx"
    out.write_bytes(b"of last week")
    with pytest.raises(ConfigError, match="is there already; name another one with --out, or add --overwrite"):
        export_command(checkpoint, out)
    assert out.read_bytes() == b"of last week"
    with pytest.raises(ConfigError, match="is what the command reads"):
        export_command(checkpoint, checkpoint, overwrite=True)
    monkeypatch.setattr(module, "to_onnx", lambda *args, **options: content)  # spares the time of an export
    monkeypatch.setattr(module, "check_parity", lambda *args: None)
    export_command(checkpoint, out, overwrite=True)
    assert out.read_bytes() == content
    assert list(tmp_path.iterdir()) == [out]


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil-was-here",))


def torch_file(content):
    def write(path):
        torch.save(content, path)

    return write


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04 no zip"),
        lambda path: path.write_bytes(pickle.dumps(Evil())),
        torch_file({"average": denodet().state_dict()}),
        torch_file({"average": {}, "recipe": '{"network": {}}', "step": 1}),
        torch_file({"average": denodet().state_dict(), "recipe": "{}", "step": 1}),
        torch_file([1, 2]),
        torch_file(Evil()),
    ],
    ids=["empty", "damaged", "pickle", "no recipe", "other network", "older recipe", "other content", "code"],
)
def test_what_is_no_checkpoint_is_refused(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "checkpoint.pt")
    with pytest.raises(EngineError, match="not a checkpoint that 'streamtrack train'"):
        export_command(tmp_path / "checkpoint.pt", tmp_path / "out.onnx")
    assert not (tmp_path / "evil-was-here").exists()
    assert not (tmp_path / "out.onnx").exists()


def test_missing_checkpoint(tmp_path):
    with pytest.raises(EngineError, match=r"checkpoint .*none\.pt: No such file"):
        export_command(tmp_path / "none.pt", tmp_path / "out.onnx")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 31, "width": 64, "dtype": "uint8"}, "31 x 64 px is too small"),
        ({"height": 64, "width": 64, "dtype": "float32"}, "'float32' must be uint8 or uint16"),
        ({"height": 64}, "--height, --width and --dtype"),
        ({"max_detections": 4000}, "4000 must be 1 to 3840"),
        ({"max_detections": 0}, "0 must be 1 to 3840"),
        ({"threshold": 0.0}, "threshold 0 must be above 0"),
    ],
)
def test_impossible_settings(settings, message, checkpoint, tmp_path):
    with pytest.raises(ConfigError, match=message):
        export_command(checkpoint, tmp_path / "out.onnx", **settings)


def test_command_line_prints_one_line(tmp_path, cli):
    code, _, errors = cli("export", "none.pt", "--out", tmp_path / "out.onnx")
    assert code == 2
    assert errors == "streamtrack: cannot read the checkpoint none.pt: No such file or directory\n"


@pytest.mark.parametrize(("kind", "make"), [("compact", compact), ("denodet-local", local_denodet)])
def test_a_network_with_a_scale_of_each_place_is_the_same_in_torch_and_onnx(kind, make):
    torch.manual_seed(0)
    network = make()
    frames = torch.from_numpy(np.random.default_rng(0).poisson(20.0, (2, 3, 64, 64)).astype(np.float32))
    with torch.no_grad():
        network.train()(network.see(frames))
    graph = DeployGraph(network.eval(), Presence())
    metadata = describe(untrained(network, kind=kind), ExportSettings())
    content = to_onnx(graph, metadata, (61, 83, "uint16"))
    movie = np.random.default_rng(1).poisson(20.0, (3, 61, 83)).astype(np.uint16)
    check_parity(content, graph, movie, 0.02)
    check_parity(content, from_onnx(content), movie, 0.02)


def test_a_head_of_discs_is_in_the_graph_and_calibrates():
    torch.manual_seed(0)
    head = Disc()
    network = Denodet(n_frames=1, head_bias=head.bias)
    with torch.no_grad():
        network.found_head.weight *= 30
    crops = Crops(camera_fraction=0.0)
    calibration = head.calibrate(network.eval(), crops, n_frames=3, size_px=64)
    assert len(calibration) == 4
    assert np.isfinite(calibration).all()
    graph = DeployGraph(network, head, max_detections=64)
    metadata = describe(untrained(network, n_frames=1), ExportSettings(0.3, 64))
    frames = np.random.default_rng(0).poisson(40, (1, 61, 75)).astype(np.uint8)
    check_parity(to_onnx(graph, metadata, (61, 75, "uint8")), graph, frames, threshold=0.3)
