"""From weights to a proved runner: kept plans, proofs, and why a back end cannot run. On a made-up GPU."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from streamtrack.errors import EngineError
from streamtrack_engines.backends.cuda_graph import GpuMemoryError
from streamtrack_engines.backends.runner import FrameSize
from streamtrack_engines.backends.tensorrt import (
    TENSORRT,
    TENSORRT_RTX,
    TensorrtBackend,
    open_proved,
    reason_against_driver,
)

from .fake_cuda import Status


def open_on(bench):
    return open_proved(bench.libraries, bench.file, bench.size, bench.cache, bench.said.append)


def plans(bench):
    return sorted(bench.cache.folder.glob("*"))


both_plans = pytest.mark.parametrize("denoise", [False, True], ids=["without", "with"])


def key_of(bench, denoise):
    from streamtrack_engines.backends.tensorrt import _plan_key

    return _plan_key(bench.libraries, bench.file, bench.size, denoise)


def file_of(bench, denoise):
    return bench.cache.folder / key_of(bench, denoise).file_name


def fault_in(name, change, n_outputs=(1, 2)):
    """A fault that changes one output of the plans with so many of them."""
    return lambda outputs: outputs | ({name: change(outputs[name])} if len(outputs) in n_outputs else {})


def test_both_plans_are_built_once_and_kept(bench):
    first, second = open_on(bench), open_on(bench)
    assert bench.trt.n_built == 2
    assert first.info["plans"].startswith("built in ")
    assert second.info["plans"] == f"kept in {bench.cache.folder}"
    assert bench.said == ["building the plans of denodet for 48 x 64 px: once on this machine, they are kept"]
    assert plans(bench) == sorted(file_of(bench, denoise) for denoise in (False, True))


def test_report_says_what_runs(bench):
    info = open_on(bench).info
    assert info["library"] == "tensorrt 11.4.0.106"
    assert info["gpu"] == "Made-up GPU, compute capability 8.9"
    assert info["driver"] == "CUDA 13.0"
    assert info["precision"] == "float32"
    assert info["cuda_graph"] == "yes"
    assert info["difference_from_onnxruntime"]["position_px"] == 0.0
    assert info["device_memory_bytes"] > 1000


@pytest.mark.parametrize("change", ["library", "driver", "size", "weights"])
def test_whatever_differs_the_plan_is_built_anew(bench, change):
    open_on(bench)
    if change == "library":
        bench.update_tensorrt("11.4.0.107")
    elif change == "driver":
        bench.cuda.driver = 13010
    elif change == "size":
        bench.size = FrameSize(48, 64, 1)
    else:
        bench.file = replace(bench.file, sha256="0" * 64)
    open_on(bench)
    assert len(plans(bench)) == 4


@both_plans
def test_if_one_plan_is_damaged_that_is_said_and_both_are_replaced(bench, denoise):
    open_on(bench)
    path = file_of(bench, denoise)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    open_on(bench)
    assert bench.trt.n_built == 4
    assert bench.said[1] == f"the kept plans are not used: the plan {path} is damaged: its checksum is wrong"
    assert len(path.read_bytes()) == len(whole)
    open_on(bench)
    assert bench.trt.n_built == 4


@both_plans
def test_if_one_plan_is_missing_both_are_built_anew(bench, denoise):
    open_on(bench)
    file_of(bench, denoise).unlink()
    open_on(bench)
    assert bench.trt.n_built == 4
    assert bench.said[1] == bench.said[0]
    assert len(plans(bench)) == 2


@both_plans
def test_a_kept_plan_that_tensorrt_refuses_is_replaced(bench, denoise):
    open_on(bench)
    bench.cache.store(key_of(bench, denoise), b'["11.3.0.0", [], []]\nanything')
    assert len(plans(bench)) == 2
    open_on(bench)
    assert bench.trt.n_built == 4
    assert "version 11.3.0.0 expected 11.4.0.106" in bench.said[1]
    open_on(bench)
    assert bench.trt.n_built == 4


@both_plans
def test_a_kept_plan_that_takes_the_place_of_the_other_is_replaced(bench, denoise):
    open_on(bench)
    file_of(bench, denoise).write_bytes(file_of(bench, not denoise).read_bytes())
    open_on(bench)
    assert bench.trt.n_built == 4
    assert "was built for another outputs" in bench.said[1]


@pytest.mark.parametrize(
    "fault",
    [
        fault_in("denoised", lambda denoised: denoised * 1.1, (2,)),
        fault_in("detections", lambda table: table + np.float32([0, 0.6, 0, 0, 0]), (1,)),
        fault_in("detections", lambda table: table + np.float32([0, 0.03, 0, 0, 0]), (2,)),
        fault_in("detections", lambda table: table + np.float32([0, 0.03, 0, 0, 0]), (1,)),
    ],
    ids=["denoised", "table of the plan without", "position by the plan with", "position by the plan without"],
)
def test_a_kept_plan_that_computes_something_else_is_replaced(bench, fault):
    """As a plan whose file is whole, and which was wrong from the start."""
    open_on(bench)
    bench.trt.fault = fault
    with pytest.raises(EngineError, match="differ from ONNX Runtime"):
        open_on(bench)
    assert bench.trt.n_built == 4
    assert "differ from ONNX Runtime" in bench.said[1]
    bench.trt.fault = lambda outputs: outputs
    open_on(bench)
    assert bench.trt.n_built == 4  # what was kept was right


def test_plans_that_fail_their_proof_are_not_kept_and_release_the_gpu(bench):
    free = bench.cuda.free_bytes
    bench.trt.fault = fault_in("detections", lambda table: table + np.float32([0, 0.03, 0, 0, 0]))
    with pytest.raises(EngineError, match=r"position_px 0\.0\d+.*take another engine back end"):
        open_on(bench)
    assert plans(bench) == []
    assert bench.cuda.free_bytes == free


@pytest.mark.parametrize("word", ["nan", "stale"])
def test_other_faults_are_found(bench, word):
    if word == "nan":
        bench.trt.fault = fault_in("denoised", lambda denoised: denoised * np.nan, (2,))
    else:
        first = {}
        bench.trt.fault = lambda outputs: first.setdefault(len(outputs), outputs)
    with pytest.raises(EngineError, match="differ from ONNX Runtime"):
        open_on(bench)


def test_a_folder_that_cannot_be_written_costs_the_next_start_and_nothing_else(bench):
    bench.cache.folder.parent.mkdir(exist_ok=True)
    bench.cache.folder.write_text("a file where the folder should be")
    runner = open_on(bench)
    runner.run(denoise=True)
    assert sum("cannot be kept" in line for line in bench.said) == 1
    assert all("\n" not in line for line in bench.said)


def test_full_memory_does_not_build_kept_plans_anew(bench):
    open_on(bench).close()
    bench.cuda.free_bytes = 20_000
    with pytest.raises(GpuMemoryError):
        open_on(bench)
    assert bench.trt.n_built == 2


def test_full_memory_at_the_build(bench):
    bench.trt.build_error = "Error Code 2: OutOfMemory (Requested size was 123 bytes.)"
    with pytest.raises(GpuMemoryError, match="cannot build the weights denodet: the GPU's memory is full"):
        open_on(bench)


@pytest.mark.parametrize(
    ("driver", "failing", "words"),
    [
        (0, Status.cudaErrorInsufficientDriver, "there is no NVIDIA driver: install it"),
        (12040, Status.cudaErrorInsufficientDriver, "too old: it knows CUDA 12.4, this needs 13.5; update the driver"),
        (13000, Status.cudaErrorNoDevice, r"no NVIDIA GPU that CUDA can use \(cudaErrorNoDevice\)"),
    ],
)
def test_drivers(bench, driver, failing, words):
    assert reason_against_driver(bench.cuda) is None
    bench.cuda.driver, bench.cuda.failing["cudaGetDeviceCount"] = driver, failing
    reason = reason_against_driver(bench.cuda)
    assert reason is not None
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(reason)


def test_names():
    assert [TENSORRT.NAME, TENSORRT_RTX.NAME] == ["tensorrt", "tensorrt_rtx"]


@pytest.fixture
def libraries(bench, monkeypatch, tmp_path):
    """Folder for modules to import; CUDA is there already, as ``made_up_cuda``."""
    monkeypatch.setitem(sys.modules, "made_up_cuda", bench.cuda)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def backend_of(module, cuda_module="made_up_cuda"):
    return TensorrtBackend("tensorrt", ("no_such_tensorrt", module), "get it there", cuda_module)


@pytest.mark.parametrize(
    ("module", "cuda_module", "words"),
    [
        ("nor_this_one", "made_up_cuda", "no_such_tensorrt is not installed: get it there"),
        ("json", "no_such_cuda", "no_such_cuda is not installed: get it there"),
    ],
)
def test_missing_libraries_are_one_line_with_the_cure(bench, libraries, module, cuda_module, words):
    backend = backend_of(module, cuda_module)
    assert backend.reason_against() == words
    with pytest.raises(EngineError, match=words):
        backend.open_runner(bench.file, bench.size, None)


def test_a_library_that_does_not_load_is_one_line_with_the_cure(libraries):
    (libraries / "broken_tensorrt.py").write_text("raise OSError('libnvinfer.so.11: not found\\nmore')")
    reason = "broken_tensorrt is installed but does not load (libnvinfer.so.11: not found): get it there"
    assert backend_of("broken_tensorrt").reason_against() == reason


def test_an_old_tensorrt_is_refused(libraries):
    (libraries / "old_tensorrt.py").write_text("__version__ = '10.9.0.34'")
    assert backend_of("old_tensorrt").reason_against() == "TensorRT 10.9.0.34 is too old: get it there"


def test_without_a_gpu_nothing_large_is_imported(bench, libraries):
    (libraries / "large_tensorrt.py").write_text("raise AssertionError")
    bench.cuda.failing["cudaGetDeviceCount"] = Status.cudaErrorNoDevice
    assert "no NVIDIA GPU" in backend_of("large_tensorrt").reason_against()


def test_a_backend_whose_libraries_are_there_runs(bench, libraries, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "made_up_tensorrt", bench.trt)
    monkeypatch.setattr("streamtrack_engines.backends.plan_cache.default_folder", lambda: bench.cache.folder)
    backend = backend_of("made_up_tensorrt")
    assert backend.reason_against() is None
    runner = backend.open_runner(bench.file, bench.size, None)
    assert runner.info["plan_bytes"] > 1000
    assert capsys.readouterr().err.startswith("streamtrack: building the plans of denodet")
    assert len(plans(bench)) == 2
