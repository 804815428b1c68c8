"""The sink that makes a page of a run."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from streamtrack.sinks.files import check_folder, replacing, sink_errors, with_partials
from streamtrack.sinks.overview import OverviewSink
from streamtrack.sinks.page.gathered import Gathered, Moment
from streamtrack.sinks.page.html import page
from streamtrack.sinks.page.pictures import MOVIE_FRAMES, MOVIE_PX, shrink
from streamtrack.sinks.page.sections import sections
from streamtrack.types import FrameResult, SourceInfo

PAGE = "report.html"


class ReportSink:
    """Writes ``report.html``: one file to look at and to pass on, without anything that it would have to load.

    It shows a frame with its detections, the denoised one, all tracks over the maximum projection, and a short movie;
    counts and intensities against time, scores, track lengths, steps, mean square displacement; how quick the run was,
    what was lost and why, and all settings. The movie is of 48 frames in the middle of a movie of known length, of the
    first ones otherwise, with tracks as they were known then. Memory is bounded: of long runs, tracks, steps and mean
    square displacement are of the last 60,000 places, and curves are means over several frames. Of a movie of several
    streams the first is shown.
    """

    critical = False
    files = with_partials(PAGE)

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Forget any earlier run; raises SinkError."""
        check_folder(folder)
        self._path = folder / PAGE
        self._overview = OverviewSink()
        self._overview.open(folder, source)
        self._gathered = Gathered()
        self._streams = source.streams is not None
        self._middle = max((source.n_frames or 0) // max(len(source.streams or ()), 1) // 2 - MOVIE_FRAMES // 2, 0)
        self._first_moments: list[Moment] = []
        self._moments: list[Moment] = []
        self._sections = ""

    def wants_denoised(self, frame_index: int) -> bool:
        """Return True for one frame."""
        return self._overview.wants_denoised(frame_index)

    def write(self, result: FrameResult) -> None:
        """Take the result of one frame; of several streams, those of the first one."""
        self._overview.write(result)
        if self._streams and result.frame.stream != self._overview.stream:
            return
        self._gathered.add(result)
        moments = self._first_moments if result.frame.index < self._middle else self._moments
        if len(moments) < MOVIE_FRAMES:
            small, per_px = shrink(result.frame.pixels, MOVIE_PX)
            found = result.detections
            moments.append(Moment(result.frame.index, small, per_px, found.y, found.x, result.tracks.particle))

    def flush(self) -> None:
        """Do nothing: the page is made at the end."""

    def close(self) -> None:
        """Write the page, without what is known only when all is over; raises SinkError."""
        moments = max(self._moments, self._first_moments, key=len)  # of two as long, those of the middle
        self._sections = sections(self._overview.summary(), self._gathered, moments)
        self._write(None)

    def tell(self, report: Mapping[str, Any]) -> None:
        """Write the page once more, with what the run says of itself; raises SinkError."""
        self._write(report)

    def _write(self, report: Mapping[str, Any] | None) -> None:
        text = page(escape(self._overview.source.name), self._sections, report)
        with replacing(self._path) as partial, sink_errors(self._path):
            partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
