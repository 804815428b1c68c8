"""Proof that weights find particles, and that a back end computes what they say, on a made-up movie.

Compilers for GPUs have faults that show in the numbers only: TensorRT 11.2 fuses some residual additions in half
precision to wrong values without a warning (NVIDIA/TensorRT issue 4854), and a refused enqueue inside a captured graph
replays the frame before. So each runner is compared on load, by the very calls that run it later.
"""

import math
from dataclasses import asdict, astuple, dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from streamtrack.errors import EngineError
from streamtrack_engines.backends.example import EXAMPLE_PX, movie_of
from streamtrack_engines.backends.metadata import DENOISED, DETECTIONS, FRAME, DeployMetadata
from streamtrack_engines.backends.runner import DeployFile, FrameSize, Runner

_SPACING_PX = 24
_SPOT_SIGMA_PX = (1.3, 1.3)
_NEAR_PX = 0.5
_SIGMA_KEY = "spot_sigma_px"


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a back end is from ONNX Runtime on the same frames; of a right one, each is small.

    Attributes
    ----------
    missed
        Share of the particles, of either, that the other does not have within half a pixel. Particles are rows with a
        score of the threshold or more; for the other, half of the threshold will do.
    position_px
        Median distance of the particles that both have.
    score
        Mean difference of their scores.
    intensity
        Median difference of their intensities, as a share.
    denoised
        Root mean square difference of the denoised frames over the standard deviation of the right one.
    """

    missed: float
    position_px: float
    score: float
    intensity: float
    denoised: float

    def within(self, limit: "Difference") -> bool:
        """Return whether nothing exceeds a limit, or is not a number."""
        return all(value <= most for value, most in zip(asdict(self).values(), asdict(limit).values(), strict=True))


Result = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Table (K, columns) and denoised frame (H, W), of no pixels where there is none."""

TOLERANCE = Difference(missed=0.02, position_px=0.005, score=0.003, intensity=0.005, denoised=0.02)
"""See ``docs/decisions/0011-tensorrt-plans.md`` for what half precision and real faults measure."""


def prove(runner: Runner, reference: DeployFile, size: FrameSize) -> Difference:
    """Compare a runner with ONNX Runtime on the CPU, and leave it without any frame seen.

    Parameters
    ----------
    runner
        For frames of `size`.
    reference
        What the runner should compute; not necessarily the same file, if that is in half precision.
    size
        Of the frames.

    Returns
    -------
    Difference
        For the report.

    Raises
    ------
    EngineError
        The difference is greater than `TOLERANCE`, with the figures; the runner failed; or the weights find nothing, so
        that nothing could be compared.
    """
    n_frames = reference.metadata.n_frames
    movie = _movie(reference, n_frames + 1, size)  # one more than the graph takes: the first must be forgotten
    wanted = _reference(reference, movie[-n_frames:])
    check_finite(wanted, reference)
    check_finds(wanted, reference)
    found = _last(runner, movie, denoise=True in reference.programs)
    found_alone, _ = _last(runner, movie, denoise=False)
    runner.clear()
    difference = compare(reference, wanted, found)
    if not np.array_equal(found[0], found_alone, equal_nan=True):
        without = compare(reference, wanted, (found_alone, found[1]))
        difference = Difference(*np.maximum(astuple(difference), astuple(without)).tolist())
    if not difference.within(TOLERANCE):
        figures = ", ".join(f"{name} {value:.3g}" for name, value in asdict(difference).items())
        limits = ", ".join(f"{value:g}" for value in asdict(TOLERANCE).values())
        raise EngineError(
            f"the results differ from ONNX Runtime's on the same frames ({figures}; at most {limits}): "
            "take another engine back end, and report this with the versions of GPU, driver and libraries"
        )
    return difference


def check_weights(file: DeployFile, session: ort.InferenceSession) -> None:
    """Raise EngineError if weights find none of the particles that they were trained on, or give no finite numbers."""
    side = EXAMPLE_PX if file.example is not None else 4 * math.ceil(_spacing_px(spot_sigmas_px(file.metadata)))
    movie = _movie(file, file.metadata.n_frames, file.fixed or FrameSize(side, side, 2))
    result = _run(session, file, movie)
    check_finite(result, file)
    # What weights without an example should find is known only if their file says what they were trained on.
    if file.example is not None or _SIGMA_KEY in file.metadata.training_data:
        check_finds(result, file)


def _movie(file: DeployFile, n_frames: int, size: FrameSize) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return frames in which weights find something: those of their file, or made-up spots for a file of format 1."""
    if file.example is not None:
        return movie_of(file.example, n_frames, size)
    return reference_movie(n_frames, size, spot_sigmas_px(file.metadata))


def check_finite(result: Result, file: DeployFile) -> None:
    """Raise EngineError if the results of weights are not finite."""
    if not all(np.isfinite(part).all() for part in result):
        raise EngineError(f"the weights {file.name} give no finite numbers: they are damaged, or trained wrongly")


def check_finds(result: Result, file: DeployFile) -> None:
    """Raise EngineError if nothing was found."""
    table, least = result[0], file.metadata.threshold
    if not (table[:, file.metadata.column("score")] >= least).any():
        raise EngineError(
            f"the weights {file.name} find none of {_what(file)} with a score of {least:g} or more: they are damaged, "
            "hardly trained, or exported with too high a threshold"
        )


def _what(file: DeployFile) -> str:
    return "the bright spots in a made-up movie" if file.example is None else "the particles in their example frames"


def spot_sigmas_px(metadata: DeployMetadata) -> tuple[float, float]:
    """Return the least and greatest standard deviation of the spots that weights were trained on, px."""
    match metadata.training_data.get(_SIGMA_KEY):
        case [int() | float() as least, int() | float() as greatest] if 0.3 <= least <= greatest <= 100:
            return float(least), float(greatest)
    return _SPOT_SIGMA_PX


def reference_movie(
    n_frames: int, size: FrameSize, sigmas_px: tuple[float, float] = _SPOT_SIGMA_PX
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return a movie (n_frames, H, W) of spots that drift on an uneven background, with shot noise; always the same.

    Their standard deviations are between `sigmas_px`; the first is as bright as any. Of 16-bit frames both bytes are
    used, as far as 20,000 counts: more than half precision holds exactly.
    """
    rng = np.random.default_rng(20260801)
    centres = _grid(size.height, size.width, _spacing_px(sigmas_px))
    centres += rng.uniform(-4, 4, centres.shape)
    drift = rng.normal(0, 0.7, centres.shape)
    brightness = rng.uniform(0.1, 1.0, len(centres))
    brightness[0] = 1.0
    sigma = np.geomspace(*sigmas_px, len(centres))
    clean = np.stack([_spots(centres + t * drift, brightness, sigma, size) for t in range(n_frames)])
    clean += np.linspace(0.08, 0.2, size.height)[:, None]
    counts, gain = (180.0, 1.0) if size.itemsize == 1 else (400.0, 50.0)
    dtype = np.dtype(f"u{size.itemsize}")
    return (rng.poisson(counts * clean) * gain).clip(0, np.iinfo(dtype).max).astype(dtype)


def _spacing_px(sigmas_px: tuple[float, float]) -> float:
    return max(_SPACING_PX, 8 * sigmas_px[1])


def _grid(height: int, width: int, spacing: float) -> NDArray[np.float64]:
    """Return places (N, 2) at about equal distances, the outer ones half of that from the edge."""
    axes = (np.arange(min(spacing, length) / 2, length, spacing) for length in (height, width))
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)


def _spots(
    centres: NDArray[np.float64], brightness: NDArray[np.float64], sigma: NDArray[np.float64], size: FrameSize
) -> NDArray[np.float64]:
    """Return an image (H, W) of Gaussian spots; a sum of products of profiles along y and x."""
    profiles = (
        np.exp(-0.5 * ((np.arange(length) - centre[:, None]) / sigma[:, None]) ** 2)
        for length, centre in zip((size.height, size.width), centres.T, strict=True)
    )
    along_y, along_x = profiles
    image: NDArray[np.float64] = (along_y * brightness[:, None]).T @ along_x
    return image


def _reference(file: DeployFile, frames: NDArray[np.uint8] | NDArray[np.uint16]) -> Result:
    """Return what ONNX Runtime finds in the last of some frames (T, H, W)."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a thread that waits shall take no core
    session = ort.InferenceSession(file.content, options, providers=["CPUExecutionProvider"])
    return _run(session, file, frames)


def _run(session: ort.InferenceSession, file: DeployFile, frames: NDArray[np.uint8] | NDArray[np.uint16]) -> Result:
    names = [DETECTIONS] if file.metadata.image is None else [DETECTIONS, DENOISED]
    table, *image = session.run(names, {FRAME: _as_bytes(frames)})
    return table, image[0] if image else np.empty(0, np.float32)


def _as_bytes(frames: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    return frames.view(np.uint8).reshape(1, *frames.shape, frames.itemsize)


def _last(runner: Runner, movie: NDArray[np.uint8] | NDArray[np.uint16], *, denoise: bool) -> Result:
    """Return what a runner finds in the last frame of a movie, and that frame denoised if asked to."""
    runner.clear()
    for frame in movie[:-1]:
        runner.current[:] = frame
        runner.run(denoise=False)
    runner.current[:] = movie[-1]
    table, denoised = runner.run(denoise=denoise)
    return table.copy(), np.empty(0, np.float32) if denoised is None else denoised.copy()


def compare(file: DeployFile, wanted: Result, found: Result) -> Difference:
    """Return how far some results are from the right ones; all infinite if they are not finite numbers."""
    (table, denoised), (other, other_denoised) = wanted, found
    if not (np.isfinite(other).all() and np.isfinite(other_denoised).all()):
        return Difference(*[np.inf] * 5)
    y, x, score, intensity = map(file.metadata.column, ("y", "x", "score", "intensity"))
    least = file.metadata.threshold
    sure, other_sure = table[table[:, score] >= least], other[other[:, score] >= least]
    likely = other[other[:, score] >= least / 2]
    partner, away = _nearest(sure[:, [y, x]], likely[:, [y, x]])
    _, other_away = _nearest(other_sure[:, [y, x]], table[table[:, score] >= least / 2][:, [y, x]])
    both = away <= _NEAR_PX
    pairs = sure[both], likely[partner[both]]
    n_missed = np.count_nonzero(~both) + np.count_nonzero(other_away > _NEAR_PX)
    return Difference(
        missed=n_missed / max(len(sure) + len(other_sure), 1),
        position_px=_median(away[both]),
        score=float(np.abs(pairs[0][:, score] - pairs[1][:, score]).sum() / max(len(pairs[0]), 1)),
        intensity=_median(np.abs(pairs[1][:, intensity] / pairs[0][:, intensity] - 1)),
        denoised=_image_difference(denoised, other_denoised),
    )


def _nearest(places: NDArray[np.float32], others: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return for each of some places (N, 2) which of the others is nearest, and how far that is."""
    if not len(others):
        return np.zeros(len(places), np.intp), np.full(len(places), np.inf, np.float32)
    away = np.linalg.norm(places[:, None] - others, axis=2)
    nearest = away.argmin(1)
    return nearest, away[np.arange(len(places)), nearest]


def _image_difference(image: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    if not image.size:
        return 0.0
    return float(np.sqrt(np.mean((other - image) ** 2)) / max(image.std(), 1e-9))


def _median(values: NDArray[np.float32]) -> float:
    return float(np.median(values)) if len(values) else 0.0
