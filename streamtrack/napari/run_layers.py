"""The layers of a run's folder: of one that has ended, and of one that is on, which grow."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from streamtrack.errors import ConfigError, SinkError
from streamtrack.formats.calibration import beside
from streamtrack.formats.tables import read_first_rows
from streamtrack.napari.growing import GrowingTable, confirmed
from streamtrack.napari.layers import Layer, World, detections_layer, image_layer, movie_layer, tracks_layer
from streamtrack.napari.movies import tracked_movie
from streamtrack.report import read_report
from streamtrack.run_folder import MARK, UNFINISHED_NAME
from streamtrack.run_lock import held_by
from streamtrack.sinks import denoised, raw

MOST_ROWS = 2_000_000
"""Of a table that napari is given: it draws all of them, which takes seconds and a GB."""
MOST_STREAMS = 8
"""Of several streams, how many are shown."""


class RunLayers:
    """What there is to see of a run by now.

    Parameters
    ----------
    folder
        The run's.

    Attributes
    ----------
    remarks
        What is left out, a line each.

    Raises
    ------
    ConfigError
        If no run has written there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._growing = GrowingTable(folder)
        self._tables: dict[str, pd.DataFrame] = {}
        self._movie: Layer | None = None
        self.remarks: list[str] = []
        report = run_report(folder)
        if not any(path.exists() for path, _ in self._recorded()) and (found := tracked_movie(report)):
            movie, first = found
            world = World.of(beside(folder / "tracks.parquet")).after(first)
            self._movie = image_layer(movie, world, Path(report["source"]["name"]).name, movie[len(movie) // 2])

    @property
    def is_on(self) -> bool:
        """Whether the run goes on."""
        return run_report(self._folder)["status"] == "running" and held_by(self._folder) is not None

    def layers(self) -> list[Layer]:
        """Return all layers that there are by now, images first; raises ConfigError where a file cannot be read.

        Where there are several images, or streams, the first is visible.
        """
        self.remarks.clear()
        self._look()
        movies = [movie_layer(path, name) for path, name in self._recorded() if (path / "zarr.json").is_file()]
        layers = [layer for layer in (self._movie, *movies, *self._of_tables()) if layer is not None]
        for kind in ("image", "points", "tracks"):
            for _, settings, _ in [layer for layer in layers if layer[2] == kind][1:]:
                settings["visible"] = False
        return layers

    def _recorded(self) -> Iterator[tuple[Path, str]]:
        for sink, name in ((raw, "raw"), (denoised, "denoised")):
            yield self._folder / sink.MOVIE, name
            for path in sorted((self._folder / sink.STREAMS).glob("*.ome.zarr"))[:MOST_STREAMS]:
                yield path, f"{name} {path.name.removesuffix('.ome.zarr').replace('_', ' ')}"

    def _look(self) -> None:
        """Take what the run has written down by now: its tables, or the rows that they will be made of."""
        if (self._folder / UNFINISHED_NAME).exists():
            with suppress(SinkError):  # it was just made into tables
                if self._growing.look():
                    found = self._growing.detections()
                    found.attrs.update(beside(self._folder / "tracks.parquet"))
                    self._tables = {"detections": found, "tracks": confirmed(found)}
                return
        for kind in ("detections", "tracks"):
            path = self._folder / f"{kind}.parquet"
            if path.is_file():
                self._tables[kind], n_rows = read_first_rows(path, MOST_ROWS)
                if n_rows > len(self._tables[kind]):
                    last = self._tables[kind]["frame"].max()
                    self.remarks.append(
                        f"{path.name} has {n_rows:,} rows, more than napari draws: shown until frame {last}"
                    )

    def _of_tables(self) -> Iterator[Layer | None]:
        for kind, make in (("detections", detections_layer), ("tracks", tracks_layer)):
            if kind in self._tables:
                for name, table in self._by_stream(self._tables[kind]):
                    yield make(table, World.of(table.attrs), f"{kind}{name}")

    def _by_stream(self, table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the rows of each stream, and what to call it: as its movies are called."""
        if not {"t", "c", "z", "p"} <= set(table):
            yield "", table
            return
        streams = [rows for _, rows in table.groupby(["p", "c", "z"], dropna=False)]
        if len(streams) > MOST_STREAMS:
            self.remarks.append(f"{len(streams)} streams, the first {MOST_STREAMS} are shown")
        for rows in streams[:MOST_STREAMS]:
            p, c, z = rows[["p", "c", "z"]].iloc[0]
            rows.attrs.update(table.attrs)
            rows.attrs.update(_origin(rows))
            yield f" p{p:.0f} c{c:.0f} z{'max' if pd.isna(z) else format(z, '.0f')}", rows


def run_report(folder: Path) -> dict[str, Any]:
    """Return the report of a run; raises ConfigError where it is none of streamtrack's."""
    report = read_report(folder)
    if MARK not in report.get("versions", {}):
        raise ConfigError(f"{folder} holds no run of streamtrack: give the folder that 'track' or 'live' wrote")
    return report


def _origin(rows: pd.DataFrame) -> dict[str, float]:
    """Return where the first pixel of a stream is, by one of its rows: streams may differ in it."""
    size = rows.attrs.get("pixel_size_um")
    if not size or not {"y_um", "x_um"} <= set(rows) or rows.empty:
        return {}
    first = rows.iloc[0]
    return {f"origin_{axis}_um": float(first[f"{axis}_um"] - size * first[axis]) for axis in "yx"}
