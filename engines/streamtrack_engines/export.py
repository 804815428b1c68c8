"""``streamtrack export``: the deploy graph as one ONNX file."""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from streamtrack import __version__
from streamtrack.errors import ConfigError, EngineError, PluginNotFoundError
from streamtrack.output import check_output, output_file
from streamtrack.types import MIN_FRAME_PX
from streamtrack_engines.backends.example import EXAMPLE_PX, example_properties
from streamtrack_engines.backends.metadata import DENOISED, DETECTIONS, FRAME, DeployMetadata
from streamtrack_engines.deploy import DeployGraph, Precision
from streamtrack_engines.heads.head import Head
from streamtrack_engines.heads.peaks import TILE_PX
from streamtrack_engines.networks.network import Network
from streamtrack_engines.onnx_model import as_onnx, store_in_half
from streamtrack_engines.parts import make_data, make_head, make_network
from streamtrack_engines.training.recipe import Recipe, recipe_of
from streamtrack_engines.training_data.truth import TrainingData

MAX_DETECTIONS = 3840
"""More is refused by TensorRT's TopK."""

FixedFrame = tuple[int, int, str]
"""Height and width in px, ``uint8`` or ``uint16``."""

_BYTES = {"uint8": 1, "uint16": 2}
_BRIGHT = 20_000  # counts of an example's brightest pixel: half precision holds no such numbers exactly
_TOLERANCES = {"float32": (1e-3, 1e-3), "float16": (1e-2, 3e-2)}  # measured in half precision: .001 and .014
_LEAST_SPREAD = 1e-9  # of an image in which nothing is
_PARITY_SIZES: tuple[FixedFrame, ...] = ((64, 64, "uint8"), (97, 133, "uint16"))


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What a deploy graph shall be; raises ConfigError if it cannot be that.

    Attributes
    ----------
    threshold
        Score from which a row of the table is a detection, unless the user of the file says otherwise; 0 to 1.
    max_detections
        Rows of the table, for each tile of 512 x 512 px.
    fixed
        The only frame that the file takes, which TensorRT needs; None for any frame.
    precision
        In which the network computes: ``float16`` for GPUs, which are much faster at it; on a CPU it is slower.
    half_weights
        Weights are held in half precision, so that the file has half the size; computed is as `precision` says.
    """

    threshold: float = 0.5
    max_detections: int = 2048
    fixed: FixedFrame | None = None
    precision: Precision = "float32"
    half_weights: bool = False

    def __post_init__(self) -> None:
        _require(0 < self.threshold <= 1, f"threshold {self.threshold:g} must be above 0 and at most 1")
        _require(
            1 <= self.max_detections <= MAX_DETECTIONS,
            f"max-detections {self.max_detections} must be 1 to {MAX_DETECTIONS}, the most that TensorRT sorts",
        )
        if self.fixed:
            height, width, dtype = self.fixed
            _require(min(height, width) >= MIN_FRAME_PX, f"{height} x {width} px is too small: at least 32 x 32")
            _require(dtype in _BYTES, f"dtype {dtype!r} must be uint8 or uint16")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A network as its training left it, with its head, the recipe and the number of steps."""

    network: Network
    head: Head
    calibration: tuple[float, ...]
    recipe: Recipe
    steps: int
    checkpoint_sha256: str


def read_checkpoint(path: Path) -> Trained:
    """Return the averaged network of a checkpoint of ``streamtrack train``; raises EngineError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EngineError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        recipe = recipe_of(json.loads(state["recipe"]), str(path))
        head = make_head(recipe.head)
        network = make_network(recipe.network, head)
        network.load_state_dict(state["average"])
        calibration = tuple(map(float, state["calibration"]))
        return Trained(network, head, calibration, recipe, int(state["step"]), hashlib.sha256(content).hexdigest())
    except PluginNotFoundError:
        raise
    except Exception as error:  # a foreign file makes torch raise almost anything
        raise EngineError(f"{path} is not a checkpoint that 'streamtrack train' of this version wrote") from error


def describe(trained: Trained, settings: ExportSettings) -> DeployMetadata:
    """Return what an exported file says about itself; of files that it learnt from their names only."""
    recipe = trained.recipe.model_dump(mode="json")
    for key in ("path", "points"):
        if isinstance(recipe["data"].get(key), str):
            recipe["data"][key] = Path(recipe["data"][key]).name
    return DeployMetadata(
        network=trained.recipe.network,
        head=trained.recipe.head,
        streamtrack_version=__version__,
        columns=trained.head.columns,
        image=trained.head.image or trained.network.image,
        threshold=settings.threshold,
        max_detections=settings.max_detections,
        tile_px=TILE_PX,
        n_frames=trained.network.n_frames,
        precision=settings.precision,
        spot_size=recipe["data"].get("spot_size"),
        calibration=trained.calibration,
        recipe=recipe,
        training_data=recipe["data"],
        training_steps=trained.steps,
        checkpoint_sha256=trained.checkpoint_sha256,
    )


def to_onnx(
    graph: DeployGraph,
    metadata: DeployMetadata,
    fixed: FixedFrame | None = None,
    shown: NDArray[np.uint16] | None = None,
    *,
    half_weights: bool = False,
) -> bytes:
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
    shown
        Example frames (T, H, W) that go into the file.
    half_weights
        As in `ExportSettings`.
    """
    import onnx

    height, width, dtype = fixed or (68, 76, "uint16")  # in a file for any frame these are examples
    sizes = {2: torch.export.Dim("height", min=MIN_FRAME_PX), 3: torch.export.Dim("width", min=MIN_FRAME_PX)}
    free = {**sizes, 4: torch.export.Dim.DYNAMIC}
    example = torch.zeros(1, graph.network.n_frames, height, width, _BYTES[dtype], dtype=torch.uint8)
    outputs = [DETECTIONS] if graph.image is None else [DETECTIONS, DENOISED]
    model = as_onnx(graph, (example,), [FRAME], outputs, None if fixed else (free,))
    if not fixed:
        _name_sizes(model)
    if half_weights:
        store_in_half(model)
    properties = metadata.to_properties() | ({} if shown is None else example_properties(shown))
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _name_sizes(model: Any) -> None:
    """Name the free sizes in the file, where the exporter leaves formulas."""
    (frame,), (table, *image) = model.graph.input, model.graph.output
    named = [(frame, (None, None, "height", "width", "bytes")), (table, ("rows", None))]
    named += [(each, ("height", "width")) for each in image]
    for value, names in named:
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if name:
                dimension.dim_param = name


def check_parity(
    content: bytes,
    graph: DeployGraph,
    frames: NDArray[np.uint8 | np.uint16],
    threshold: float,
    precision: Precision = "float32",
) -> None:
    """Raise EngineError if ONNX Runtime, running a file, and torch disagree on frames (T, H, W) with some contrast.

    Where the score is above half the threshold, positions must agree to 0.01 px, intensities to 0.1 % and standard
    deviations to 1 %; scores to 0.001, and the image to 0.001 of its standard deviation; a denoised one to that of the
    frame's, where this is greater. A file in half precision, for a graph in float32: scores to 0.01, the image to 0.03.
    """
    import onnxruntime

    pixels = frames.view(np.uint8).reshape(1, *frames.shape, frames.itemsize)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    table, *image = session.run(None, {FRAME: pixels})
    with torch.inference_mode():
        wanted_table, *wanted_image = (output.numpy() for output in graph(torch.tensor(pixels)))
    contrast = frames[-1].std()
    score, image_share = _TOLERANCES[precision]
    excess = {
        "particles": _distance(wanted_table[wanted_table[:, 2] >= threshold / 2], table, contrast),
        "scores": np.abs(table[:, 2] - wanted_table[:, 2]) / score,
    }
    for one, wanted in zip(image, wanted_image, strict=True):
        least = contrast if graph.head.image is None else _LEAST_SPREAD
        excess["images"] = np.abs(one - wanted) / (image_share * max(least, wanted.std()))
    for what, ratio in excess.items():
        if not np.all(ratio <= 1):  # also where it is not a number
            raise EngineError(
                f"ONNX Runtime {onnxruntime.__version__} and torch {torch.__version__} disagree: {what} of "
                f"{frames.dtype} frames {frames.shape} differ by {ratio.max():.3g} times the tolerance"
            )


def _distance(rows: NDArray[np.float32], table: NDArray[np.float32], contrast: float) -> NDArray[np.float32]:
    """Return how far the most similar row of a table is from each of some rows, in units of the tolerances.

    Not the row in the same place, as some of nearly equal score may have changed places.
    """
    tolerances = {0: 1e-2, 1: 1e-2, 3: 1e-3 * np.abs(rows[:, 3, None]).clip(min=contrast), 4: 1e-2 * rows[:, 4, None]}
    away = np.zeros((len(rows), len(table)), np.float32)
    for column, tolerance in tolerances.items():
        np.maximum(away, np.abs(rows[:, column, None] - table[:, column]) / tolerance, out=away)
    nearest: NDArray[np.float32] = away.min(1)
    return nearest


def export(checkpoint: Path, out: Path, settings: ExportSettings) -> DeployMetadata:
    """Write a checkpoint of ``streamtrack train`` as a deploy graph, and return what the file says about itself.

    The file is compared with torch first, and appears under its name only when it is complete and right.

    Raises
    ------
    ConfigError
        The name `out` does not end in ``.onnx``, or its folder does not exist.
    EngineError
        The checkpoint cannot be read, or the exported graph is not equal to the network.
    SinkError
        `out` cannot be written.
    """
    _require(out.suffix == ".onnx", f"{out} must end in .onnx")
    _require(out.parent.is_dir(), f"the folder of {out} does not exist: make it first")
    trained = read_checkpoint(checkpoint)
    metadata = describe(trained, settings)
    reference, data = _graph(trained, settings, "float32"), make_data(trained.recipe.data)
    shown = _shown(reference, data, settings.threshold)
    graph = _graph(trained, settings, settings.precision)
    content = to_onnx(graph, metadata, settings.fixed, shown, half_weights=settings.half_weights)
    for fixed in [settings.fixed] if settings.fixed else _PARITY_SIZES:
        frames = _parity_frames(data, trained.network.n_frames, *fixed)
        check_parity(content, reference, frames, settings.threshold, settings.precision)
    with output_file(out) as unfinished:
        unfinished.write_bytes(content)
    return metadata


def _graph(trained: Trained, settings: ExportSettings, precision: Precision) -> DeployGraph:
    graph = DeployGraph(
        trained.network,
        trained.head,
        calibration=trained.calibration,
        max_detections=settings.max_detections,
        precision=precision,
    )
    if settings.half_weights:
        graph.network.half().to(graph.dtype)  # rounded
    return graph


def _shown(graph: DeployGraph, data: TrainingData, threshold: float) -> NDArray[np.uint16]:
    """Return example frames, one more than are seen at once; bright ones, if that changes nothing.

    Cut so that the surest particle lies in the middle of the corner that is all that the smallest frames show.
    """
    wide = data.example(graph.network.n_frames + 1, 2 * EXAMPLE_PX, 2 * EXAMPLE_PX)
    half = MIN_FRAME_PX // 2
    y, x, score = _found(graph, _counts(wide, 1))[:3]
    may = ((y >= half) & (y < EXAMPLE_PX + half) & (x >= half) & (x < EXAMPLE_PX + half)).nonzero()[:, 0]
    best = int(may[score[may].argmax()]) if len(may) else 0
    top, left = (int(min(max(round(float(place[best])) - half, 0), EXAMPLE_PX)) for place in (y, x))
    frames = wide[:, top : top + EXAMPLE_PX, left : left + EXAMPLE_PX]
    bright, plain = (_counts(frames, gain) for gain in (max(1, int(_BRIGHT // max(frames.max(), 1))), 1))
    corner = bright[:, :MIN_FRAME_PX, :MIN_FRAME_PX]
    finds = all(bool((_found(graph, each)[2] >= threshold).any()) for each in (bright, corner))
    return bright if finds else plain


def _counts(frames: NDArray[np.float32], gain: int) -> NDArray[np.uint16]:
    return (frames * gain).round().clip(0, 65535).astype(np.uint16)


@torch.inference_mode()
def _found(graph: DeployGraph, frames: NDArray[np.uint16]) -> Tensor:
    """Return the columns of the table of the last of some frames (T, H, W)."""
    n_frames = graph.network.n_frames
    pixels = torch.from_numpy(np.ascontiguousarray(frames[-n_frames:]).view(np.uint8))
    return graph.detect(pixels.reshape(1, n_frames, *frames.shape[1:], 2)).T


def _parity_frames(
    data: TrainingData, n_frames: int, height: int, width: int, dtype: str
) -> NDArray[np.uint8 | np.uint16]:
    """Return an example (n_frames, H, W) of what the network was trained on."""
    return data.example(n_frames, height, width).clip(0, np.iinfo(dtype).max).astype(dtype)


def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint that 'streamtrack train' wrote.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    threshold: Annotated[float, typer.Option(help="Score from which a peak is a detection, 0 to 1.")] = 0.5,
    max_detections: Annotated[int, typer.Option(help="Most detections in 512 x 512 px, up to 3840.")] = 2048,
    height: Annotated[int | None, typer.Option(help="Fix the frame's height (for TensorRT).")] = None,
    width: Annotated[int | None, typer.Option(help="Fix the frame's width.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Fix the pixel type: uint8 or uint16.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Compute in half precision (for GPUs).")] = False,
    half_weights: Annotated[
        bool, typer.Option("--half-weights", help="Hold the weights in half precision: half the file, any processor.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
) -> None:
    """Turn a training checkpoint into one ONNX file with everything inside.

    Raw frames in; out come a table of particles and the denoised frame. Without --height, --width and --dtype the file
    takes any uint8 or uint16 frame of at least 32 x 32 px.
    """
    check_output(out, overwrite, checkpoint)
    fixed = None
    if (height, width, dtype) != (None, None, None):
        if height is None or width is None or dtype is None:
            raise ConfigError("a fixed frame needs all three: --height, --width and --dtype")
        fixed = (height, width, dtype)
    settings = ExportSettings(threshold, max_detections, fixed, "float16" if half else "float32", half_weights)
    metadata = export(checkpoint, out, settings)
    print(
        f"{out}: {metadata.network.kind} after {metadata.training_steps} steps, threshold {metadata.threshold:g}; "
        "ONNX Runtime and torch agree"
    )
