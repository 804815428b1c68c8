"""Which back end is taken, and what is said of the others."""

from dataclasses import dataclass

import pytest

from streamtrack.errors import ConfigError, EngineError
from streamtrack_engines import network_engine
from streamtrack_engines.backends import onnxruntime, selection
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.backends.runner import FrameSize
from streamtrack_engines.backends.selection import ORDER, get_backend, open_first, reasons_against
from streamtrack_engines.engine import DenodetEngine

SIZE = FrameSize(64, 96, 1)


@pytest.fixture(scope="module")
def file():
    return read_deploy_file("denodet")


@dataclass(frozen=True)
class Unfit:
    """A back end that cannot run, or cannot open a runner; nothing else of it is ever asked for."""

    NAME: str
    reason: str | None = None
    failure: str = ""

    def reason_against(self):
        return self.reason

    def open_runner(self, file, size, threads):
        raise EngineError(self.failure)


@pytest.fixture
def machine(monkeypatch):
    """Put back ends in the place of some; returns the names of those that were imported."""

    def replace(**backends):
        imported = []

        def loader(name):
            def load():
                imported.append(name)
                return backends.get(name, onnxruntime)

            return load

        monkeypatch.setattr(selection, "_BACKENDS", {name: loader(name) for name in ORDER})
        monkeypatch.setattr(selection, "ORDER", ORDER)  # not that of the tests
        return imported

    return replace


def test_the_order():
    assert ORDER == ("tensorrt", "tensorrt_rtx", "torch", "openvino", "onnxruntime")


@pytest.mark.parametrize("name", ORDER)
def test_every_back_end_is_there_under_its_name(name):
    backend = get_backend(name)
    assert backend.NAME == name
    reason = backend.reason_against()
    assert reason is None or len(reason.splitlines()) == 1


def test_onnx_runtime_always_can():
    assert reasons_against()["onnxruntime"] is None


def test_the_first_that_can_is_taken_and_the_rest_not_imported(machine, file):
    imported = machine(
        tensorrt=Unfit("tensorrt", "tensorrt is not installed: cure"),
        tensorrt_rtx=Unfit("tensorrt_rtx", failure="the plan gives other results: cure"),
    )
    opened = open_first("auto", lambda name: file, SIZE, 1)
    assert opened.name == "torch"
    assert opened.passed_over == {
        "tensorrt": "tensorrt is not installed: cure",
        "tensorrt_rtx": "the plan gives other results: cure",
    }
    assert imported == ["tensorrt", "tensorrt_rtx", "torch"]
    opened.runner.close()


def test_a_named_one_is_not_replaced(machine, file):
    imported = machine(torch=Unfit("torch", failure="the GPU's memory is full: cure"))
    with pytest.raises(EngineError, match=r"^engine back end torch: the GPU's memory is full: cure$"):
        open_first("torch", lambda name: file, SIZE, 1)
    assert imported == ["torch"]


def test_none_can(machine, file):
    machine(**{name: Unfit(name, f"{name} is broken") for name in ORDER})
    with pytest.raises(EngineError, match=r"tensorrt is broken; .*onnxruntime is broken") as caught:
        open_first("auto", lambda name: file, SIZE, 1)
    assert len(str(caught.value).splitlines()) == 1


def test_the_engine_says_what_was_passed_over(machine):
    machine(**{name: Unfit(name, f"no {name}") for name in ORDER[:-1]})
    engine = DenodetEngine()
    engine.prepare((64, 96), "uint8")
    assert engine.info["backend"] == "onnxruntime"
    assert engine.info["passed_over"] == {name: f"no {name}" for name in ORDER[:-1]}
    engine.close()


def test_the_engine_refuses_a_missing_back_end_when_it_is_made(machine):
    machine(torch=Unfit("torch", "torch is not installed: cure"))
    with pytest.raises(EngineError, match=r"^engine back end torch: torch is not installed: cure$"):
        DenodetEngine(backend="torch")
    with pytest.raises(ConfigError, match="backend = 'cuda' is not valid: input should be 'auto', 'tensorrt'"):
        DenodetEngine(backend="cuda")


def test_an_engine_that_could_not_be_prepared_refuses_frames(machine):
    engine = DenodetEngine(backend="onnxruntime")
    engine.prepare((64, 96), "uint8")
    machine(onnxruntime=Unfit("onnxruntime", failure="no memory: cure"))
    with pytest.raises(EngineError, match="no memory: cure"):
        engine.prepare((64, 64), "uint8")
    engine.reset()
    assert engine._runner is None
    machine()
    engine.prepare((64, 96), "uint8")
    engine.close()


def test_gpus_get_the_half_precision_file_of_the_same_weights(machine, monkeypatch, file):
    read = []

    def read_file(name):
        read.append(name)
        return file

    monkeypatch.setattr(network_engine, "half_precision_of", lambda weights: f"{weights}.half")
    monkeypatch.setattr(network_engine, "read_deploy_file", read_file)
    machine()
    for name, files in (("torch", ["denodet", "denodet.half"]), ("openvino", ["denodet"])):
        read.clear()
        engine = DenodetEngine(weights="denodet", backend=name)
        engine.prepare((64, 96), "uint8")
        assert read == files
        engine.close()
