"""``streamtrack demo``: one line from nothing to tracks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrack.cli import options

if TYPE_CHECKING:
    from streamtrack.config import RunConfig

DEMO_FOLDER = Path("streamtrack-demo")
LIVE = Path(__file__).with_name("demo_live")
DEMO_SOURCE = "sim:receptor?snr=4&density=500&frames=60&size=256&seed=2026"


def demo(
    source: Annotated[
        str, typer.Argument(help="A movie to open instead of the simulated one; same forms as in 'track'.")
    ] = DEMO_SOURCE,
    out: Annotated[Path, typer.Option(help="Folder for the results; the default one is replaced.")] = DEMO_FOLDER,
    overwrite: options.Overwrite = False,
    movie: Annotated[
        Path | None, typer.Option(help="Only write the movie there, as OME-Zarr, and its ground truth beside it.")
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Micro-Manager's demo camera, shown in the browser (extras micromanager, view)."),
    ] = False,
) -> None:
    """Track a simulated movie, score it against its ground truth, and leave the pictures to look at."""
    from streamtrack.cli.evaluate import print_scores
    from streamtrack.cli.live import viewed
    from streamtrack.cli.running import EXIT_CODES, make_config, run, under_a_bar
    from streamtrack.cli.scoring import score_run

    if movie is not None:
        return _write_movie(source, movie)
    if live:
        report = run(_live_config, out, overwrite or out == DEMO_FOLDER, viewed)
        raise typer.Exit(EXIT_CODES[report["status"]])
    report = run(lambda: make_config(source), out, overwrite or out == DEMO_FOLDER, under_a_bar)
    if report["status"] == "completed" and source.startswith("sim:"):
        print_scores(score_run(out))
    if report["status"] in ("completed", "incomplete"):
        print(f"Look at {out / 'overview.png'}")
    raise typer.Exit(EXIT_CODES[report["status"]])


def _live_config() -> "RunConfig":
    """Return a run on the demo devices, wherever this package lies."""
    from streamtrack.cli.running import make_config

    config = make_config(None, LIVE / "run.toml")
    microscope = config.microscope and config.microscope.model_copy(update={"config": str(LIVE / "beads.cfg")})
    return config.model_copy(update={"microscope": microscope})


def _write_movie(source: str, path: Path) -> None:
    """Write a simulated movie to try things out with, and its truth; never over what is there."""
    from contextlib import closing

    from streamtrack.cli.scoring import simulated_truth
    from streamtrack.config import PluginConfig
    from streamtrack.errors import ConfigError
    from streamtrack.output import check_output, output_file
    from streamtrack.registry import build, source_from_text
    from streamtrack.sinks.raw_movie import RawMovie
    from streamtrack.types import Frame

    truth = path.parent / f"{path.name.partition('.')[0]}_truth.csv"
    if not source.startswith("sim:"):
        raise ConfigError(f"{source} is no simulated movie: --movie writes those, sim:receptor for example")
    for file in (path, truth):
        check_output(file, False)
    with closing(build("sources", PluginConfig(**source_from_text(source))).instance) as simulated:
        written = RawMovie(path, simulated.info, 0)
        for frame in simulated.frames():
            if isinstance(frame, Frame):
                written.add(frame)
        written.close({})
    with output_file(truth) as partial:
        simulated_truth(source).to_csv(partial, index=False)
    print(f"{path}, {truth}")
