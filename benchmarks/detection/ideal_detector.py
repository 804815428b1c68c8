"""How many particles one, three or ten frames can show at all, whoever looks.

``python -m benchmarks.ideal_detector [--snr 1] [--out FILE.json]``

A detector that is told what no other knows: the exact image of a particle, its amplitude, the background, how many
particles there are, how they move and how long they live. For particles that do not overlap, the odds that one is at a
place follow from Bayes' rule, frame by frame (track before detect: Salmond & Birch, American Control Conf. 2001)::

    odds_t(x) = L_t(x) * (death * density + (1 - death) * (motion * p_{t-1})(x))

with the likelihood ratio L of a particle against background in Poisson noise, its mean over nine places in the pixel.
The threshold is the best on the frames that are scored. Round spots only; in crowds, where particles overlap, a better
one is possible.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.signal import fftconvolve

from benchmarks.detection.scoring import score_frames
from benchmarks.shared.record import command_line, command_parser, write
from streamtrack.report import machine, versions
from streamtrack.simulation import Movie, MovieSettings
from streamtrack.simulation.render import add_spots, amplitude_from_snr
from streamtrack.simulation.scenarios import AREA_PX, BACKGROUND_E, SCENARIOS, Scenario, ScenarioName

SEED = 780_000
ROUND: tuple[ScenarioName, ...] = ("vesicle", "receptor")
DENSITIES = (100.0, 500.0, 1000.0)
MEMORIES = (1, 3, 10)
N_FRAMES, EVERY = 60, 6
RADIUS_PX, REACH_PX, GATE_PX = 6, 9, 5.0
PLACES_PX = (-1 / 3, 0.0, 1 / 3)

Image = NDArray[np.float64]


def main() -> None:
    """Print F1 for each scenario, density and number of frames; write them down if asked to."""
    parser = command_parser(__doc__)
    parser.add_argument("--snr", type=float, default=1.0)
    arguments = parser.parse_args()
    rows = [row for name in ROUND for density in DENSITIES for row in score(name, arguments.snr, density)]
    for row in rows:
        print("{scenario:12} density {density:6g} frames {frames:2d}: F1 {f1_5px:.3f}".format(**row))
    about = {"command": command_line("ideal_detector"), "machine": machine(), "versions": versions()}
    write(about | {"snr": arguments.snr, "seed": SEED, "cells": rows}, arguments.out)


def score(name: ScenarioName, snr: float, density: float) -> list[dict[str, object]]:
    """Return F1 with the best threshold, for each number of frames that the detector remembers."""
    settings = MovieSettings(scenario=name, snr=snr, density=density, frames=N_FRAMES, seed=SEED + int(density))
    movie = Movie(settings)
    indices = range(max(MEMORIES) - 1, N_FRAMES, EVERY)
    truth = [movie.tracks[movie.tracks.frame == index][["y", "x"]].to_numpy() for index in indices]
    rows: list[dict[str, object]] = []
    for memory in MEMORIES:
        found = [peaks(presence(movie, index, memory)) for index in indices]
        f1 = best_f1(truth, found)
        rows.append({"scenario": name, "density": density, "frames": memory, "f1_5px": f1})
    return rows


def presence(movie: Movie, index: int, memory: int) -> Image:
    """Return the probability that a particle is in each pixel of a frame, from this and the frames before."""
    scenario = SCENARIOS[movie.settings.scenario]
    density = movie.settings.density / AREA_PX**2
    death, move = 1 / scenario.mean_life_frames, motion(scenario)
    amplitude = float(amplitude_from_snr(movie.settings.snr, BACKGROUND_E))
    before = np.full(movie.noisy(index).shape, density)
    for frame in range(index - memory + 1, index + 1):
        prior = density * death + (1 - death) * (move(before) if frame > index - memory + 1 else before)
        odds = prior * likelihood_ratio(movie.noisy(frame).astype(np.float64), scenario, amplitude)
        before = odds / (1 + odds)
    return before


def likelihood_ratio(frame: Image, scenario: Scenario, amplitude: float) -> Image:
    """Return how much likelier each pixel's surroundings are with a particle than without."""
    padded = np.pad(frame, RADIUS_PX, constant_values=BACKGROUND_E)
    total = np.zeros_like(frame)
    for dy in PLACES_PX:
        for dx in PLACES_PX:
            spot = np.zeros((2 * RADIUS_PX + 1,) * 2, np.float32)
            centre = np.array([RADIUS_PX + dy]), np.array([RADIUS_PX + dx])
            add_spots(spot, *centre, np.array([amplitude]), np.zeros(1), scenario.profile)
            matched = fftconvolve(padded, np.log1p(spot / BACKGROUND_E)[::-1, ::-1], "valid")
            total += np.exp(np.clip(matched - spot.sum(), -30, 30))
    return total / len(PLACES_PX) ** 2


def motion(scenario: Scenario) -> Callable[[Image], Image]:
    """Return what spreads probabilities as particles spread in a frame: Brownian or, in part, at a speed."""
    y, x = np.mgrid[-REACH_PX : REACH_PX + 1, -REACH_PX : REACH_PX + 1]
    distance = np.hypot(y, x)
    slowest, fastest = scenario.speed_px
    ring = np.where((distance >= slowest) & (distance <= fastest), 1 / np.maximum(distance, 1), 0.0)
    ring /= max(ring.sum(), 1e-9)
    share = scenario.mean_directed

    def spread(image: Image) -> Image:
        brownian = gaussian_filter(image, scenario.brownian_sigma_px)
        return (1 - share) * brownian + share * fftconvolve(image, ring, "same") if share else brownian

    return spread


def peaks(probability: Image) -> tuple[Image, Image]:
    """Return positions (N, 2), and how many particles are to be expected around each."""
    near = gaussian_filter(probability, 1.0)
    y, x = np.nonzero((maximum_filter(near, 5) == near) & (near > 1e-6))
    return np.stack([y, x], axis=1).astype(np.float64), near[y, x]


def best_f1(truth: list[Image], found: list[tuple[Image, Image]]) -> float:
    """Return the highest F1 of 80 thresholds."""
    strengths = np.concatenate([strength for _, strength in found])
    thresholds = np.quantile(strengths, np.linspace(0.3, 0.9995, 80))
    return max(
        score_frames(truth, [yx[strength >= threshold] for yx, strength in found], GATE_PX).f1
        for threshold in thresholds
    )


if __name__ == "__main__":
    main()
