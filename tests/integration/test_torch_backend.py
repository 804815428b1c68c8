"""Deploy graphs in torch: the weights come back out of the file, and a runner sees frames as ONNX Runtime does.

All but the CUDA graph runs on the CPU, by the code that runs on a GPU.
"""

import hashlib
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from deploy_graphs import CALIBRATION, EXPORTED, K, graph_of, lively_network
from networks import denodet

from streamtrack.config import PluginConfig
from streamtrack.errors import EngineError
from streamtrack_engines.backends import torch_cuda, torch_graph
from streamtrack_engines.backends.metadata import METADATA_KEY, DeployMetadata
from streamtrack_engines.backends.proof import TOLERANCE, Difference, reference_movie
from streamtrack_engines.backends.runner import DeployFile, FrameSize
from streamtrack_engines.backends.torch_graph import EAGER, TorchRunner, open_proved
from streamtrack_engines.deploy import from_onnx
from streamtrack_engines.export import check_parity
from streamtrack_engines.weights import packaged_weights, read_weights

CPU = torch.device("cpu")
SIZE = FrameSize(64, 96, 2)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def deploy_file(content, name="weights"):
    properties = onnxruntime.InferenceSession(content).get_modelmeta().custom_metadata_map
    metadata = DeployMetadata.from_properties(properties, name)
    return DeployFile(name, content, hashlib.sha256(content).hexdigest(), metadata)


@pytest.fixture(scope="module")
def shipped():
    return deploy_file(read_weights("denodet"), "denodet")


@pytest.fixture(scope="module")
def runner(shipped):
    return TorchRunner(shipped, SIZE, CPU, EAGER)


# The weights


@pytest.mark.parametrize("name", EXPORTED)
def test_weights_come_back_out_of_the_file(name, exported):
    settings, _ = EXPORTED[name]
    wanted = graph_of(lively_network(**settings)).state_dict()
    again = from_onnx(exported(name).read_bytes())
    assert (again.calibration, again.max_detections, again.dtype) == (CALIBRATION, K, torch.float32)
    found = again.state_dict()
    assert wanted.keys() == found.keys()
    for key, weight in wanted.items():
        assert torch.equal(weight, found[key]), key


def test_what_is_read_back_computes_what_onnx_runtime_computes(shipped):
    for itemsize in (1, 2):
        movie = reference_movie(3, FrameSize(64, 96, itemsize))
        check_parity(shipped.content, from_onnx(shipped.content), movie, shipped.metadata.threshold)


def test_folded_norms_compute_the_same():
    torch.manual_seed(1)
    network = denodet().train()
    frames = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        for _ in range(5):
            network(frames * 2 + 1)  # gives the norms statistics
        wanted = network.eval()(frames)
        folded = network.folded()
        assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
        for one, other in zip(wanted, folded(frames), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())  # it was a copy


def changed(content, change):
    model = onnx.load_from_string(content)
    change(model)
    return model.SerializeToString()


def set_metadata(**values):
    def change(model):
        entry = next(each for each in model.metadata_props if each.key == METADATA_KEY)
        metadata = DeployMetadata.from_properties({entry.key: entry.value}, "the file")
        entry.value = metadata.model_copy(update=values).model_dump_json()

    return change


def network(kind="denodet", **settings):
    return {"network": PluginConfig(kind=kind, **settings)}


def drop_a_weight(model):
    (index,) = [i for i, each in enumerate(model.graph.initializer) if each.name == "network.context.0.bias"]
    del model.graph.initializer[index]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_a_weight, r"mine.onnx lacks network.context.0.bias, \(32,\): write it anew"),
        (set_metadata(head=None), "mine.onnx was not made by streamtrack, which cannot rebuild its network"),
        (set_metadata(**network("unett")), "mine.onnx has a network that is not here .*did you mean 'unet'"),
        (set_metadata(**network(depth=4)), "mine.onnx has a network that is not here .*unknown key 'depth'"),
        (set_metadata(calibration=(1.0,)), "mine.onnx has a calibration that its head does not take"),
        (set_metadata(**network(n_frames=5)), r"mine.onnx lacks network.encoder.0.convs.0.weight"),
        (lambda model: model.ClearField("metadata_props"), "mine.onnx has no streamtrack metadata"),
    ],
)
def test_a_file_without_all_weights_is_refused(change, message, shipped):
    with pytest.raises(EngineError, match=message):
        from_onnx(changed(shipped.content, change), "mine.onnx")


@pytest.mark.parametrize("content", [b"", b"no file", b"\xff" * 100])
def test_what_is_no_onnx_file_is_refused(content):
    with pytest.raises(EngineError, match=r"mine\.onnx"):
        from_onnx(content, "mine.onnx")


# The runner


def last_of(runner, movie, denoise=True):
    for frame in movie[:-1]:
        runner.current[:] = frame
        runner.run(denoise=False)
    runner.current[:] = movie[-1]
    return [None if each is None else each.copy() for each in runner.run(denoise=denoise)]


def reference(file, movie):
    raw = movie.view(np.uint8).reshape(1, *movie.shape, movie.itemsize)
    return onnxruntime.InferenceSession(file.content).run(["detections", "denoised"], {"frame": raw})


def particles(table):
    """Rows of y, x and score, by y: several have the same score, and come in any order."""
    rows = table[table[:, 2] > 0.1, :3]
    return rows[rows[:, 0].argsort()]


@pytest.mark.parametrize("n_seen", [1, 2, 3, 5])
def test_runner_sees_the_frames_before(n_seen, runner, shipped):
    """As many as the graph takes, zeros where there was none: what ONNX Runtime gives for the same frames."""
    movie = reference_movie(n_seen, SIZE)
    runner.clear()
    table, denoised = last_of(runner, movie)
    frames = np.zeros((3, *movie.shape[1:]), movie.dtype)
    frames[-n_seen:] = movie[-3:]
    wanted, wanted_denoised = reference(shipped, frames)
    assert len(particles(wanted)) > 5
    np.testing.assert_allclose(particles(table), particles(wanted), atol=1e-3)
    np.testing.assert_allclose(denoised, wanted_denoised, rtol=1e-3, atol=1e-3 * wanted_denoised.std())


def test_runner_forgets(runner):
    movie = reference_movie(3, SIZE)
    runner.clear()
    first = last_of(runner, movie[:1])
    seen = last_of(runner, movie[:1])
    assert not np.array_equal(first[0], seen[0])
    runner.clear()
    for one, other in zip(first, last_of(runner, movie[:1]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_table_is_the_same_without_the_denoised_frame(runner):
    movie = reference_movie(3, SIZE)
    runner.clear()
    with_it, _ = last_of(runner, movie)
    runner.clear()
    without, denoised = last_of(runner, movie, denoise=False)
    assert denoised is None
    np.testing.assert_array_equal(with_it, without)


def test_memory_stays_where_it_is(runner):
    """The addresses are part of a CUDA graph."""
    assert runner.current.dtype == np.uint16
    assert runner.current.shape == (64, 96)
    places = set()
    for _ in range(3):
        table, denoised = runner.run(denoise=True)
        places.add((runner.current.ctypes.data, table.ctypes.data, denoised.ctypes.data))
    assert len(places) == 1


def test_single_bytes(shipped):
    size = FrameSize(33, 47, 1)
    runner = open_proved(shipped, size, CPU, [EAGER])
    assert runner.current.dtype == np.uint8
    assert Difference(**runner.info["proof"]).within(TOLERANCE)


def test_half_precision_is_proved_as_well():
    """Of weights from a training: random ones would make half precision look worse than it is."""
    file = deploy_file(read_weights("denodet.half"), "denodet.half")
    runner = open_proved(file, FrameSize(64, 64, 2), CPU, [EAGER])
    assert runner.info["precision"] == "float16"
    assert 0 < runner.info["proof"]["position_px"] < 0.01


def test_closed_runner_says_so(shipped):
    runner = TorchRunner(shipped, SIZE, CPU, EAGER)
    runner.close()
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        runner.run(denoise=False)


def test_graph_compiles_as_a_whole(shipped):
    """Without a break, which would cost a trip to the host in each frame; the kernels need a compiler of C++."""
    graph = from_onnx(shipped.content)
    compiled = torch.compile(graph, fullgraph=True, dynamic=False, backend="aot_eager")
    movie = reference_movie(3, SIZE)
    raw = torch.from_numpy(movie.view(np.uint8).reshape(1, 3, 64, 96, 2))
    with torch.inference_mode():
        for one, other in zip(graph(raw), compiled(raw), strict=True):
            torch.testing.assert_close(one, other)


# When something is wrong


def test_a_mode_that_fails_is_passed_over(shipped):
    runner = open_proved(shipped, SIZE, CPU, ["no such mode", EAGER])
    assert runner.info["mode"] == EAGER
    assert "no such mode" in runner.info["modes_passed_over"]["no such mode"]


def test_a_mode_that_computes_something_else_is_passed_over(shipped, monkeypatch):
    def miscompiled(function, **_):
        return lambda frames: function(frames.flip(2))

    monkeypatch.setattr(torch, "compile", miscompiled)
    runner = open_proved(shipped, SIZE, CPU, ["default", EAGER])
    assert runner.info["mode"] == EAGER
    assert "differ from ONNX Runtime" in runner.info["modes_passed_over"]["default"]


def test_no_mode_is_left(shipped, monkeypatch):
    def out_of_memory(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")

    monkeypatch.setattr(torch_graph, "FrameMemory", out_of_memory)
    with pytest.raises(EngineError, match="the memory of the GPU is full: close other programs"):
        open_proved(shipped, SIZE, CPU, [EAGER])


@pytest.mark.parametrize(
    ("missing", "message"),
    [({"onnx"}, "^onnx not installed: pip install"), ({"torch", "onnx"}, "^torch and onnx not installed")],
)
def test_missing_packages_are_named(missing, message, monkeypatch):
    monkeypatch.setattr(torch_cuda, "find_spec", lambda name: None if name in missing else object())
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(torch_cuda.reason_against())


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built with CUDA")
def test_torch_without_cuda_is_named(monkeypatch):
    monkeypatch.setattr(torch_cuda, "_has_driver", lambda: True)
    assert "is built without CUDA" in torch_cuda.reason_against()


@pytest.mark.skipif(torch_cuda._has_driver(), reason="there is a driver of NVIDIA here")
def test_without_a_driver_torch_is_not_even_imported():
    code = (
        "import sys; from streamtrack_engines.backends import torch_cuda; print(torch_cuda.reason_against());"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "there is no NVIDIA driver on this machine\n"), done.stderr


# On a GPU


@pytest.fixture(scope="module")
def gpu():
    if reason := torch_cuda.reason_against():
        pytest.fail(f"-m gpu was asked for, but: {reason}")
    return torch.device("cuda", 0)


@pytest.mark.gpu
@pytest.mark.timeout(600)
@pytest.mark.parametrize("weights", packaged_weights())
@pytest.mark.parametrize("mode", [EAGER, torch_graph.MAX_AUTOTUNE])
def test_cuda_graph_is_proved(gpu, weights, mode):
    file = deploy_file(read_weights(weights), weights)
    runner = open_proved(file, FrameSize(256, 256, 2), gpu, [mode])
    assert runner.info["mode"] == mode
    movie = reference_movie(5, FrameSize(256, 256, 2))
    first = last_of(runner, movie)
    runner.clear()
    for one, other in zip(first, last_of(runner, movie), strict=True):
        np.testing.assert_array_equal(one, other)
    runner.close()


@pytest.mark.gpu
def test_a_gpu_runner_of_its_own_thread(gpu, shipped):
    """Opened in one thread, run in another, as the loop does; and beside someone who allocates."""
    from concurrent.futures import ThreadPoolExecutor

    runner = open_proved(shipped, SIZE, gpu, [EAGER])
    movie = reference_movie(3, SIZE)
    with ThreadPoolExecutor(1) as other:
        table = other.submit(last_of, runner, movie).result(timeout=60)[0]
    wanted, _ = reference(shipped, movie)
    np.testing.assert_allclose(particles(table), particles(wanted), atol=1e-3)
    runner.close()
