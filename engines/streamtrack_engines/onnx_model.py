"""A torch module as an ONNX model."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamtrack import __version__

OPSET = 20

_FEW = 1000  # numbers: so few take no room

Sizes = dict[int, Any]
"""Which sizes of an input are free, as ``torch.export`` takes them."""


def as_onnx(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    sizes: tuple[Sizes, ...] | None = None,
) -> Any:
    """Return the ``onnx.ModelProto`` of a module.

    Parameters
    ----------
    module
        In evaluation mode.
    examples
        Of the inputs.
    inputs, outputs
        Names of the model's.
    sizes
        Of each input; none is free by default.
    """
    with _quiet():
        program = torch.onnx.export(
            module,
            examples,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=sizes,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None  # only the exporter of old returns None
    model = program.model_proto
    _strip(model)
    model.producer_name, model.producer_version = "streamtrack", __version__
    return model


def store_in_half(model: Any) -> None:
    """Let a model hold its float32 weights in half precision, rounded; it computes in float32 as before."""
    import onnx

    casts, full = [], {}
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size >= _FEW:
            weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), weight.name))
            full[weight.name] = f"{weight.name}/full"
            casts.append(onnx.helper.make_node("Cast", [weight.name], [full[weight.name]], to=onnx.TensorProto.FLOAT))
    nodes = list(model.graph.node)
    for node in nodes:
        node.input[:] = [full.get(name, name) for name in node.input]
    model.graph.ClearField("node")
    model.graph.node.extend(casts + nodes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own insides (missing torchvision, deprecations) from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "# The axis name", UserWarning)
            yield
    finally:
        logger.setLevel(level)


def _strip(model: Any) -> None:
    """Remove the exporter's notes: stack traces with the paths of this machine, as large as the weights."""
    graph = model.graph
    graph.ClearField("value_info")
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
