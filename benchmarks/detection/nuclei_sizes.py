"""How well cells of each size are found, in simulated images of seeds that no training saw."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.detection.scoring import score_frames
from streamtrack.config import PluginConfig
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.simulation.cells import CellRanges, draw_cells

SEED = 41_000
SIDE_PX = 512
DIAMETERS_PX = (6, 8, 10, 14, 20, 28, 40, 48, 60)
TOLD_PX = 40
"""From this diameter on an engine is told it."""

Row = dict[str, Any]


def score_sizes(name: str, settings: Mapping[str, Any], n_images: int) -> Row:
    """Return F1 for each diameter: 20 % of the image covered, matched within a third of the diameter, 3 px at least."""
    return {"method": name} | {f"{diameter} px": _f1(diameter, settings, n_images) for diameter in DIAMETERS_PX}


def _f1(diameter_px: int, settings: Mapping[str, Any], n_images: int) -> float:
    told = {"spot_size": float(diameter_px)} if diameter_px >= TOLD_PX else {}
    engine: Engine = build("engines", PluginConfig.model_validate({**settings, **told, "threads": 1})).instance
    engine.prepare((SIDE_PX, SIDE_PX), "uint16")
    ranges = CellRanges(
        diameter_px=(diameter_px, diameter_px), covered=(0.2, 0.2), contrast=(5.0, 50.0), empty_fraction=0.0
    )
    true, found = [], []
    for number in range(n_images):
        rng = np.random.default_rng((SEED, diameter_px, number))
        scene = draw_cells(rng, SIDE_PX, ranges)
        here, _ = engine.detect(scene.expose(rng).clip(0, 65535).astype(np.uint16), denoise=False)
        true.append(scene.cells[:, :2])
        found.append(np.stack([here.y, here.x], 1).astype(np.float64))
    engine.close()
    return score_frames(true, found, max(3.0, diameter_px / 3)).f1
