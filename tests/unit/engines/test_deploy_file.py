"""Weights from elsewhere: a file that finds what it was trained on, or one line that says what is wrong with it."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from streamtrack.errors import EngineError
from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.weights import packaged_weights, read_weights


@pytest.fixture
def model():
    return onnx.load_from_string(read_weights("denodet"))


@pytest.fixture
def saved(model, tmp_path):
    """Saves the model, or other bytes, and returns the path."""

    def run(content=None):
        path = tmp_path / "mine.onnx"
        path.write_bytes(model.SerializeToString() if content is None else content)
        return str(path)

    return run


def change(model, name, new):
    """Replace the numbers of a tensor of a model."""
    (tensor,) = [each for each in model.graph.initializer if each.name == name]
    tensor.CopyFrom(numpy_helper.from_array(new(numpy_helper.to_array(tensor).copy()), name))


def refusal(path):
    with pytest.raises(EngineError) as error:
        read_deploy_file(path)
    return str(error.value)


@pytest.mark.parametrize("name", packaged_weights())
def test_weights_of_the_package_pass_what_those_of_others_must(name, saved):
    file = read_deploy_file(saved(read_weights(name)))
    assert file.sha256 == read_deploy_file(name).sha256


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["network.detection.0.conv.weight", "network.encoder.0.convs.0.bias"])
def test_a_weight_that_is_no_finite_number_is_named(model, saved, name, bad):
    """Such a weight gives no detection, and no number in the output need tell."""

    def spoil(weights):
        weights.flat[3] = bad
        return weights

    change(model, name, spoil)
    assert f"mine.onnx have NaN or infinite numbers in {name}: train and export anew" in refusal(saved())


def test_weights_that_overflow_give_no_finite_numbers(model, saved):
    change(model, "network.encoder.0.convs.0.weight", lambda weights: weights * np.float32(1e38))
    assert "give no finite numbers" in refusal(saved())


def test_weights_that_find_nothing_of_what_they_were_trained_on_are_refused(model, saved):
    change(model, "network.found_head.weight", lambda weights: weights * 0)
    assert "find none of the particles in their example frames with a score of 0.4 or more" in refusal(saved())
    without_example(model)
    assert "find none of the bright spots in a made-up movie with a score of 0.4 or more" in refusal(saved())


def without_example(model):
    """Leave the text in which the file says what it is, as files of format 1 have it alone, and return it."""
    text, _ = model.metadata_props
    del model.metadata_props[1:]
    return text


def test_a_file_of_the_first_format_says_the_same(model, saved):
    now = read_deploy_file("denodet").metadata
    text = without_example(model)
    said = json.loads(text.value) | {"format": 1, "columns": [each.name for each in now.columns]}
    said["recipe"] = {"network": {"kind": "full", "n_frames": 3, "norm": "batch"}}
    del said["network"], said["head"], said["image"], said["tile_px"]
    text.value = json.dumps(said)
    then = read_deploy_file(saved()).metadata
    assert then == now.model_copy(update={"recipe": said["recipe"], "tile_px": None})
    assert then.n_rows(2048, 2048) == then.max_detections


def test_what_weights_must_find_has_the_size_that_they_were_trained_on(model, saved):
    """The packaged weights do not know spots of 12 px."""
    text = without_example(model)
    text.value = text.value.replace('"spot_sigma_px":[0.8,2.9]', '"spot_sigma_px":[12.0,12.0]')
    assert "find none of the bright spots" in refusal(saved())
    text.value = text.value.replace('"spot_sigma_px"', '"of_another_kind"')
    read_deploy_file(saved())  # nobody knows what these should find


def test_a_file_of_fixed_size_is_tried_at_that_size(model, saved):
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], (40, 33, 1), strict=True):
        dim.dim_value = size
    assert read_deploy_file(saved()).fixed is not None


def external(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def claiming(model):
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2**40, 2**20])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(external, "in another file: write them as one"), (claiming, "are damaged or no ONNX file: ")],
)
def test_weights_elsewhere_and_weights_without_end_are_refused(model, saved, spoil, message):
    spoil(model)
    assert message in refusal(saved())


def test_files_that_are_no_deploy_graph_are_refused(model, saved):
    content = model.SerializeToString()
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", [value], []))
    for wrong in (b"", b"\0" * 1000, content[: len(content) // 2], content[100:], other.SerializeToString()):
        assert "mine.onnx" in refusal(saved(wrong))
    assert "damaged or no ONNX file" in refusal("a\0b.onnx")
