"""A picture of a measured astigmatic PSF: the widths of the beads, and the curve."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from streamtrack.calibration.psf import PsfFit


def draw(found: PsfFit, path: Path) -> None:
    """Write the picture, PNG."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    heights = np.linspace(*found.psf.range_um, 200)
    for name, sigma, curve, colour in (
        ("y", found.sigma_y_px, found.psf.y, "tab:blue"),
        ("x", found.sigma_x_px, found.psf.x, "tab:orange"),
    ):
        axes.plot(found.z_um.ravel(), sigma.ravel(), ".", ms=3, alpha=0.4, color=colour)
        axes.plot(heights, curve.width_px(heights), color=colour, label=f"along {name}")
    for end in found.psf.range_um:
        axes.axvline(end, color="grey", lw=0.8, ls=":")
    axes.set_xlabel("height above the focus, um")
    axes.set_ylabel("standard deviation of a bead's image, px")
    widest = max(float(curve.width_px(heights).max()) for curve in (found.psf.y, found.psf.x))
    axes.set_ylim(0, 1.3 * widest)
    axes.set_title(
        f"{len(found.z_um)} of {found.seen} beads; {100 * found.residual:.1f} % of the widths are left", size=10
    )
    axes.legend(frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")
