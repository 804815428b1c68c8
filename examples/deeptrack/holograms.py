"""Spheres of 190 to 290 nm in an in-line holographic microscope, by Mie's theory, as DeepTrack 2 computes it."""

import deeptrack as dt
import numpy as np


def pipeline():
    """Return images of 128x128 px with one to three spheres, and these."""
    sphere = dt.MieSphere(
        position=lambda: np.random.uniform(8, 120, 2),
        position_unit="pixel",
        z=lambda: np.random.uniform(2e-6, 10e-6) / 114e-9,
        radius=lambda: np.random.uniform(190e-9, 290e-9),
        refractive_index=lambda: np.random.uniform(1.45, 1.55),
    )
    sample = sphere ^ (lambda: np.random.randint(1, 4))
    optics = dt.Brightfield(
        NA=1.3,
        wavelength=633e-9,
        resolution=1.14e-6,
        magnification=10,
        refractive_index_medium=1.33,
        output_region=(0, 0, 128, 128),
    )
    image = optics(sample) >> dt.Gaussian(sigma=lambda: np.random.uniform(0.005, 0.02))
    return image & sample
