"""One picture of a run, gathered in bounded memory while the run lasts."""

from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from streamtrack.sinks.files import check_folder, replacing, sink_errors, with_partials
from streamtrack.sinks.revisions import apply, joined
from streamtrack.types import CONFIRMED, Detections, FrameResult, Pixels, Revision, SourceInfo, Stamps, TrackUpdate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVERVIEW = "overview.png"
LATENCY_EDGES_MS = np.geomspace(1e-3, 1e5, 801)
"""100 bins per decade: a median read from them is good to 2 %."""

_FOLD_FRAMES = 32  # at once: each step costs more than a frame
_MAX_POINTS = 60_000  # more would be a tangle
_ROWS_AT_ONCE = 8192
_DPI = 130


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Linked detections: shape (N,) each, in the order of frames."""

    frame: NDArray[np.int64]
    particle: NDArray[np.int64]
    existence: NDArray[np.float32]
    y: NDArray[np.float32]
    x: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What the picture shows.

    Attributes
    ----------
    shown
        The frame to show; None if there was no frame at all.
    n_lost
        Frames missing between the first and the last one.
    projection
        Maximum over all frames, shape (H, W), in the frames' dtype.
    points
        The linked detections; where ``all_points`` is False, the latest of them.
    lengths
        Number of confirmed tracks by their number of detections.
    latency
        Frames per bin of ``LATENCY_EDGES_MS``, by stage.
    """

    source: SourceInfo
    n_frames: int
    n_lost: int
    n_detections: int
    shown: FrameResult | None
    projection: Pixels | None
    points: Points
    all_points: bool
    lengths: Counter[int]
    latency: dict[str, NDArray[np.int64]]


class OverviewSink:
    """Draws ``overview.png`` when the run closes.

    It shows the middle frame of a movie of known length, the first one of an open-ended acquisition. Where that frame
    is lost, the next one that comes is shown; where the run ends before it, the last one, without its denoised image.
    Of long runs the most recent part of the tracks is drawn. Tracks are as the linker revised them; the detections of
    frames that are not settled yet are kept until they are.
    """

    critical = False
    files = with_partials(OVERVIEW)

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Forget any earlier run; raises SinkError."""
        check_folder(folder)
        self._path = folder / OVERVIEW
        self._source = source
        self._target = (source.n_frames or 0) // 2
        self._denoised_index: int | None = None
        self._shown: FrameResult | None = None
        self._projection: Pixels | None = None
        self._n_frames = self._n_lost = self._n_detections = 0
        self._last_index: int | None = None
        self._pending: list[tuple[int, Detections, TrackUpdate, Stamps]] = []
        self._tracks = _Tracks()
        self._latency = _no_latency()

    def wants_denoised(self, frame_index: int) -> bool:
        """Return True for one frame: the one to show, or the next that comes if that one is lost."""
        if self._denoised_index is None and frame_index >= self._target:
            self._denoised_index = frame_index
        return frame_index == self._denoised_index

    def write(self, result: FrameResult) -> None:
        """Take the result of one frame."""
        self._n_frames += 1
        if self._last_index is not None:
            self._n_lost += result.frame.index - self._last_index - 1
        self._last_index = result.frame.index
        self._n_detections += len(result.detections)
        if self._shown is None or self._rank(result) < self._rank(self._shown):
            self._shown = result
        self._project(result.frame.pixels)
        self._pending.append((result.frame.index, result.detections, result.tracks, result.stamps))
        if len(self._pending) >= _FOLD_FRAMES and self._pending[_FOLD_FRAMES - 1][0] <= result.tracks.final_index:
            self._fold(_FOLD_FRAMES)

    def flush(self) -> None:
        """Do nothing: the picture is drawn at the end."""

    def close(self) -> None:
        """Draw the picture; raises SinkError."""
        from streamtrack.sinks.overview_figure import draw  # matplotlib takes a second that no run should wait for

        _save(draw(self.summary()), self._path)

    def summary(self) -> Summary:
        """Return what the picture shows, once the last frame was written."""
        self._fold(len(self._pending))
        return Summary(
            self._source,
            self._n_frames,
            self._n_lost,
            self._n_detections,
            self._shown,
            self._projection,
            self._tracks.points(),
            self._tracks.all_points,
            self._tracks.lengths(),
            self._latency,
        )

    def _rank(self, result: FrameResult) -> tuple[bool, int]:
        """Order frames by how well they suit to be shown, best first."""
        return result.denoised is None, abs(result.frame.index - self._target)

    def _project(self, pixels: Pixels) -> None:
        if self._projection is None:
            self._projection = pixels.copy()
        else:
            np.fmax(self._projection, pixels, out=self._projection)  # fmax passes over NaN

    def _fold(self, n_frames: int) -> None:
        """Reduce the first of the pending frames, which nothing will revise any more, to what is kept."""
        revision = joined(tracks.revised for _, _, tracks, _ in self._pending)
        frames, self._pending = self._pending[:n_frames], self._pending[n_frames:]
        points = _linked(frames, revision)
        self._tracks.add(points, [particle for _, _, tracks, _ in frames for particle in tracks.ended.tolist()])
        for stage, ms in _latency_ms([stamps for *_, stamps in frames]).items():
            inside = np.clip(ms, LATENCY_EDGES_MS[0], LATENCY_EDGES_MS[-1])
            self._latency[stage] += np.histogram(inside, LATENCY_EDGES_MS)[0]


def draw_tables(folder: Path, source: SourceInfo, n_frames: int, n_lost: int) -> None:
    """Draw the picture of a run of which only the tables are left: tracks without frames; raises SinkError."""
    from streamtrack.sinks.overview_figure import draw

    tracks = _Tracks()
    with pq.ParquetFile(folder / "tracks.parquet") as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(Points.__slots__)):
            tracks.add(Points(*(batch.column(name).to_numpy() for name in Points.__slots__)), [])
    n_detections = pq.read_metadata(folder / "detections.parquet").num_rows
    black = np.zeros(source.shape, np.uint8)
    shown = (tracks.points(), tracks.all_points, tracks.lengths(), _no_latency())
    _save(draw(Summary(source, n_frames, n_lost, n_detections, None, black, *shown)), folder / OVERVIEW)


def _save(figure: "Figure", path: Path) -> None:
    with replacing(path) as partial, sink_errors(path):
        figure.savefig(partial, dpi=_DPI)


def _no_latency() -> dict[str, NDArray[np.int64]]:
    return {stage: np.zeros(len(LATENCY_EDGES_MS) - 1, np.int64) for stage in ("detection", "linking", "total")}


class _Tracks:
    """The latest points of all tracks, and how long the tracks are."""

    def __init__(self) -> None:
        self.all_points = True
        self._recent: deque[Points] = deque()
        self._lengths = _TrackLengths()

    def add(self, points: Points, ended: list[int]) -> None:
        self._lengths.add(points, ended)
        self._recent.append(points)
        while sum(map(len, self._recent)) - len(self._recent[0]) > _MAX_POINTS:
            self._recent.popleft()
            self.all_points = False

    def points(self) -> Points:
        parts = [_linked([], Revision.none()), *self._recent]
        return Points(*(np.concatenate([getattr(part, name) for part in parts]) for name in Points.__slots__))

    def lengths(self) -> Counter[int]:
        return self._lengths.histogram()


class _TrackLengths:
    """Counts the detections of every confirmed track; remembers live tracks only."""

    def __init__(self) -> None:
        self._live: dict[int, tuple[int, bool]] = {}
        self._ended: Counter[int] = Counter()

    def add(self, points: Points, ended: list[int]) -> None:
        particle, place, n_points = np.unique(points.particle, return_inverse=True, return_counts=True)
        existence = np.zeros(len(particle), np.float32)
        np.maximum.at(existence, place, points.existence)
        for key, n, confirmed in zip(
            particle.tolist(), n_points.tolist(), (existence >= CONFIRMED).tolist(), strict=True
        ):
            length, before = self._live.get(key, (0, False))
            self._live[key] = length + n, before or confirmed
        for key in ended:
            length, confirmed = self._live.pop(key, (0, False))
            self._ended[length] += confirmed

    def histogram(self) -> Counter[int]:
        live = Counter(length for length, confirmed in self._live.values() if confirmed)
        return self._ended + live


def _linked(frames: list[tuple[int, Detections, TrackUpdate, Stamps]], revision: Revision) -> Points:
    def join(arrays: list[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *arrays])

    frame = np.repeat(
        np.array([index for index, *_ in frames], np.int64), [len(detections) for _, detections, *_ in frames]
    )
    particle = join([tracks.particle for _, _, tracks, _ in frames], np.int64)
    existence = join([tracks.existence for _, _, tracks, _ in frames], np.float32)
    apply(revision, frame, particle, existence)
    on_track = particle >= 0
    return Points(
        frame[on_track],
        particle[on_track],
        existence[on_track],
        join([detections.y for _, detections, *_ in frames], np.float32)[on_track],
        join([detections.x for _, detections, *_ in frames], np.float32)[on_track],
    )


def _latency_ms(stamps: list[Stamps]) -> dict[str, NDArray[np.float64]]:
    ns = np.array([(s.detected - s.dequeued, s.linked - s.detected, s.decided - s.grabbed) for s in stamps])
    detection, linking, total = ns.reshape(-1, 3).T / 1e6
    return {"detection": detection, "linking": linking, "total": total}
