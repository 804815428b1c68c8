"""``streamtrack pack``: anyone's ONNX network as a deploy file, which every back end runs."""

import contextlib
from dataclasses import dataclass
from itertools import islice
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import onnx
import onnx.compose
import onnx.version_converter
import torch
import typer
from numpy.typing import NDArray

from streamtrack import __version__, registry
from streamtrack.columns import TAKEN
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError, EngineError, foreign_errors
from streamtrack.output import check_output, output_file
from streamtrack.types import MIN_FRAME_PX, Column, Frame
from streamtrack_engines.backends.example import EXAMPLE_PX, example_properties
from streamtrack_engines.backends.metadata import DETECTIONS, FRAME, REQUIRED_COLUMNS, DeployMetadata
from streamtrack_engines.backends.proof import reference_movie
from streamtrack_engines.backends.runner import FrameSize
from streamtrack_engines.foreign import AfterHeatMap, AfterTable, Before, Scaling
from streamtrack_engines.heads.head import COLUMNS
from streamtrack_engines.heads.peaks import TILE_PX
from streamtrack_engines.onnx_model import OPSET, as_onnx

Output = Literal["heatmap", "logits", "table"]

_MOST_ROWS = 3840  # more is refused by TensorRT's TopK
_MOST_SHOWN = 9
_SIZES: dict[int, Any] = {
    2: torch.export.Dim("height", min=MIN_FRAME_PX),
    3: torch.export.Dim("width", min=MIN_FRAME_PX),
}


@dataclass(frozen=True, slots=True)
class PackSettings:
    """What is to be known of a network from elsewhere.

    Attributes
    ----------
    output
        A heat map from 0 to 1, one of logits, or a table.
    columns
        Of the table, in its order: ``y``, ``x`` (px, (0, 0) the centre of the first pixel) and ``score`` (0 to 1) are
        among them; each as ``name`` or ``name:unit``.
    scaling
        Of the pixels before the network.
    stride
        Height and width that it takes are multiples of this.
    threshold
        Score from which a row is a detection.
    max_detections
        Most peaks of a heat map, for each tile of 512 x 512 px.
    sigma_px
        Standard deviation of the positions, where the network does not say.
    """

    output: Output = "heatmap"
    columns: tuple[str, ...] = ()
    scaling: Scaling = "none"
    stride: int = 1
    threshold: float = 0.5
    max_detections: int = 1024
    sigma_px: float = 0.5


def pack(content: bytes, name: str, settings: PackSettings, example: NDArray[np.uint16] | None = None) -> bytes:
    """Return a deploy file of a network that takes (1, frames, H, W), float32, and gives a heat map or a table.

    Raises
    ------
    ConfigError
        The settings do not fit the network.
    EngineError
        The content is no ONNX file, or cannot be joined with what surrounds it.
    """
    with foreign_errors(EngineError, f"{name} is no ONNX file"):
        network = onnx.load_from_string(content)
        onnx.checker.check_model(network)
    if any(each.data_location == onnx.TensorProto.EXTERNAL for each in network.graph.initializer):
        raise ConfigError(f"{name} keeps weights in another file: write them into one, with external_data=False")
    columns = _columns(settings)
    n_frames = _frames_of(network, name)
    rows = settings.max_detections if settings.output != "table" else _rows_of(network, name, len(settings.columns))
    if not 1 <= rows <= _MOST_ROWS:
        raise ConfigError(f"a table of {rows} rows cannot be sorted by TensorRT: 1 to {_MOST_ROWS}")
    with foreign_errors(EngineError, f"{name} cannot be joined with what reads frames and writes the table"):
        model = _joined(network, n_frames, settings)
    metadata = DeployMetadata(
        streamtrack_version=__version__,
        network=PluginConfig.model_validate({"kind": "onnx", "name": name}),
        columns=columns,
        threshold=settings.threshold,
        max_detections=rows,
        tile_px=None if settings.output == "table" else TILE_PX,
        n_frames=n_frames,
    )
    shown = reference_movie(n_frames + 1, FrameSize(EXAMPLE_PX, EXAMPLE_PX, 2)) if example is None else example
    onnx.helper.set_model_props(model, metadata.to_properties() | example_properties(shown.astype(np.uint16)))
    return bytes(model.SerializeToString(deterministic=True))


def _columns(settings: PackSettings) -> tuple[Column, ...]:
    """Return the columns of the packed table; raises ConfigError."""
    if settings.output != "table":
        if settings.columns:
            raise ConfigError("columns are those of a table: a heat map has y, x, score, intensity and sigma")
        return COLUMNS
    named = [Column(name, unit) for name, _, unit in (each.partition(":") for each in settings.columns)]
    names = [each.name for each in named]
    lacking = [name for name in ("y", "x", "score") if name not in names]
    if lacking or len(set(names)) < len(names):
        raise ConfigError(f"columns {', '.join(names) or 'none'}: y, x and score must be there, and each only once")
    others = tuple(each for each in named if each.name not in REQUIRED_COLUMNS)
    for name in (each.name for each in others):
        if name in TAKEN or not name.isidentifier():
            raise ConfigError(
                f"column {name!r} cannot be: tables have one of that name, or it is not of letters, digits and _ alone"
            )
    return (*COLUMNS, *others)


def _input(network: Any) -> Any:
    """Return the network's only input, None if it has several or none."""
    weights = {each.name for each in network.graph.initializer}
    inputs = [each for each in network.graph.input if each.name not in weights]
    return inputs[0] if len(inputs) == 1 else None


def _frames_of(network: Any, name: str) -> int:
    """Return how many frames the network takes at once: the channels of its only input."""
    given = _input(network)
    kind = given.type.tensor_type if given is not None else None
    dims = list(kind.shape.dim) if kind is not None and kind.elem_type == onnx.TensorProto.FLOAT else []
    sizes = [each.dim_value for each in dims]
    if len(sizes) != 4 or sizes[0] > 1 or not sizes[1] or any(sizes[2:]):
        raise ConfigError(
            f"{name} must have one input, (1, frames, height, width) of float32, with height and width free "
            "(dynamic_axes of torch.onnx.export)"
        )
    return int(sizes[1])


def _rows_of(network: Any, name: str, n_columns: int) -> int:
    """Return how many rows the table has."""
    shape = [d.dim_value for d in network.graph.output[0].type.tensor_type.shape.dim]
    if len(shape) != 2 or shape[1] != n_columns or not shape[0]:
        raise ConfigError(
            f"{name} gives {shape}, 0 where the size is free: a table must have a fixed number of rows, and the "
            f"{n_columns} columns that were named"
        )
    return int(shape[0])


def _joined(network: Any, n_frames: int, settings: PackSettings) -> Any:
    """Return the model from frames as bytes to the table."""
    before, after = _before(n_frames, settings), _after(settings, network.graph.output[0])
    if any(each.domain == "" and each.version != OPSET for each in network.opset_import):
        network = onnx.version_converter.convert_version(network, OPSET)
    network.ir_version = before.ir_version
    network.graph.ClearField("value_info")
    network = onnx.compose.add_prefix(network, "network/")
    given, result = _input(network).name, network.graph.output[0].name
    kept = ["counts", "inside", result]
    model = onnx.compose.merge_models(before, network, [("seen", given)], outputs=kept)
    links = [(result, "after/found"), ("counts", "after/counts"), ("inside", "after/inside")]
    model = onnx.compose.merge_models(model, after, links, outputs=[DETECTIONS])
    model.producer_name, model.producer_version = "streamtrack", __version__
    onnx.checker.check_model(model, full_check=True)
    return model


def _before(n_frames: int, settings: PackSettings) -> Any:
    free = {**_SIZES, 4: torch.export.Dim.DYNAMIC}
    example = torch.zeros(1, n_frames, 68, 76, 2, dtype=torch.uint8)
    module = Before(settings.scaling, settings.stride).eval()
    return as_onnx(module, (example,), [FRAME], ["seen", "counts", "inside"], (free,))


def _after(settings: PackSettings, output: Any) -> Any:
    found, counts, inside = (torch.zeros(1, 1, 68, 76) for _ in range(3))  # one for all would be one input
    if settings.output == "table":
        names = tuple(each.partition(":")[0] for each in settings.columns)
        module: torch.nn.Module = AfterTable(names, settings.sigma_px)
        found, free = torch.zeros([d.dim_value for d in output.type.tensor_type.shape.dim]), {}
    else:
        module = AfterHeatMap(settings.max_detections, settings.sigma_px, settings.output == "logits")
        free = _SIZES
    sizes = (free, _SIZES, _SIZES)
    model = as_onnx(module.eval(), (found, counts, inside), ["found", "counts", "inside"], [DETECTIONS], sizes)
    return onnx.compose.add_prefix(model, "after/", rename_outputs=False)


def write(content: bytes, out: Path) -> None:
    """Try a packed file, and let it appear under its name.

    Raises EngineError if it finds nothing in its example, SinkError if it cannot be written.
    """
    from streamtrack_engines.backends.deploy_file import read_deploy_file

    with output_file(out) as unfinished:
        unfinished.write_bytes(content)
        try:
            read_deploy_file(str(unfinished))
        except EngineError as error:
            raise EngineError(str(error).replace(str(unfinished), str(out))) from error


def pack_command(
    network: Annotated[Path, typer.Argument(help="An ONNX file: (1, frames, H, W) float32 in, free H and W.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    output: Annotated[str, typer.Option(help="What it gives: heatmap (0 to 1), logits, or table.")] = "heatmap",
    columns: Annotated[
        str, typer.Option(help="Of a table, in order: y,x,score,... ; others are kept, as NAME or NAME:UNIT.")
    ] = "",
    scaling: Annotated[
        str, typer.Option(help="Of the pixels: none, full (over 255 or 65535), max, minmax or standard, by frame.")
    ] = "none",
    stride: Annotated[int, typer.Option(help="Frames are padded to multiples of this.", min=1, max=128)] = 1,
    threshold: Annotated[float, typer.Option(help="Score from which a row is a detection, 0 to 1.")] = 0.5,
    max_detections: Annotated[int, typer.Option(help="Most peaks of a heat map in 512 x 512 px, up to 3840.")] = 1024,
    sigma_px: Annotated[float, typer.Option(help="Standard deviation of the positions, where it says none.")] = 0.5,
    example: Annotated[
        Path | None, typer.Option(help="A movie in which it finds something; by default made-up round spots.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
) -> None:
    """Make an engine of anyone's network: image in, heat map or table out.

    The file is tried before it is written. 'streamtrack track MOVIE --weights OUT' then runs it, in every back end but
    torch.
    """
    settings = _checked(output, columns, scaling, stride, threshold, max_detections, sigma_px)
    if out.suffix != ".onnx" or not out.parent.is_dir():
        raise ConfigError(f"{out} must end in .onnx, and its folder must exist")
    check_output(out, overwrite, network)
    with foreign_errors(EngineError, f"cannot read {network}"):
        content = network.read_bytes()
    write(pack(content, network.name, settings, None if example is None else _shown(example)), out)
    print(f"{out}: {network.name}, threshold {threshold:g}; it finds something in its example frames")


def _checked(output: str, columns: str, scaling: str, *numbers: Any) -> PackSettings:
    """Return what was typed as settings; raises ConfigError."""
    stride, threshold, max_detections, sigma_px = numbers
    for name, value, known in (("output", output, get_args(Output)), ("scaling", scaling, get_args(Scaling))):
        if value not in known:
            raise ConfigError(f"{name} {value!r} must be one of {', '.join(known)}")
    if not 0 < threshold <= 1 or not 0 < sigma_px < inf:
        raise ConfigError(
            f"threshold {threshold:g} must be above 0 and at most 1, sigma-px {sigma_px:g} a number above 0"
        )
    named = tuple(each.strip() for each in columns.split(",") if each.strip())
    kinds: Any = output, scaling
    return PackSettings(kinds[0], named, kinds[1], stride, threshold, max_detections, sigma_px)


def _shown(movie: Path) -> NDArray[np.uint16]:
    """Return the middle of the first frames of a movie."""
    source = registry.build("sources", PluginConfig.model_validate(registry.source_from_text(str(movie)))).instance
    with contextlib.closing(source):
        frames = [each.pixels for each in islice(source.frames(), _MOST_SHOWN) if isinstance(each, Frame)]
    if not frames:
        raise ConfigError(f"{movie} has no frames to show")
    middle = tuple(slice(max(0, (size - EXAMPLE_PX) // 2), (size + EXAMPLE_PX) // 2) for size in frames[0].shape)
    shown = np.stack([each[middle] for each in frames]).astype(np.float32)
    return np.nan_to_num(shown, posinf=0).clip(0, 65535).astype(np.uint16)
