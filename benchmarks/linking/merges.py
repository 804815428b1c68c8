"""How many merges relink finds of particles that stay together, and how many it makes up of those that only pass.

``python -m benchmarks.linking.merges [--quick] [--out FILE.json]``

40 spots in 192 x 192 px images, peaks of 60 to 140 photons over 20, FWHM 3 px, Brownian (1 px per axis and frame) or
directed (1.5 px a frame), alive for 150 frames on average; found by the engine ``denodet``. In movies of the one kind,
any two that come within 2 px stay together: from then on they are one spot with the light of both. In those of the
other kind they pass. A merge is right if it is said at most 15 frames before a true one (the engine sees one spot from
some 4 px on) or 8 after it, within 4 px, times the root of the frames in between and one. ``recall`` is of those that
last 12 frames, of particles that were there for as long; ``precision`` of all that is said.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.detection.everyday_scenes import spots
from benchmarks.detection.nuclei import table_of
from benchmarks.linking.divisions import as_table
from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.config import PluginConfig
from streamtrack.linking.relinking import relink
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.report import machine, versions

SIDE, N, FRAMES, QUICK_FRAMES = 192, 40, 120, 40
MOVIES, SEED = 4, 880_000
STEP_PX, SPEED_PX, MEAN_LIFE_FRAMES = 1.0, 1.5, 150
TOUCH_PX, LASTS = 2.0, 12
BACKGROUND, PEAK, SIGMA_PX = 20.0, (60.0, 140.0), 1.3
NEAR_PX, EARLIEST, LATEST = 4.0, 15, 8

Yx = NDArray[np.float64]
Row = dict[str, Any]


class Met(NamedTuple):
    """Two spots that became one: in which frame, and where."""

    frame: int
    y: float
    x: float


class Movie(NamedTuple):
    """Frames (T, H, W), the merges that last, all merges, and how often two passed each other."""

    frames: NDArray[np.uint16]
    lasting: list[Met]
    merges: list[Met]
    passes: int


class _Field:
    """Spots that move, die and, where they stick, merge; ``since`` is the frame in which a spot came to be as it is."""

    def __init__(self, rng: np.random.Generator, speed_px: float, *, sticks: bool) -> None:
        self._rng, self._speed, self._sticks = rng, speed_px, sticks
        self.yx, self.peak, self.velocity = np.empty((0, 2)), np.empty(0), np.empty((0, 2))
        self.since, self.is_near, self.passes = np.empty(0, np.int64), set[tuple[int, int]](), 0
        self.number, self._numbers = np.empty(0, np.int64), 0
        self._add(N, 0)

    def _add(self, n: int, frame: int) -> None:
        angle = self._rng.uniform(0, 2 * np.pi, n)
        self.yx = np.concatenate((self.yx, self._rng.uniform(0, SIDE, (n, 2))))
        self.velocity = np.concatenate((self.velocity, self._speed * np.column_stack((np.sin(angle), np.cos(angle)))))
        self.peak = np.append(self.peak, self._rng.uniform(*PEAK, n))
        self.since = np.append(self.since, np.full(n, frame))
        self.number = np.append(self.number, self._numbers + np.arange(n))
        self._numbers += n

    def _keep(self, kept: NDArray[Any]) -> None:
        self.yx, self.peak, self.velocity = self.yx[kept], self.peak[kept], self.velocity[kept]
        self.since, self.number = self.since[kept], self.number[kept]

    def move(self, frame: int) -> list[tuple[Met, int, int]]:
        """Go on by a frame; return what merged, the number of the spot that goes on, and since when there were two."""
        step = STEP_PX if not self._speed else 0.2
        self.yx = self.yx + self.velocity + self._rng.normal(0, step, self.yx.shape)
        inside = ((self.yx >= 0) & (self.yx < SIDE)).all(axis=1)
        self._keep(inside & (self._rng.random(len(self.yx)) > 1 / MEAN_LIFE_FRAMES))
        merged = self._meet(frame)
        self._add(N - len(self.yx), frame)
        return merged

    def _meet(self, frame: int) -> list[tuple[Met, int, int]]:
        apart = np.hypot(*(self.yx[:, None] - self.yx).T)
        pairs = np.argwhere(np.triu(apart < TOUCH_PX, 1)).tolist()
        if not self._sticks:
            near = {(int(self.number[a]), int(self.number[b])) for a, b in pairs}
            self.passes += len(near - self.is_near)
            self.is_near = near
            return []
        merged, gone = [], np.zeros(len(self.yx), np.bool_)
        for a, b in pairs:
            if gone[a] or gone[b]:
                continue
            light = self.peak[[a, b]]
            self.yx[a] = light @ self.yx[[a, b]] / light.sum()
            self.peak[a], gone[b] = light.sum(), True
            merged.append((Met(frame, *self.yx[a].tolist()), int(self.number[a]), int(self.since[[a, b]].max())))
            self.since[a] = frame
        self._keep(~gone)
        return merged


def movie_of(seed: int, n_frames: int, speed_px: float, *, sticks: bool) -> Movie:
    """Simulate a movie; the same seed gives the same."""
    rng = np.random.default_rng([seed, int(10 * speed_px), sticks])
    field = _Field(rng, speed_px, sticks=sticks)
    frames, merged, last = [], list[tuple[Met, int, int]](), dict[int, int]()
    for frame in range(n_frames):
        if frame:
            merged += field.move(frame)
        last |= dict.fromkeys(field.number.tolist(), frame)
        light = spots(field.yx, field.peak, SIGMA_PX, SIDE) + BACKGROUND
        frames.append(rng.poisson(light).astype(np.uint16) + 100)
    lasting = [met for met, one, since in merged if min(met.frame - since, last[one] - met.frame) >= LASTS]
    return Movie(np.array(frames), lasting, [met for met, *_ in merged], field.passes)


def relinked(movie: Movie, engine: Engine) -> list[Met]:
    """Return the merges that relink says: the first detection of what two become."""
    engine.prepare((SIDE, SIDE), "uint16")
    found = [engine.detect(frame, denoise=False)[0] for frame in movie.frames]
    return said(relink(as_table(found), (SIDE, SIDE), merges=True))


def said(tracks: pd.DataFrame) -> list[Met]:
    """Return the merges of a table of tracks."""
    both = tracks[tracks["particle"].isin(tracks.loc[tracks["merged_into"] >= 0, "merged_into"])]
    firsts = both.drop_duplicates("particle")
    return [Met(*each) for each in zip(firsts["frame"], firsts["y"], firsts["x"], strict=True)]


def right(true: Sequence[Met], found: Sequence[Met]) -> int:
    """Return how many merges were found, each once."""
    left, n = list(found), 0
    for met in true:
        for each in left:
            near = np.hypot(met.y - each.y, met.x - each.x) < NEAR_PX * np.sqrt(1 + abs(met.frame - each.frame))
            if near and -EARLIEST <= each.frame - met.frame <= LATEST:
                left.remove(each)
                n += 1
                break
    return n


def row_of(name: str, movies: Sequence[Movie], found: Sequence[Sequence[Met]]) -> Row:
    """Return how many merges last, how many of these are found, how many are said and how many of them are right."""
    n_said = sum(map(len, found))
    n_right = sum(right(movie.merges, each) for movie, each in zip(movies, found, strict=True))
    n_found = sum(right(movie.lasting, each) for movie, each in zip(movies, found, strict=True))
    n_lasting = sum(len(movie.lasting) for movie in movies)
    return {
        "movies": name,
        "passes": sum(movie.passes for movie in movies),
        "lasting": n_lasting,
        "found": n_found,
        "said": n_said,
        "right": n_right,
        "recall": n_found / n_lasting if n_lasting else None,
        "precision": n_right / n_said if n_said else None,
    }


def main() -> None:
    """Run the benchmark, print its table and write its record."""
    arguments = command_parser(__doc__, "one movie of 40 frames of each kind").parse_args()
    n_movies, n_frames = (1, QUICK_FRAMES) if arguments.quick else (MOVIES, FRAMES)
    engine: Engine = build("engines", PluginConfig(kind="denodet", threads=1)).instance
    rows = []
    for motion, speed_px in (("Brownian", 0.0), ("directed", SPEED_PX)):
        for name, sticks in (("stay together", True), ("pass", False)):
            movies = [movie_of(SEED + k, n_frames, speed_px, sticks=sticks) for k in range(n_movies)]
            rows.append(row_of(f"{motion}, {name}", movies, [relinked(movie, engine) for movie in movies]))
    engine.close()
    record: Record = {"command": command_line("linking.merges"), "machine": machine(), "versions": versions()}
    Console(width=120).print(table_of("merges of spots", rows))
    write(record | {"rows": rows}, arguments.out)


if __name__ == "__main__":
    main()
