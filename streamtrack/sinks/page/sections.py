"""The parts of the page that show what was found."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from streamtrack.sinks.contrast import stretch
from streamtrack.sinks.overview_summary import PointSample, Summary
from streamtrack.sinks.page.charts import Series, chart
from streamtrack.sinks.page.gathered import SCORE_EDGES, Gathered, Moment
from streamtrack.sinks.page.motion import Fit, Msd, confirmed, displacements, fitted, mean_square_displacement
from streamtrack.sinks.page.pictures import circles, lines, movie, still
from streamtrack.types import DENOISED, SourceInfo

_MOST_BARS = 40
_EDGES_MS = np.geomspace(1e-3, 1e5, 81)
_STAGES = {"detect": "detection", "link": "linking", "whole": "whole frame"}


def sections(summary: Summary, gathered: Gathered, moments: Sequence[Moment]) -> str:
    """Return pictures and charts, each with its heading."""
    points = confirmed(summary.points)
    since = "" if summary.all_points or not len(points) else f"since frame {points.frame.min()}"
    parts = {
        "Overview": [_facts(summary)],
        "Pictures": [*_pictures(summary, points, since), *_movie(moments)],
        "Against time": [*_curves(summary.source, gathered)],
        "Tracks": [*_tracks(summary, points, since)],
        "Detection and speed": [_scores(gathered), _latency(summary)],
    }
    kinds = {"Pictures": ' class="pictures"'}
    return "".join(
        f"<section><h2>{name}</h2><div{kinds.get(name, '')}>{''.join(each)}</div></section>"
        for name, each in parts.items()
    )


def _facts(summary: Summary) -> str:
    source = summary.source
    facts = {
        "frames": f"{summary.n_frames:,}",
        "detections": f"{summary.n_detections:,}",
        "confirmed tracks": f"{summary.lengths.total():,}",
        "frame": f"{source.shape[0]} x {source.shape[1]} px, {source.dtype}",
        "pixel": "not known" if source.pixel_size_um is None else f"{source.pixel_size_um:.4g} µm",
        "frame interval": "not known" if source.frame_interval_s is None else f"{source.frame_interval_s:.4g} s",
    }
    if summary.inside is not None:
        facts["searched"] = f"{summary.inside.mean():.0%} of the frame"
    each = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{"".join(each)}</dl>'


def _pictures(summary: Summary, points: PointSample, since: str) -> Iterator[str]:
    shown, um = summary.shown, summary.source.pixel_size_um
    if shown is not None:
        found, index = shown.detections, shown.frame.index
        over = circles(found.y, found.x, summary.source.shape)
        picture = still(shown.frame.pixels, over, um, f"frame {index} with circles around its detections")
        yield _figure(f"Frame {index}", f"{len(found):,} detections", picture)
        if shown.denoised is not None:
            low, high = stretch(shown.frame.pixels)
            kind = summary.source.image
            span = (high - low) / 2 if kind == DENOISED else 0.0  # or traces of noise would shine
            picture = still(shown.denoised, "", um, f"frame {index}, {kind}", least_span=span)
            yield _figure(kind.capitalize(), f"frame {index}", picture)
    if summary.projection is not None:
        tracks = _by_track(points)
        picture = still(summary.projection, lines(tracks), um, "maximum projection with tracks", dim=1.5)
        yield _figure("Tracks over the projection", f"{len(tracks):,} confirmed {since}", picture)
    else:
        yield '<p class="none">no frame was processed</p>'


def _movie(moments: Sequence[Moment]) -> Iterator[str]:
    if not moments:
        return
    moving, standing = movie(moments)
    span = f"frames {moments[0].index} to {moments[-1].index}"
    picture = (
        f'<picture><source srcset="{standing}" media="(prefers-reduced-motion: reduce)">'
        f'<img class="picture" src="{moving}" alt="movie of {span} with detections and tracks"></picture>'
    )
    yield _figure("Movie", f"{span}; circles are detections, white without a track", picture)


def _curves(source: SourceInfo, gathered: Gathered) -> Iterator[str]:
    means = gathered.curves.means()
    time, label = (means["frame"], "frame") if source.time_unit == "frame" else (means["time_s"], "time (s)")
    counts = [Series(time, means["detections"], "detections"), Series(time, means["confirmed"], "on confirmed tracks")]
    yield chart("Particles", counts, label, "in a frame")
    yield chart("Intensity of particles", [Series(time, means["mass"])], label, "mean mass (counts)")
    yield chart("Intensity of the image", [Series(time, means["image"])], label, "mean pixel (counts)")


def _tracks(summary: Summary, points: PointSample, since: str) -> Iterator[str]:
    yield _lengths(summary)
    source = summary.source
    length, unit = (1.0, "px") if source.pixel_size_um is None else (source.pixel_size_um, "µm")
    steps = displacements(points, 1) * length
    edges = np.linspace(0, np.quantile(steps, 0.995) or 1.0, _MOST_BARS + 1) if len(steps) else np.zeros(2)
    bars = Series(edges, np.histogram(steps, edges)[0] if len(steps) else np.zeros(1), style="bars")
    median = f"median {np.median(steps):.3g} {unit} {since}" if len(steps) else ""
    yield chart("Steps from frame to frame", [bars], f"step ({unit})", "steps", note=median)
    msd = mean_square_displacement(points)
    yield _msd(msd, fitted(msd), source, since)


def _lengths(summary: Summary) -> str:
    if not summary.lengths:
        return chart("Track lengths", [], "", "", note="no confirmed track")
    length = np.array(sorted(summary.lengths))
    tracks = np.array([summary.lengths[n] for n in length.tolist()])
    width = -(-int(length[-1]) // _MOST_BARS)
    edges = np.arange(0.5, length[-1] + width + 0.5, width)
    bars = Series(edges, np.histogram(length, edges, weights=tracks)[0], style="bars")
    median = int(length[np.searchsorted(np.cumsum(tracks), tracks.sum() / 2)])
    return chart("Track lengths", [bars], "detections in the track", "confirmed tracks", note=f"median {median}")


def _msd(msd: Msd, fit: Fit | None, source: SourceInfo, since: str) -> str:
    um, interval = source.pixel_size_um or 1.0, source.frame_interval_s or 1.0
    length = "px" if source.pixel_size_um is None else "µm"
    time = "frame" if source.frame_interval_s is None else "s"
    lag = msd.lag * interval
    series = [Series(lag, msd.msd * um**2, "all confirmed tracks", "points")]
    note = since
    if fit is not None:
        line = (4 * fit.diffusion * msd.lag + fit.offset)[: fit.n_lags]
        series.append(Series(lag[: fit.n_lags], line * um**2, "fit: 4 D t + offset"))
        said = f"D = {fit.diffusion * um**2 / interval:.3g} {length}²/{time}"
        alpha = f", exponent {fit.alpha:.2f} (diffusion: 1)" if np.isfinite(fit.alpha) else ""
        note = f"{said}{alpha}, by the first {fit.n_lags} lags {since}"
    labels = f"lag ({'frames' if time == 'frame' else time})", f"{length}²"
    return chart("Mean square displacement", series, *labels, note=note, log_x=True, log_y=True)


def _scores(gathered: Gathered) -> str:
    bars = Series(SCORE_EDGES, gathered.scores, style="bars")
    return chart("Scores", [bars], "score", "detections", note=f"of {int(gathered.scores.sum()):,}")


def _latency(summary: Summary) -> str:
    counts = {stage: summary.latency[stage].counts_ms(_EDGES_MS) for stage in _STAGES}
    used = np.flatnonzero(sum(counts.values()))
    if not used.size:
        return chart("Time per frame", [], "", "")
    kept = slice(used[0], used[-1] + 1)
    middle = np.sqrt(_EDGES_MS[:-1] * _EDGES_MS[1:])
    median_ms = {stage: summary.latency[stage].percentile_ns(500) / 1e6 for stage in _STAGES}
    series = [
        Series(middle[kept], counts[stage][kept], f"{name}, median {median_ms[stage]:.3g} ms")
        for stage, name in _STAGES.items()
    ]
    return chart("Time per frame", series, "time (ms)", "frames", log_x=True)


def _by_track(points: PointSample) -> list[NDArray[np.float32]]:
    """Return (x, y) of every track with at least two points; points as `confirmed` gives them."""
    starts = np.flatnonzero(np.diff(points.particle)) + 1
    return [each for each in np.split(np.column_stack([points.x, points.y]), starts) if len(each) > 1]


def _figure(title: str, note: str, picture: str) -> str:
    return f"<figure><figcaption><b>{escape(title)}</b> {escape(note)}</figcaption>{picture}</figure>"
