"""``streamtrack batch``: many movies, or long ones, on all cores or a cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrack.cli import options
from streamtrack.cli.running import EXIT_CODES, make_tables, stoppable
from streamtrack.cli.saying import say, say_error

if TYPE_CHECKING:
    from streamtrack.offline.rows import MovieRow

WORST_FIRST = ("failed", "interrupted", "waiting", "running", "incomplete", "completed")


def batch(
    movies: Annotated[
        list[str],
        typer.Argument(help="Movies, patterns in quotes such as 'plate/*.zarr', or folders with movies in them."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results; each movie has a folder in it.")],
    config: Annotated[
        Path | None, typer.Option(help="TOML file with the settings; the arguments here override it.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on this computer; by default one for each core.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Use the workers of a scheduler of dask, tls://HOST:PORT.")
    ] = None,
    resource: Annotated[
        str | None, typer.Option(help="Ask only workers that were started with this resource, e.g. GPU.")
    ] = None,
    block: Annotated[int | None, typer.Option(min=1, help="Frames of a task; by default 32 to 256.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a block that failed is tried again.")] = 2,
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=1, help="How long a block may take.")] = 3600.0,
    channel: options.Channel = None,
    z: options.Plane = None,
    position: Annotated[str | None, typer.Option(help="Position, by index or name; by default each of them.")] = None,
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
    pictures: Annotated[bool, typer.Option("--pictures", help="Draw overview.png of each movie, too.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Track all again, and replace results of other settings.")
    ] = False,
) -> None:
    """Track many movies, or long ones, with all cores of this computer or those of a cluster.

    Each movie, position and channel has a folder in that of the results, with the tables of 'track'; report.html
    compares them. What an earlier batch into the same folder has tracked to its end is left as it is. Exit code 0: all
    complete; 2: an error, or a movie failed; 3: frames were lost; 130: interrupted.
    """
    chosen = options.part_of_movie(channel, z, position, level, frames, axes)
    detection = options.detection(engine, weights, threshold)
    of_run = options.searched_area(roi, mask) | options.calibration(pixel_size, interval)
    with stoppable() as stop:
        with stop.breaks_off():
            from streamtrack.offline.batch import BatchRun, batch_config
            from streamtrack.offline.plan import BatchPlan
            from streamtrack.offline.progress import BatchProgress

            tables = make_tables(config, chosen, detection, linker, of_run)
            source = {key: value for key, value in tables.pop("source", {}).items() if key not in ("kind", "path")}
            if pictures:
                tables["sinks"] = [*_listed(tables.get("sinks", "tables")), "overview"]
            plan = BatchPlan(workers, scheduler, resource, block, retries, timeout_s)
            run_config = batch_config(tables, str(config) if config else "command line")
            run_config = run_config.from_file(config) if config else run_config
            work = BatchRun(movies, out, run_config, source, plan, overwrite=overwrite, stop=stop)
        say(*work.contradictions)
        with BatchProgress(work.state):
            rows = work.run()
    _say_rows(rows, out)
    if work.state.trouble:
        say_error(work.state.trouble)
    worst = min((row.status for row in rows), key=WORST_FIRST.index)
    raise typer.Exit(EXIT_CODES.get(worst, EXIT_CODES["interrupted"]))


def _listed(sinks: Any) -> list[Any]:
    """Return sinks as a list, also one that is not in any: what it is becomes clear when all settings are checked."""
    return [*sinks] if isinstance(sinks, list) else [sinks]


def _say_rows(rows: "list[MovieRow]", out: Path) -> None:
    """Print a table of the movies, and what went wrong with each."""
    from rich.console import Console
    from rich.table import Table

    table = Table("movie", "status", "frames", "lost", "detections", "s", box=None, pad_edge=False)
    for row in rows:
        status = f"{row.status} before" if row.skipped else row.status
        numbers: list[Any] = [row.frames, row.lost, row.detections, f"{row.seconds:.1f}"]
        table.add_row(row.movie, status, *map(str, numbers))
    from streamtrack.sinks.page.sink import PAGE
    from streamtrack.terminal import unseen

    with unseen():
        Console(highlight=False).print(table)
    done = sum(row.status in ("completed", "incomplete") for row in rows)
    skipped = sum(row.skipped for row in rows)
    before = f", {skipped} of them by an earlier batch" if skipped else ""
    compared = f" -> {out}, compared in {PAGE}" if (out / PAGE).is_file() else ""
    say(f"{done} of {len(rows)} movies tracked{before}{compared}")
    for row in rows:
        if row.error:
            say_error(f"{row.movie}: {row.error}")
