"""What the back ends on the CPU owe to the engine, each with the shipped weights."""

import importlib
import json

import numpy as np
import onnx
import pytest

from streamtrack.errors import EngineError
from streamtrack.testing.engines import example_movie
from streamtrack_engines.backends import cpu
from streamtrack_engines.backends import onnxruntime as ort_backend
from streamtrack_engines.backends.deploy_file import read_deploy_file, without_denoised
from streamtrack_engines.backends.runner import FrameSize
from streamtrack_engines.backends.selection import get_backend

SIZE = FrameSize(64, 96, 2)
SCORE, SURE = 2, 0.3


@pytest.fixture(scope="module")
def file():
    return read_deploy_file("denodet")


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def backend(request):
    pytest.importorskip(request.param)
    return get_backend(request.param)


@pytest.fixture(scope="module")
def runner(backend, file):
    """An open one, which has seen what other tests showed it."""
    runner = backend.open_runner(file, SIZE, 1)
    yield runner
    runner.close()


def run_movie(runner, frames, *, denoise=True):
    """Tables and denoised frames of a movie, from the start."""
    runner.clear()
    results = []
    for frame in frames:
        runner.current[:] = frame
        table, image = runner.run(denoise=denoise)
        results.append((table.copy(), None if image is None else image.copy()))
    return results


def test_a_file_without_the_denoised_frame_lacks_its_decoder_only(file):
    whole, part = (onnx.load_from_string(content) for content in (file.content, without_denoised(file.content)))

    assert [output.name for output in part.graph.output] == ["detections"]
    assert part.graph.input == whole.graph.input
    assert [sum(node.op_type == "Conv" for node in each.graph.node) for each in (whole, part)] == [29, 20]


def test_can_run_here(backend):
    assert backend.reason_against() is None


def test_info_is_json(runner, backend):
    info = json.loads(json.dumps(dict(runner.info), allow_nan=False))
    assert info[backend.NAME] == importlib.import_module(backend.NAME).__version__
    assert info["threads"] == 1
    assert info["precision"] == "float32"


def assert_same_bits(results):
    for (table, image), (again, image_again) in zip(*results, strict=True):
        np.testing.assert_array_equal(table, again)
        np.testing.assert_array_equal(image, image_again)


def test_a_cleared_runner_has_seen_no_frame(runner):
    assert_same_bits([run_movie(runner, example_movie()) for _ in range(2)])


def test_the_next_frame_is_always_written_to_the_same_memory(runner):
    address = runner.current.ctypes.data
    run_movie(runner, example_movie())
    assert runner.current.ctypes.data == address
    assert runner.current.shape == (64, 96)
    assert runner.current.dtype == np.uint16


def test_denoising_changes_no_bit_of_the_table(runner):
    with_image, without = (run_movie(runner, example_movie(), denoise=denoise) for denoise in (True, False))
    for (table, image), (alone, nothing) in zip(with_image, without, strict=True):
        np.testing.assert_array_equal(table, alone)
        assert image is not None
        assert nothing is None


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_frames_give_the_same_bits_in_another_runner(backend, file, threads):
    """As in another run of the same movie."""
    results = []
    for _ in range(2):
        runner = backend.open_runner(file, SIZE, threads)
        assert not runner.current.any()  # as if no frame had been seen
        results.append(run_movie(runner, example_movie()))
        runner.close()
        runner.close()
        with pytest.raises(EngineError, match="closed"):
            runner.run(denoise=False)
    assert_same_bits(results)


@pytest.mark.parametrize(("shape", "itemsize"), [((64, 96), 1), ((97, 133), 2)])
def test_agrees_with_onnx_runtime_as_it_comes(backend, file, shape, itemsize):
    """Positions to 0.01 px, scores to 0.001; equal ranks may change places."""
    rng = np.random.default_rng(3)
    spots = rng.uniform(4, np.array(shape) - 4, (25, 2))
    y, x = np.indices(shape)
    signal = sum(70 * np.exp(-((y - spot[0]) ** 2 + (x - spot[1]) ** 2) / 2.9) for spot in spots)
    frames = rng.poisson(20 + signal, (3, *shape)).clip(0, 255).astype(f"u{itemsize}") * (1 if itemsize == 1 else 200)
    frames = frames.astype(f"u{itemsize}")
    runner = backend.open_runner(file, FrameSize(*shape, itemsize), None)
    table, image = run_movie(runner, frames)[-1]
    session = ort_backend.ort.InferenceSession(file.content, providers=["CPUExecutionProvider"])
    raw = frames.view(np.uint8).reshape(1, *frames.shape, itemsize)
    wanted, wanted_image = session.run(None, {"frame": raw})
    assert_same_particles(table, wanted)
    np.testing.assert_allclose(image, wanted_image, atol=1e-3 * float(wanted_image.std()))


def assert_same_particles(table, wanted):
    sure, wanted_sure = (rows[rows[:, SCORE] > SURE] for rows in (table, wanted))
    assert len(sure) == len(wanted_sure) > 15
    distance = np.linalg.norm(sure[:, None, :2] - wanted_sure[:, :2], axis=2)
    partner = distance.argmin(1)
    assert sorted(partner) == list(range(len(sure)))
    assert distance.min(1).max() < 0.01
    np.testing.assert_allclose(sure[:, SCORE], wanted_sure[partner, SCORE], atol=1e-3)
    np.testing.assert_allclose(sure[:, 3], wanted_sure[partner, 3], rtol=1e-3)
    np.testing.assert_allclose(sure[:, 4], wanted_sure[partner, 4], rtol=1e-2)


def test_a_run_that_failed_leaves_no_trace(file, monkeypatch):
    """ONNX Runtime gives up with the frame already written."""
    runner = ort_backend.open_runner(file, SIZE, 1)
    movie = example_movie()
    wanted = run_movie(runner, [movie[0], movie[2]])[-1][0]
    run_movie(runner, movie[:1])
    with monkeypatch.context() as patch:
        patch.setattr(ort_backend, "DETECTIONS", "no such output")
        runner.current[:] = movie[1]
        with pytest.raises(EngineError, match=r"ONNX Runtime failed: .*no such output") as caught:
            runner.run(denoise=False)
    assert len(str(caught.value).splitlines()) == 1
    runner.current[:] = movie[2]
    np.testing.assert_array_equal(runner.run(denoise=False)[0], wanted)


@pytest.mark.parametrize(("logical", "threads"), [(1, 1), (2, 2), (4, 4), (6, 4), (8, 4), (16, 8)])
def test_default_threads(logical, threads, monkeypatch):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda pid: range(logical), raising=False)
    assert cpu.default_threads() == threads
