"""How well a network finds particles in held-out crops of the Particle Tracking Challenge's scenes."""

import numpy as np
import torch
from numpy.typing import NDArray

from streamtrack.metrics.detection import match
from streamtrack.simulation.crops import CropBatch, CropRanges, sample_crops
from streamtrack_engines.networks import Network
from streamtrack_engines.peaks import peak_table
from streamtrack_engines.training.recipe import EvaluationSettings

GATE_PX = 5.0
"""A detection closer than this to a particle can be its match (Chenouard et al. 2014)."""

_MAX_DETECTIONS = 1024


def evaluate(network: Network, settings: EvaluationSettings, device: torch.device) -> dict[str, float]:
    """Return ``f1_snrN`` and ``rmse_px_snrN`` of the network for every SNR in the settings."""
    row: dict[str, float] = {}
    for snr in settings.snr:
        crops = _held_out(settings, snr, network.n_frames)
        f1, rmse_px = score(find(network, crops, settings.threshold, device)[:, :3], crops.points, settings.crop_px)
        row |= {f"f1_snr{snr:g}": f1, f"rmse_px_snr{snr:g}": rmse_px}
    return row


def _held_out(settings: EvaluationSettings, snr: float, n_frames: int) -> CropBatch:
    ranges = CropRanges(
        camera_fraction=0.0,
        empty_fraction=0.0,
        low_density_fraction=0.0,
        first_frame_fraction=0.0,
        density=(settings.density, settings.density),
        snr=(snr, snr),
    )
    rng = np.random.default_rng(settings.seed)
    return sample_crops(rng, settings.n_crops, settings.crop_px, ranges, n_before=n_frames - 1)


@torch.inference_mode()
def find(network: Network, crops: CropBatch, threshold: float, device: torch.device) -> NDArray[np.float32]:
    """Return the particles that the deployed peak finder sees in the crops, (N, 4): crop, y, x, score."""
    found = []
    for crop, noisy in enumerate(crops.noisy):
        frames = torch.from_numpy(noisy)[None].to(device)
        table = peak_table(network.find(network.see(frames)), frames[:, -1:], k=_MAX_DETECTIONS)
        rows = table[table[:, 2] > threshold, :3].cpu().numpy()
        found.append(np.column_stack([np.full(len(rows), crop, np.float32), rows]))
    return np.concatenate(found)


def score(found: NDArray[np.float32], truth: NDArray[np.float32], crop_px: int) -> tuple[float, float]:
    """Return F1 and RMSE (px; NaN without a pair) of (N, 3) detections and (M, 3) particles, both crop, y, x.

    Particles and detections within the gate of the border take part in the matching but are not counted: their
    partner may lie outside.
    """
    n_missed = n_spurious = 0
    matched = [np.empty(0)]
    for crop in np.union1d(found[:, 0], truth[:, 0]):
        here, there = found[found[:, 0] == crop, 1:], truth[truth[:, 0] == crop, 1:]
        of_truth, of_found, distance_px = match(there, here, GATE_PX)
        n_spurious += _n_inside(np.delete(here, of_found, axis=0), crop_px)
        n_missed += _n_inside(np.delete(there, of_truth, axis=0), crop_px)
        matched.append(distance_px[_inside(there[of_truth], crop_px)])
    distances = np.concatenate(matched)
    f1 = 2 * len(distances) / max(2 * len(distances) + n_missed + n_spurious, 1)
    return f1, float(np.sqrt(np.mean(distances**2))) if len(distances) else float("nan")


def _inside(points: NDArray[np.float32], crop_px: int) -> NDArray[np.bool_]:
    return np.asarray(((points > GATE_PX) & (points < crop_px - 1 - GATE_PX)).all(axis=1))


def _n_inside(points: NDArray[np.float32], crop_px: int) -> int:
    return int(np.count_nonzero(_inside(points, crop_px)))
