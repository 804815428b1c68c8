"""Anyone's network becomes an engine by one command."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from streamtrack.errors import ConfigError, EngineError
from streamtrack.testing.engines import SPOTS, example_frame
from streamtrack_engines.engine import DenodetEngine, GraphEngine
from streamtrack_engines.pack import PackSettings, pack, write

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch's own

H, W = torch.export.Dim("h"), torch.export.Dim("w")


class HeatMap(nn.Module):
    """The mean of 5x5 pixels of a frame with mean 0 and standard deviation 1."""

    def forward(self, image):
        return (torch.nn.functional.avg_pool2d(image, 5, 1, 2) / 4).clamp(0, 1)


class Table(nn.Module):
    """The seven brightest pixels as rows of x, y, width_px and score, the least first; no intensity, no sigma."""

    def forward(self, image):
        smooth = torch.nn.functional.avg_pool2d(image, 5, 1, 2)
        top = torch.nn.functional.max_pool2d(smooth, 7, 1, 3)
        values, places = torch.where(smooth >= top, smooth, 0.0).flatten().topk(7)
        y = (places // image.shape[-1]).to(image.dtype)
        x = (places - (places // image.shape[-1]) * image.shape[-1]).to(image.dtype)
        return torch.stack([x, y, 3.0 + 0.0 * x, (values / 4).clamp(0, 1)], 1).flip(0)


def exported(module, path):
    torch.onnx.export(
        module.eval(),
        (torch.zeros(1, 1, 64, 80),),
        path,
        dynamic_shapes=({2: H, 3: W},),
        external_data=False,
        opset_version=18,
        verbose=False,
    )
    return path


@pytest.fixture(scope="module")
def heat_map(tmp_path_factory):
    return exported(HeatMap(), tmp_path_factory.mktemp("foreign") / "heat.onnx")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return exported(Table(), tmp_path_factory.mktemp("foreign") / "table.onnx")


def found_by(weights, shape=(61, 93)):
    engine = GraphEngine(weights=str(weights), backend="onnxruntime")
    engine.prepare(shape, "uint8")
    found, image = engine.detect(example_frame()[: shape[0], : shape[1]], denoise=True)
    engine.close()
    assert image is None
    return engine, found


def assert_spots(found):
    distance = np.hypot(*(np.subtract.outer(*pair) for pair in zip((found.y, found.x), np.array(SPOTS).T, strict=True)))
    assert len(found) == len(SPOTS)
    assert distance.min(0).max() < 1.0
    assert found.mass.min() > 200


def test_a_heat_map_becomes_an_engine(heat_map, tmp_path, cli):
    out = tmp_path / "mine.onnx"
    how = ("--scaling", "standard", "--stride", 8, "--threshold", 0.3)
    code, _, errors = cli("pack", heat_map, "--out", out, *how)
    assert code == 0, errors
    assert [path.name for path in tmp_path.iterdir()] == ["mine.onnx"]
    assert_spots(found_by(out)[1])
    with pytest.raises(ConfigError, match=r"are of the network 'onnx', which .* does not run: .* --engine graph"):
        DenodetEngine(weights=str(out))


def test_a_file_that_is_there_stays_unless_told(heat_map, tmp_path, cli):
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(heat_map.read_bytes())
    theirs = tmp_path / "mine.part.onnx"  # a name that a program might take for its own
    theirs.write_bytes(b"anything")
    how = ("--scaling", "standard", "--threshold", 0.3)
    code, _, errors = cli("pack", mine, "--out", mine, "--overwrite", *how)
    assert code == 2
    assert "is what the command reads" in errors
    out = tmp_path / "packed.onnx"
    out.write_bytes(b"of last week")
    code, _, errors = cli("pack", mine, "--out", out, *how)
    assert code == 2
    assert "add --overwrite" in errors
    assert out.read_bytes() == b"of last week"
    code, _, errors = cli("pack", mine, "--out", out, "--overwrite", *how)
    assert code == 0, errors
    assert_spots(found_by(out)[1])
    assert (mine.read_bytes(), theirs.read_bytes()) == (heat_map.read_bytes(), b"anything")


def test_a_table_becomes_an_engine_and_its_columns_travel(table, tmp_path):
    settings = PackSettings("table", ("x", "y", "width:px", "score"), scaling="standard", threshold=0.3)
    write(pack(table.read_bytes(), "table.onnx", settings), tmp_path / "mine.onnx")
    engine, found = found_by(tmp_path / "mine.onnx")
    assert_spots(found)
    assert np.all(np.diff(found.score) <= 0)
    assert [(column.name, column.unit) for column in engine.columns] == [("width", "px")]
    np.testing.assert_array_equal(found.extra["width"], 3.0)


def test_a_network_that_finds_nothing_is_not_written(heat_map, tmp_path):
    with pytest.raises(EngineError, match=r"mine\.onnx find none of the particles in their example frames"):
        write(pack(heat_map.read_bytes(), "heat.onnx", PackSettings(scaling="full")), tmp_path / "mine.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PackSettings("table", ("y", "x")), "y, x and score must be there"),
        (PackSettings("table", ("y", "x", "score")), "the 3 columns that were named"),
        (PackSettings("heatmap", ("y",)), "columns are those of a table"),
        (PackSettings("table", ("y", "x", "score", "frame")), "column 'frame' cannot be: tables have one"),
        (PackSettings(max_detections=4000), "a table of 4000 rows cannot be sorted"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(table, settings, message):
    with pytest.raises(ConfigError, match=message):
        pack(table.read_bytes(), "table.onnx", settings)


def test_networks_of_a_fixed_size_say_what_to_do(heat_map):
    model = onnx.load(heat_map)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64
    with pytest.raises(ConfigError, match="with height and width free"):
        pack(model.SerializeToString(), "heat.onnx", PackSettings())


def test_what_is_no_onnx_file_is_one_line():
    with pytest.raises(EngineError, match=r"mine\.onnx is no ONNX file"):
        pack(b"\0" * 100, "mine.onnx", PackSettings())
