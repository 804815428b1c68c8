"""From an engine's detections to what the filter measures."""

import math

from streamtrack.compiling import compiled
from streamtrack.linking.records import CLUTTER, MASS, VAR, Floats, Indices, X, Y

MARGIN_PX = 1.0
"""How far outside the outermost pixels' edges a detection may lie: sub-pixel positions at the border may."""

LEAST_SCORE, MOST_SCORE = 0.05, 0.98
LEAST_SIGMA_PX, MOST_SIGMA_PX = 0.05, 3.0
"""No detection is taken to be surer or less sure, better or worse placed, whatever the engine says."""


@compiled
def measure(columns: Floats, height: int, width: int, measured: Floats, places: Indices) -> tuple[int, float]:
    """Measure the detections that have a place in the image, a score and a sigma.

    A score s says that of such detections a share s is real: their false ones are (1 - s) / s times as dense as
    particles.

    Parameters
    ----------
    columns
        Shape (5, N): y, x, score, sigma, mass of the detections of a frame.
    measured, places
        Shapes (N or more, N_MEASURED) and (N or more,), to be filled from the start: what is measured of a detection,
        its ``CLUTTER`` in units of the density of particles; and its place among the N.

    Returns
    -------
    How many there are, and how many of them are to be expected to be real.
    """
    n, expected = 0, 0.0
    for d in range(columns.shape[1]):
        y, x, score, sigma = columns[0, d], columns[1, d], columns[2, d], columns[3, d]
        inside_y = -0.5 - MARGIN_PX <= y <= height - 0.5 + MARGIN_PX
        inside_x = -0.5 - MARGIN_PX <= x <= width - 0.5 + MARGIN_PX
        if not (inside_y and inside_x and math.isfinite(score) and math.isfinite(sigma)):
            continue
        score = min(max(score, LEAST_SCORE), MOST_SCORE)
        measured[n, Y], measured[n, X] = y, x
        measured[n, VAR] = min(max(sigma, LEAST_SIGMA_PX), MOST_SIGMA_PX) ** 2
        measured[n, CLUTTER] = (1.0 - score) / score
        measured[n, MASS] = columns[4, d]
        places[n] = d
        expected += score
        n += 1
    return n, expected
