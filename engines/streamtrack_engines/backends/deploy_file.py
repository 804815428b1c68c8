"""Reads a deploy graph's file and checks that it is one, whatever runs it later."""

import hashlib

import numpy as np
import onnxruntime as ort

from streamtrack.errors import EngineError, foreign_errors
from streamtrack_engines.backends.example import example_of
from streamtrack_engines.backends.metadata import DENOISED, DETECTIONS, FRAME, DeployMetadata
from streamtrack_engines.backends.proof import check_weights
from streamtrack_engines.backends.runner import DeployFile, FrameSize
from streamtrack_engines.weights import packaged_weights, read_weights

ort.disable_telemetry_events()  # under Windows; elsewhere the package's variable does

_CURE = "'streamtrack export'"


def read_deploy_file(weights: str) -> DeployFile:
    """Return a deploy graph with what it says of itself, checked against its inputs and outputs.

    Parameters
    ----------
    weights
        Name of weights that come with the package, or path of an ``.onnx`` file.

    Raises
    ------
    EngineError
        The file is missing, damaged, or no deploy graph; it has weights that are not finite; or it finds nothing where
        there is much of what it was trained on.
    """
    what = f"weights {weights} are damaged or no ONNX file"
    with foreign_errors(EngineError, what):
        content = read_weights(weights)
        is_foreign = weights not in packaged_weights()  # a test sees to those that come with the package
        if is_foreign:
            _check_numbers(content, weights)
        session = _inspect(content)
        file = _described(content, weights, session)
        if is_foreign:
            check_weights(file, session)
        return file


def without_denoised(content: bytes) -> bytes:
    """Return a deploy graph's file without the denoised frame and all that is computed for it alone."""
    import onnx  # a fifth of a second that other back ends need not wait for
    from onnx.utils import Extractor

    return bytes(Extractor(onnx.load_from_string(content)).extract_model([FRAME], [DETECTIONS]).SerializeToString())


def _check_numbers(content: bytes, weights: str) -> None:
    """Raise EngineError if a weight is not finite, which no output tells, or lies in another file."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(content)
    tensors = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute if a.HasField("t"))]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise EngineError(f"weights {weights} keep {tensor.name} in another file: write them as one with {_CURE}")
        numbers = numpy_helper.to_array(tensor)
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            raise EngineError(f"weights {weights} have NaN or infinite numbers in {tensor.name}: train and export anew")


def _inspect(content: bytes) -> ort.InferenceSession:
    """Return a session to look at and to try once, not to run."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # its errors come as exceptions as well
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _described(content: bytes, weights: str, session: ort.InferenceSession) -> DeployFile:
    """Return the file with what it says of itself; raises EngineError if that is not true."""
    properties = session.get_modelmeta().custom_metadata_map
    metadata = DeployMetadata.from_properties(properties, f"weights {weights}")
    inputs = [(value.name, value.type, len(value.shape), value.shape[1:2]) for value in session.get_inputs()]
    outputs = {value.name for value in session.get_outputs()}
    wanted = {DETECTIONS} if metadata.image is None else {DETECTIONS, DENOISED}
    if inputs != [(FRAME, "tensor(uint8)", 5, [metadata.n_frames])] or not wanted <= outputs:
        raise EngineError(
            f"weights {weights} are no deploy graph (inputs {[name for name, *_ in inputs]}, outputs "
            f"{sorted(outputs)}): write them with {_CURE}"
        )
    sizes = session.get_inputs()[0].shape[2:]
    fixed = FrameSize(*sizes) if all(isinstance(size, int) for size in sizes) else None
    example = example_of(properties, f"weights {weights}")
    return DeployFile(weights, content, hashlib.sha256(content).hexdigest(), metadata, fixed, example)
