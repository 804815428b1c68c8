"""Scores the tables of a run against a ground truth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError, UnknownPixelSizeError, foreign_errors
from streamtrack.formats.calibration import beside
from streamtrack.formats.doubtful_rows import doubt_of_scale, doubts_of, each_once
from streamtrack.formats.tables import one_stream, read_tracks
from streamtrack.metrics.detection import DetectionScore, LinkScore, score_detections, score_links
from streamtrack.metrics.ptc import PtcScore, fill_gaps, score_ptc
from streamtrack.registry import build, source_from_text
from streamtrack.report import REPORT_NAME, frames_reached, read_report
from streamtrack.search_area import SearchArea
from streamtrack.simulation import MovieSettings, ground_truth
from streamtrack.sinks.frame_table import FRAMES

GATES_PX = (5.0, 2.0)
"""5 px is the Particle Tracking Challenge's gate; at 2 px chance matches in dense frames no longer count."""


@dataclass(frozen=True, slots=True)
class RunScores:
    """How good the detections and tracks of a run are.

    Attributes
    ----------
    remarks
        Lines for people: what is doubtful in the table of the truth.
    """

    detections: list[DetectionScore]
    links: LinkScore | None
    tracks: PtcScore | None
    remarks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        return {
            "detections": [score.as_dict() for score in self.detections],
            "links": self.links.as_dict() if self.links else None,
            "tracks": self.tracks.as_dict() if self.tracks else None,
        }


def score_run(folder: Path, truth: str | None = None) -> RunScores:
    """Score the tables of a run's folder; raises ConfigError where a table is missing or lacks a column."""
    remarks: list[str] = []
    if truth and not truth.startswith("sim:"):
        reference, doubled = each_once(one_stream(_read_truth(truth, folder), truth))
        remarks = [f"{truth}: {line}" for line in (*doubled, *doubts_of(reference))]
    else:
        reference = _simulated_truth(folder, truth)
    reference = _of_reached(reference, folder)
    found = one_stream(read_tracks(folder / "detections.parquet"), f"{folder}")
    if truth and (line := doubt_of_scale(reference, found)):
        remarks.append(f"{truth}: {line}")
    detections = score_detections(reference, found, gates_px=GATES_PX)
    if "particle" not in reference:
        return RunScores(detections, None, None, tuple(remarks))
    found = one_stream(read_tracks(folder / "tracks.parquet"), f"{folder}")
    links = score_links(reference, found, gate_px=GATES_PX[0])
    tracks = score_ptc(reference, fill_gaps(found), gate_px=GATES_PX[0])
    return RunScores(detections, links, tracks, tuple(remarks))


def _read_truth(path: str, folder: Path) -> pd.DataFrame:
    """Return the truth; in px by the run's pixel size where the table has a unit of length and no size."""
    try:
        return read_tracks(path)
    except UnknownPixelSizeError:
        size_um = beside(folder / REPORT_NAME).get("pixel_size_um")
        if size_um is None:
            raise
        return read_tracks(path, pixel_size_um=size_um)


def _of_reached(truth: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Return the truth of the frames that the run came to; all of it where the folder does not say which."""
    frames = folder / FRAMES
    if not (frames.is_file() and (folder / REPORT_NAME).is_file()):
        return truth
    with foreign_errors(ConfigError, f"cannot read {frames}"):
        processed = pd.read_parquet(frames, columns=["frame"])["frame"].tolist()
    reached = frames_reached(read_report(folder), processed)
    if reached is None:
        raise ConfigError(f"{folder}: no frame was reached, there is nothing to score")
    kept = truth[truth["frame"].between(reached.start, reached.stop - 1)]
    if len(kept) and (area := _area(read_report(folder))) is not None:
        kept = kept[area.holds(kept["y"].to_numpy(), kept["x"].to_numpy())]
    if len(truth) and not len(kept):
        there, here = f"{truth['frame'].min()} to {truth['frame'].max()}", f"{reached.start} to {reached.stop - 1}"
        raise ConfigError(f"the truth has frames {there}, the run {here}: number them as the movie does")
    return kept


def _area(report: dict[str, Any]) -> SearchArea | None:
    """Return where the run looked for particles; raises ConfigError where its mask is not there any more."""
    roi, mask = (report["config"].get(name) for name in ("roi", "mask"))
    if roi is None and mask is None:
        return None
    height, width = report["source"]["shape"]
    return SearchArea((height, width), roi, None if mask is None else Path(mask))


def _simulated_truth(folder: Path, text: str | None) -> pd.DataFrame:
    """Return the truth of the simulated movie that was tracked, or that ``text`` names."""
    if text:
        return simulated_truth(text)
    table = read_report(folder).get("config", {}).get("source")
    if not isinstance(table, dict) or table.get("kind") != "sim":
        raise ConfigError(f"{folder} was not made from a simulated movie; name a table with the ground truth")
    return _truth_of(table)


def simulated_truth(text: str) -> pd.DataFrame:
    """Return the ground truth of a simulated movie, ``sim:...``."""
    return _truth_of(source_from_text(text))


def _truth_of(table: dict[str, Any]) -> pd.DataFrame:
    settings = dict(build("sources", PluginConfig(**table)).settings)
    size = settings.pop("size")
    return ground_truth(MovieSettings(**settings, height_px=size, width_px=size))
