"""Draw what each trigger sees in a simulated movie: ``python examples/show_triggers.py triggers.png``.

Switching receptors, with localisation errors, misses and false detections, linked by ``imm``. To see what triggers
would do in a movie of your own, run ``streamtrack track --config run.toml`` with them and read ``commands.jsonl``.
"""

import sys
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from streamtrack.config import RuleConfig
from streamtrack.linking.imm import ImmLinker
from streamtrack.registry import build
from streamtrack.simulation import MovieSettings, ground_truth
from streamtrack.triggers.rule import Rule
from streamtrack.triggers.view import TrackViews
from streamtrack.types import Command, Detections, Frame, LiveTracks, SourceInfo

SIZE_PX, FRAMES = 192, 80
LIMIT = 13
BOX = (60, 130)
TRIGGERS = {
    "count": {"above": LIMIT, "release": LIMIT - 3},
    "region": {"y_px": BOX, "x_px": BOX},
    "speed": {"above_px_s": 3},
    "displacement": {"above_px": 30},
    "mode_switch": {"to": "directed"},
    "appears": {},
    "disappears": {},
    "meet": {"within_px": 8},
    "older": {"frames": 30},
    "nearest": {"max_distance_px": 40},
}


@dataclass
class Seen:
    """The tracks and the commands of all frames."""

    tracks: list[LiveTracks] = field(default_factory=list)
    commands: dict[str, list[Command]] = field(default_factory=lambda: {kind: [] for kind in TRIGGERS})


def detections(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> Detections:
    """Return what a detector would find: 3 % missed, 0.2 px off, one false detection in two frames."""
    found = rng.random(len(y)) < 0.97
    false = rng.uniform(0, SIZE_PX, (2, rng.poisson(0.5)))
    y = np.concatenate((y[found] + rng.normal(0, 0.2, found.sum()), false[0])).astype(np.float32)
    x = np.concatenate((x[found] + rng.normal(0, 0.2, found.sum()), false[1])).astype(np.float32)
    ones = np.ones_like(y)
    return Detections(y, x, ones, ones, ones * np.float32(0.2))


def watch() -> Seen:
    """Link a simulated movie and ask every trigger."""
    truth = ground_truth(MovieSettings("receptor", 4.0, 100.0, FRAMES, SIZE_PX, SIZE_PX, seed=4))
    source = SourceInfo("receptors", (SIZE_PX, SIZE_PX), "uint8")
    rules = {}
    for kind, settings in TRIGGERS.items():
        config = RuleConfig(kind=kind, do="log", **settings)
        rules[kind] = Rule(build("triggers", config).instance, config)
        rules[kind].prepare(source)
    linker, views, seen, rng = ImmLinker(), TrackViews(confirmed=True), Seen(), np.random.default_rng(1)
    linker.prepare(source.shape)
    for index, rows in truth.groupby("frame"):
        found = detections(rng, rows["y"].to_numpy(), rows["x"].to_numpy())
        tracks = views.of(found, linker.update(found, index, float(index)))
        seen.tracks.append(tracks)
        frame = Frame(index, np.zeros(source.shape, np.uint8), 0, float(index))
        for kind, rule in rules.items():
            seen.commands[kind] += rule.commands(frame, tracks, now_ns=0)
    return seen


def draw_tracks(axes: Axes, seen: Seen) -> None:
    """Draw all tracks in grey."""
    particle = np.concatenate([tracks.particle for tracks in seen.tracks])
    y = np.concatenate([tracks.y for tracks in seen.tracks])
    x = np.concatenate([tracks.x for tracks in seen.tracks])
    for each in np.unique(particle):
        axes.plot(x[particle == each], y[particle == each], color="0.75", lw=0.8)
    axes.set(xlim=(0, SIZE_PX), ylim=(SIZE_PX, 0), aspect="equal", xticks=[], yticks=[])


def draw_count(axes: Axes, seen: Seen) -> None:
    """Draw the number of tracks over time, and when it was seen."""
    axes.plot([len(tracks) for tracks in seen.tracks], color="0.4", lw=1)
    for level, style in ((LIMIT, "-"), (LIMIT - 3, ":")):
        axes.axhline(level, color="0.75", lw=0.8, ls=style)
    fired = [command.frame_index for command in seen.commands["count"]]
    axes.plot(fired, [len(seen.tracks[index]) for index in fired], "o", color="crimson", ms=5)
    axes.set(xlabel="frame", ylabel="tracks")
    axes.set_box_aspect(1)


def main(path: str) -> None:
    """Draw every trigger's events onto the tracks."""
    seen = watch()
    figure, panels = plt.subplots(2, 5, figsize=(13, 5.8), layout="constrained")
    for axes, (kind, commands) in zip(panels.flat, seen.commands.items(), strict=True):
        settings = ", ".join(
            f"{key} = {list(value) if value is BOX else value}" for key, value in TRIGGERS[kind].items()
        )
        axes.set_title(f"{kind}: {len(commands)}\n{settings}", fontsize=8)
        if kind == "count":
            draw_count(axes, seen)
            continue
        draw_tracks(axes, seen)
        places = np.array([(command.event.x, command.event.y) for command in commands]).reshape(-1, 2)
        axes.plot(*places.T, "o", color="crimson", ms=3.5)
        if kind == "region":
            low, side = BOX[0], BOX[1] - BOX[0]
            axes.add_patch(Rectangle((low, low), side, side, fill=False, color="steelblue"))
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "triggers.png")
