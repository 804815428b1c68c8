"""One picture of a run, gathered in bounded memory while the run lasts."""

from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from streamtrack.errors import ConfigError
from streamtrack.search_area import area_of
from streamtrack.sinks.files import check_folder, replacing, sink_errors, with_partials
from streamtrack.sinks.overview_summary import GatheredTracks, PointSample, Summary, no_latency
from streamtrack.sinks.revisions import apply, joined
from streamtrack.types import Detections, FrameResult, Pixels, Revision, SourceInfo, Stamps, Stream, TrackUpdate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVERVIEW = "overview.png"

_FOLD_FRAMES = 32  # at once: each step costs more than a frame
_ROWS_AT_ONCE = 8192
_DPI = 130

_Frame = tuple[int, Detections, TrackUpdate]
"""Index, detections, tracks."""


class OverviewSink:
    """Draws ``overview.png`` when the run closes.

    It shows the middle frame of a movie of known length, the first one of an open-ended acquisition. Where that frame
    is lost, the next one that comes is shown; where the run ends before it, the last one, without its denoised image.
    Of a movie of several streams the first one is shown, and the headline says so. Of long
    runs the most recent part of the tracks is drawn. Tracks are as the linker revised them; the detections of
    frames that are not settled yet are kept until they are.
    """

    critical = False
    files = with_partials(OVERVIEW)

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Forget any earlier run; raises SinkError."""
        check_folder(folder)
        self._path = folder / OVERVIEW
        self._source = source
        self._stream = source.streams[0] if source.streams else None
        self._target = (source.n_frames or 0) // max(len(source.streams or ()), 1) // 2
        self._denoised_index: int | None = None
        self._shown: FrameResult | None = None
        self._projection: Pixels | None = None
        self._n_frames = self._n_lost = self._n_detections = 0
        self._last_index: int | None = None
        self._pending: list[_Frame] = []
        self._tracks = GatheredTracks()
        self._latency = no_latency()
        self._inside = _inside(source)

    @property
    def stream(self) -> Stream | None:
        """The stream that is shown, of several."""
        return self._stream

    @property
    def source(self) -> SourceInfo:
        """What is shown, with a name that says which stream."""
        return _named(self._source, self._stream)

    def wants_denoised(self, frame_index: int) -> bool:
        """Return True for one frame: the one to show, or the next that comes if that one is lost."""
        if self._denoised_index is None and frame_index >= self._target:
            self._denoised_index = frame_index
        return frame_index == self._denoised_index

    def write(self, result: FrameResult) -> None:
        """Take the result of one frame; of several streams, those of the first one."""
        if self._source.streams is not None:
            self._stream = self._stream or result.frame.stream
            if result.frame.stream != self._stream:
                return
        self._n_frames += 1
        if self._last_index is not None:
            self._n_lost += result.frame.index - self._last_index - 1
        self._last_index = result.frame.index
        self._n_detections += len(result.detections)
        if self._shown is None or self._rank(result) < self._rank(self._shown):
            self._shown = result
        self._project(result.frame.pixels)
        self._time(result.stamps)
        self._pending.append((result.frame.index, result.detections, result.tracks))
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
            self.source,
            self._n_frames,
            self._n_lost,
            self._n_detections,
            self._shown,
            self._projection,
            self._tracks.points(),
            self._tracks.all_points,
            self._tracks.lengths(),
            self._latency,
            self._inside,
        )

    def _rank(self, result: FrameResult) -> tuple[bool, int]:
        """Order frames by how well they suit to be shown, best first."""
        return result.denoised is None, abs(result.frame.index - self._target)

    def _project(self, pixels: Pixels) -> None:
        if self._projection is None:
            self._projection = pixels.copy()
        else:
            np.fmax(self._projection, pixels, out=self._projection)  # fmax passes over NaN

    def _time(self, stamps: Stamps) -> None:
        self._latency["detect"].add(stamps.detected - stamps.dequeued)
        self._latency["link"].add(stamps.linked - stamps.detected)
        self._latency["whole"].add(stamps.decided - (stamps.grabbed if self._source.live else stamps.dequeued))

    def _fold(self, n_frames: int) -> None:
        """Reduce the first of the pending frames, which nothing will revise any more, to what is kept."""
        revision = joined(tracks.revised for _, _, tracks in self._pending)
        frames, self._pending = self._pending[:n_frames], self._pending[n_frames:]
        points = _linked(frames, revision)
        self._tracks.add(points, [particle for _, _, tracks in frames for particle in tracks.ended.tolist()])


def draw_tables(folder: Path, source: SourceInfo, n_frames: int, n_lost: int) -> None:
    """Draw the picture of a run of which only the tables are left: tracks without frames; raises SinkError."""
    from streamtrack.sinks.overview_figure import draw

    tracks = GatheredTracks()
    stream = source.streams[0] if source.streams else None
    with pq.ParquetFile(folder / "tracks.parquet") as file:
        for batch in chain.from_iterable(
            file.iter_batches(_ROWS_AT_ONCE, [group]) for group in range(file.num_row_groups)
        ):  # over all groups at once it keeps what it has read of them
            if source.streams is not None:
                stream = stream or _stream_of(batch)
                batch = batch.filter(_is_of(stream))
            tracks.add(PointSample(*(batch.column(name).to_numpy() for name in PointSample.__slots__)), [])
    n_detections = pq.read_metadata(folder / "detections.parquet").num_rows
    black = np.zeros(source.shape, np.uint8)
    shown = (tracks.points(), tracks.all_points, tracks.lengths(), no_latency(), _inside(source))
    _save(draw(Summary(_named(source, stream), n_frames, n_lost, n_detections, None, black, *shown)), folder / OVERVIEW)


def _inside(source: SourceInfo) -> NDArray[np.bool_] | None:
    """Return which pixels are searched; None for all, or where the mask cannot be read any more."""
    with suppress(ConfigError):
        area = area_of(source)
        return None if area is None else area.inside
    return None


def _stream_of(rows: pa.RecordBatch) -> Stream | None:
    """Return the stream of the first row."""
    if not len(rows):
        return None
    position, channel, z = (rows.column(name)[0].as_py() for name in "pcz")
    return Stream(position, channel, z)


def _is_of(stream: Stream | None) -> pc.Expression:
    if stream is None:
        return pc.scalar(True)
    z = pc.field("z").is_null() if stream.z is None else pc.field("z") == stream.z
    return (pc.field("p") == stream.position) & (pc.field("c") == stream.channel) & z


def _named(source: SourceInfo, stream: Stream | None) -> SourceInfo:
    """Return the source of which one stream is shown, with a name that says so."""
    if source.streams is None or stream is None:
        return source
    of = f" of {len(source.streams)}" if source.streams else ""
    return replace(source, name=f"{source.name[-70:]}: one stream{of}, {stream}")


def _save(figure: "Figure", path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(_DPI)
    with replacing(path) as partial, sink_errors(path):
        FigureCanvasAgg(figure).print_png(partial)  # type: ignore[no-untyped-call]  # savefig would draw it twice


def _linked(frames: list[_Frame], revision: Revision) -> PointSample:
    def join(arrays: list[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *arrays])

    frame = np.repeat(
        np.array([index for index, *_ in frames], np.int64), [len(detections) for _, detections, _ in frames]
    )
    particle = join([tracks.particle for _, _, tracks in frames], np.int64)
    existence = join([tracks.existence for _, _, tracks in frames], np.float32)
    apply(revision, frame, particle, existence)
    on_track = particle >= 0
    return PointSample(
        frame[on_track],
        particle[on_track],
        existence[on_track],
        join([detections.y for _, detections, _ in frames], np.float32)[on_track],
        join([detections.x for _, detections, _ in frames], np.float32)[on_track],
    )
