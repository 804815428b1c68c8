"""Movies as anyone's camera gives them: what the Particle Tracking Challenge's frames do not have.

Gaussian spots integrated over the pixel, sigma 1.3 px, SNR = A / sqrt(A + background), background 20 electrons and
256x256 px, unless a family says otherwise. Every movie has three frames, of which the last is scored.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from scipy.special import erf

from streamtrack.simulation.render import Comet, add_spots, amplitude_from_snr

Image = NDArray[np.float64]
Generator = np.random.Generator

SIZE_PX = 256
BACKGROUND_E = 20.0
MARGIN_PX = 8


class Scene(NamedTuple):
    """Three frames (3, H, W) uint16, the places of the particles in the last that count (N, 2), and all of them."""

    frames: NDArray[np.uint16]
    truth: Image
    all: Image


def places(rng: Generator, n: int, *, apart_px: float = 0.0, size_px: int = SIZE_PX) -> Image:
    """Draw ``n`` places y, x at least so far apart and `MARGIN_PX` off the border, (n, 2)."""
    kept: list[Image] = []
    while len(kept) < n:
        place = rng.uniform(MARGIN_PX, size_px - 1 - MARGIN_PX, 2)
        if all(np.abs(place - other).max() > apart_px or np.hypot(*(place - other)) > apart_px for other in kept):
            kept.append(place)
    return np.array(kept).reshape(-1, 2)


def spots(yx: Image, amplitude: object, sigma_px: float = 1.3, size_px: int = SIZE_PX) -> Image:
    """Return the electrons (H, W) of Gaussian spots, integrated over the pixels."""
    image = np.zeros((size_px, size_px))
    pixel = np.arange(size_px)
    reach = int(np.ceil(5 * sigma_px))
    for (y, x), height in zip(yx, np.broadcast_to(np.asarray(amplitude, float), len(yx)), strict=True):
        rows, columns = (pixel[max(0, round(p) - reach) : round(p) + reach + 1] for p in (y, x))
        profile = np.outer(_along(rows - y, sigma_px), _along(columns - x, sigma_px))
        image[rows[:, None], columns] += height * profile
    return image


def _along(distance: Image, sigma_px: float) -> Image:
    width = np.sqrt(2) * sigma_px
    edges = erf((distance + 0.5) / width) - erf((distance - 0.5) / width)
    return np.asarray(edges * np.sqrt(np.pi / 2) * sigma_px)


def walk(rng: Generator, yx: Image, step_px: float = 1.0) -> list[Image]:
    """Return the places in three frames that end at ``yx``."""
    steps = rng.normal(0, step_px, (2, *yx.shape))
    return [yx - steps.sum(0), yx - steps[1], yx]


def exposed(rng: Generator, mean_e: object) -> NDArray[np.uint16]:
    """Return Poisson counts, as far as 16 bits go."""
    return rng.poisson(np.maximum(np.asarray(mean_e), 0)).clip(0, 65535).astype(np.uint16)


def amplitude(snr: float, background_e: object = BACKGROUND_E) -> Image:
    """Return the amplitude for an SNR, electrons."""
    return np.asarray(amplitude_from_snr(snr, np.asarray(background_e, float)))


def movie(rng: Generator, yx: Image, height: object, background: object = BACKGROUND_E, sigma: float = 1.3) -> Scene:
    """Return a movie of spots that move by 1 px a frame."""
    frames = np.stack([exposed(rng, spots(each, height, sigma) + background) for each in walk(rng, yx)])
    return Scene(frames, yx, yx)


def plain(rng: Generator, snr: float, n: int = 125, sigma: float = 1.3) -> Scene:
    """Spots on an even background."""
    return movie(rng, places(rng, n), amplitude(snr), sigma=sigma)


def vignetting(rng: Generator, steepest: float, snr: float = 2.0) -> Scene:
    """Light that falls off linearly; vesicles as in the challenge, a camera with an offset and a gain."""
    across = np.linspace(-1, 1, SIZE_PX)
    background = 25.0 * (1 + steepest * np.broadcast_to(across, (SIZE_PX, SIZE_PX)))
    yx = places(rng, 125)
    height = amplitude(snr, background[np.rint(yx).astype(int)[:, 0], np.rint(yx).astype(int)[:, 1]])
    electrons = [rng.poisson(spots(each, height, 1.15) + background) for each in walk(rng, yx, 2.0)]
    noise = rng.normal(0, 1.0, (3, SIZE_PX, SIZE_PX))
    return Scene((2.2 * (np.array(electrons) + noise) + 100).round().clip(0, 65535).astype(np.uint16), yx, yx)


def camera(rng: Generator, kind: str, snr: float) -> Scene:
    """Scenes of the challenge through a camera: PSF, background, light and amplitudes vary."""
    width = rng.uniform(0.85, 1.6) * {"vesicle": 1.15, "receptor": 1.2, "microtubule": 1.0}[kind]
    profile = Comet(1.58 * width, 6.3, 1.6 * width) if kind == "microtubule" else Comet(width, width, width)
    heading = rng.uniform(0, 2 * np.pi)
    across = np.linspace(-1, 1, SIZE_PX)
    slope = np.sin(heading) * across[:, None] + np.cos(heading) * across
    background = rng.uniform(20, 120) * (1 + 0.3 * slope / np.abs(slope).max())
    yx = places(rng, 100 if kind == "microtubule" else 125)
    row, column = np.rint(yx).astype(int).T
    height = amplitude(snr, background[row, column]) * rng.uniform(0.75, 1.25, len(yx))
    angle = rng.uniform(0, 2 * np.pi, len(yx))
    speed = 5.0 if kind == "microtubule" else 0.0
    frames = []
    for back in (2, 1, 0):
        image = background.astype(np.float32)
        moved = yx - back * speed * np.column_stack((np.sin(angle), np.cos(angle)))
        moved = moved + rng.normal(0, 0.0 if speed else 1.0 * (back > 0) * back**0.5, yx.shape)
        add_spots(image, moved[:, 0], moved[:, 1], height, angle, profile)
        frames.append(rng.poisson(image) + rng.normal(0, 1.5, image.shape))
    return Scene((2.2 * np.array(frames) + 100).round().clip(0, 65535).astype(np.uint16), yx, yx)


def outliers(rng: Generator) -> Scene:
    """Ten spots 100 times brighter than the others, which have an SNR of 6 and alone count."""
    yx = places(rng, 70, apart_px=8.0)
    height = amplitude(6.0) * np.where(np.arange(70) < 10, 100.0, 1.0)
    return movie(rng, yx, height)._replace(truth=yx[10:])


def blob(rng: Generator) -> Scene:
    """One huge bright object beside the spots; those under it do not count."""
    yx, (centre,) = places(rng, 110), rng.uniform(60, 196, (1, 2))
    sigma = rng.uniform(9.0, 15.0)
    far = np.hypot(*(yx - centre).T) > 4.5 * sigma
    return movie(rng, yx, amplitude(6.0), BACKGROUND_E + spots(centre[None], 20000.0, sigma))._replace(truth=yx[far])


def two_kinds(rng: Generator) -> Scene:
    """Half of the spots 20 times brighter; the dim ones have an SNR of 4 and alone count."""
    yx = places(rng, 100, apart_px=8.0)
    return movie(rng, yx, amplitude(4.0) * np.where(np.arange(100) < 50, 20.0, 1.0))._replace(truth=yx[50:])


def many_kinds(rng: Generator) -> Scene:
    """Brightness log-uniform from SNR 4 to 20 times that; the faintest third counts."""
    yx, factor = places(rng, 99, apart_px=8.0), np.sort(20.0 ** rng.random(99))
    return movie(rng, yx, amplitude(4.0) * factor)._replace(truth=yx[:33])


def blurred_noise(rng: Generator, sigma_px: float) -> Scene:
    """Nothing but noise that a filter has spread."""
    noise = rng.poisson(400.0, (3, SIZE_PX, SIZE_PX)).astype(float)
    frames = np.rint(gaussian_filter(noise, (0, sigma_px, sigma_px))).astype(np.uint16)
    return Scene(frames, np.empty((0, 2)), np.empty((0, 2)))


def enlarged(rng: Generator) -> Scene:
    """Interpolate a small movie of bright spots to three times its size."""
    yx = places(rng, 16, apart_px=6.0, size_px=86)
    frames = [exposed(rng, spots(each, amplitude(8.0), 1.0, 86) + BACKGROUND_E) for each in walk(rng, yx, 0.3)]
    large = zoom(np.array(frames, float), (1, 3, 3), order=1, mode="nearest", grid_mode=True)
    truth = (yx + 0.5) * 3 - 0.5
    return Scene(np.rint(large).clip(0).astype(np.uint16), truth, truth)


def gone_dark(rng: Generator) -> Scene:
    """Fifty spots in the two frames before, nothing now."""
    yx = places(rng, 50)
    before = [exposed(rng, spots(each, amplitude(8.0)) + BACKGROUND_E) for each in walk(rng, yx)[:2]]
    none = np.empty((0, 2))
    return Scene(np.stack([*before, exposed(rng, np.full((SIZE_PX, SIZE_PX), BACKGROUND_E))]), none, none)


def fast(rng: Generator, together: bool) -> Scene:
    """Spots that move by 15 to 40 px a frame, or all by 20 px in one direction; SNR 2.5."""
    yx = places(rng, 100)
    angle = np.broadcast_to(rng.uniform(0, 2 * np.pi, 1 if together else len(yx)), len(yx))
    speed = np.broadcast_to(20.0 if together else rng.uniform(15, 40, len(yx)), len(yx))
    step = speed[:, None] * np.column_stack((np.sin(angle), np.cos(angle)))
    moved = [yx - back * step for back in (2, 1, 0)]
    inside = [each[((each > 0) & (each < SIZE_PX - 1)).all(1)] for each in moved]
    frames = np.stack([exposed(rng, spots(each, amplitude(2.5)) + BACKGROUND_E) for each in inside])
    return Scene(frames, yx, yx)


def dark(rng: Generator, snr: float) -> Scene:
    """Dark spots on a background of 300 electrons."""
    yx = places(rng, 100, apart_px=8.0)
    depth = snr * np.sqrt(300.0)
    frames = np.stack([exposed(rng, 300.0 - spots(each, depth)) for each in walk(rng, yx)])
    return Scene(frames, yx, yx)


def stripes(rng: Generator) -> Scene:
    """Background between 1 and 2 times, period 16 px, any direction; spots of SNR 6."""
    pixel, angle, phase = np.arange(SIZE_PX), *rng.uniform(0, 2 * np.pi, 2)
    wave = np.sin(2 * np.pi / 16 * (np.sin(angle) * pixel[:, None] + np.cos(angle) * pixel) + phase)
    background = BACKGROUND_E * (1.5 + 0.5 * wave)
    yx = places(rng, 60)
    row, column = np.rint(yx).astype(int).T
    return movie(rng, yx, amplitude(6.0, background[row, column]), background)


def nuclei(rng: Generator) -> Scene:
    """Discs of 3 to 10 times the background with an edge of 2 px, and no spot at all."""
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
    image = np.ones((SIZE_PX, SIZE_PX))
    for centre in rng.uniform(40, 216, (2, 2)):
        away = np.hypot(y - centre[0], x - centre[1]) - rng.uniform(40, 80)
        image = np.maximum(image, 1 + rng.uniform(2, 9) / (1 + np.exp((away / 0.5).clip(-50, 50))))
    frames = np.stack([exposed(rng, BACKGROUND_E * image) for _ in range(3)])
    return Scene(frames, np.empty((0, 2)), np.empty((0, 2)))


def constant_border(rng: Generator) -> Scene:
    """Put a border of zeros beside the image, as in registered movies; spots of SNR 6 inside."""
    scene = plain(rng, 6.0, 60)
    frames = scene.frames.copy()
    frames[:, :, :30] = frames[:, 220:] = 0
    inside = scene.truth[(scene.truth[:, 1] > 34) & (scene.truth[:, 0] < 215)]
    return Scene(frames, inside, scene.truth)


def many(rng: Generator) -> Scene:
    """3,000 spots of SNR 6 in 2048x2048 px."""
    yx = places(rng, 3000, size_px=2048)
    frames = np.stack(
        [exposed(rng, spots(each, amplitude(6.0), size_px=2048) + BACKGROUND_E) for each in walk(rng, yx)]
    )
    return Scene(frames, yx, yx)


class Family(NamedTuple):
    """What makes a scene, and what whoever has such images would tell a detector.

    ``sigma_px`` is that of the spots, where it is not the usual one.
    """

    make: Callable[[Generator], Scene]
    sigma_px: float | None = None
    is_dark: bool = False
    most_scenes: int = 100


FAMILIES: Mapping[str, Family] = {
    "vignetting 30 %, SNR 2": Family(lambda rng: vignetting(rng, 0.3)),
    "vignetting 60 %, SNR 2": Family(lambda rng: vignetting(rng, 0.6)),
    "camera, vesicle, SNR 2": Family(lambda rng: camera(rng, "vesicle", 2.0)),
    "camera, receptor, SNR 2": Family(lambda rng: camera(rng, "receptor", 2.0)),
    "camera, microtubule, SNR 2": Family(lambda rng: camera(rng, "microtubule", 2.0)),
    "camera, microtubule, SNR 7": Family(lambda rng: camera(rng, "microtubule", 7.0)),
    "ten spots 100 times brighter": Family(outliers),
    "one huge object": Family(blob),
    "two kinds 20:1, the dim ones": Family(two_kinds),
    "brightness log-uniform, the dimmest third": Family(many_kinds),
    "noise blurred by 1.25 px": Family(lambda rng: blurred_noise(rng, 1.25)),
    "noise blurred by 1.5 px": Family(lambda rng: blurred_noise(rng, 1.5)),
    "noise blurred by 2 px": Family(lambda rng: blurred_noise(rng, 2.0)),
    "enlarged 3 times": Family(enlarged),
    "gone dark": Family(gone_dark),
    "fast, SNR 2.5": Family(lambda rng: fast(rng, False)),
    "whole field moves 20 px": Family(lambda rng: fast(rng, True)),
    "sigma 2 px, SNR 30": Family(lambda rng: plain(rng, 30.0, 60, 2.0), sigma_px=2.0),
    "sigma 3 px, SNR 100": Family(lambda rng: plain(rng, 100.0, 30, 3.0), sigma_px=3.0),
    "sigma 3.5 px, SNR 10": Family(lambda rng: plain(rng, 10.0, 30, 3.5), sigma_px=3.5),
    "sigma 4 px, SNR 10": Family(lambda rng: plain(rng, 10.0, 30, 4.0), sigma_px=4.0),
    "sigma 5 px, SNR 10": Family(lambda rng: plain(rng, 10.0, 20, 5.0), sigma_px=5.0),
    "sigma 6 px, SNR 10": Family(lambda rng: plain(rng, 10.0, 15, 6.0), sigma_px=6.0),
    "SNR 30": Family(lambda rng: plain(rng, 30.0, 60)),
    "SNR 200": Family(lambda rng: plain(rng, 200.0, 60)),
    "SNR 10": Family(lambda rng: plain(rng, 10.0, 60)),
    "3,000 spots in 2048x2048 px": Family(many, most_scenes=2),
    "dark, SNR 4": Family(lambda rng: dark(rng, 4.0), is_dark=True),
    "dark, SNR 10": Family(lambda rng: dark(rng, 10.0), is_dark=True),
    "stripes of 16 px": Family(stripes),
    "edges of nuclei": Family(nuclei),
    "constant border": Family(constant_border),
}
"""Kinds of movies, by name."""
