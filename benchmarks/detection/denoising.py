"""How near the denoised frame comes to the noise-free one, beside a Gaussian and a median filter.

``python -m benchmarks.denoising [--frames 5] [--out FILE.json]``

Peak signal-to-noise ratio, 10 log10(range^2 / mean squared error) with the range of the noise-free frame, in dB, mean
over the frames. The filters get the width, of those listed, that is best for each scenario and SNR: an advantage that
nobody has who does not know the truth. The engine has its default weights and sees the frames before.
"""

from collections.abc import Callable, Mapping
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter

from benchmarks.shared.record import command_line, command_parser, write
from streamtrack.config import PluginConfig
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.report import machine, versions
from streamtrack.simulation import Movie, MovieSettings
from streamtrack.simulation.scenarios import ScenarioName

SEED = 760_000
SNRS = (1.0, 2.0, 4.0, 7.0)
N_BEFORE = 2
Image = NDArray[np.float32]

GAUSSIAN: Mapping[str, Callable[[Image], Image]] = {
    f"sigma {sigma:g} px": lambda image, sigma=sigma: gaussian_filter(image, sigma)
    for sigma in (0.7, 1, 1.4, 2, 2.8, 4, 6)
}
MEDIAN: Mapping[str, Callable[[Image], Image]] = {
    f"{size} x {size} px": lambda image, size=size: median_filter(image, size) for size in (3, 5, 7, 9)
}


def main() -> None:
    """Measure, print and record."""
    parser = command_parser(__doc__)
    parser.add_argument("--frames", type=int, default=5, help="for each scenario and SNR")
    arguments = parser.parse_args()
    engine: Engine = build("engines", PluginConfig(kind="denodet")).instance
    rows = []
    for scenario in get_args(ScenarioName):
        for snr in SNRS:
            rows.append({"scenario": scenario, "snr": snr} | compare(engine, scenario, snr, arguments.frames))
            print("  ".join(f"{name} {value}" for name, value in rows[-1].items()))
    about = {"command": command_line("denoising"), "machine": machine(), "versions": versions()}
    write(about | {"engine": dict(engine.info), "psnr_db": rows}, arguments.out)


def compare(engine: Engine, scenario: ScenarioName, snr: float, n_frames: int) -> dict[str, object]:
    """Return the PSNR in dB of the raw and the denoised frames, and of the best filter of each kind."""
    movie = Movie(MovieSettings(scenario, snr, 500.0, frames=10 * n_frames, seed=SEED + int(10 * snr)))
    engine.prepare((512, 512), movie.dtype.name)
    sums: dict[str, float] = {}
    for current in range(N_BEFORE, 10 * n_frames, 10):
        truth, raw = movie.clean(current), movie.noisy(current).astype(np.float32)
        images = {"raw": raw, "denodet": denoised(engine, movie, current)}
        images |= {name: filtered(raw) for name, filtered in (GAUSSIAN | MEDIAN).items()}
        for name, image in images.items():
            sums[name] = sums.get(name, 0.0) + psnr_db(image, truth) / n_frames
    gaussian, median = (max(filters, key=sums.__getitem__) for filters in (GAUSSIAN, MEDIAN))
    return {
        "raw": round(sums["raw"], 2),
        "denodet": round(sums["denodet"], 2),
        "gaussian": round(sums[gaussian], 2),
        "gaussian_width": gaussian,
        "median": round(sums[median], 2),
        "median_width": median,
    }


def denoised(engine: Engine, movie: Movie, current: int) -> Image:
    """Return the engine's denoised frame."""
    engine.reset()
    for index in range(current - N_BEFORE, current + 1):
        _, image = engine.detect(movie.noisy(index), denoise=True)
    assert image is not None
    return image


def psnr_db(image: Image, truth: Image) -> float:
    """Return the peak signal-to-noise ratio of an image (H, W)."""
    error = float(np.mean((image.astype(np.float64) - truth) ** 2))
    return 10 * float(np.log10(float(np.ptp(truth)) ** 2 / error))


if __name__ == "__main__":
    main()
