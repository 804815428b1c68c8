"""The recipe of a training on crops that look like a movie."""

from collections.abc import Mapping
from typing import Any

from streamtrack_engines.likeness.camera import Estimate
from streamtrack_engines.likeness.measure import MovieMeasures

MINUTES = 20.0

_LEAST_SHARE = 0.05
_UNKNOWN_OFFSET = (0.0, 300.0)
_UNKNOWN_GAIN = (0.2, 6.0)
_UNKNOWN_READ_E = (0.0, 4.0)
_UNEVEN = 1.3

Range = list[float]


def crops_like(measures: MovieMeasures) -> dict[str, Any]:
    """Return the settings of the training data ``crops`` for crops that look like a movie, each a little otherwise.

    What could not be measured has a wide range.
    """
    settings: dict[str, Any] = {"camera_fraction": 0.7, "empty_fraction": 0.08, "low_density_fraction": 0.5}
    settings |= {"first_frame_fraction": 0.1, "memoryless_fraction": 0.05, "cell_fraction": 0.15}
    settings |= {"haze_fraction": 0.1, "faulty_fraction": 0.05, "saturated_fraction": 0.0, "smoothed_fraction": 0.0}
    return settings | _camera(measures) | _light(measures) | _particles(measures)


def _camera(measures: MovieMeasures) -> dict[str, Any]:
    camera = measures.camera
    settings: dict[str, Any] = {
        "gain": _around(camera.gain, 0.07) or list(_UNKNOWN_GAIN),
        "offset_counts": _around(camera.offset_counts, 0.05) or list(_UNKNOWN_OFFSET),
        "read_noise_e": _around(camera.read_noise_e, 0.2) or list(_UNKNOWN_READ_E),
        "electron_multiplying_fraction": float(camera.electron_multiplying),
    }
    if camera.noise_alike > _LEAST_SHARE:
        settings |= {"smoothed_fraction": 0.9, "smoothing_sigma_px": [0.4, 1.6]}
    return settings


def _light(measures: MovieMeasures) -> dict[str, Any]:
    light, mean_e = measures.light, measures.background_e
    settings: dict[str, Any] = {"background_contrast": [1.0, round(max(1.1, 1.25 * light.contrast), 2)]}
    settings["background_e"] = [2.0, 400.0] if mean_e is None else [_short(0.7 * mean_e), _short(1.4 * mean_e)]
    if light.steepest > _LEAST_SHARE:
        settings |= {"slope_fraction": 0.7, "steepest_slope": round(min(1.3 * light.steepest, 0.95), 2)}
    if light.stripe_px is not None and light.stripe_contrast is not None:
        settings |= {
            "stripe_fraction": 0.7,
            "stripe_px": [_short(0.85 * light.stripe_px), _short(1.15 * light.stripe_px)],
        }
        settings["stripe_contrast"] = [
            round(max(1.0, 0.8 * light.stripe_contrast), 2),
            round(1.2 * light.stripe_contrast, 2),
        ]
    return settings


def _particles(measures: MovieMeasures) -> dict[str, Any]:
    particles, snr = measures.particles, measures.snr
    density = max(particles.density, 5.0)
    settings: dict[str, Any] = {"density": [_short(density / 3), _short(2.5 * density)], "camera_comet_fraction": 0.0}
    if particles.sigma_px is not None:
        settings["spot_sigma_px"] = _around(particles.sigma_px, 0.08)
    if snr is not None and particles.amplitude_log_sd is not None:
        # Of the faintest some were not found, and none fitted.
        settings["snr"] = [_short(max(0.8, 0.6 * snr[0])), _short(max(1.2 * snr[3], 2.0))]
        settings["amplitude_log_sd"] = [
            _short(0.6 * particles.amplitude_log_sd),
            _short(1.2 * particles.amplitude_log_sd),
        ]
    if particles.step_px is not None:
        low, high = particles.step_px
        settings["brownian_sigma_px"] = [_short(max(0.05, 0.7 * low)), _short(max(0.1, 1.4 * high))]
    if particles.speed_px is not None:
        settings["speed_px"] = [_short(0.7 * particles.speed_px[0]), _short(1.3 * particles.speed_px[1])]
    else:
        settings["speed_px"] = [0.0, _short(settings.get("brownian_sigma_px", [0.0, 2.0])[1])]
    return settings


def weights_for(measures: MovieMeasures) -> str:
    """Return the packaged weights to learn on from: those that see each place by itself, where the light is uneven."""
    light = measures.light
    uneven = light.stripe_px is not None or light.contrast > _UNEVEN or light.steepest > (_UNEVEN - 1) / 2
    return "denodet-local" if uneven else "denodet"


def _around(measured: Estimate | None, share: float) -> Range | None:
    """Return what a number may be: its error, and a share of it to either side."""
    if measured is None:
        return None
    reach = max(2 * measured.error, share * abs(measured.value))
    return [_short(max(measured.value - reach, 0.0)), _short(measured.value + reach)]


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def recipe_like(
    measures: MovieMeasures, network: Mapping[str, Any], head: Mapping[str, Any], weights: str
) -> dict[str, Any]:
    """Return the table of a recipe that has weights, of some network and head, learn from crops like a movie's."""
    return {
        "weights": weights,
        **({"teacher": weights} if head["kind"] == "presence" else {}),
        "minutes": MINUTES,
        "batch_size": 4,
        "views": 2,
        "crop_px": 192,
        "learning_rate": 6e-4,
        "warmup_steps": 50,
        "norm_fraction": 0.0,
        "detection_only_fraction": 0.6,
        "average_decay": 0.997,
        "network": dict(network),
        "head": dict(head),
        "data": {"kind": "crops", **crops_like(measures)},
        "calibration": {"n_frames": 60, "frame_px": 256},
        "evaluation": {"n_crops": 6, "crop_px": 256, "every_minutes": 4},
    }
