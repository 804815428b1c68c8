"""What crops for training may look like."""

from dataclasses import dataclass

Range = tuple[float, float]

LOG_UNIFORM = (
    "density",
    "snr",
    "bright_snr",
    "population_ratio",
    "outlier_ratio",
    "blob_sigma_px",
    "enlarged",
    "brownian_sigma_px",
    "background_e",
    "background_wave_px",
    "gain",
    "hot_share",
    "texture_grain_px",
)
"""Ranges of `CropRanges` that must lie above 0."""


@dataclass(frozen=True, slots=True)
class CropRanges:
    """What a crop may look like. Ranges are (low, high); each crop draws its own values, uniform unless said otherwise.

    Attributes
    ----------
    camera_fraction
        Share of crops as a real camera might give them; the others follow the challenge's model exactly: half of them
        microtubules, a quarter vesicles, a quarter receptors.
    camera_comet_fraction
        Share of comets among the real-camera crops; the others have round Gaussian spots.
    empty_fraction
        Share of crops without any particle.
    low_density_fraction
        Share of the other crops whose density is log-uniform; for the rest it is uniform.
    first_frame_fraction
        Share of crops without the frames before the current one, as at the start of a movie or after a loss; in a third
        of them only the oldest is missing.
    density
        Particles per 512x512 px.
    snr
        A / sqrt(A + local background) with the peak amplitude A, both in electrons and without haze; log-uniform.
    brownian_sigma_px, speed_px, death
        Real cameras: steps per axis and frame, log-uniform; speed of directed motion, px per frame; chance to vanish
        from one frame to the next.
    memoryless_fraction
        Real cameras: share of crops whose particles move so far that the frames before tell nothing.
    spot_sigma_px
        Round spots of real cameras.
    comet_front_px, comet_tail_px, comet_across_px
        Sigmas of the comets of real cameras.
    amplitude_log_sd, flicker_log_sd
        Real cameras: standard deviation of the logarithm of the amplitude from particle to particle, and of each
        particle from frame to frame.
    background_e
        Real cameras: mean background in electrons, log-uniform.
    background_contrast, background_wave_px
        Real cameras: brightest over darkest background of a pattern of waves, and their lengths, log-uniform.
    cell_fraction
        Real cameras: share of crops whose particles lie in some parts of the image only, as in cells.
    haze_fraction, haze_spots
        Real cameras: share of crops with light from out of focus, and the number of its spots.
    gain, offset_counts, read_noise_e
        Real cameras: counts per electron, log-uniform; counts in the dark; standard deviation of the read noise.
    electron_multiplying_fraction
        Real cameras: share of EMCCDs.
    faulty_fraction, hot_share, column_noise
        Real cameras: share of those with hot pixels and uneven columns; how many of the pixels are hot, log-uniform;
        standard deviation of the columns in units of the noise.
    saturated_fraction
        Real cameras: share of crops that are cut off between the mean background and a particle's peak.
    smoothed_fraction, smoothing_sigma_px
        Real cameras: share of crops that went through a Gaussian filter, and its sigma.
    bright_fraction, bright_snr, noise_free_fraction
        Real cameras: share of crops of another SNR, which is log-uniform; of these `noise_free_fraction` without noise.
    fast_fraction, fast_px
        Real cameras: share of crops whose particles all move straight on, and their speeds, px per frame.
    cut_fraction, shift_px
        Real cameras: share of crops with frames before that may not be believed (light goes on or off, the field
        jumps or drifts), and how far the field moves.
    population_fraction, population_ratio
        Real cameras: share of crops with two kinds of particles or a wide range of them; brightest over faintest.
    outlier_fraction, outlier_ratio
        Real cameras: share of crops in which a few particles are so many times brighter.
    blob_fraction, blob_sigma_px
        Real cameras: share of crops with one or two huge objects.
    slope_fraction, steepest_slope
        Real cameras: share of crops whose background rises to one side; by what part of the mean at most.
    stripe_fraction, stripe_px, stripe_contrast
        Real cameras: share of crops with stripes, their period, and brightest over darkest.
    disc_fraction, disc_radius_px, disc_contrast
        Real cameras: share of crops with one to three bright discs with a sharp edge.
    texture_fraction, texture_height, texture_grain_px
        Real cameras: share of crops with grains, brightest less darkest in amplitudes of a particle, and the sigma of
        the smallest, log-uniform.
    border_fraction
        Real cameras: share of crops of which a part is one constant value in all frames.
    enlarged_fraction, enlarged
        Real cameras: share of crops that were interpolated to so many times their size.
    """

    camera_fraction: float = 0.4
    camera_comet_fraction: float = 0.2
    empty_fraction: float = 0.2
    low_density_fraction: float = 0.5
    first_frame_fraction: float = 0.15
    density: Range = (20.0, 1500.0)
    snr: Range = (0.8, 12.0)
    brownian_sigma_px: Range = (0.05, 4.0)
    speed_px: Range = (0.0, 8.0)
    death: Range = (0.01, 0.15)
    memoryless_fraction: float = 0.1
    spot_sigma_px: Range = (0.8, 2.5)
    comet_front_px: Range = (1.1, 2.2)
    comet_tail_px: Range = (3.0, 9.0)
    comet_across_px: Range = (1.1, 2.2)
    amplitude_log_sd: Range = (0.0, 0.5)
    flicker_log_sd: Range = (0.0, 0.2)
    background_e: Range = (2.0, 400.0)
    background_contrast: Range = (1.0, 4.0)
    background_wave_px: Range = (24.0, 768.0)
    cell_fraction: float = 0.25
    haze_fraction: float = 0.3
    haze_spots: Range = (0.0, 12.0)
    gain: Range = (0.2, 4.0)
    offset_counts: Range = (0.0, 200.0)
    read_noise_e: Range = (0.0, 3.0)
    electron_multiplying_fraction: float = 0.25
    faulty_fraction: float = 0.3
    hot_share: Range = (1e-5, 1e-3)
    column_noise: Range = (0.0, 0.3)
    saturated_fraction: float = 0.1
    smoothed_fraction: float = 0.15
    smoothing_sigma_px: Range = (0.4, 1.0)
    bright_fraction: float = 0.0
    bright_snr: Range = (12.0, 200.0)
    noise_free_fraction: float = 0.0
    fast_fraction: float = 0.0
    fast_px: Range = (8.0, 40.0)
    cut_fraction: float = 0.0
    shift_px: Range = (4.0, 40.0)
    population_fraction: float = 0.0
    population_ratio: Range = (3.0, 30.0)
    outlier_fraction: float = 0.0
    outlier_ratio: Range = (10.0, 200.0)
    blob_fraction: float = 0.0
    blob_sigma_px: Range = (6.0, 20.0)
    slope_fraction: float = 0.0
    steepest_slope: float = 0.7
    stripe_fraction: float = 0.0
    stripe_px: Range = (10.0, 24.0)
    stripe_contrast: Range = (1.0, 2.2)
    disc_fraction: float = 0.0
    disc_radius_px: Range = (25.0, 90.0)
    disc_contrast: Range = (2.0, 12.0)
    texture_fraction: float = 0.0
    texture_height: Range = (0.2, 1.3)
    texture_grain_px: Range = (1.8, 12.0)
    border_fraction: float = 0.0
    enlarged_fraction: float = 0.0
    enlarged: Range = (1.5, 3.0)
