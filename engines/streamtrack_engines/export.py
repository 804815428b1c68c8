"""The deploy graph, raw frame in and particles out, and ``streamtrack export``, which writes it as one ONNX file."""

import contextlib
import hashlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from streamtrack import __version__
from streamtrack.errors import ConfigError, EngineError
from streamtrack.simulation.crops import CropRanges, sample_crops
from streamtrack.types import MIN_FRAME_PX
from streamtrack_engines.backends.metadata import DENOISED, DETECTIONS, FRAME, DeployMetadata
from streamtrack_engines.networks.denodet import STRIDE, Denodet, denoised_signal, frame_std, normalise
from streamtrack_engines.peaks import COLUMNS, NOTHING, peak_table
from streamtrack_engines.training.losses import WINDOW_PX

MAX_DETECTIONS = 3840
"""More is refused by TensorRT's TopK."""

FixedFrame = tuple[int, int, str]
"""Height and width in px, ``uint8`` or ``uint16``."""

_OPSET = 20
_BYTES = {"uint8": 1, "uint16": 2}
_PARITY_FRAMES: tuple[FixedFrame, ...] = ((64, 64, "uint8"), (97, 133, "uint16"))


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What a deploy graph shall be; raises ConfigError if it cannot be that.

    Attributes
    ----------
    threshold
        Score from which a row of the table is a detection, unless the user of the file says otherwise; 0 to 1.
    max_detections
        Rows of the table.
    nms_radius_px
        Peaks are at least this much + 1 apart along y or x.
    fixed
        The only frame that the file takes, which TensorRT needs; None for any frame.
    """

    threshold: float = 0.5
    max_detections: int = 2048
    nms_radius_px: int = 1
    fixed: FixedFrame | None = None

    def __post_init__(self) -> None:
        _require(0 < self.threshold <= 1, f"threshold {self.threshold:g} must be above 0 and at most 1")
        _require(
            1 <= self.max_detections <= MAX_DETECTIONS,
            f"max-detections {self.max_detections} must be 1 to {MAX_DETECTIONS}, the most that TensorRT sorts",
        )
        _require(1 <= self.nms_radius_px <= 8, f"nms-radius {self.nms_radius_px} must be 1 to 8 px")
        if self.fixed:
            height, width, dtype = self.fixed
            _require(min(height, width) >= MIN_FRAME_PX, f"{height} x {width} px is too small: at least 32 x 32")
            _require(dtype in _BYTES, f"dtype {dtype!r} must be uint8 or uint16")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A network as its training left it, with the recipe (plain data) and the number of steps."""

    network: Denodet
    recipe: dict[str, Any]
    steps: int
    checkpoint_sha256: str


class DeployGraph(nn.Module):
    """A trained network with everything before and after it; no shape depends on what the frame shows.

    Parameters
    ----------
    network
        DENODET, trained.
    max_detections, nms_radius_px
        See `ExportSettings`.
    """

    def __init__(self, network: Denodet, *, max_detections: int = 2048, nms_radius_px: int = 1) -> None:
        super().__init__()
        self.network = network
        self.max_detections = max_detections
        self.nms_radius_px = nms_radius_px
        self.eval()

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Find the particles of a frame, and denoise it.

        Parameters
        ----------
        frame
            (1, 1, H, W, B) uint8, H and W at least 32: the bytes of the pixels, lowest first, B = 1 or 2. TensorRT has
            no 16-bit integers; a view of a uint16 frame as bytes costs nothing.

        Returns
        -------
        detections
            (max_detections, 4) float32, from `peak_table`. A frame without any contrast has none.
        denoised
            (H, W) float32, counts: the signal above background that the network sees, on a flat background that
            gives the image the mean of the raw frame.
        """
        counts = _counts(frame)
        signal_logit, heat_logit = self._logits(counts)
        has_contrast = counts.amax((-2, -1), keepdim=True) > counts.amin((-2, -1), keepdim=True)
        signal = torch.where(has_contrast, denoised_signal(signal_logit, frame_std(counts)), 0.0)
        background = counts.mean((-2, -1), keepdim=True) - signal.mean((-2, -1), keepdim=True)
        detections = peak_table(
            torch.where(has_contrast, heat_logit, NOTHING),
            counts,
            k=self.max_detections,
            nms_radius_px=self.nms_radius_px,
            window_px=WINDOW_PX,
        )
        return detections, (signal + background)[0, 0]

    def _logits(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the network's logits of the frame's own pixels; odd sizes are padded on their way through it."""
        height, width = counts.shape[-2:]
        # A fixed padding, and cutting off what is too much: the exporter has no padding by an amount known later.
        padded = F.pad(normalise(counts), (0, STRIDE - 1) * 2, mode="replicate")
        padded = padded[..., : (height + STRIDE - 1) // STRIDE * STRIDE, : (width + STRIDE - 1) // STRIDE * STRIDE]
        signal, heat = self.network(padded)
        return signal[..., :height, :width], heat[..., :height, :width]


def _counts(frame: Tensor) -> Tensor:
    """Return the pixels (1, 1, H, W), float32, of a frame given as bytes (1, 1, H, W, B)."""
    weight = torch.tensor([1.0, 256.0], device=frame.device)[: frame.shape[-1]]
    return (frame.to(torch.float32) * weight).sum(-1)


def read_checkpoint(path: Path) -> Trained:
    """Return the averaged network of a checkpoint of ``streamtrack train``; raises EngineError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EngineError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    network = Denodet()
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        network.load_state_dict(state["average"])
        return Trained(network, json.loads(state["recipe"]), int(state["step"]), hashlib.sha256(content).hexdigest())
    except Exception as error:  # a foreign file makes torch raise almost anything
        raise EngineError(f"{path} is not a checkpoint that 'streamtrack train' of this version wrote") from error


def describe(trained: Trained, settings: ExportSettings) -> DeployMetadata:
    """Return what an exported file says about itself."""
    return DeployMetadata(
        network="denodet",
        streamtrack_version=__version__,
        columns=COLUMNS,
        threshold=settings.threshold,
        max_detections=settings.max_detections,
        nms_radius_px=settings.nms_radius_px,
        window_px=WINDOW_PX,
        normalisation="each frame: (counts - mean) / standard deviation over all its pixels",
        recipe=trained.recipe,
        training_data=trained.recipe["crops"],
        training_steps=trained.steps,
        checkpoint_sha256=trained.checkpoint_sha256,
    )


def to_onnx(graph: DeployGraph, metadata: DeployMetadata, fixed: FixedFrame | None = None) -> bytes:
    """Return the ONNX file of a deploy graph.

    Parameters
    ----------
    graph
        What to export.
    metadata
        Goes into the file.
    fixed
        The only frame that the file shall take, which TensorRT needs; any uint8 or uint16 frame of at least 32x32 px
        by default.
    """
    import onnx

    height, width, dtype = fixed or (68, 76, "uint16")  # in a file for any frame these are examples
    sizes = {2: torch.export.Dim("height", min=MIN_FRAME_PX), 3: torch.export.Dim("width", min=MIN_FRAME_PX)}
    free = {**sizes, 4: torch.export.Dim.DYNAMIC}
    with _quiet():
        program = torch.onnx.export(
            graph,
            (torch.zeros(1, 1, height, width, _BYTES[dtype], dtype=torch.uint8),),
            input_names=[FRAME],
            output_names=[DETECTIONS, DENOISED],
            dynamic_shapes=None if fixed else (free,),
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None  # only the exporter of old returns None
    model = program.model_proto
    _strip(model)
    if not fixed:
        _name_sizes(model)
    onnx.helper.set_model_props(model, metadata.to_properties())
    model.producer_name, model.producer_version = "streamtrack", __version__
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own insides (missing torchvision, deprecations) from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning))
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


def _name_sizes(model: Any) -> None:
    """Name the free sizes in the file, where the exporter leaves formulas."""
    (frame,), (_, denoised) = model.graph.input, model.graph.output
    for value, names in ((frame, (None, None, "height", "width", "bytes")), (denoised, ("height", "width"))):
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if name:
                dimension.dim_param = name


def check_parity(content: bytes, graph: DeployGraph, frame: NDArray[np.uint8 | np.uint16], threshold: float) -> None:
    """Raise EngineError if ONNX Runtime, running a file, and torch disagree on a frame (H, W) with some contrast.

    Where the score is above half the threshold, positions must agree to 0.01 px and intensities to 0.1 %, scores to
    0.001, and the denoised image to 0.001 of its standard deviation or the frame's, whichever is greater.
    """
    import onnxruntime

    pixels = frame.view(np.uint8).reshape(1, 1, *frame.shape, frame.itemsize)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    table, denoised = session.run([DETECTIONS, DENOISED], {FRAME: pixels})
    with torch.inference_mode():
        wanted_table, wanted_denoised = (output.numpy() for output in graph(torch.tensor(pixels)))
    rows = wanted_table[wanted_table[:, 2] >= threshold / 2]
    squared = (rows[:, None, 0] - table[:, 0]) ** 2 + (rows[:, None, 1] - table[:, 1]) ** 2
    same = table[squared.argmin(1)]  # rows of nearly equal score may have changed places
    excess = {
        "positions": np.abs(same[:, :2] - rows[:, :2]) / 1e-2,
        "intensities": np.abs(same[:, 3] - rows[:, 3]) / (1e-3 * np.abs(rows[:, 3]).clip(min=frame.std())),
        "scores": np.abs(table[:, 2] - wanted_table[:, 2]) / 1e-3,
        "denoised images": np.abs(denoised - wanted_denoised) / (1e-3 * max(frame.std(), wanted_denoised.std())),
    }
    for what, ratio in excess.items():
        if not np.all(ratio <= 1):  # also where it is not a number
            raise EngineError(
                f"ONNX Runtime {onnxruntime.__version__} and torch {torch.__version__} disagree: {what} of a "
                f"{frame.dtype} frame {frame.shape} differ by {ratio.max():.3g} times the tolerance"
            )


def export(checkpoint: Path, out: Path, settings: ExportSettings) -> DeployMetadata:
    """Write a checkpoint of ``streamtrack train`` as a deploy graph, and return what the file says about itself.

    The file is compared with torch first, and appears under its name only when it is complete and right.

    Raises
    ------
    ConfigError
        The name `out` does not end in ``.onnx``, or its folder does not exist.
    EngineError
        The checkpoint cannot be read, the exported graph is not equal to the network, or `out` cannot be written.
    """
    _require(out.suffix == ".onnx", f"{out} must end in .onnx")
    _require(out.parent.is_dir(), f"the folder of {out} does not exist: make it first")
    trained = read_checkpoint(checkpoint)
    graph = DeployGraph(trained.network, max_detections=settings.max_detections, nms_radius_px=settings.nms_radius_px)
    metadata = describe(trained, settings)
    content = to_onnx(graph, metadata, settings.fixed)
    for fixed in [settings.fixed] if settings.fixed else _PARITY_FRAMES:
        check_parity(content, graph, _parity_frame(*fixed), settings.threshold)
    unfinished = out.with_name(f"{out.name}.part")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, out)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise EngineError(f"cannot write {out}: {error.strerror}") from error
    return metadata


def _parity_frame(height: int, width: int, dtype: str) -> NDArray[np.uint8 | np.uint16]:
    """Return a simulated frame with particles, the same each time."""
    ranges = CropRanges(camera_fraction=0.0, empty_fraction=0.0, low_density_fraction=0.0, snr=(4.0, 4.0))
    crop = sample_crops(np.random.default_rng(0), 1, max(height, width), ranges).noisy[0, :height, :width]
    return np.ascontiguousarray(crop.clip(0, np.iinfo(dtype).max).astype(dtype))


def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint that 'streamtrack train' wrote.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write; one of that name is replaced.")],
    threshold: Annotated[float, typer.Option(help="Score from which a peak is a detection, 0 to 1.")] = 0.5,
    max_detections: Annotated[int, typer.Option(help="Most detections in a frame, up to 3840.")] = 2048,
    nms_radius: Annotated[int, typer.Option(help="Peaks are more than this many pixels apart along y or x.")] = 1,
    height: Annotated[int | None, typer.Option(help="Fix the frame's height (for TensorRT).")] = None,
    width: Annotated[int | None, typer.Option(help="Fix the frame's width.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Fix the pixel type: uint8 or uint16.")] = None,
) -> None:
    """Turn a training checkpoint into one ONNX file with everything inside.

    Raw frame in; out come a table of particles and the denoised frame. Without --height, --width and --dtype the file
    takes any uint8 or uint16 frame of at least 32 x 32 px.
    """
    fixed = None
    if (height, width, dtype) != (None, None, None):
        if height is None or width is None or dtype is None:
            raise ConfigError("a fixed frame needs all three: --height, --width and --dtype")
        fixed = (height, width, dtype)
    settings = ExportSettings(threshold, max_detections, nms_radius, fixed)
    metadata = export(checkpoint, out, settings)
    print(
        f"{out}: {metadata.network} after {metadata.training_steps} steps, threshold {metadata.threshold:g}; "
        "ONNX Runtime and torch agree"
    )
