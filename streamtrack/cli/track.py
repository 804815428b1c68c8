"""``streamtrack track``: from a movie to detections, tracks and a report."""

from pathlib import Path
from typing import Annotated

import typer

from streamtrack.cli import options
from streamtrack.cli.helping import FOLLOW_S
from streamtrack.cli.running import EXIT_CODES, make_config, run, under_a_bar


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
    channel: options.Channel = None,
    z: options.Plane = None,
    position: Annotated[
        str | None, typer.Option(help="Stage position (or image of several), by index or name; 'all' tracks each.")
    ] = None,
    level: options.Level = None,
    frames: options.Frames = None,
    axes: options.Axes = None,
    roi: options.Roi = None,
    mask: options.Mask = None,
    pixel_size: options.PixelSize = None,
    interval: options.Interval = None,
    engine: options.Engine = None,
    weights: options.Weights = None,
    threshold: options.Threshold = None,
    linker: options.Linker = None,
    follow: Annotated[
        float | None,
        typer.Option(
            metavar="[SECONDS]",
            help="Track a movie (zarr, TIFF, NDTiff) that another program still writes, until it has written nothing "
            f"new for SECONDS, by default {FOLLOW_S}.",
        ),
    ] = None,
    view: options.View = False,
    overwrite: options.Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was killed or stopped there, if there is one.")
    ] = False,
) -> None:
    """Track the particles of a movie.

    Writes detections.parquet, tracks.parquet, tracks.csv, report.json and overview.png. Exit code 0: complete;
    2: an error; 3: incomplete, frames were lost (the report says which and why); 130: interrupted.
    """
    chosen = {**options.part_of_movie(channel, z, position, level, frames, axes), "follow": follow}
    detection = options.detection(engine, weights, threshold)
    of_run = options.searched_area(roi, mask) | options.calibration(pixel_size, interval)
    report = run(
        lambda: make_config(source, config, chosen, detection, linker, of_run=of_run, view=view),
        out,
        overwrite,
        under_a_bar,
        resume,
    )
    raise typer.Exit(EXIT_CODES[report["status"]])
