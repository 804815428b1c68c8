"""``streamtrack convert``: tracks from and to the files of other programs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from streamtrack.cli.saying import say_memory
from streamtrack.errors import ConfigError
from streamtrack.files import patiently, remove_tree
from streamtrack.formats.geff import MEMBERS, write_geff
from streamtrack.formats.napari import write_napari, write_napari_points, write_napari_tracks
from streamtrack.formats.ptc_xml import write_ptc, write_simple_tracks
from streamtrack.formats.tables import one_stream, read_tracks, write_csv, write_parquet
from streamtrack.formats.text_exports import write_thunderstorm, write_trackmate_table
from streamtrack.formats.trackmate import write_trackmate
from streamtrack.metrics.ptc import fill_gaps
from streamtrack.output import check_output, output_file, output_folder


class Format(StrEnum):
    """What tracks can be converted to."""

    TRACKMATE = "trackmate"
    TRACKMATE_CSV = "trackmate-csv"
    TRACKMATE_SIMPLE = "trackmate-simple"
    PTC = "ptc"
    NAPARI = "napari"
    NAPARI_POINTS = "napari-points"
    NAPARI_TRACKS = "napari-tracks"
    THUNDERSTORM = "thunderstorm"
    GEFF = "geff"
    CSV = "csv"
    PARQUET = "parquet"


def _write_ptc(tracks: pd.DataFrame, path: Path) -> None:
    write_ptc(fill_gaps(tracks), path)


def _write_geff(tracks: pd.DataFrame, path: Path) -> None:
    """Write afresh each time that another program held one of the new files."""

    def write() -> None:
        remove_tree(path)
        write_geff(tracks, path)

    patiently(write)


_WRITERS = {
    Format.TRACKMATE: (".trackmate.xml", write_trackmate),
    Format.TRACKMATE_CSV: (".trackmate.csv", write_trackmate_table),
    Format.TRACKMATE_SIMPLE: (".tracks.xml", write_simple_tracks),
    Format.PTC: (".ptc.xml", _write_ptc),
    Format.NAPARI: (".napari.npy", write_napari),
    Format.NAPARI_POINTS: (".points.csv", write_napari_points),
    Format.NAPARI_TRACKS: (".tracks.csv", write_napari_tracks),
    Format.THUNDERSTORM: (".thunderstorm.csv", write_thunderstorm),
    Format.GEFF: (".geff", _write_geff),
    Format.CSV: (".csv", write_csv),
    Format.PARQUET: (".parquet", write_parquet),
}

_XML_TIMES = 3
"""What text of each row in memory takes beside the table."""


def convert(
    table: Annotated[
        Path,
        typer.Argument(
            help="Tracks: a .parquet or .csv table with columns frame, particle, y, x (ours or trackpy's), TrackMate's "
            "files and exports (.xml, .csv), ThunderSTORM's .csv, napari's points and tracks (.csv, .npy), a .geff "
            "folder, or an .xml file of the Particle Tracking Challenge."
        ),
    ],
    to: Annotated[Format, typer.Option(help="Format to write.")],
    out: Annotated[Path | None, typer.Option(help="File to write; beside the table by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    pixel_size: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=1e6,
            help="Micrometers per pixel, where neither the table nor the report.json beside it says it.",
        ),
    ] = None,
) -> None:
    """Convert tracks for another program, or those of another program into our table.

    trackmate: Fiji, Plugins > Tracking > Load a TrackMate file; it opens the image, too. trackmate-csv and
    trackmate-simple: as TrackMate exports spots and tracks. thunderstorm: its localisations. ptc: the scorer of the
    Particle Tracking Challenge; gaps are filled. napari: in its console,
    viewer.add_tracks(numpy.load("tracks.napari.npy")). napari-points: to drag and drop. napari-tracks: ID, T, Y, X.
    geff: napari-geff, TrackMate, traccuracy, ... csv: trackpy, spreadsheets. parquet: streamtrack.
    """
    ending, write = _WRITERS[to]
    out = out or table.with_name(table.stem + ending)
    say_memory(table, _XML_TIMES if ".xml" in ending else 1)
    tracks = read_tracks(table, pixel_size_um=pixel_size)
    check_output(out, overwrite, table)
    _check_kind(out, to)
    if to not in (Format.CSV, Format.PARQUET):  # these keep the columns that tell streams apart
        one_stream(tracks, f"{table}")
    with (output_folder if to is Format.GEFF else output_file)(out) as partial:
        write(tracks, partial)
    print(f"{tracks['particle'].nunique()} tracks, {len(tracks)} detections -> {out}")


def _check_kind(out: Path, to: Format) -> None:
    """Raise ConfigError where what is there is of another kind, or holds more than would be written."""
    if not out.exists():
        return
    if (to is Format.GEFF) != out.is_dir():
        raise ConfigError(f"{out} is a {'folder' if out.is_dir() else 'file'}, {to} is not; name another with --out")
    if to is Format.GEFF and not {member.name for member in out.iterdir()} <= MEMBERS:
        raise ConfigError(f"{out} holds more than GEFF data, which would be lost; name another folder with --out")
