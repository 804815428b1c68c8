"""What triggers cost per frame.

``python -m benchmarks.triggers``

500 particles of 512 x 512 px that switch between diffusion and directed motion (`benchmarks.shared.particles`), linked
by ``imm``; each trigger is timed on the confirmed tracks of every frame.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.shared.particles import SHAPE, ParticleSettings, stream
from streamtrack.config import PluginConfig
from streamtrack.linking.imm import ImmLinker
from streamtrack.protocols import Trigger
from streamtrack.registry import build
from streamtrack.triggers.view import TrackViews
from streamtrack.types import Frame, SourceInfo

MOVIE = ParticleSettings("switching", 500, 300, seed=90001)
WARM_UP_FRAMES = 50
TRIGGERS: Mapping[str, Mapping[str, Any]] = {
    "appears": {},
    "count": {"above": 300, "y_px": (100, 400)},
    "disappears": {},
    "displacement": {"above_px": 30},
    "meet": {"within_px": 5},
    "mode_switch": {},
    "nearest": {},
    "older": {"frames": 30},
    "region": {"y_px": (100, 400), "x_px": (100, 400)},
    "speed": {"above_px_s": 3},
    "value": {"column": "mass", "above": 1.5},
}


def main() -> None:
    """Print the table."""
    took_us, n_events = measure()
    print(f"{'':14}{'median us':>10}{'99 % us':>10}{'events':>10}")
    for name, values in took_us.items():
        median, most = np.percentile(values[WARM_UP_FRAMES:], (50, 99))
        print(f"{name:14}{median:10.0f}{most:10.0f}{n_events.get(name, 0) / MOVIE.frames:10.1f}")


def measure() -> tuple[Mapping[str, Sequence[float]], Mapping[str, int]]:
    """Return how long each trigger, and the choice of the tracks, took in each frame, and how much was seen."""
    triggers: dict[str, Trigger] = {
        kind: build("triggers", PluginConfig(kind=kind, **settings)).instance for kind, settings in TRIGGERS.items()
    }
    for trigger in triggers.values():
        trigger.prepare(SourceInfo("particles", SHAPE, "uint8"))
    linker, views = ImmLinker(), TrackViews(confirmed=True)
    linker.prepare(SHAPE)
    took_us: dict[str, list[float]] = defaultdict(list)
    n_events: dict[str, int] = defaultdict(int)
    for index, (detections, _) in enumerate(stream(MOVIE)):
        frame = Frame(index, np.zeros(SHAPE, np.uint8), 0, float(index))
        update = linker.update(detections, index, float(index))
        begun = time.perf_counter_ns()
        tracks = views.of(detections, update)
        took_us["(the tracks)"].append((time.perf_counter_ns() - begun) / 1e3)
        for kind, trigger in triggers.items():
            begun = time.perf_counter_ns()
            n_events[kind] += len(trigger.check(frame, tracks))
            took_us[kind].append((time.perf_counter_ns() - begun) / 1e3)
    return took_us, n_events


if __name__ == "__main__":
    main()
