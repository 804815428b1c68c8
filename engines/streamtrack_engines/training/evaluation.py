"""How well a network finds particles in held-out crops."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from streamtrack.metrics.detection import match
from streamtrack_engines.heads.density import Density
from streamtrack_engines.heads.head import Head
from streamtrack_engines.networks.network import Network
from streamtrack_engines.training.recipe import EvaluationSettings
from streamtrack_engines.training_data.truth import TrainingData, Truth

GATE_PX = 5.0
"""A detection closer than this to a particle can be its match (Chenouard et al. 2014)."""

LEAST_COUNT = 5
"""Of crops with fewer particles the share that is counted wrongly says nothing."""

_MAX_DETECTIONS = 1024


def evaluate(
    network: Network,
    head: Head,
    data: TrainingData,
    settings: EvaluationSettings,
    device: torch.device,
    show: Callable[[str, Truth, NDArray[np.float32]], None] = lambda name, truth, found: None,
) -> dict[str, float]:
    """Return ``f1_NAME`` and ``rmse_px_NAME`` of the network for all crops that the data hold out.

    Of a head that counts, ``count_error_NAME``. ``show`` is given each of their parts by name, with what was found in
    it, which is nothing that could be shown where particles were counted.
    """
    row: dict[str, float] = {}
    for name, truth in data.held_out(settings.seed, settings.n_crops, settings.crop_px, network.n_frames - 1):
        if isinstance(head, Density):
            row[f"count_error_{name}"] = count_error(network, head, truth, device)
            continue
        found = find(network, head, truth, settings.threshold, device)
        f1, rmse_px = score(found[:, :3], truth.points, settings.crop_px)
        show(name, truth, found)
        row |= {f"f1_{name}": f1, f"rmse_px_{name}": rmse_px}
    return row


@torch.inference_mode()
def count_error(network: Network, head: Density, truth: Truth, device: torch.device) -> float:
    """Return the mean of |counted - true| / true over crops with `LEAST_COUNT` particles or more; NaN without any.

    True is the integral of the density that the head is to learn: what lies in the crop.
    """
    n_inside = np.bincount(truth.points[_inside(truth.points[:, 1:], truth.noisy.shape[-1], 0.0), 0].astype(np.intp))
    pairs = zip(n_inside, head.counted(network, truth, device), strict=False)  # the last crops may be empty
    errors = [abs(counted / true - 1) for n, (counted, true) in pairs if n >= LEAST_COUNT]
    return float(np.mean(errors)) if errors else float("nan")


@torch.inference_mode()
def find(network: Network, head: Head, truth: Truth, threshold: float, device: torch.device) -> NDArray[np.float32]:
    """Return the particles that the deployed head sees in the crops, (N, 4): crop, y, x, score."""
    found = []
    for crop, noisy in enumerate(truth.noisy):
        frames = torch.from_numpy(noisy)[None].to(device)
        channels = network.find(network.see(frames))
        table = head.table(channels, frames[:, -1:], k=_MAX_DETECTIONS, calibration=head.uncalibrated)
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
        matched.append(distance_px[_inside(there[of_truth], crop_px, GATE_PX)])
    distances = np.concatenate(matched)
    f1 = 2 * len(distances) / max(2 * len(distances) + n_missed + n_spurious, 1)
    return f1, float(np.sqrt(np.mean(distances**2))) if len(distances) else float("nan")


def _inside(points: NDArray[np.float32], crop_px: int, margin_px: float) -> NDArray[np.bool_]:
    return np.asarray(((points > margin_px) & (points < crop_px - 1 - margin_px)).all(axis=1))


def _n_inside(points: NDArray[np.float32], crop_px: int, margin_px: float = GATE_PX) -> int:
    return int(np.count_nonzero(_inside(points, crop_px, margin_px)))
