"""What only OpenVINO needs; the rest is in test_cpu_backends.py."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("openvino")

import openvino as ov

from streamtrack.errors import EngineError
from streamtrack.testing.engines import example_movie
from streamtrack_engines.backends import openvino as module
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.backends.runner import FrameSize

SIZE = FrameSize(64, 96, 2)


@pytest.fixture(scope="module")
def file():
    return read_deploy_file("denodet")


def test_frames_are_read_where_they_are(file):
    runner = module.OpenvinoRunner(file, SIZE, 1)
    for request in runner._requests.values():
        assert request.get_input_tensor().data.ctypes.data == runner.history.raw.ctypes.data


class OutOfMemory:
    """A request that fails as OpenVINO's do."""

    def infer(self):
        raise RuntimeError("Exception from graph.cpp:12:\nstd::bad_alloc\n")


def test_a_run_that_failed_leaves_no_trace(file, monkeypatch):
    runner = module.open_runner(file, SIZE, 1)
    movie = example_movie()

    def run(frame):
        runner.current[:] = frame
        return runner.run(denoise=False)[0].copy()

    run(movie[0])
    wanted = run(movie[2])
    runner.clear()
    run(movie[0])
    with monkeypatch.context() as patch:
        patch.setitem(runner._requests, False, OutOfMemory())
        with pytest.raises(EngineError, match=r"^OpenVINO failed: Exception from graph\.cpp:12: std::bad_alloc$"):
            run(movie[1])
    np.testing.assert_array_equal(run(movie[2]), wanted)


def test_a_file_that_openvino_cannot_read(file):
    broken = dataclasses.replace(file, content=file.content[:1000])
    with pytest.raises(EngineError, match="OpenVINO cannot load denodet") as caught:
        module.open_runner(broken, SIZE, 1)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("cpu", "own", "during"),
    [
        ("AMD EPYC 9354", None, "AVX2"),
        ("Intel(R) Xeon(R) w5-2455X", None, None),
        ("AMD EPYC 9354", "AVX512_CORE", "AVX512_CORE"),
    ],
)
def test_narrow_vectors_on_amd_unless_the_user_said_otherwise(monkeypatch, cpu, own, during):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if own:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", own)
    with module._narrow_vectors(cpu):
        assert os.environ.get("ONEDNN_MAX_CPU_ISA") == during
    assert os.environ.get("ONEDNN_MAX_CPU_ISA") == own


def test_no_wide_vectors_are_used_on_amd(file):
    """In a process of its own, as oneDNN looks once."""
    if not ov.Core().get_property("CPU", "FULL_DEVICE_NAME").startswith("AMD"):
        pytest.skip("for processors of AMD")
    code = (
        "from streamtrack_engines.engine import DenodetEngine; e = DenodetEngine(backend='openvino');"
        "e.prepare((64, 64), 'uint8'); print(e.info['kernels'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "avx2" in done.stdout


def test_missing_library(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module.reason_against() == "openvino is not installed: pip install openvino"


def test_a_library_that_does_not_load(monkeypatch, tmp_path):
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("raise ImportError('GLIBC_2.99\\nnot found')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    assert "does not load (GLIBC_2.99 not found): pip install" in module.reason_against()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("closed", [False, True])
def test_ctrl_c_is_heard_while_a_runner_is_open_and_after_it_was_closed(closed):
    script = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests were started in the background
from streamtrack_engines.engine import DenodetEngine
engine = DenodetEngine(backend="openvino")
engine.prepare((64, 96), "uint16")
if {closed}:
    engine.close()
    engine = None
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "heard\n"
