"""The results of a run, in Python."""

import html
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamtrack.errors import ConfigError, SinkError, foreign_errors
from streamtrack.report import read_report
from streamtrack.sinks.files import replacing, sink_errors
from streamtrack.sinks.overview import OVERVIEW, OverviewSink

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ROWS_SHOWN = 5
"""Of the track table, in a notebook."""


class Results:
    """What a run found: tables, report and picture.

    Parameters
    ----------
    folder
        The run's folder, with ``report.json`` in it.
    figure
        Draws the overview, where the folder holds no picture of it.

    Raises
    ------
    ConfigError
        If the folder holds no readable report, or the run has not ended.
    """

    def __init__(self, folder: Path, *, figure: "Callable[[], Figure] | None" = None) -> None:
        self._folder = folder
        self._figure = figure
        self.report: dict[str, Any] = read_report(folder)
        if self.report["status"] == "running":
            raise ConfigError(
                f"the run in {folder} has not ended; if its process is gone, 'streamtrack recover' makes its tables"
            )
        with foreign_errors(ConfigError, f"the report in {folder} lacks what 'track' writes into it"):
            self._headline()

    @cached_property
    def tracks(self) -> "pd.DataFrame":
        """Detections on confirmed tracks, by frame, then particle: ``frame, particle, y, x, mass, ...`` as in trackpy.

        Positions are px. ``y_um, x_um, z_um`` and ``time_s`` are there where the movie says what a pixel and a frame
        are. Raises ConfigError where the run wrote no such table.
        """
        return self._table("tracks.parquet")

    @cached_property
    def detections(self) -> "pd.DataFrame":
        """Every detection, linked or not, frame by frame and best score first: ``frame, y, x, score, sigma, mass``."""
        return self._table("detections.parquet")

    @property
    def remarks(self) -> list[str]:
        """What a reader of the results has to know, a line each, such as that the movie looks too dark."""
        return list(self.report.get("remarks", ()))

    @cached_property
    def frames(self) -> "pd.DataFrame":
        """Every processed frame: ``frame, time_s, detections, tracks``, what was said of it, and latencies in ms.

        Raises ConfigError where the run wrote no such table.
        """
        import pandas as pd

        path = self._folder / "frames.parquet"
        if not path.is_file():
            raise ConfigError(f"{self._folder} holds no {path.name}: the run's sink 'tables' writes it")
        with foreign_errors(ConfigError, f"cannot read {path}"):
            return pd.read_parquet(path)

    def plot(self) -> "Figure":
        """Return the overview as a figure: detections, denoised frame, tracks, track lengths, latency.

        Raises ConfigError where the run left no picture.
        """
        if self._figure is not None:
            return self._figure()
        return _picture(self._folder / OVERVIEW)

    def save(self, folder: str | Path) -> None:
        """Write the run's files, as ``track(..., out=folder)`` does, into a folder that has none of them yet.

        Raises
        ------
        ConfigError
            If one of the files is there already.
        SinkError
            If they cannot be written.
        """
        folder = Path(folder)
        written = sorted(path for path in self._folder.iterdir())
        there = [path.name for path in written if (folder / path.name).exists()]
        if there:
            raise ConfigError(f"{folder} already holds {', '.join(there)}; choose another folder")
        with sink_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for path in written:
                _copy(path, folder / path.name)
        if self._figure is not None:
            with replacing(folder / OVERVIEW) as partial, sink_errors(folder):
                self._figure().savefig(partial)

    def __repr__(self) -> str:
        return f"<streamtrack.Results: {self._headline()}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: one line, what has to be known, and the first rows of the tracks."""
        try:
            tracks = self.tracks.head(ROWS_SHOWN)._repr_html_()  # type: ignore[operator]
        except (ConfigError, SinkError):
            tracks = ""
        lines = "<br>".join(map(html.escape, [self._headline(), *self.remarks]))
        return f"<p>{lines}</p>{tracks}"

    def _headline(self) -> str:
        frames = self.report["frames"]
        lost = f" ({frames['lost']} lost)" if frames["lost"] else ""
        return f"{self.report['status']}: {frames['processed']} frames{lost}, {self.report['detections']} detections"

    def _table(self, name: str) -> "pd.DataFrame":
        from streamtrack.formats.tables import read_tracks

        if not (self._folder / name).is_file():
            raise ConfigError(f"{self._folder} holds no {name}: the run's sink 'tables' writes it")
        return read_tracks(self._folder / name)


class KeptOverview(OverviewSink):
    """Gathers the overview, and draws it when somebody asks: most runs from Python are never looked at."""

    def close(self) -> None:
        """Draw nothing yet."""

    def draw(self) -> "Figure":
        """Draw the picture."""
        from streamtrack.sinks.overview_figure import draw

        return draw(self.summary())


def _picture(path: Path) -> "Figure":
    if not path.is_file():
        raise ConfigError(f"{path.parent} holds no {path.name}: the run's sink 'overview' writes it")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.image import imread

    from streamtrack.sinks.overview_figure import Picture

    image, dpi = imread(path), 130
    figure = Picture((image.shape[1] / dpi, image.shape[0] / dpi), dpi=dpi)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image)
    axes.set_axis_off()
    return figure


def _copy(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, to)
        return
    with replacing(to) as partial:
        shutil.copyfile(path, partial)
