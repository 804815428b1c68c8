"""The runner's state machine, on a made-up GPU."""

import gc

import numpy as np
import onnxruntime
import pytest

from streamtrack.errors import EngineError
from streamtrack_engines.backends.cuda_graph import GpuMemoryError
from streamtrack_engines.backends.proof import prove, reference_movie
from streamtrack_engines.backends.tensorrt_build import build_plan
from streamtrack_engines.backends.tensorrt_runner import TensorrtRunner

from .fake_cuda import Status

UP, DOWN, MOVE = "cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost", "cudaMemcpyDeviceToDevice"
CALLS = {
    False: [UP, "execute_async_v3: detections", DOWN, MOVE, MOVE],
    True: [UP, "execute_async_v3: detections denoised", DOWN, DOWN, MOVE, MOVE],
}
"""For one frame of three at a time, without and with the denoised one."""
LAUNCH = ["cudaGraphLaunch", "cudaStreamSynchronize"]

both_plans = pytest.mark.parametrize("denoise", [False, True], ids=["without", "with"])


def plans_of(bench):
    plans = {}
    for denoise in (False, True):
        plans[denoise] = build_plan(bench.trt, bench.file, bench.size, bench.said.append, denoise=denoise)
    return plans


def started(bench, plans):
    return TensorrtRunner(bench.trt, bench.cuda, plans, bench.file, bench.size)


def opened(bench):
    return started(bench, plans_of(bench))


def calls_of_a_frame(bench, runner, denoise):
    bench.cuda.calls.clear()
    runner.run(denoise=denoise)
    return bench.cuda.calls


def reference(bench, frames):
    """What ONNX Runtime finds in the last of some frames; those before the first are not known."""
    known = np.zeros((3, *frames.shape[1:]), frames.dtype)
    known[-min(len(frames), 3) :] = frames[-3:]
    raw = known.view(np.uint8).reshape(1, *known.shape, known.itemsize)
    return onnxruntime.InferenceSession(bench.file.content).run(["detections", "denoised"], {"frame": raw})


def show(runner, frames, denoise=True):
    for frame in frames:
        runner.current[:] = frame
        table, denoised = runner.run(denoise=denoise)
    return table.copy(), None if denoised is None else denoised.copy()


def test_a_frame_is_one_launch_and_one_wait(bench):
    runner = opened(bench)
    for denoise in (False, True):
        assert calls_of_a_frame(bench, runner, denoise) == LAUNCH
    assert runner.info["cuda_graph"] == "yes"


def test_capture_comes_after_runs_of_both_plans_and_holds_all_of_a_frame(bench):
    opened(bench)
    calls = bench.cuda.calls
    begun = [i for i, name in enumerate(calls) if name == "cudaStreamBeginCapture"]
    ended = [i for i, name in enumerate(calls) if name == "cudaStreamEndCapture"]
    captured = [calls[a + 1 : b] for a, b in zip(begun, ended, strict=True)]
    assert captured == [CALLS[False], CALLS[True]]
    assert [calls[: begun[0]].count(CALLS[denoise][1]) for denoise in (False, True)] == [2, 2]
    assert calls[begun[0] - 1] == "cudaStreamSynchronize"


@pytest.mark.parametrize("refuses_capture", [False, True])
def test_results_are_those_of_onnxruntime_on_the_last_three_frames(bench, refuses_capture):
    if refuses_capture:
        bench.cuda.failing["cudaStreamEndCapture"] = Status.cudaErrorStreamCaptureInvalidated
    runner = opened(bench)
    movie = reference_movie(6, bench.size)
    for n in range(1, 7):
        found = show(runner, movie[n - 1 : n])
        for one, other in zip(found, reference(bench, movie[:n]), strict=True):
            np.testing.assert_array_equal(one, other)
    assert found[0][:, 2].max() > 0.4  # there was something to find
    assert runner.info["cuda_graph"].startswith("no, " if refuses_capture else "yes")


@pytest.mark.parametrize("asked", [(True, False, False, True, True), (False, True, True, False, False)])
def test_both_plans_see_the_same_frames_before(bench, asked):
    runner = opened(bench)
    movie = reference_movie(5, bench.size)
    for n, denoise in enumerate(asked, 1):
        table, denoised = show(runner, movie[n - 1 : n], denoise)
        right_table, right_denoised = reference(bench, movie[:n])
        np.testing.assert_array_equal(table, right_table)
        np.testing.assert_array_equal(denoised, right_denoised if denoise else None)


@pytest.mark.parametrize("workspace", [(100, 200), (5000, 7000), (7000, 5000)])
def test_plans_share_one_scratch_block_as_large_as_the_larger(bench, workspace):
    bench.trt.workspace = dict(enumerate(workspace, 1))
    free = bench.cuda.free_bytes
    runner = opened(bench)
    frames, table, denoised = 3 * 48 * 64 * 2, bench.file.metadata.max_detections * 5 * 4, 48 * 64 * 4
    assert sorted(map(len, bench.cuda.device.values())) == sorted([max(256, *workspace), frames, table, denoised])
    assert runner.info["device_memory_bytes"] == free - bench.cuda.free_bytes
    prove(runner, bench.file, bench.size)


def test_clear_forgets_the_frames_before(bench):
    runner = opened(bench)
    movie = reference_movie(3, bench.size)
    show(runner, movie)
    runner.clear()
    np.testing.assert_array_equal(show(runner, movie[2:])[0], reference(bench, movie[2:])[0])


def test_the_warm_up_leaves_no_frame_behind(bench):
    runner = opened(bench)
    frame = reference_movie(1, bench.size)
    np.testing.assert_array_equal(show(runner, frame)[1], reference(bench, frame)[1])


def test_denoised_frame_stays_on_the_device_unless_asked_for(bench):
    runner = opened(bench)
    movie = reference_movie(2, bench.size)
    _, denoised = runner.run(denoise=True)
    before = denoised.copy()
    runner.current[:] = movie[0]
    assert runner.run(denoise=False)[1] is None
    np.testing.assert_array_equal(denoised, before)


def test_current_is_always_the_same_memory(bench):
    runner = opened(bench)
    current = runner.current
    address = current.ctypes.data
    show(runner, reference_movie(2, bench.size))
    assert runner.current is current
    assert current.ctypes.data == address
    assert (current.shape, current.dtype) == ((48, 64), np.uint16)


@pytest.mark.parametrize("n", range(4))
def test_an_enqueue_refused_in_the_warm_up_is_an_error_and_releases_the_gpu(bench, n):
    bench.trt.refuse_run = lambda i: i == n
    with pytest.raises(EngineError, match=f"refuses to run the plan {('without', 'with')[n % 2]} the denoised frame"):
        opened(bench)
    assert (bench.cuda.device, bench.cuda.streams) == ({}, set())


@both_plans
def test_an_enqueue_refused_in_one_capture_ends_that_and_its_frames_run_without_a_graph(bench, denoise):
    """A graph of it would replay the results of another frame for ever."""
    bench.trt.refuse_run = lambda i: i == 4 + denoise  # the captures come after four runs
    runner = opened(bench)
    plan = f"{'with' if denoise else 'without'} the denoised frame"
    assert runner.info["cuda_graph"].startswith(f"no, {plan}: TensorRT refuses to run the plan {plan}")
    assert bench.cuda.calls.count("cudaStreamBeginCapture") == bench.cuda.calls.count("cudaStreamEndCapture") == 2
    prove(runner, bench.file, bench.size)
    assert calls_of_a_frame(bench, runner, denoise) == [*CALLS[denoise], "cudaStreamSynchronize"]
    assert calls_of_a_frame(bench, runner, not denoise) == LAUNCH


@both_plans
def test_an_enqueue_refused_later_counts_the_frame_as_not_seen(bench, denoise):
    bench.cuda.failing["cudaStreamBeginCapture"] = Status.cudaErrorStreamCaptureUnsupported
    runner = opened(bench)
    movie = reference_movie(3, bench.size)
    show(runner, movie[:1])
    bench.trt.refuse_run = lambda i: True
    with pytest.raises(EngineError, match="refuses to run"):
        show(runner, movie[1:2], denoise)
    bench.trt.refuse_run = lambda i: False
    np.testing.assert_array_equal(show(runner, movie[2:])[0], reference(bench, movie[[0, 2]])[0])


@pytest.mark.parametrize("call", ["cudaGraphInstantiate", "cudaGraphUpload", "cudaStreamEndCapture"])
def test_whatever_refuses_the_graph_frames_run_without(bench, call):
    bench.cuda.failing[call] = Status.cudaErrorInvalidValue
    runner = opened(bench)
    assert runner.info["cuda_graph"].count("the GPU reports cudaErrorInvalidValue") == 2
    prove(runner, bench.file, bench.size)


@pytest.mark.parametrize("call", ["cudaGraphLaunch", "cudaStreamSynchronize"])
def test_an_error_of_the_gpu_is_one_line_with_the_cure(bench, call):
    runner = opened(bench)
    bench.cuda.failing[call] = Status.cudaErrorIllegalAddress
    with pytest.raises(EngineError, match=r"^the GPU reports cudaErrorIllegalAddress .*: start again.*$"):
        runner.run(denoise=True)


def test_full_memory_is_said_and_nothing_is_kept(bench):
    bench.cuda.free_bytes = 20_000
    with pytest.raises(GpuMemoryError, match="memory of the GPU is full: close other programs"):
        opened(bench)
    assert bench.cuda.free_bytes == 20_000
    assert not bench.cuda.streams


@both_plans
def test_a_plan_of_another_version_is_refused(bench, denoise):
    stale = plans_of(bench)[denoise]
    bench.update_tensorrt("11.5.0.1")
    plan = f"{'with' if denoise else 'without'} the denoised frame"
    with pytest.raises(EngineError, match=rf"refuses the plan {plan} \(version 11.4.0.106 expected 11.5.0.1\)"):
        started(bench, plans_of(bench) | {denoise: stale})
    assert not bench.cuda.streams


@both_plans
def test_a_plan_for_another_size_is_refused(bench, denoise):
    other = plans_of(bench)[denoise]
    bench.size = type(bench.size)(64, 48, 2)
    with pytest.raises(EngineError, match="of another graph"):
        started(bench, plans_of(bench) | {denoise: other})


@both_plans
def test_a_plan_in_the_place_of_the_other_is_refused(bench, denoise):
    plans = plans_of(bench)
    with pytest.raises(EngineError, match="of another graph"):
        started(bench, plans | {denoise: plans[not denoise]})


def test_no_context_is_an_error(bench):
    bench.trt.refuse_contexts = True
    with pytest.raises(EngineError, match=r"no execution context .*: take another engine back end"):
        opened(bench)


def test_close_releases_what_runs_before_what_it_runs_in(bench):
    runner = opened(bench)
    bench.cuda.calls.clear()
    runner.close()
    order = list(dict.fromkeys(bench.cuda.calls))
    assert order == ["cudaStreamSynchronize", "cudaGraphExecDestroy", "~context", "cudaFree", "cudaStreamDestroy"]


def test_close_releases_everything_once(bench):
    free = bench.cuda.free_bytes
    runner = opened(bench)
    current = runner.current
    runner.close()
    runner.close()
    assert (bench.cuda.device, bench.cuda.graphs, bench.cuda.streams) == ({}, set(), set())
    assert bench.cuda.free_bytes == free
    current[:] = 7  # whoever still has it may write there
    with pytest.raises(EngineError, match="closed"):
        runner.run(denoise=False)
    with pytest.raises(EngineError, match="closed"):
        runner.clear()
    del runner, current
    gc.collect()
    assert not bench.cuda.host
