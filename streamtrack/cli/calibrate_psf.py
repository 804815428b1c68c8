"""``streamtrack calibrate psf``: how a cylindrical lens shows a point at each height."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from streamtrack import registry
from streamtrack.cli.options import Axes, Channel, part_of_movie
from streamtrack.cli.saying import say
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError
from streamtrack.output import check_output, output_file
from streamtrack.protocols import FrameSource
from streamtrack.settings import settings_model
from streamtrack.types import Frame

if TYPE_CHECKING:
    from streamtrack.calibration.psf import PsfFit


def psf(
    beads: Annotated[str, typer.Argument(help="Stack of beads on glass, through the focus: zarr, OME-Zarr, TIFF, ...")],
    step_um: Annotated[
        float | None,
        typer.Option(help="How far the focus drive went from plane to plane, um; negative if its numbers fell."),
    ] = None,
    channel: Channel = None,
    axes: Axes = None,
    out: Annotated[Path, typer.Option(help="File to write, .toml; the picture beside it ends in .png.")] = Path(
        "psf.toml"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files that are there.")] = False,
) -> None:
    """Measure how wide the image of a point is at each height, with a cylindrical lens before the camera.

    Takes a stack of beads of 0.1 to 0.2 um on glass, 1 um to each side of the focus, 0.05 um apart. Planes are z planes
    of the file, or its frames. Writes the file that engines read as 'psf', and a picture.
    """
    from streamtrack.calibration.psf import measure_psf
    from streamtrack.calibration.psf_figure import draw

    if out.suffix.lower() != ".toml":
        raise ConfigError(f"cannot write {out}: its name must end in .toml")
    picture = out.with_suffix(".png")
    for path in (out, picture):
        check_output(path, overwrite, Path(beads))
    stack, said_um = read_stack(beads, part_of_movie(channel, None, None, None, None, axes))
    step = said_um if step_um is None else step_um
    if step is None or not np.isfinite(step) or step == 0:
        raise ConfigError("the stack does not say how far its planes are from each other: give --step-um")
    found = measure_psf(stack, step)
    with output_file(picture) as partial:
        draw(found, partial)
    with output_file(out) as partial:
        partial.write_text(found.psf.toml(), encoding="utf-8", newline="\n")
    say(*in_words(found))
    say(
        f"written to {out} and {picture.name}; in the table [engine] of the run's file:",
        f"psf = {json.dumps(out.as_posix())}",
    )


def in_words(found: "PsfFit") -> list[str]:
    """Return what was found."""
    y, x, (low, high) = found.psf.y, found.psf.x, found.psf.range_um
    return [
        f"{len(found.z_um)} of {found.seen} beads agree; {100 * found.residual:.1f} % of the widths are left",
        f"in focus along y at {y.focus_um:+.3f} um, sigma {y.sigma_px:.2f} px; along x at {x.focus_um:+.3f} um, "
        f"{x.sigma_px:.2f} px",
        f"heights are told from {low:.2f} to {high:.2f} um",
    ]


def read_stack(text: str, part: dict[str, Any]) -> tuple[NDArray[Any], float | None]:
    """Return the planes of a stack, (Z, H, W), and how far they are from each other, um, where that is said."""
    table = {**registry.source_from_text(text), **{key: value for key, value in part.items() if value is not None}}
    knows_z = "z" in settings_model(registry.load("sources", table["kind"])).model_fields
    with closing(_opened({**table, "z": "max"} if knows_z else table)) as source:
        choices = source.choices() if hasattr(source, "choices") else {}
        n_planes = len(choices.get("z", ()))
        if n_planes <= 1:
            return np.stack([_pixels(item, text) for item in source.frames()]), None
    planes, heights = zip(*(_plane({**table, "z": z}, text) for z in range(n_planes)), strict=True)
    step_um = None if None in heights[:2] else heights[1] - heights[0]
    return np.stack(planes), step_um


def _opened(table: dict[str, Any]) -> FrameSource:
    source: FrameSource = registry.build("sources", PluginConfig.model_validate(table)).instance
    return source


def _plane(table: dict[str, Any], text: str) -> tuple[NDArray[Any], float | None]:
    with closing(_opened(table)) as source:
        items: Iterator[Any] = iter(source.frames())
        return _pixels(next(items), text), source.info.z_um


def _pixels(item: Any, text: str) -> NDArray[Any]:
    if not isinstance(item, Frame):
        raise ConfigError(
            f"{text}: plane {item.index} cannot be read ({item.cause}): take the stack anew, or without it"
        )
    return np.asarray(item.pixels)
