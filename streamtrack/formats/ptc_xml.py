"""XML of the Particle Tracking Challenge (Chenouard et al., Nature Methods 2014), read and written.

Positions are pixels from the centre of the first one, frames count from 0.
"""

import math
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd

from streamtrack import __version__
from streamtrack.errors import ConfigError
from streamtrack.formats.tracks import by_track, per_px
from streamtrack.formats.xml_file import new_parser, parse

_CONTEST = "TrackContestISBI2012"


def read_ptc(path: Path, pixel_size_um: float | None = None) -> pd.DataFrame:
    """Read the tracks of a challenge file, or those that TrackMate exports in nearly the same form.

    Parameters
    ----------
    path
        The XML file.
    pixel_size_um
        How large a pixel is; needed where TrackMate's positions are in micron.

    Returns
    -------
    pandas.DataFrame
        ``frame, particle, y, x``, float64 or int64, px; particles are numbered as they stand in the file. ``z`` too
        unless it is 0 throughout.

    Raises
    ------
    ConfigError
        If the file is not XML, is of another kind, or a detection lacks a number.
    OSError
        If the file cannot be read.
    """
    reader = _Reader(path)
    parse(path, reader.parser)
    if not reader.is_contest:
        raise ConfigError(f"{path} has no <{_CONTEST}>; give a file of the Particle Tracking Challenge")
    table = pd.DataFrame(reader.rows, columns=["frame", "particle", "y", "x", "z"]).astype({"particle": np.int64})
    if reader.exported is not None:
        table[["y", "x", "z"]] *= per_px(reader.exported.get("spaceUnits", ""), pixel_size_um, path)
        table.attrs.update(_interval(reader.exported))
    return table if table["z"].any() else table.drop(columns="z")


def _interval(exported: dict[str, str]) -> dict[str, float]:
    """Return the frame interval that TrackMate says, where it is in seconds."""
    try:
        interval_s = float(exported["frameInterval"])
    except (KeyError, ValueError):
        return {}
    is_known = exported.get("timeUnits", "").startswith("s") and 0 < interval_s < math.inf
    return {"frame_interval_s": interval_s} if is_known else {}


def write_ptc(table: pd.DataFrame, path: Path) -> None:
    """Write tracks for the challenge's scorer.

    There must be no gaps: the scorer fills those that it finds, but counts its own points as missed. Coordinates have 3
    decimals, as in the challenge's own files.

    Parameters
    ----------
    table
        Columns ``frame, particle, y, x`` (px); others are not written.
    path
        The XML file.

    Raises
    ------
    ConfigError
        If the table does not hold tracks in 2D, see :func:`streamtrack.formats.tracks.by_track`, or a track has a gap.
    OSError
        If the file cannot be written.
    """
    tracks = by_track(table)
    _check_gaps(tracks)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'<?xml version="1.0" encoding="UTF-8"?>\n<root>\n<{_CONTEST}>\n')
        file.writelines(_particles(tracks, decimals=3))
        file.write(f"</{_CONTEST}>\n</root>\n")


def write_simple_tracks(table: pd.DataFrame, path: Path) -> None:
    """Write tracks as TrackMate's action "Export tracks to XML file" does.

    Positions are from the image's first pixel, in micron where ``table.attrs`` has ``pixel_size_um``, else pixel.

    Parameters
    ----------
    table
        Columns ``frame, particle, y, x`` (px); others are not written.
    path
        The XML file.

    Raises
    ------
    ConfigError
        If the table does not hold tracks in 2D; see :func:`streamtrack.formats.tracks.by_track`.
    OSError
        If the file cannot be written.
    """
    tracks = by_track(table)
    size, interval = (table.attrs.get(name) for name in ("pixel_size_um", "frame_interval_s"))
    units = f'spaceUnits="{"pixel" if size is None else "micron"}" frameInterval="{interval or 1.0!r}" '
    units += f'timeUnits="{"frame" if interval is None else "sec"}"'
    tracks[["y", "x"]] *= 1.0 if size is None else size
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n')
        file.write(f'<Tracks nTracks="{tracks["particle"].nunique()}" {units} from="streamtrack {__version__}">\n')
        file.writelines(_particles(tracks, decimals=6, counted=True))
        file.write("</Tracks>\n")


def _check_gaps(tracks: pd.DataFrame) -> None:
    """Raise ConfigError where a track skips a frame."""
    frame, particle = tracks["frame"].to_numpy(), tracks["particle"].to_numpy()
    skips = (np.diff(particle) == 0) & (np.diff(frame) > 1)
    if skips.any():
        row = int(skips.argmax())
        raise ConfigError(
            f"particle {particle[row]} skips frames after frame {frame[row]}, which the scorer would count as missed; "
            "fill the gaps first (streamtrack.metrics.ptc.fill_gaps)"
        )


class _Reader:
    """Gathers frame, particle, y, x, z of each detection in ``rows``, without a tree of the whole file."""

    def __init__(self, path: Path) -> None:
        self.rows: list[tuple[float, ...]] = []
        self.is_contest = False
        self.exported: dict[str, str] | None = None
        self.parser = new_parser(path)
        self.parser.StartElementHandler = self._start
        self._path = path
        self._particle = -1

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == _CONTEST:
            self.is_contest = True
        elif tag == "Tracks" and "spaceUnits" in attributes:
            self.is_contest, self.exported = True, attributes
        elif tag == "particle":
            self._particle += 1
        elif tag == "detection":
            t, x, y, z = self._numbers(attributes)
            self.rows.append((t, self._particle, y, x, z))

    def _numbers(self, attributes: dict[str, str]) -> list[float]:
        try:
            return [*(float(attributes[name]) for name in "txy"), float(attributes.get("z", 0))]
        except (KeyError, ValueError) as error:
            said = " ".join(f'{name}="{value}"' for name, value in attributes.items())[:200]
            raise ConfigError(f"{self._path} has <detection {said}>; a detection needs numbers t, x and y") from error


def _particles(tracks: pd.DataFrame, decimals: int, counted: bool = False) -> Iterator[str]:
    columns = (tracks[name].tolist() for name in ("particle", "frame", "x", "y"))
    rows = zip(*columns, strict=True)
    for _, group in groupby(rows, itemgetter(0)):
        detections = [f'<detection t="{t}" x="{x:.{decimals}f}" y="{y:.{decimals}f}" z="0"/>\n' for _, t, x, y in group]
        yield f'<particle nSpots="{len(detections)}">\n' if counted else "<particle>\n"
        yield from detections
        yield "</particle>\n"
