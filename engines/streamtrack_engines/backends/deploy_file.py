"""Reads a deploy graph's file and checks that it is one, whatever runs it later."""

import hashlib

import onnxruntime as ort

from streamtrack.errors import EngineError
from streamtrack_engines.backends.metadata import DENOISED, DETECTIONS, FRAME, DeployMetadata
from streamtrack_engines.backends.runner import DeployFile, FrameSize
from streamtrack_engines.weights import read_weights


def read_deploy_file(weights: str) -> DeployFile:
    """Return a deploy graph with what it says of itself, checked against its inputs and outputs.

    Parameters
    ----------
    weights
        Name of weights that come with the package, or path of an ``.onnx`` file.

    Raises
    ------
    EngineError
        The file is missing, damaged, or no deploy graph.
    """
    content = read_weights(weights)
    session = _inspect(content, weights)
    metadata = DeployMetadata.from_properties(session.get_modelmeta().custom_metadata_map, f"weights {weights}")
    inputs = [(value.name, value.type, len(value.shape), value.shape[1:2]) for value in session.get_inputs()]
    outputs = {value.name for value in session.get_outputs()}
    if inputs != [(FRAME, "tensor(uint8)", 5, [metadata.n_frames])] or not {DETECTIONS, DENOISED} <= outputs:
        raise EngineError(
            f"weights {weights} are no deploy graph (inputs {[name for name, *_ in inputs]}, outputs "
            f"{sorted(outputs)}): write them with 'streamtrack export'"
        )
    sizes = session.get_inputs()[0].shape[2:]
    fixed = FrameSize(*sizes) if all(isinstance(size, int) for size in sizes) else None
    return DeployFile(weights, content, hashlib.sha256(content).hexdigest(), metadata, fixed)


def without_denoised(content: bytes) -> bytes:
    """Return a deploy graph's file without the denoised frame and all that is computed for it alone."""
    import onnx  # a fifth of a second that other back ends need not wait for
    from onnx.utils import Extractor

    return bytes(Extractor(onnx.load_from_string(content)).extract_model([FRAME], [DETECTIONS]).SerializeToString())


def _inspect(content: bytes, weights: str) -> ort.InferenceSession:
    """Return a session to look at, not to run."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors only; those come as exceptions as well
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no public base class
        raise EngineError(f"weights {weights} are damaged or no ONNX file: {str(error).splitlines()[0]}") from error
