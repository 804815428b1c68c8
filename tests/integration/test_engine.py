"""The engine in each back end of the CPU, with weights that were never trained but find something everywhere."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from deploy_graphs import SETTINGS, K, graph_of, lively_network
from onnx import TensorProto, helper

from streamtrack.config import PluginConfig, RunConfig
from streamtrack.errors import ConfigError, EngineError
from streamtrack.registry import build
from streamtrack.session import Session
from streamtrack.testing.engines import assert_same_bits, columns, example_frame
from streamtrack_engines.backends.metadata import METADATA_KEY
from streamtrack_engines.engine import DenodetEngine

THRESHOLD = 0.5
"""Rows of equal x could not be told apart if there were more."""

pytestmark = pytest.mark.usefixtures("one_torch_thread", "no_pairs")


@pytest.fixture(scope="module")
def graph():
    return graph_of(lively_network())


@pytest.fixture(scope="module")
def weights(exported):
    return str(exported("any"))


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def engine(weights, backend):
    engine = DenodetEngine(weights=weights, backend=backend, threshold=THRESHOLD)
    yield engine
    engine.close()


def movie(shape=(64, 96), dtype="uint16", n=5):
    """Frames of which each changes what is found in the next."""
    return [example_frame(shape, dtype, seed) for seed in range(n)]


def run_graph(graph, frames, threshold=THRESHOLD):
    """What torch makes of frames (T, H, W): rows above the threshold, and the denoised image."""
    frames = np.stack(frames)
    with torch.inference_mode():
        table, image = graph(torch.from_numpy(frames.view(np.uint8).reshape(1, *frames.shape, frames.itemsize)))
    return table[table[:, 2] >= threshold].numpy(), image.numpy()


def assert_rows(found, rows):
    """Compare detections with rows of the table, whatever the order of nearly equal scores."""
    assert 0 < len(rows) < K
    rows = rows[np.argsort(rows[:, 1])]
    np.testing.assert_allclose(np.stack(list(by_x(found).values()), 1), rows, rtol=1e-3, atol=1e-2)


def by_x(detections):
    """Columns in the order of x: that of nearly equal scores may differ between back ends."""
    order = np.argsort(detections.x)
    return {name: column[order] for name, column in columns(detections).items()}


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(33, 47), (64, 96)])
def test_every_frame_is_seen_with_those_before(engine, graph, shape, dtype):
    """As the graph says when it is given the frames in a row, zeros where there were none."""
    engine.prepare(shape, dtype)
    nothing = np.zeros(shape, dtype)
    frames = [nothing, nothing, *movie(shape, dtype)]
    for last in range(2, len(frames)):
        found, denoised = engine.detect(frames[last], denoise=True)
        rows, wanted = run_graph(graph, frames[last - 2 : last + 1])
        assert_rows(found, rows)
        assert np.all(np.diff(found.score) <= 0)
        np.testing.assert_allclose(denoised, wanted, rtol=1e-3, atol=1e-2)


def test_float_frames_are_seen_with_those_before(engine, graph):
    """Each in levels of its own, since the graph normalises each by itself."""
    frames = movie(n=3)
    engine.prepare((64, 96), "float32")
    for frame, gain in zip(frames, (1.0, 1e4, 0.3), strict=True):
        found, _ = engine.detect((frame * gain).astype(np.float32), denoise=False)
    rows, _ = run_graph(graph, frames)
    assert len(rows) == pytest.approx(len(found), abs=2)  # rounding moves a score across the threshold
    distance = np.hypot(np.subtract.outer(rows[:, 0], found.y), np.subtract.outer(rows[:, 1], found.x))
    assert np.median(distance.min(1)) < 0.01


def test_after_lost_frames_the_movie_starts_anew(weights, tmp_path, lab_plugins):
    """From the source to the sink: nothing of the frames before the gap is left."""
    config = {
        "source": {"kind": "lab-camera", "frames": 9, "lost_at": 4},
        "engine": {"kind": "denodet", "weights": weights, "backend": "onnxruntime"},
        "sinks": [{"kind": "memory"}],
    }
    Session(RunConfig.model_validate(config), tmp_path).run()
    results = {result.frame.index: result for result in sys.modules["lab_plugins"].Memory.kept}
    assert sorted(results) == [0, 1, 2, 3, 5, 6, 7, 8]
    engine = DenodetEngine(weights=weights, backend="onnxruntime")
    for part in ((0, 1, 2, 3), (5, 6, 7, 8)):
        engine.prepare((48, 64), "float32")
        for index in part:
            found, _ = engine.detect(results[index].frame.pixels, denoise=False)
            assert_same_bits(results[index].detections, found)
    engine.prepare((48, 64), "float32")
    for index in (3, 5):
        found, _ = engine.detect(results[index].frame.pixels, denoise=False)
    assert not np.array_equal(found.score, results[5].detections.score)  # had the engine not been told


def test_a_frame_that_is_refused_leaves_no_trace(engine):
    frames = [frame.astype("float32") for frame in movie(n=4)]
    engine.prepare((64, 96), "float32")
    wanted = [engine.detect(frame, denoise=False)[0] for frame in (frames[0], frames[2])]
    engine.reset()
    assert_same_bits(wanted[0], engine.detect(frames[0], denoise=False)[0])
    frames[3][5, 6] = np.nan
    with pytest.raises(EngineError, match="NaN or infinite"):
        engine.detect(frames[3], denoise=False)
    assert_same_bits(wanted[1], engine.detect(frames[2], denoise=False)[0])


def test_bytes_are_swapped_where_they_have_to_be(engine):
    frame = example_frame(dtype="uint16")
    engine.prepare((64, 96), "uint16")
    wanted, _ = engine.detect(frame, denoise=False)
    engine.reset()
    assert_same_bits(wanted, engine.detect(frame.astype(">u2"), denoise=False)[0])


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-4, -3.0), (2e5, 1e6), (1e30, 0.0)])
def test_float_frames_are_what_they_would_be_as_integers(engine, scale, offset):
    """Counts come back in the frame's own unit."""
    levels = example_frame(dtype="uint16")
    engine.prepare(levels.shape, "uint16")
    expected, expected_image = engine.detect(levels, denoise=True)
    engine.prepare(levels.shape, "float32")
    found, image = engine.detect((levels * scale + offset).astype(np.float32), denoise=True)
    assert len(found) == len(expected)
    found, expected = by_x(found), by_x(expected)
    for name, tolerance in (("y", 0.02), ("x", 0.02), ("score", 2e-3)):
        np.testing.assert_allclose(found[name], expected[name], atol=tolerance)
    np.testing.assert_allclose(found["mass"] / scale, expected["mass"], rtol=1e-2, atol=0.5)
    np.testing.assert_allclose((image - offset) / scale, expected_image, rtol=1e-2, atol=0.1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("level", [0, 255])
def test_constant_frames_are_empty(engine, dtype, level):
    engine.prepare((33, 47), dtype)
    found, denoised = engine.detect(np.full((33, 47), level, dtype), denoise=True)
    assert len(found) == 0
    np.testing.assert_allclose(denoised, level, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_frames_that_are_not_finite_are_refused(engine, value):
    frame = example_frame(dtype="float32").copy()
    frame[3, 4] = value
    engine.prepare(frame.shape, "float32")
    with pytest.raises(EngineError, match="NaN or infinite"):
        engine.detect(frame, denoise=False)


def test_threshold_is_the_files_unless_given(weights):
    frame = example_frame()
    counts = []
    for threshold in (None, SETTINGS.threshold, 1.0):
        engine = DenodetEngine(weights=weights, threshold=threshold)
        engine.prepare(frame.shape, "uint8")
        found, _ = engine.detect(frame, denoise=False)
        assert (found.score >= (threshold or SETTINGS.threshold)).all()
        counts.append(len(found))
    assert counts[0] == counts[1] > counts[2]


def test_full_tables_are_counted(weights):
    engine = DenodetEngine(weights=weights, threshold=1e-6)
    engine.prepare((64, 96), "uint8")
    assert engine.info["frames_with_full_table"] == 0
    for _ in range(3):
        found, _ = engine.detect(example_frame(), denoise=False)
    assert len(found) == K
    assert engine.info["frames_with_full_table"] == 3
    assert f"3 frames have all {K} detections that the weights allow" in engine.remarks()[0]


def test_each_tile_of_a_large_frame_has_a_table_of_its_own(weights, backend):
    """Three tiles of 64 x 344 px, all of which find more than their tables hold."""
    engine = DenodetEngine(weights=weights, threshold=1e-6, backend=backend)
    engine.prepare((64, 1030), "uint8")
    found, _ = engine.detect(example_frame((64, 1030)), denoise=False)
    assert len(found) == 3 * K
    assert np.bincount((found.x // (1032 / 3)).astype(int), minlength=3).tolist() == pytest.approx([K, K, K], abs=3)
    assert engine.info["frames_with_full_table"] == 1
    assert "in an area of 512 x 512 px" in engine.remarks()[0]


def test_weights_of_one_frame_see_each_alone(exported, backend):
    graph = graph_of(lively_network(n_frames=1, norm="instance"))
    engine = DenodetEngine(weights=str(exported("single")), threshold=THRESHOLD, backend=backend)
    assert engine.info["n_frames"] == 1
    engine.prepare((64, 96), "uint16")
    for frame in movie(n=3):
        assert_rows(engine.detect(frame, denoise=False)[0], run_graph(graph, [frame])[0])


def test_threads_do_not_change_the_result(weights, backend):
    results = []
    for threads in (1, 2):
        engine = DenodetEngine(weights=weights, threads=threads, backend=backend)
        engine.prepare((64, 96), "uint8")
        results.append(engine.detect(example_frame(), denoise=False)[0])
        assert engine.info["threads"] == threads
    one, two = map(by_x, results)
    for name, column in one.items():
        np.testing.assert_allclose(two[name], column, rtol=1e-3, atol=1e-3)


def test_info_says_what_ran(engine, backend):
    assert engine.info["backend"] is None
    engine.prepare((64, 96), "uint8")
    info = json.loads(json.dumps(dict(engine.info), allow_nan=False))
    assert info["backend"] == backend
    assert info[backend]  # its version
    assert info["passed_over"] == {}
    assert info["precision"] == "float32"
    assert info["threshold"] == THRESHOLD
    assert info["n_frames"] == 3
    assert len(info["weights_sha256"]) == 64
    engine.close()
    assert dict(engine.info) == info


def test_settings_are_checked_by_the_registry(weights):
    plugin = build("engines", PluginConfig(kind="denodet", weights=weights, threads=1))
    assert isinstance(plugin.instance, DenodetEngine)
    with pytest.raises(ConfigError):
        build("engines", PluginConfig(kind="denodet", weights=weights, threads="many"))


def test_fixed_weights_take_their_frame_only(exported, backend):
    engine = DenodetEngine(weights=str(exported("fixed")), backend=backend)
    engine.prepare((64, 96), "uint16")
    engine.prepare((64, 96), "float32")
    for shape, dtype in (((64, 97), "uint16"), ((64, 96), "uint8")):
        with pytest.raises(EngineError, match="for frames of 64 x 96 px of 2 bytes"):
            engine.prepare(shape, dtype)


def test_results_are_arrays_of_their_own(engine):
    """Contiguous, as linkers like them, and not the back end's memory."""
    engine.prepare((64, 96), "uint16")
    (found, image), *_ = kept = [engine.detect(frame, denoise=True) for frame in movie(n=2)]
    before = {name: column.copy() for name, column in columns(found).items()}, image.copy()
    engine.detect(movie(n=3)[2], denoise=True)
    assert all(column.flags.c_contiguous for column in columns(found).values())
    for name, column in columns(found).items():
        np.testing.assert_array_equal(column, before[0][name])
    np.testing.assert_array_equal(image, before[1])
    assert not np.shares_memory(image, kept[1][1])


def test_the_same_size_is_not_loaded_again(engine):
    engine.prepare((64, 96), "uint16")
    runner = engine._runner
    engine.prepare((64, 96), "float32")
    assert engine._runner is runner
    engine.prepare((64, 96), "uint8")
    assert engine._runner is not runner


def test_unprepared_or_other_frames_are_refused(engine):
    with pytest.raises(EngineError, match="call prepare first"):
        engine.detect(example_frame(), denoise=False)
    engine.prepare((64, 96), "uint8")
    for other in (example_frame((96, 64)), example_frame(dtype="uint16")):
        with pytest.raises(EngineError, match="call prepare first"):
            engine.detect(other, denoise=False)


@pytest.mark.parametrize(("shape", "dtype"), [((31, 64), "uint8"), ((64, 31), "uint8"), ((64, 64), "int32")])
def test_impossible_frames(engine, shape, dtype):
    with pytest.raises(EngineError, match=r"too small|cannot be taken"):
        engine.prepare(shape, dtype)


def test_closed_engine_is_closed(engine):
    engine.prepare((64, 96), "uint8")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.detect(example_frame(), denoise=False)
    with pytest.raises(EngineError, match="closed"):
        engine.prepare((64, 96), "uint8")


# Weights that are none


def test_unknown_names_list_the_packaged_ones():
    with pytest.raises(EngineError, match="no weights 'denodeet': packaged are"):
        DenodetEngine(weights="denodeet")


def test_missing_file(tmp_path):
    with pytest.raises(EngineError, match=r"none\.onnx \(No such file"):
        DenodetEngine(weights=str(tmp_path / "none.onnx"))


def foreign_model():
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "foreign", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def with_metadata(model, text):
    helper.set_model_props(model, {METADATA_KEY: text})
    return model


def metadata_text(weights):
    return onnx.load(weights).metadata_props[0].value


def test_damaged_file(weights, tmp_path):
    for name, size in (("half", 100_000), ("empty", 0)):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(Path(weights).read_bytes()[:size])
        with pytest.raises(EngineError, match="damaged or no ONNX file") as caught:
            DenodetEngine(weights=str(path))
        assert len(str(caught.value).splitlines()) == 1


def test_foreign_files(weights, tmp_path):
    path = tmp_path / "foreign.onnx"
    for model, message in (
        (foreign_model(), "no streamtrack metadata"),
        (with_metadata(foreign_model(), "{"), "cannot be read"),
        (with_metadata(foreign_model(), '{"format": 2}'), "cannot be read"),
        (with_metadata(foreign_model(), metadata_text(weights)), "no deploy graph"),
        (with_metadata(onnx.load(weights), metadata_text(weights).replace('"n_frames":3', '"n_frames":2')), "graph"),
        (with_metadata(onnx.load(weights), metadata_text(weights).replace('"score"', '"confidence"')), "lacks"),
    ):
        onnx.save(model, path)
        with pytest.raises(EngineError, match=message) as caught:
            DenodetEngine(weights=str(path))
        assert len(str(caught.value).splitlines()) == 1


def test_import_brings_no_optional_library():
    code = "import sys, streamtrack_engines.engine; print({'torch', 'onnx', 'openvino'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
