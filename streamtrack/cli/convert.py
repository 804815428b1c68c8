"""``streamtrack convert``: tracks from and to the files of other programs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streamtrack.cli.saying import say_memory
from streamtrack.errors import ConfigError
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
    from streamtrack.cli.writers import WRITERS
    from streamtrack.formats.tables import one_stream, read_tracks

    ending, write = WRITERS[to]
    out = out or table.with_name(table.stem + ending)
    say_memory(table, _XML_TIMES if ".xml" in ending else 1)
    tracks = read_tracks(table, pixel_size_um=pixel_size)
    check_output(out, overwrite, table)
    _check_kind(out, to)
    if to not in (Format.CSV, Format.PARQUET):  # these keep the columns that tell streams apart
        one_stream(tracks, f"{table}")
    with (output_folder if to is Format.GEFF else output_file)(out) as partial:
        write(tracks, partial)
    n_tracks = f"{tracks['particle'].nunique()} tracks, " if "particle" in tracks else ""
    print(f"{n_tracks}{len(tracks)} detections -> {out}")


def _check_kind(out: Path, to: Format) -> None:
    """Raise ConfigError where what is there is of another kind, or holds more than would be written."""
    from streamtrack.formats.geff import MEMBERS

    if not out.exists():
        return
    if (to is Format.GEFF) != out.is_dir():
        raise ConfigError(f"{out} is a {'folder' if out.is_dir() else 'file'}, {to} is not; name another with --out")
    if to is Format.GEFF and not {member.name for member in out.iterdir()} <= MEMBERS:
        raise ConfigError(f"{out} holds more than GEFF data, which would be lost; name another folder with --out")
