"""A lab's network and head train, are exported, built by TensorRT-RTX and track, and the core knows neither."""

import os
from pathlib import Path

import pandas as pd
import pytest

from streamtrack import track
from streamtrack.config import PluginConfig
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.backends.runner import FrameSize
from streamtrack_engines.backends.tensorrt_build import build_plan
from streamtrack_engines.export import ExportSettings, export
from streamtrack_engines.training.loop import train
from streamtrack_engines.training.recipe import CalibrationSettings, EvaluationSettings, Recipe

LAB_PACKAGE = Path(__file__).parents[2] / "lab_package"

pytestmark = pytest.mark.usefixtures("lab_plugins")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(LAB_PACKAGE)
        folder = tmp_path_factory.mktemp("lab")
        recipe = Recipe(
            steps=120,
            device="cpu",
            bfloat16=False,
            batch_size=4,
            crop_px=64,
            learning_rate=2e-2,
            network=PluginConfig(kind="lab-net", width=6),
            head=PluginConfig(kind="lab-head"),
            data=PluginConfig(kind="crops", camera_fraction=0.0, empty_fraction=0.0, snr=(5, 9)),
            calibration=CalibrationSettings(n_frames=1, frame_px=32),
            evaluation=EvaluationSettings(n_crops=1, crop_px=32),
        )
        outcome = train(recipe, folder / "run")
        export(outcome.checkpoint, folder / "lab.onnx", ExportSettings(threshold=0.1, max_detections=256))
    return folder / "lab.onnx"


def test_the_file_says_what_it_is(weights):
    file = read_deploy_file(str(weights))
    assert (file.metadata.network.kind, file.metadata.network.settings) == ("lab-net", {"width": 6})
    assert (file.metadata.head.kind, file.metadata.image) == ("lab-head", None)
    assert file.metadata.columns[-1].name == "contrast"
    assert file.example.shape == (2, 128, 128)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_it_tracks_and_its_column_reaches_the_table(weights, backend, tmp_path):
    pytest.importorskip(backend)
    track(
        "sim:receptor?snr=7&frames=8&size=128",
        tmp_path,
        engine={"weights": str(weights), "backend": backend},
    )
    table = pd.read_parquet(tmp_path / "detections.parquet")
    assert len(table) > 20
    assert table["contrast"].between(0.5, 20).all()


def test_tensorrt_rtx_builds_it(weights):
    trt = tensorrt_rtx()
    file = read_deploy_file(str(weights))
    assert file.programs == (False,)
    plan = build_plan(trt, file, FrameSize(64, 96, 2), lambda line: None, denoise=False)
    assert len(plan) > 10_000


def tensorrt_rtx():
    import importlib

    for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    if os.environ.get("STREAMTRACK_REQUIRE_BACKENDS"):
        pytest.fail("TensorRT-RTX is not installed")
    pytest.skip("TensorRT-RTX is not installed")
