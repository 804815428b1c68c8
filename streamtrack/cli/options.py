"""Options that several commands have, and the settings that they stand for; None says nothing."""

from pathlib import Path
from typing import Annotated, Any

import typer

Engine = Annotated[
    str | None, typer.Option(help="What finds the particles: a plug-in that 'streamtrack plugins engines' lists.")
]
Weights = Annotated[
    str | None,
    typer.Option(help="Weights of the engine: a name, or an .onnx file that 'streamtrack export' wrote."),
]
Threshold = Annotated[float | None, typer.Option(help="Detection score to reach, 0 to 1.")]
Linker = Annotated[str | None, typer.Option(help="Linker plug-in: imm, nearest or trackpy.")]
Channel = Annotated[str | None, typer.Option(help="Channel, by index or label; 'all' tracks each.")]
Plane = Annotated[str | None, typer.Option(help="Z plane by index, 'max' for the maximum projection, 'all' for each.")]
Level = Annotated[int | None, typer.Option(help="Resolution level of an OME-Zarr pyramid, 0 is the finest.")]
Frames = Annotated[str | None, typer.Option(help="Frames A:B, A included and B not; either may be left out.")]
Axes = Annotated[str | None, typer.Option(help="Order of the axes, e.g. TCYX, where the file does not say.")]
Roi = Annotated[str | None, typer.Option(help="Search only this rectangle, Y0:Y1,X0:X1 in px.")]
Mask = Annotated[
    Path | None, typer.Option(help="Search only where this image is not 0: labels or 0/1, TIFF, PNG, npy or zarr.")
]
PixelSize = Annotated[
    float | None,
    typer.Option("--pixel-size", metavar="UM", help="Size of a pixel, um; goes before what the source says."),
]
Interval = Annotated[
    float | None,
    typer.Option("--interval", metavar="SECONDS", help="From frame to frame; goes before what the source says."),
]
View = Annotated[bool, typer.Option("--view", help="Show the run in the browser while it is on.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results that the folder holds.")]


def part_of_movie(
    channel: str | None,
    z: str | None,
    position: str | None,
    level: int | None,
    frames: str | None,
    axes: str | None,
) -> dict[str, Any]:
    """Return settings of the source: which part of a movie is tracked."""
    which = {"channel": channel, "z": z, "position": position}
    chosen = {key: _index_or_text(value) for key, value in which.items()}
    return {**chosen, "level": level, "frames": frames, "axes": axes}


def detection(engine: str | None, weights: str | None, threshold: float | None = None) -> dict[str, Any]:
    """Return settings of the engine."""
    return {"kind": engine, "weights": weights, "threshold": threshold}


def searched_area(roi: str | None, mask: Path | None) -> dict[str, Any]:
    """Return settings of the run: where it looks."""
    return {"roi": roi, "mask": None if mask is None else mask.expanduser().absolute()}


def calibration(pixel_size: float | None, interval: float | None) -> dict[str, Any]:
    """Return settings of the run: what a pixel and a frame are."""
    return {"pixel_size_um": pixel_size, "frame_interval_s": interval}


def _index_or_text(text: str | None) -> int | str | None:
    """Return what stands for one of several: an index, or a name."""
    return int(text) if text is not None and text.lstrip("-").isdigit() else text
