"""Point particles in a fluorescence microscope: the multi-particle example of DeepTrack 2 (Midtvedt et al., 2021)."""

import deeptrack as dt
import numpy as np


def pipeline():
    """Return images of 128x128 px with 10 to 20 particles, and these."""
    particle = dt.PointParticle(
        position=lambda: np.random.uniform(0, 128, 2),
        position_unit="pixel",
        z=lambda: np.random.normal(0, 5),
        intensity=lambda: np.random.uniform(1, 10),
    )
    sample = particle ^ (lambda: np.random.randint(10, 21))
    optics = dt.Fluorescence(
        NA=lambda: np.random.uniform(0.6, 0.8),
        wavelength=500e-9,
        resolution=1e-6,
        magnification=10,
        output_region=(0, 0, 128, 128),
    )
    background = 0.05
    image = optics(sample) >> dt.Add(background)
    image = image >> dt.Poisson(snr=lambda: np.random.uniform(4, 7), background=background)
    return image & sample
