"""The peers: detectors of the field, each as good as it can be on these movies.

A peer turns a frame into candidates with a strength, and leaves the threshold to the caller. Settings (sigmas, window
sizes, distances) are those that did best on simulated movies of the scenario; the matched filter is even told the exact
image of a particle, how bright and how many they are, and the background.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from math import ceil, hypot
from pathlib import Path

import numpy as np
import onnxruntime as ort
import trackpy
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import convolve1d, gaussian_filter, laplace, maximum_filter
from scipy.spatial import cKDTree

from benchmarks.detection.bounds import is_round
from streamtrack.simulation import MovieSettings
from streamtrack.simulation.render import Profile, add_spots, amplitude_from_snr
from streamtrack.simulation.scenarios import AREA_PX, BACKGROUND_E, SCENARIOS
from streamtrack.types import Pixels

MAX_CANDIDATES = 4000
"""Per frame: four times the spots of the most crowded one."""
FIT_REACH_PX = 3
"""Of the windows that Gaussians are fitted in, 7x7."""
FIT_STEPS = 10
HEADINGS = 24
BODY_BEHIND_PX, BODY_AHEAD_PX, BODY_ASIDE_PX = 10, 5, 4
"""Where the matched filter takes no second comet, measured from the head of the first."""
UFISH_WEIGHTS = Path("model", "weights", "v1.0-alldata-ufish_c32.onnx")

Image = NDArray[np.float32]
Spectrum = NDArray[np.complexfloating]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What might be particles, the strongest first.

    Attributes
    ----------
    yx
        Shape (N, 2), px.
    strength
        Shape (N,): the more, the likelier; comparable between the frames of a movie.
    """

    yx: NDArray[np.float64]
    strength: NDArray[np.float64]

    @classmethod
    def strongest(cls, yx: NDArray[np.floating], strength: NDArray[np.floating]) -> "Candidates":
        """Sort, and keep MAX_CANDIDATES."""
        order = np.argsort(-strength, kind="stable")[:MAX_CANDIDATES]
        return cls(np.asarray(yx[order], np.float64), np.asarray(strength[order], np.float64))

    def above(self, threshold: float) -> NDArray[np.float64]:
        """Return the positions (M, 2) of those at least so strong."""
        return self.yx[: int(np.count_nonzero(self.strength >= threshold))]


Peer = Callable[[Pixels], Candidates]


def peer(name: str, settings: MovieSettings) -> Peer:
    """Return a peer of `PEERS` with its best settings for movies like this."""
    return PEERS[name](settings)


def missing(name: str) -> str | None:
    """Return why a peer cannot run here, or None if it can."""
    if name == "ufish" and find_spec("ufish") is None:
        return "ufish is skipped: it is not installed (pip install --no-deps ufish brings its weights)"
    return None


def peaks(strength: Image, radius_px: int) -> Candidates:
    """Return the highest pixel within ``radius_px`` in both directions, each moved to the top of a parabola."""
    highest = maximum_filter(strength, 2 * radius_px + 1, mode="nearest") == strength
    rows, columns = np.nonzero(highest)
    yx = np.stack([rows, columns], axis=1) + _parabola_tops(strength, rows, columns)
    return Candidates.strongest(yx, strength[rows, columns])


def _parabola_tops(image: Image, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return offsets (N, 2) to the top of the paraboloid through a pixel and its eight neighbours, half a px at most.

    The mixed term matters: the peaks of comets are long and lie at any angle.
    """
    padded = np.pad(image.astype(np.float64), 1, mode="reflect")
    at = {(i, j): padded[rows + 1 + i, columns + 1 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)}
    gy, gx = (at[1, 0] - at[-1, 0]) / 2, (at[0, 1] - at[0, -1]) / 2
    yy, xx = at[1, 0] + at[-1, 0] - 2 * at[0, 0], at[0, 1] + at[0, -1] - 2 * at[0, 0]
    yx = (at[1, 1] + at[-1, -1] - at[1, -1] - at[-1, 1]) / 4
    determinant = yy * xx - yx**2
    curved = determinant > 1e-12
    scale = np.where(curved, -1 / np.where(curved, determinant, 1.0), 0.0)
    tops = np.stack([scale * (xx * gy - yx * gx), scale * (yy * gx - yx * gy)], axis=1)
    return np.asarray(np.clip(tops, -0.5, 0.5))


def matched_filter(settings: MovieSettings) -> Peer:
    """Correlate with the exact image of a particle, for comets at each of 24 headings, and take the best heading.

    This is the linear filter that sees a particle best through the noise of the background and the clutter of the
    other particles (North 1943): it knows their image, amplitude, density and background. The strength is the filter's
    output in sigmas of the background's noise; what the border cuts off is allowed for.
    """
    radius_px = MATCHED_RADIUS_PX[settings.scenario]

    def find(pixels: Pixels) -> Candidates:
        spectra, norms, padded = _filters(settings, (pixels.shape[0], pixels.shape[1]))
        image = rfft2(pixels.astype(np.float32) - pixels.mean(dtype=np.float32), padded)
        best, heading = np.full(pixels.shape, -np.inf, np.float32), np.zeros(pixels.shape)
        for k, (spectrum, norm) in enumerate(zip(spectra, norms, strict=True)):
            response = _cropped(image * spectrum, padded, pixels.shape) / norm
            heading[response > best] = k * 2 * np.pi / len(spectra)
            np.maximum(best, response, out=best)
        found = peaks(best, radius_px)
        return found if len(spectra) == 1 else _one_per_body(found, heading)

    return find


def _one_per_body(found: Candidates, heading: NDArray[np.float64]) -> Candidates:
    """Drop what lies on the body of a stronger comet: there, part of it passes for a comet of its own."""
    nearest = np.clip(np.rint(found.yx).astype(np.intp), 0, np.array(heading.shape) - 1)
    pairs = cKDTree(found.yx).query_pairs(hypot(BODY_BEHIND_PX, BODY_ASIDE_PX), output_type="ndarray")
    stronger, weaker = pairs.min(axis=1), pairs.max(axis=1)  # the strongest come first
    dy, dx = (found.yx[weaker] - found.yx[stronger]).T
    angle = heading[nearest[stronger, 0], nearest[stronger, 1]]
    ahead, aside = dy * np.sin(angle) + dx * np.cos(angle), dy * np.cos(angle) - dx * np.sin(angle)
    on_body = (ahead > -BODY_BEHIND_PX) & (ahead < BODY_AHEAD_PX) & (np.abs(aside) < BODY_ASIDE_PX)
    alone = np.ones(len(found.yx), bool)
    alone[weaker[on_body]] = False
    return Candidates(found.yx[alone], found.strength[alone])


@lru_cache(maxsize=1)
def _filters(settings: MovieSettings, shape: tuple[int, int]) -> tuple[list[Spectrum], list[Image], tuple[int, int]]:
    """Return, per heading, the factor for a frame's transform and the noise (H, W) behind it; and the transform's size.

    The size is such that the borders do not meet.
    """
    profile = SCENARIOS[settings.scenario].profile
    reach_px = 2 * ceil(profile.reach_px)
    padded = next_fast_len(shape[0] + reach_px, real=True), next_fast_len(shape[1] + reach_px, real=True)
    templates = [rfft2(template) for template in _templates(profile, padded)]
    clutter = np.mean([np.abs(template) ** 2 for template in templates], axis=0) * _clutter_e2_px2(settings)
    spectra = [np.conj(template) / (BACKGROUND_E + clutter) for template in templates]
    inside = rfft2(np.ones(shape, np.float32), padded)
    kernels = [irfft2(spectrum, padded) for spectrum in spectra]
    norms = [np.sqrt(_cropped(inside * rfft2(BACKGROUND_E * kernel**2), padded, shape)) for kernel in kernels]
    return spectra, norms, padded


def _cropped(spectrum: Spectrum, padded: tuple[int, int], shape: tuple[int, ...]) -> Image:
    return np.asarray(irfft2(spectrum, padded)[: shape[0], : shape[1]])


def _templates(profile: Profile, shape: tuple[int, int]) -> list[Image]:
    """Return images (H, W) of a particle at (0, 0), the borders meeting, one for each heading."""
    half = ceil(profile.reach_px)
    headings = np.zeros(1) if is_round(profile) else np.arange(HEADINGS) * 2 * np.pi / HEADINGS
    templates = []
    for heading in headings:
        template = np.zeros(shape, np.float32)
        add_spots(template, np.full(1, float(half)), np.full(1, float(half)), np.ones(1), np.full(1, heading), profile)
        templates.append(np.roll(template, (-half, -half), (0, 1)))
    return templates


def _clutter_e2_px2(settings: MovieSettings) -> float:
    """Return squared amplitude times particles per pixel: the weight of their image's power spectrum."""
    return float(amplitude_from_snr(settings.snr, BACKGROUND_E)) ** 2 * settings.density / AREA_PX**2


def dog(settings: MovieSettings) -> Peer:
    """Difference of two Gaussians whose sigmas differ by the factor 1.6 (Marr and Hildreth 1980)."""
    sigma_px, radius_px = DOG_SIGMA_PX[settings.scenario], DOG_RADIUS_PX[settings.scenario]

    def find(pixels: Pixels) -> Candidates:
        image = pixels.astype(np.float32)
        narrow, broad = (gaussian_filter(image, sigma, mode="mirror") for sigma in (sigma_px, 1.6 * sigma_px))
        return peaks(narrow - broad, radius_px)

    return find


def wavelet(settings: MovieSettings) -> Peer:
    """Second plane of the B3-spline wavelet transform a trous (Olivo-Marin, Pattern Recognition 35 (2002) 1989)."""
    radius_px = WAVELET_RADIUS_PX[settings.scenario]

    def find(pixels: Pixels) -> Candidates:
        fine = _b3_smooth(pixels.astype(np.float32), 1)
        return peaks(fine - _b3_smooth(fine, 2), radius_px)

    return find


def sos(settings: MovieSettings) -> Peer:
    """Find local maxima of the wavelet plane, then fit a Gaussian to the frame at each: its amplitude is the strength.

    SOS as DENODET's paper describes it (section IV.B). The width of the Gaussian is told: free, F1 at SNR 2 is .2
    lower. A fit that leaves its pixel's neighbourhood is none.
    """
    radius_px, first = WAVELET_RADIUS_PX[settings.scenario], wavelet(settings)
    sigma_px = DOG_SIGMA_PX[settings.scenario]

    def find(pixels: Pixels) -> Candidates:
        places = np.rint(first(pixels).yx).astype(np.intp)
        padded = np.pad(pixels.astype(np.float64), FIT_REACH_PX, mode="reflect")
        steps = np.arange(2 * FIT_REACH_PX + 1)
        rows, columns = (places[:, axis, None] + steps for axis in (0, 1))
        amplitude, offset = _gaussian_fits(padded[rows[:, :, None], columns[:, None, :]], sigma_px)
        near = (np.abs(offset) <= max(radius_px, 2)).all(axis=1)
        return Candidates.strongest((places + offset)[near], amplitude[near])

    return find


def _gaussian_fits(windows: NDArray[np.float64], sigma_px: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return amplitude (N,) and offset (N, 2) from the centre of round Gaussians on a level background.

    Least squares by Levenberg and Marquardt, all windows (N, n, n) at once.
    """
    n, size = len(windows), windows.shape[1]
    y, x = np.indices((size, size)).reshape(2, -1) - float(size // 2)
    flat = windows.reshape(n, -1)
    low = np.median(flat, axis=1)
    p = np.stack([windows[:, size // 2, size // 2] - low, np.zeros(n), np.zeros(n), low], axis=1)
    best, error, damping = p, np.full(n, np.inf), np.full(n, 0.01)
    for _ in range(FIT_STEPS):
        dy, dx = y - p[:, 1, None], x - p[:, 2, None]
        shape = np.exp(-(dy**2 + dx**2) / (2 * sigma_px**2))
        lit = p[:, 0, None] * shape
        residual = flat - lit - p[:, 3, None]
        now = (residual**2).sum(axis=1)
        better = now < error
        best, error = np.where(better[:, None], p, best), np.minimum(now, error)
        damping = np.where(better, damping / 3, damping * 10)
        slopes = np.stack([shape, lit * dy / sigma_px**2, lit * dx / sigma_px**2, np.ones_like(lit)], axis=2)
        normal = slopes.transpose(0, 2, 1) @ slopes
        normal += (damping[:, None, None] * normal + 1e-9) * np.eye(4)
        p = p + np.linalg.solve(normal, slopes.transpose(0, 2, 1) @ residual[..., None])[..., 0]
    return best[:, 0], best[:, 1:3]


def _b3_smooth(image: Image, step_px: int) -> Image:
    kernel = np.zeros(4 * step_px + 1)
    kernel[::step_px] = np.array([1, 4, 6, 4, 1]) / 16
    return np.asarray(convolve1d(convolve1d(image, kernel, 0, mode="mirror"), kernel, 1, mode="mirror"))


def trackpy_locate(settings: MovieSettings) -> Peer:
    """Run ``trackpy.locate`` (Crocker and Grier 1996), its mass being the strength.

    It leaves out what is near the border; here the frame is mirrored there, so that it need not.
    """
    options, margin_px = TRACKPY_SETTINGS[settings.scenario], 16

    def find(pixels: Pixels) -> Candidates:
        spots = trackpy.locate(np.pad(pixels, margin_px, mode="reflect"), engine="numba", characterize=False, **options)
        yx = spots[["y", "x"]].to_numpy() - margin_px
        inside = ((yx > -0.5) & (yx < np.array(pixels.shape) - 0.5)).all(axis=1)
        return Candidates.strongest(yx[inside], spots["mass"].to_numpy()[inside])

    return find


def ufish(_: MovieSettings) -> Peer:
    """U-FISH 0.1.1 (Xu et al. 2023): its network, its scaling of the frame, its peaks of the Laplacian of the output.

    The package finds whole pixels; here a parabola refines them. It has one model and nothing to set.
    """
    session = _ufish_session()
    name = session.get_inputs()[0].name

    def find(pixels: Pixels) -> Candidates:
        enhanced = session.run(None, {name: _ufish_scaled(pixels)[None, None]})[0][0, 0]
        return peaks(-laplace(enhanced), 1)

    return find


@cache
def _ufish_session() -> ort.InferenceSession:
    spec = find_spec("ufish")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(missing("ufish"))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    path = Path(spec.origin).parent / UFISH_WEIGHTS
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _ufish_scaled(pixels: Pixels) -> Image:
    """Scale to 0 to 255 as ``ufish.utils.img.scale_image``: from 0 to the 0.9999 quantile if there are outliers."""
    image = pixels.astype(np.float32)
    low, high, bulk = float(image.min()), float(image.max()), float(np.quantile(image, 0.9999))
    if high - bulk > bulk:
        low, high = 0.0, bulk
    return (np.clip(image, low, high) - low) * np.float32(255 / max(high - low, 1e-9))


PEERS: Mapping[str, Callable[[MovieSettings], Peer]] = {
    "matched_filter": matched_filter,
    "dog": dog,
    "wavelet": wavelet,
    "sos": sos,
    "trackpy": trackpy_locate,
    "ufish": ufish,
}

MATCHED_RADIUS_PX = {"vesicle": 1, "receptor": 1, "microtubule": 3}
DOG_SIGMA_PX = {"vesicle": 1.3, "receptor": 1.3, "microtubule": 2.0}
DOG_RADIUS_PX = {"vesicle": 1, "receptor": 1, "microtubule": 2}
WAVELET_RADIUS_PX = {"vesicle": 1, "receptor": 1, "microtubule": 4}
TRACKPY_SETTINGS = {
    "vesicle": {"diameter": 7, "separation": 3},
    "receptor": {"diameter": 7, "separation": 3},
    "microtubule": {"diameter": 9, "separation": 6},
}
