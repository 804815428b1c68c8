"""Whether places, diameters and light are better told by the networks for crops than by other means.

``python -m benchmarks.localise``

Places: crops whose middle is off by up to .7 px along each axis, as after detection and rounding, of spots (sigma 1.3
px, drawn by the renderer of the movies, not by that of the training), of rings of 20 px, and of particles in bright
field of 6 to 16 px, at one SNR after the other. Beside the networks stand the radial centre, in that of some windows
which is best for the kind of particle on other crops, and for spots the fit that engines make by default, and the
Cramer-Rao bound. Errors are root mean squared distances. Who always says the middle of the crop is .57 px off: at the
lowest SNR it is this knowledge that the networks have and the radial centre has not.

After detection: rings of 20 px all over a frame, found by the engine ``cells``: its own places, and those of the
network for crops.

Characteristics: spots at SNR 4, far from each other or near, on tracks of ten frames: sigma and light by the network
for crops and by the measures ``size`` and ``intensity``, their radius three times the sigma, with averages over the
track.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.detection.characterise import Characterise
from benchmarks.detection.radial_centre import radial_centres
from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.bench.computer import describe
from streamtrack.measures.intensity import Intensity
from streamtrack.measures.size import Size
from streamtrack.measures.tracks import TrackMeasures
from streamtrack.metrics.detection import match
from streamtrack.protocols import Measure
from streamtrack.simulation.render import add_spots, amplitude_from_snr, round_spot
from streamtrack.types import Detections, TrackUpdate
from streamtrack_engines.engine import CellEngine
from streamtrack_engines.localise import Spots
from streamtrack_engines.places.file import CropFile
from streamtrack_engines.places.particles import FWHM, Particle, Ranges, simulated

SNRS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
CROPS, QUICK_CROPS = 2000, 100
WINDOWS_PX: Mapping[str, tuple[int, ...]] = {
    "spot": (7, 9, 11, 13),
    "ring": (25, 27, 29, 31),
    "bright_field": (13, 17, 21, 25, 31),
}
SPOT_SIGMA_PX, BACKGROUND_E, OFF_PX = 1.3, 20.0, 0.7
SIGMAS_PX = (1.0, 1.3, 1.6, 2.0)
SNR_OF_TRACKS, FRAMES = 4.0, 10
APART_PX, FRAME_PX = (24, 11), 512
RING_SNRS, RING_SIGMA_PX, RING_APART_PX, RING_GATE_PX = (2.6, 6.0), 1.3, 48, 5.0
SEED, OTHER_SEED = 900_001, 900_002

COLUMNS = ("network", "radial", "gaussian", "bound", "middle")

Floats = NDArray[np.float64]
Crops = tuple[NDArray[np.float32], Floats]
"""Counts (N, P, P), and the centres (N, 2), y, x, from the middle pixel, px."""


def main() -> None:
    """Print the tables, and write the record."""
    arguments = command_parser(__doc__, f"{QUICK_CROPS} crops of each kind, two SNR, few tracks").parse_args()
    n, snrs = (QUICK_CROPS, (2.0, 10.0)) if arguments.quick else (CROPS, SNRS)
    places = {kind: places_of(kind, snrs, n) for kind in WINDOWS_PX}
    rows = 4 if arguments.quick else None
    tracks = [characterised(sigma, apart, rows) for apart in APART_PX for sigma in SIGMAS_PX]
    rings = [found_rings(snr) for snr in RING_SNRS]
    for table in (table_of_places(places), table_of_rings(rings), table_of_tracks(tracks)):
        Console().print(table)
    record: Record = {
        "command": command_line("localise"),
        "crops": n,
        "places_px": places,
        "rings_found_px": rings,
        "snr_of_tracks": SNR_OF_TRACKS,
        "frames": FRAMES,
        "characteristics": tracks,
        "machine": describe(),
    }
    write(record, arguments.out)


def places_of(kind: str, snrs: tuple[float, ...], n: int) -> dict[str, Any]:
    """Return the errors of all methods at each SNR, px, and the window of the radial centre."""
    network = CropFile("spots" if kind == "spot" else "particles", 1)
    size_px = network.metadata.crop_px
    others = [crops_of(kind, snr, n // 2, size_px, OTHER_SEED) for snr in snrs]
    window = min(WINDOWS_PX[kind], key=lambda w: np.mean([np.log(error(radial_centres(c, w), t)) for c, t in others]))
    methods: dict[str, Callable[[NDArray[np.float32]], Floats]] = {
        "network": lambda crops: network.said(crops)[:, :2].astype(np.float64),
        "radial": lambda crops: radial_centres(crops, window),
        "middle": lambda crops: np.zeros((len(crops), 2)),
    }
    if kind == "spot":
        methods["gaussian"] = fitted
    rows = []
    for snr in snrs:
        crops, truth = crops_of(kind, snr, n, size_px, SEED)
        row = {"snr": snr} | {name: error(method(crops), truth) for name, method in methods.items()}
        rows.append(row | ({"bound": spot_bound_px(snr)} if kind == "spot" else {}))
    return {"window_px": window, "rows": rows}


def error(said: Floats, truth: Floats) -> float:
    """Return the root mean squared distance, px."""
    return float(np.sqrt(np.mean(np.sum((said - truth) ** 2, 1))))


def crops_of(kind: str, snr: float, n: int, size_px: int, seed: int) -> Crops:
    """Return crops of particles at an SNR."""
    if kind == "spot":
        return spot_crops(snr, n, size_px, seed)
    diameter = (20.0, 20.0) if kind == "ring" else (6.0, 16.0)
    ranges = Ranges((snr, snr), OFF_PX, diameter, (BACKGROUND_E, BACKGROUND_E), 0.0, 0.3)
    which: Particle = "ring" if kind == "ring" else "bright_field"
    crops = simulated(torch.Generator().manual_seed(seed + round(10 * snr)), n, size_px, [which], ranges)
    return crops.counts.numpy(), crops.truth[:, :2].numpy().astype(np.float64)


def spot_crops(snr: float, n: int, size_px: int, seed: int) -> Crops:
    """Return crops of single spots on even ground, by the renderer of the movies."""
    rng = np.random.default_rng((seed, round(10 * snr)))
    truth = rng.uniform(-OFF_PX, OFF_PX, (n, 2))
    side = size_px * int(np.ceil(np.sqrt(n)))
    rows, columns = np.divmod(np.arange(n), side // size_px)
    corner = np.stack([rows, columns], 1) * size_px
    image = np.full((side, side), BACKGROUND_E, np.float32)
    place, amplitude = corner + size_px // 2 + truth, np.full(n, float(amplitude_from_snr(snr, BACKGROUND_E)))
    add_spots(image, *place.T.copy(), amplitude, np.zeros(n), round_spot(SPOT_SIGMA_PX))
    frame = rng.poisson(image).astype(np.float32)
    return np.stack([frame[y : y + size_px, x : x + size_px] for y, x in corner]), truth


def fitted(crops: NDArray[np.float32]) -> Floats:
    """Return where the fit of the engines' last step says that spots are; the middle where there is none."""
    n, size_px = len(crops), crops.shape[-1]
    spots, one = Spots(), np.ones(1, np.float32)
    spots.prepare((size_px, size_px))
    middle = np.array([size_px // 2], np.float32)
    said = np.empty((n, 2))
    for k, crop in enumerate(crops):
        found = spots.localised(crop, Detections(middle, middle, one, one, 0.6 * one))
        said[k] = found.y[0] - size_px // 2, found.x[0] - size_px // 2
    return said


def spot_bound_px(snr: float) -> float:
    """Return the Cramer-Rao bound of the distance, px, of a spot in the middle of a pixel; height and ground known."""
    amplitude, pixel = float(amplitude_from_snr(snr, BACKGROUND_E)), np.arange(-12, 13.0)
    light = amplitude * np.exp(-(pixel[:, None] ** 2 + pixel**2) / (2 * SPOT_SIGMA_PX**2))
    slope = light * pixel / SPOT_SIGMA_PX**2
    return float(np.sqrt(2 / np.sum(slope**2 / (light + BACKGROUND_E))))


def found_rings(snr: float) -> dict[str, float]:
    """Return how far off the rings in a frame are by the engine ``cells``, alone and with a second look, px."""
    rng = np.random.default_rng((SEED, round(10 * snr)))
    side = np.arange(RING_APART_PX, FRAME_PX - RING_APART_PX // 2, RING_APART_PX).astype(float)
    truth = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    truth += rng.uniform(-5, 5, truth.shape)
    image = np.full((FRAME_PX, FRAME_PX), BACKGROUND_E)
    rows, columns = np.indices(image.shape)
    for y, x in truth:
        off_wall = np.hypot(rows - y, columns - x) - 10
        image += float(amplitude_from_snr(snr, BACKGROUND_E)) * np.exp(-(off_wall**2) / (2 * RING_SIGMA_PX**2))
    pixels = rng.poisson(image).astype(np.uint16)
    row = {"snr": snr, "rings": float(len(truth))}
    for name, localise in (("cells", "network"), ("second_look", "particles")):
        with closing(CellEngine(spot_size=20.0, localise=localise, threads=1)) as engine:
            engine.prepare(pixels.shape, pixels.dtype.name)
            found, _ = engine.detect(pixels, denoise=False)
        places = np.stack([found.y, found.x], 1).astype(np.float64)
        i, _, distance = match(truth, places, RING_GATE_PX)
        row |= {name: float(np.sqrt(np.mean(distance**2))), f"{name}_found": float(len(i))}
    return row


def characterised(sigma_px: float, apart_px: int, rows: int | None) -> dict[str, float]:
    """Return the relative errors of the measures of spots of a sigma after some frames, and their biases."""
    rng = np.random.default_rng((SEED, round(100 * sigma_px)))
    side = np.arange(24, FRAME_PX - 24, apart_px)[:rows].astype(float)
    lattice = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    n = len(lattice)
    amplitude = float(amplitude_from_snr(SNR_OF_TRACKS, BACKGROUND_E))
    radius_px = max(2.0, 3 * sigma_px)
    plugins: dict[str, Measure] = {
        "characterise": Characterise(),
        "size": Size(average=True, radius_px=radius_px),
        "size_fit": Size(method="fit", average=True, radius_px=radius_px),
        "intensity": Intensity(average=True, radius_px=radius_px),
    }
    for plugin in plugins.values():
        plugin.prepare((FRAME_PX, FRAME_PX), "uint16")
    stage = {name: TrackMeasures({name: plugin}) for name, plugin in plugins.items()}
    ones, none = np.ones(n, np.float32), np.empty(0, np.int64)
    values: dict[str, Mapping[str, NDArray[np.float32]]] = {}
    for frame in range(FRAMES):
        places = lattice + rng.uniform(-0.5, 0.5, (n, 2))
        image = np.full((FRAME_PX, FRAME_PX), BACKGROUND_E, np.float32)
        add_spots(image, *places.T.copy(), np.full(n, amplitude), np.zeros(n), round_spot(sigma_px))
        pixels = rng.poisson(image).astype(np.uint16)
        y, x = (places + rng.normal(0, 0.2, (n, 2))).astype(np.float32).T.copy()
        tracks = TrackUpdate(np.arange(n), ones, none, none, none, n, frame)
        found = Detections(y, x, ones, ones, ones)
        values = {name: each.add(pixels, found, tracks).extra for name, each in stage.items()}
    light = 2 * np.pi * sigma_px**2 * amplitude
    said = {
        "characterise": values["characterise"]["diameter"] / FWHM / sigma_px,
        "size": values["size"]["psf_sigma"] / sigma_px,
        "size_fit": values["size_fit"]["psf_sigma"] / sigma_px,
        "characterise_light": values["characterise"]["light"] / light,
        "intensity_light": values["intensity"]["intensity"] / light,
    }
    row = {"sigma_px": sigma_px, "apart_px": float(apart_px), "tracks": float(n)}
    for name, ratio in said.items():
        row[name] = float(np.sqrt(np.nanmean((ratio - 1) ** 2)))
        row[f"{name}_bias"] = float(np.nanmean(ratio) - 1)
        row[f"{name}_missing"] = float(np.isnan(ratio).mean())
    return row


def table_of_places(places: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the errors of the places, px."""
    table = Table(
        "particle", "SNR", "network", "radial centre", "fit", "bound", "the middle", "network / radial centre"
    )
    for kind, one in places.items():
        for row in one["rows"]:
            known = [f"{row[name]:.4f}" if name in row else "" for name in COLUMNS]
            table.add_row(kind, f"{row['snr']:g}", *known, f"{row['network'] / row['radial']:.2f}")
    return table


def table_of_rings(rows: list[dict[str, float]]) -> Table:
    """Return how far off rings are that were detected, px."""
    table = Table("rings of 20 px, SNR", "found", "cells, px", "with a second look, px")
    for row in rows:
        counted = f"{row['second_look_found']:g} of {row['rings']:g}"
        table.add_row(f"{row['snr']:g}", counted, f"{row['cells']:.3f}", f"{row['second_look']:.3f}")
    return table


def table_of_tracks(rows: list[dict[str, float]]) -> Table:
    """Return the relative errors of sigma and light, in per cent, and the biases."""
    names = [name for name in rows[0] if f"{name}_bias" in rows[0]]
    table = Table("apart, px", "sigma, px", *[name.replace("_", ", ") for name in names])
    for row in rows:
        said = [f"{100 * row[name]:.1f} ({100 * row[f'{name}_bias']:+.1f})" for name in names]
        table.add_row(f"{row['apart_px']:g}", f"{row['sigma_px']:g}", *said)
    return table


if __name__ == "__main__":
    main()
