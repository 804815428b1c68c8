"""``streamtrack track``: from a movie to detections, tracks and a report."""

from pathlib import Path
from typing import Annotated

import typer

from streamtrack.cli.running import ENGINE_HELP, EXIT_CODES, WEIGHTS_HELP, make_config, run, under_a_bar


def track(
    source: Annotated[
        str | None,
        typer.Argument(
            help="Path of a movie in zarr, OME-Zarr, TIFF, or what an installed plug-in opens; or a simulated one: "
            "'sim:vesicle?snr=4&density=500' (also sim:receptor, sim:microtubule; frames, size, seed)."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("streamtrack-results"),
    config: Annotated[Path | None, typer.Option(help="TOML file of the run; the arguments here override it.")] = None,
    channel: Annotated[str | None, typer.Option(help="Channel, by index or label; 'all' tracks each.")] = None,
    z: Annotated[
        str | None, typer.Option(help="Z plane by index, 'max' for the maximum projection, 'all' for each.")
    ] = None,
    position: Annotated[
        str | None, typer.Option(help="Stage position (or image of several), by index or name; 'all' tracks each.")
    ] = None,
    level: Annotated[int | None, typer.Option(help="Resolution level of an OME-Zarr pyramid, 0 is the finest.")] = None,
    frames: Annotated[
        str | None, typer.Option(help="Frames A:B, A included and B not; either may be left out.")
    ] = None,
    axes: Annotated[str | None, typer.Option(help="Order of the axes, e.g. TCYX, where the file does not say.")] = None,
    roi: Annotated[str | None, typer.Option(help="Search only this rectangle, Y0:Y1,X0:X1 in px.")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Search only where this image is not 0: labels or 0/1, TIFF, PNG, npy or zarr.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help=ENGINE_HELP)] = None,
    weights: Annotated[str | None, typer.Option(help=WEIGHTS_HELP)] = None,
    threshold: Annotated[float | None, typer.Option(help="Detection score to reach, 0 to 1.")] = None,
    linker: Annotated[str | None, typer.Option(help="Linker plug-in: imm, nearest or trackpy.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results that the folder holds.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was killed or stopped there, if there is one.")
    ] = False,
) -> None:
    """Track the particles of a movie.

    Writes detections.parquet, tracks.parquet, tracks.csv, report.json and overview.png. Exit code 0: complete;
    2: an error; 3: incomplete, frames were lost (the report says which and why); 130: interrupted.
    """
    chosen = {
        "channel": index_or_text(channel),
        "z": index_or_text(z),
        "position": index_or_text(position),
        "level": level,
        "frames": frames,
        "axes": axes,
    }
    detection = {"kind": engine, "weights": weights, "threshold": threshold}
    area = {"roi": roi, "mask": None if mask is None else mask.expanduser().absolute()}
    report = run(
        lambda: make_config(source, config, chosen, detection, linker, area=area), out, overwrite, under_a_bar, resume
    )
    raise typer.Exit(EXIT_CODES[report["status"]])


def index_or_text(text: str | None) -> int | str | None:
    """Return what stands for one of several: an index, or a name."""
    return int(text) if text is not None and text.lstrip("-").isdigit() else text
