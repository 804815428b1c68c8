"""Some images with what was found in them, what was missed and what is false."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from streamtrack.metrics.detection import match

Shown = tuple[str, NDArray[np.uint16], NDArray[np.float64], NDArray[np.float64]]
"""Title, image, and y, x, radius of its nuclei and of what was found."""


def draw(shown: Sequence[Shown], gate_px: float, path: Path) -> None:
    """Write a picture of images beside each other: circles are right, crosses missed, squares false."""
    figure = Figure(figsize=(7 * len(shown), 5.8), layout="constrained")
    for axes, (title, pixels, nuclei, found) in zip(
        figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True
    ):
        low, high = np.quantile(pixels, (0.01, 0.995))
        axes.imshow(np.sqrt((pixels - low).clip(0)), cmap="gray", vmin=0, vmax=np.sqrt(high - low))
        true, right, _ = match(nuclei[:, :2], found[:, :2], gate_px)
        for y, x, radius in found[right]:
            axes.add_patch(Circle((x, y), radius, fill=False, color="#4DD0A0", linewidth=0.9))
        missed, false = np.delete(nuclei, true, axis=0), np.delete(found, right, axis=0)
        axes.plot(missed[:, 1], missed[:, 0], "+", color="#FF5C5C", markersize=9, markeredgewidth=2, label="missed")
        axes.plot(false[:, 1], false[:, 0], "s", color="#FFC857", markersize=8, fillstyle="none", label="false")
        axes.set_title(f"{title}: {len(right)} right, {len(missed)} missed, {len(false)} false")
        axes.legend(loc="lower right", fontsize="small")
        axes.set_axis_off()
    figure.savefig(path, dpi=70)
