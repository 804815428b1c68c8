"""``streamtrack evaluate``: detections and tracks against a ground truth."""

import json
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from streamtrack.cli.saying import say_memory
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.formats.tables import one_stream, read_tracks
from streamtrack.metrics.detection import DetectionScore, LinkScore, score_detections, score_links
from streamtrack.metrics.ptc import PtcScore, fill_gaps, score_ptc
from streamtrack.output import check_output, output_file
from streamtrack.registry import build, source_from_text
from streamtrack.report import REPORT_NAME, frames_reached, read_report
from streamtrack.search_area import SearchArea
from streamtrack.simulation import MovieSettings, ground_truth
from streamtrack.sinks.frame_table import FRAMES

GATES_PX = (5.0, 2.0)
"""5 px is the Particle Tracking Challenge's gate; at 2 px chance matches in dense frames no longer count."""


@dataclass(frozen=True, slots=True)
class RunScores:
    """How good the detections and tracks of a run are."""

    detections: list[DetectionScore]
    links: LinkScore | None
    tracks: PtcScore | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        return {
            "detections": [score.as_dict() for score in self.detections],
            "links": self.links.as_dict() if self.links else None,
            "tracks": self.tracks.as_dict() if self.tracks else None,
        }


def evaluate(
    results: Annotated[Path, typer.Argument(help="Folder that 'track' wrote.")],
    truth: Annotated[
        str | None,
        typer.Argument(
            help="Table with columns frame, y, x and, to score tracks, particle (.parquet, .csv, or the Particle "
            "Tracking Challenge's .xml); or sim:...; may be left out for a simulated movie."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the scores to this JSON file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
) -> None:
    """Score a run: detections (F1, RMSE), links, and tracks by the measures of the Particle Tracking Challenge.

    Only frames that the run was asked for and came to are scored, lost ones included, and in these what lies in the
    area that it searched. Gaps in the tracks that were
    found are filled by straight lines first.
    """
    if out:
        check_output(out, overwrite)
    say_memory(results / "detections.parquet")
    scores = score_run(results, truth)
    print_scores(scores)
    if out:
        with output_file(out) as partial:
            partial.write_text(json.dumps(scores.as_dict(), indent=2) + "\n", encoding="utf-8", newline="\n")


def score_run(folder: Path, truth: str | None = None) -> RunScores:
    """Score the tables of a run's folder; raises ConfigError where a table is missing or lacks a column."""
    reference = read_tracks(truth) if truth and not truth.startswith("sim:") else _simulated_truth(folder, truth)
    reference = _of_reached(reference, folder)
    found = one_stream(read_tracks(folder / "detections.parquet"), f"{folder}")
    detections = score_detections(reference, found, gates_px=GATES_PX)
    if "particle" not in reference:
        return RunScores(detections, None, None)
    found = one_stream(read_tracks(folder / "tracks.parquet"), f"{folder}")
    links = score_links(reference, found, gate_px=GATES_PX[0])
    return RunScores(detections, links, score_ptc(reference, fill_gaps(found), gate_px=GATES_PX[0]))


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


def print_scores(scores: RunScores) -> None:
    """Print the scores as tables."""
    from rich.console import Console
    from rich.table import Table

    table = Table("gate px", "F1", "precision", "recall", "RMSE px", "true", "false", "missed", title="Detection")
    for s in scores.detections:
        figures = (f"{s.gate_px:g}", f"{s.f1:.3f}", f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.rmse_px:.3f}")
        table.add_row(*figures, str(s.tp), str(s.fp), str(s.fn))
    console = Console()
    console.print(table)
    if scores.links:
        console.print(f"Links: recall {scores.links.recall:.3f}, precision {scores.links.precision:.3f}")
    if scores.tracks:
        table = Table("alpha", "beta", "JSC", "JSC_theta", "RMSE px", title="Tracks, gaps filled")
        table.add_row(*(f"{value:.3f}" for value in astuple(scores.tracks)))
        console.print(table)


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
