"""How the particles of a scenario are born, move and vanish.

The image is a window onto a larger field, in which births are uniform: particles enter and leave through the image's
borders at the rate that their motion gives. Who leaves the field comes back on its other side, far from the image.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamtrack.simulation.scenarios import AREA_PX, MIN_TRACK_FRAMES, SCENARIOS, Scenario, ScenarioName

FIELD_MARGIN_PX = 64.0
"""The field reaches this far beyond the image on each side."""

REFERENCE_PARTICLES = 4000
REFERENCE_FRAMES = 100

_PARTICLE = np.dtype(
    [
        ("particle", np.int64),
        ("frame", np.int64),
        ("y", np.float64),
        ("x", np.float64),
        ("vy", np.float64),
        ("vx", np.float64),
        ("directed", np.bool_),
        ("frames_left", np.int64),
    ]
)
_Particles = NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Ground truth, one entry per particle and frame, ordered by particle, then frame; every field has shape (N,).

    Attributes
    ----------
    particle
        int64, from 0.
    frame
        int64. A track has no gaps and at least 4 frames.
    y, x
        float64, px, on the image's pixels: -0.5 <= y < height - 0.5.
    heading
        float64, rad: direction (dy, dx) = (sin, cos) of the last directed step.
    """

    particle: NDArray[np.int64]
    frame: NDArray[np.int64]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    heading: NDArray[np.float64]


def simulate_tracks(
    rng: np.random.Generator, name: ScenarioName, density: float, frames: int, shape: tuple[int, int]
) -> Tracks:
    """Draw the tracks of a movie.

    Stays of under 4 frames in the image are left out; births make up for them, so that on average ``density``
    particles per 512x512 px remain in a frame. The same state of ``rng`` gives the same tracks.

    Parameters
    ----------
    frames
        Length of the movie, at least 4.
    shape
        (height, width) in px.
    """
    field_density = density / _kept_fraction(name, min(frames, REFERENCE_FRAMES), shape)
    visible = _in_image(_field(rng, SCENARIOS[name], field_density, frames, shape), shape)
    stay, length = _stays(visible)
    kept = length[stay] >= MIN_TRACK_FRAMES
    visible = visible[kept]
    return Tracks(
        particle=np.unique(stay[kept], return_inverse=True)[1],
        frame=visible["frame"].copy(),
        y=visible["y"].copy(),
        x=visible["x"].copy(),
        heading=np.arctan2(visible["vy"], visible["vx"]),
    )


def simulate_moments(
    rng: np.random.Generator, scenario: Scenario, density: float, frames: int, shape: tuple[int, int]
) -> list[_Particles]:
    """Draw a few frames out of the middle of a movie, particles coming and going all the while.

    Parameters
    ----------
    scenario
        How the particles move; ``death`` is the chance to vanish from one frame to the next, in or out of the image.
    density
        Particles per 512x512 px.
    frames
        At least 1.
    shape
        (height, width) of the image in px.

    Returns
    -------
    list
        For each frame the particles of the field, which is larger than the image by `FIELD_MARGIN_PX` on each side;
        fields ``particle``, ``y``, ``x`` (px), ``vy``, ``vx`` (px per frame, of the last directed step).
    """
    field = np.array(shape) + 2 * FIELD_MARGIN_PX
    mean = density * field.prod() / AREA_PX**2
    alive = _in_equilibrium(rng, scenario, rng.poisson(mean), field)
    history, total = [alive], len(alive)
    for _ in range(1, frames):
        alive = alive[rng.random(len(alive)) >= scenario.death]
        _move(rng, scenario, alive, field)
        born = _newborn(rng, scenario, rng.poisson(mean * scenario.death), field)
        born["particle"] += total
        total += len(born)
        alive = np.concatenate((alive, born))
        history.append(alive)
    return history


@cache
def _kept_fraction(name: ScenarioName, frames: int, shape: tuple[int, int]) -> float:
    """Return the share of particles that belong to stays long enough, from a crowded movie of its own."""
    field_area = (shape[0] + 2 * FIELD_MARGIN_PX) * (shape[1] + 2 * FIELD_MARGIN_PX)
    density = REFERENCE_PARTICLES * AREA_PX**2 / field_area
    visible = _in_image(_field(np.random.default_rng(0), SCENARIOS[name], density, frames, shape), shape)
    stay, length = _stays(visible)
    return float(np.mean(length[stay] >= MIN_TRACK_FRAMES))


def _field(
    rng: np.random.Generator, scenario: Scenario, density: float, frames: int, shape: tuple[int, int]
) -> _Particles:
    """Return all particles of the field in all frames, one entry for each.

    Nobody is born or dies in the first and last three steps: the movie would cut these tracks to under 4 frames.
    The number of particles is in equilibrium from the first frame.
    """
    field = np.array(shape) + 2 * FIELD_MARGIN_PX
    mean = density * field.prod() / AREA_PX**2
    alive = _in_equilibrium(rng, scenario, rng.poisson(mean), field)
    history, total = [alive], len(alive)
    for frame in range(1, frames):
        turnover = MIN_TRACK_FRAMES <= frame <= frames - MIN_TRACK_FRAMES
        alive = alive[alive["frames_left"] > turnover]
        alive["frames_left"] -= turnover
        _move(rng, scenario, alive, field)
        if turnover:
            born = _newborn(rng, scenario, rng.poisson(mean / scenario.mean_life_frames), field)
            born["particle"] += total
            total += len(born)
            alive = np.concatenate((alive, born))
        alive["frame"] = frame
        history.append(alive)
    return np.concatenate(history)


def _newborn(rng: np.random.Generator, scenario: Scenario, n: int, field: NDArray[np.float64]) -> _Particles:
    """Draw particles at the start of their tracks, uniform over the field."""
    particles = np.zeros(n, _PARTICLE)
    particles["particle"] = np.arange(n)
    particles["y"], particles["x"] = rng.uniform(-0.5 - FIELD_MARGIN_PX, field - 0.5 - FIELD_MARGIN_PX, (n, 2)).T
    particles["directed"] = rng.random(n) < scenario.first_directed
    particles["vy"], particles["vx"] = _start_velocities(rng, scenario, n)
    particles["frames_left"] = MIN_TRACK_FRAMES - 1 + rng.geometric(scenario.death, n)
    return particles


def _in_equilibrium(rng: np.random.Generator, scenario: Scenario, n: int, field: NDArray[np.float64]) -> _Particles:
    """Draw particles in the middle of their tracks, as they are found at any one time."""
    particles = _newborn(rng, scenario, n, field)
    particles["directed"] = rng.random(n) < scenario.mean_directed
    # The time left (this frame included) is r with a weight P(life >= r): that is 1 up to MIN_TRACK_FRAMES.
    early = MIN_TRACK_FRAMES - 1
    soon = rng.random(n) < early / scenario.mean_life_frames
    particles["frames_left"][soon] = rng.integers(1, early + 1, np.count_nonzero(soon))
    return particles


def _move(rng: np.random.Generator, scenario: Scenario, particles: _Particles, field: NDArray[np.float64]) -> None:
    """Take one step, in place; switch between the states after it, so that a track's first step is in its first."""
    n = len(particles)
    directed = particles["directed"]
    velocity = np.column_stack((particles["vy"], particles["vx"]))
    velocity = _within_limits(velocity + rng.normal(0, scenario.velocity_walk_px, (n, 2)), scenario)
    step = np.where(directed[:, None], velocity, rng.normal(0, scenario.brownian_sigma_px, (n, 2)))
    corner = -0.5 - FIELD_MARGIN_PX
    particles["y"] = corner + (particles["y"] + step[:, 0] - corner) % field[0]
    particles["x"] = corner + (particles["x"] + step[:, 1] - corner) % field[1]

    switch = rng.random(n) < np.where(directed, scenario.to_brownian, scenario.to_directed)
    starts = switch & ~directed
    velocity[starts] = _start_velocities(rng, scenario, int(starts.sum())).T
    particles["vy"], particles["vx"] = velocity.T
    particles["directed"] = directed ^ switch


def _start_velocities(rng: np.random.Generator, scenario: Scenario, n: int) -> NDArray[np.float64]:
    """Return vy, vx of shape (2, n)."""
    speed, heading = rng.uniform(*scenario.speed_px, n), rng.uniform(0, 2 * np.pi, n)
    return np.stack((speed * np.sin(heading), speed * np.cos(heading)))


def _within_limits(velocity: NDArray[np.float64], scenario: Scenario) -> NDArray[np.float64]:
    """Reflect the speeds of velocities (N, 2) at the scenario's limits."""
    slowest, fastest = scenario.speed_px
    speed = np.hypot(*velocity.T)
    allowed = np.where(speed < slowest, 2 * slowest - speed, np.where(speed > fastest, 2 * fastest - speed, speed))
    factor: NDArray[np.float64] = allowed / np.maximum(speed, 1e-9)
    return velocity * factor[:, None]


def _in_image(particles: _Particles, shape: tuple[int, int]) -> _Particles:
    """Return the entries on the image's pixels, ordered by particle and frame."""
    y, x = particles["y"], particles["x"]
    inside = particles[(y >= -0.5) & (y < shape[0] - 0.5) & (x >= -0.5) & (x < shape[1] - 0.5)]
    return inside[np.lexsort((inside["frame"], inside["particle"]))]


def _stays(visible: _Particles) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the uninterrupted stay in the image to which each entry belongs, and each stay's length in frames."""
    new = (np.diff(visible["particle"], prepend=-1) != 0) | (np.diff(visible["frame"], prepend=-1) != 1)
    stay = np.cumsum(new) - 1
    return stay, np.bincount(stay)
