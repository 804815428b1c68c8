"""How good weights are on images that were held out, as a run would use them: score, table and picture."""

import csv
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from streamtrack.metrics.detection import Score, match
from streamtrack.output import output_file
from streamtrack.sinks.contrast import stretch
from streamtrack_engines.backends.metadata import COUNT
from streamtrack_engines.density_engine import DensityEngine
from streamtrack_engines.engine import GraphEngine
from streamtrack_engines.heads.density import STEP_PX, Density
from streamtrack_engines.training_data.images import MarkedImage
from streamtrack_engines.training_data.own import OwnImages

GATE_PX = 5.0
"""A particle is found if a detection is nearer than this, or than half its width where that is more."""

_SHOWN = 4
_SHOWN_PX = 320

Places = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FrameScore:
    """What was found in one frame: name of the image, frame, true and found places (N, 2), and which of them match."""

    image: str
    frame: int
    truth: Places
    found: Places
    is_hit: NDArray[np.bool_]
    is_right: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scored:
    """All frames of some weights."""

    frames: Sequence[FrameScore]
    gate_px: float

    @property
    def total(self) -> Score:
        """All frames counted together."""
        return _score(self.frames, self.gate_px)

    @property
    def f1(self) -> float:
        """Of all frames; 0 where there is neither a particle nor a detection."""
        return float(np.nan_to_num(self.total.f1))

    @property
    def in_words(self) -> str:
        """F1, and what it is made of."""
        total = self.total
        return f"F1 {self.f1:.3f} ({total.tp} found, {total.fn} missed, {total.fp} false)"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Before and after a training; ``before`` is None where it did not learn on from weights."""

    before: Scored | None
    after: Scored


def _score(frames: Sequence[FrameScore], gate_px: float) -> Score:
    n_hit, n_truth = (int(sum(each)) for each in zip(*((f.is_hit.sum(), len(f.truth)) for f in frames), strict=True))
    return Score(gate_px, n_hit, sum(int((~f.is_right).sum()) for f in frames), n_truth - n_hit)


def score_held_out(weights: str, data: OwnImages) -> Scored:
    """Return what an engine with some weights finds in the frames held out, told the size of the spots alone."""
    binning = data.binning
    gate_px = max(GATE_PX, (data.spot_size or 0.0) / 2)
    spot_size = None if data.spot_size is None else data.spot_size / binning
    engine = GraphEngine(weights=weights, backend="onnxruntime", spot_size=spot_size)
    before = engine.frames_before
    scores = []
    for image, frame in data.parts()[1].frames:
        engine.prepare(image.frames[frame].shape, image.frames[frame].dtype.name)
        for index in range(frame - before, frame + 1):
            if index in image.frames:
                found, _ = engine.detect(image.frames[index], denoise=False)
        places = np.stack([found.y, found.x], 1).astype(np.float64)
        scores.append(_frame_score(image, frame, places, gate_px / binning))
    engine.close()
    return Scored(scores, gate_px)


def count_error(weights: str, head: Density, data: OwnImages) -> float:
    """Return the mean of |counted - true| / true over the frames held out that have marks.

    True is the integral of the density of the marks, as the head was to learn it: what lies in the frame.
    """
    errors = []
    with closing(DensityEngine(weights=weights, backend="onnxruntime")) as engine:
        for image, frame in data.parts()[1].frames:
            levels, points = image.frames[frame], image.marked[frame].points
            engine.prepare(levels.shape, levels.dtype.name)
            for index in range(frame - engine.frames_before, frame + 1):
                if index in image.frames:
                    counted = engine.detect(image.frames[index], denoise=False)[0].frame_values[COUNT.name]
            if len(points):
                places = torch.from_numpy(np.insert(points, 0, 0, axis=1))
                channel = torch.empty(1, 1, *(-(-size // STEP_PX) for size in levels.shape))
                true = float(head.counts(places, channel))
                errors.append(abs(counted - true) / true)
    return float(np.mean(errors))


def _frame_score(image: MarkedImage, frame: int, found: Places, gate_px: float) -> FrameScore:
    truth = image.marked[frame].points.astype(np.float64)
    hit, right, _ = match(truth, found, gate_px)
    is_hit, is_right = np.zeros(len(truth), bool), np.zeros(len(found), bool)
    is_hit[hit] = is_right[right] = True
    return FrameScore(image.name, frame, truth, found, is_hit, is_right)


def write_held_out(outcome: HeldOut, path: Path) -> None:
    """Write a CSV table: a row for each frame."""
    with output_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "frame", "particles", "f1_before", "f1_after", "missed_after", "false_after"])
        for number, after in enumerate(outcome.after.frames):
            before = "" if outcome.before is None else _f1(outcome.before.frames[number])
            missed, false = int((~after.is_hit).sum()), int((~after.is_right).sum())
            writer.writerow([after.image, after.frame, len(after.truth), before, _f1(after), missed, false])


def _f1(score: FrameScore) -> float:
    return round(float(np.nan_to_num(_score([score], GATE_PX).f1)), 4)


def draw_hits(outcome: HeldOut, data: OwnImages) -> Figure:
    """Return a picture of some frames held out: what was found, missed, and found falsely, before and after."""
    frames = data.parts()[1].frames[:_SHOWN]
    rows = [(name, each) for name, each in (("before", outcome.before), ("after", outcome.after)) if each is not None]
    figure = Figure(figsize=(4 * len(frames), 4.3 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(frames), squeeze=False)
    for (name, scored), row in zip(rows, axes, strict=True):
        for (image, frame), score, one in zip(frames, scored.frames, row, strict=False):
            _draw(one, image.frames[frame], score)
            one.set_title(f"{name}: {image.name}" + ("" if image.is_still else f", {frame}"), fontsize=9)
    handles, labels = axes[-1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw(axes: Axes, levels: NDArray[np.generic], score: FrameScore) -> None:
    low, high = stretch(levels)
    axes.imshow(levels, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    size = max(20.0, 9000.0 / min(max(levels.shape), _SHOWN_PX))
    marks = {
        "found": (score.truth[score.is_hit], "o", "#56B4E9"),
        "missed": (score.truth[~score.is_hit], "s", "#E69F00"),
        "false": (score.found[~score.is_right], "x", "#FF4FD8"),
    }
    for label, (places, marker, colour) in marks.items():
        style = {"c": colour} if marker == "x" else {"facecolors": "none", "edgecolors": colour}
        axes.scatter(places[:, 1], places[:, 0], s=size, marker=marker, linewidths=1.3, label=label, **style)  # type: ignore[arg-type]
    height, width = levels.shape
    axes.set(xlim=(-0.5, min(width, _SHOWN_PX) - 0.5), ylim=(min(height, _SHOWN_PX) - 0.5, -0.5), xticks=[], yticks=[])
