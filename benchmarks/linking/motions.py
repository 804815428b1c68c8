"""What becomes of tracks where particles blink, run, drift and jump.

``python -m benchmarks.linking.motions [--quick] [--methods NAMES] [--out FILE.json]``

60 particles in 512 x 512 px, alive for 50 frames on average, 5 % missed, 5 % false detections on top, 0.3 px off per
axis. Those that blink step by 1 px per axis and frame (or stand still), are lit for 20 frames on average and then dark
for as many frames as the family says; the truth goes on while they are dark, but for ``alpha_seen``, which leaves out
what was not detected, and fills no gap. A field that is moved takes its particles (Brownian, 1 px) with it; those that
leave come in on the other side as new ones. Ours has its defaults; ``relink`` is what `streamtrack relink` makes of the
same detections. trackpy and, where they are installed, laptrack and motile have the settings that score best on the
very movies (motile's solver is slow: on the first of them): an advantage that no user has. ``truth`` is what true
identities score. ``told`` is told of each shift, as a run tells of the moves of its stage. Beside them the movies of
`benchmarks.linking`, which must not get worse. With ``--methods`` the file keeps its figures of the other methods.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.linking.linkers import (
    Frames,
    Ids,
    Ranges,
    link_laptrack,
    link_motile,
    link_trackpy,
    missing,
    peer_versions,
)
from benchmarks.linking.trials import GATE_PX, LEAST_DETECTIONS, score, settled_ids, track_table
from benchmarks.shared.particles import (
    FALSE,
    LEAST_LIFE_FRAMES,
    LOCALISATION_PX,
    MEAN_LIFE_FRAMES,
    MISSED,
    MOTIONS,
    SHAPE,
    ParticleSettings,
    Simulated,
    simulate,
)
from benchmarks.shared.record import command_line, command_parser, some_of, write
from streamtrack.linking.imm import ImmLinker
from streamtrack.linking.relinking import relink
from streamtrack.metrics.ptc import fill_gaps, score_ptc
from streamtrack.report import machine, versions
from streamtrack.types import Detections, TrackUpdate

N, FRAMES = 60, 100
SEED = 730_000
LIT_FRAMES = 20
RANGES = tuple(Ranges(*each) for each in product((4.0, 8.0, 15.0, 30.0), (0, 3, 10)))
GAP_COSTS = (0.01, 0.0, 0.03)
"""Of motile; the first while its search range and memory are sought."""
SCORES = ("alpha", "jsc_theta")

Yx = NDArray[np.float64]


class Family(NamedTuple):
    """How particles move, and how the field does: a shift (y, x), px, into each frame, from its number."""

    step_px: float = 1.0
    speed_px: float = 0.0
    dark: tuple[int, int] | None = None
    shift: Callable[[int, np.random.Generator], Yx] | None = None


def _drift(frame: int, rng: np.random.Generator) -> Yx:
    return np.array([12.0, 16.0])


def _jumps(frame: int, rng: np.random.Generator) -> Yx:
    return _towards(rng, 20.0)[0] if frame % 5 == 0 else np.zeros(2)


def _jump(frame: int, rng: np.random.Generator) -> Yx:
    return _towards(rng, 30.0)[0] if frame == 50 else np.zeros(2)


FAMILIES = {
    "blinking 1 to 3": Family(dark=(1, 3)),
    "blinking 3 to 10": Family(dark=(3, 10)),
    "blinking 3 to 10, still": Family(step_px=0.0, dark=(3, 10)),
    "directed 15 px": Family(step_px=0.3, speed_px=15.0),
    "directed 25 px": Family(step_px=0.3, speed_px=25.0),
    "field drifts 20 px": Family(shift=_drift),
    "stage jumps 20 px": Family(shift=_jumps),
    "one jump of 30 px": Family(shift=_jump),
}


class _Field:
    """Particles of one movie: they move, blink, die and leave, and new ones take their places."""

    def __init__(self, family: Family, rng: np.random.Generator) -> None:
        self._family, self._rng = family, rng
        self.yx = rng.uniform(0, SHAPE, (N, 2))
        self.identity = np.arange(N)
        self._velocity = _towards(rng, family.speed_px, N)
        self._left = self._lives(N)
        self._lit_left = rng.geometric(1 / LIT_FRAMES, N)
        self._dark_left = np.zeros(N, np.int64)

    def move(self, shift: Yx) -> None:
        self.yx += shift + self._velocity + self._rng.normal(0, self._family.step_px, (N, 2))
        outside = ((self.yx < 0) | (self.yx >= SHAPE)).any(axis=1)
        self._left -= 1
        gone = outside | (self._left <= 0)
        carried = outside & (self._left > 0) & (self._family.shift is not None)
        self.yx[carried] %= SHAPE
        self.yx[gone & ~carried] = self._rng.uniform(0, SHAPE, ((gone & ~carried).sum(), 2))
        self._velocity[gone] = _towards(self._rng, self._family.speed_px, gone.sum())
        self._left[gone] = self._lives(gone.sum())
        self.identity = self.identity.copy()
        self.identity[gone] = self.identity.max() + 1 + np.arange(gone.sum())
        if self._family.dark:
            self._blink(*self._family.dark)

    def _blink(self, shortest: int, longest: int) -> None:
        was_dark = self._dark_left > 0
        self._dark_left -= was_dark
        self._lit_left -= ~was_dark
        off = ~was_dark & (self._lit_left <= 0)
        self._dark_left[off] = self._rng.integers(shortest, longest + 1, off.sum())
        self._lit_left[off] = self._rng.geometric(1 / LIT_FRAMES, off.sum())

    def detect(self) -> tuple[Detections, Ids]:
        """Return what is found, in random order, and whose it is; -1 for false detections."""
        rng = self._rng
        seen = (rng.random(N) >= MISSED) & (self._dark_left == 0)
        false = rng.uniform(0, SHAPE, (rng.poisson(FALSE * N), 2))
        yx = np.concatenate((self.yx[seen] + rng.normal(0, LOCALISATION_PX, (seen.sum(), 2)), false))
        identity = np.concatenate((self.identity[seen], np.full(len(false), -1)))
        order = rng.permutation(len(yx))
        y, x = yx[order].T.astype(np.float32)
        ones = np.ones(len(order), np.float32)
        return Detections(y, x, ones, ones, np.full(len(order), LOCALISATION_PX, np.float32)), identity[order]

    def _lives(self, n: int) -> Ids:
        return LEAST_LIFE_FRAMES + self._rng.geometric(1 / (MEAN_LIFE_FRAMES - LEAST_LIFE_FRAMES), n)


class Movie(NamedTuple):
    """A movie, the true identity of each detection, and the shift (y, x) into each frame, px."""

    simulated: Simulated
    identities: list[Ids]
    shifts: list[Yx]


def movie_of(name: str, seed: int, frames: int = FRAMES) -> Movie:
    """Simulate a movie of a family; the same seed gives the same."""
    rng = np.random.default_rng([seed, list(FAMILIES).index(name)])
    family = FAMILIES[name]
    field = _Field(family, rng)
    detections, identities, shifts, truth = [], [], [], []
    for frame in range(frames):
        shifts.append(family.shift(frame, rng) if frame and family.shift else np.zeros(2))
        if frame:
            field.move(shifts[-1])
        found, identity = field.detect()
        detections.append(found)
        identities.append(identity)
        columns = {"frame": frame, "particle": field.identity, "y": field.yx[:, 0].copy(), "x": field.yx[:, 1].copy()}
        truth.append(pd.DataFrame(columns))
    return Movie(Simulated(detections, pd.concat(truth, ignore_index=True)), identities, shifts)


def _towards(rng: np.random.Generator, length: float, n: int = 1) -> Yx:
    """Return vectors of a length in any direction, shape (n, 2)."""
    angle = rng.uniform(0, 2 * np.pi, n)
    return length * np.column_stack((np.sin(angle), np.cos(angle)))


def link(detections: Frames, told: Sequence[Yx] | None = None) -> Iterator[TrackUpdate]:
    """Link with the linker as a user gets it; ``told`` of the shift (y, x), px, into each frame, or not."""
    linker = ImmLinker()
    linker.prepare(SHAPE)
    for index, found in enumerate(detections):
        if told is not None:
            linker.expect_shift((float(told[index][0]), float(told[index][1])))
        yield linker.update(found, index, float(index))


def measure(seeds: Sequence[int], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each family, and one for each kind of movie of `benchmarks.linking`."""
    rows = []
    for name in track(FAMILIES, description="families", console=Console(stderr=True)):
        movies = [movie_of(name, seed) for seed in seeds]
        row: dict[str, Any] = {"family": name}
        if "imm" in methods:
            ours = [_linked(movie) for movie in movies]
            row["imm"] = _mean(movies, ours)
            row["tracks"] = [_count(movie, ids) for movie, ids in zip(movies, ours, strict=True)]
            row["particles"] = [_count(movie, movie.identities) for movie in movies]
        rows.append(row | {method: BESIDE[method](movies) for method in BESIDE if method in methods})
        if FAMILIES[name].shift is not None and "imm" in methods:
            told = [_linked(movie, told=True) for movie in movies]
            rows.append({"family": f"{name}, told", "imm": _mean(movies, told)})
    for motion, n in product(MOTIONS, (100, 500)) if "imm" in methods else ():
        scenes = [Movie(simulate(ParticleSettings(motion, n, FRAMES, seed)), [], []) for seed in seeds]
        ours = [_linked(scene) for scene in scenes]
        rows.append({"family": f"{motion} {n}", "imm": _mean(scenes, ours), "relink": _relinked(scenes)})
    return rows


def _linked(movie: Movie, *, told: bool = False) -> list[Ids]:
    return settled_ids(list(link(movie.simulated.detections, movie.shifts if told else None)))


def _mean(movies: Sequence[Movie], ids: Sequence[Sequence[Ids]]) -> dict[str, float]:
    scores = [score(movie.simulated, each) for movie, each in zip(movies, ids, strict=True)]
    means = {name: float(np.mean([each[name] or 0.0 for each in scores])) for name in SCORES}
    if movies[0].identities:
        means["alpha_seen"] = float(np.mean([_alpha_seen(*each) for each in zip(movies, ids, strict=True)]))
    return means


def _alpha_seen(movie: Movie, ids: Sequence[Ids]) -> float:
    """Score detections against the true particles that were detected, and fill no gap."""
    found = movie.simulated.detections
    truth, tracks = (track_table(found, each) for each in (movie.identities, ids))
    long = tracks.groupby("particle")["frame"].transform("size") >= LEAST_DETECTIONS
    true_places = truth[["frame", "particle"]].merge(movie.simulated.truth, on=["frame", "particle"])
    return float(score_ptc(true_places, tracks[long], gate_px=GATE_PX).alpha)


def _relinked(movies: Sequence[Movie]) -> dict[str, float]:
    rows = []
    for movie in movies:
        found = movie.simulated.detections
        table = track_table(found, [np.zeros(len(each), np.int64) for each in found])
        tracks = relink(table.assign(score=1.0, sigma=LOCALISATION_PX), SHAPE)
        long = tracks.groupby("particle")["frame"].transform("size") >= LEAST_DETECTIONS
        scored = score_ptc(movie.simulated.truth, fill_gaps(tracks[long]), gate_px=GATE_PX).as_dict()
        rows.append([scored[name] or 0.0 for name in SCORES])
    return dict(zip(SCORES, np.mean(rows, axis=0).tolist(), strict=True))


def _best(method: Callable[[Frames, Ranges], Iterable[Any]], movies: Sequence[Movie]) -> dict[str, float]:
    linked = ([[np.asarray(ids) for ids in method(m.simulated.detections, r)] for m in movies] for r in RANGES)
    return max((_mean(movies, ids) for ids in linked), key=lambda each: each["alpha"])


def _motile(movies: Sequence[Movie]) -> dict[str, Any]:
    """Return its scores and settings, and with how many settings it came to no end on the first movie; or why none."""
    first = movies[0]
    alphas: dict[tuple[Ranges, float], float] = {}
    unsolved = 0
    for gap_cost in GAP_COSTS:
        for ranges in RANGES if not alphas else [max(alphas, key=lambda each: alphas[each])[0]]:
            try:
                ids = link_motile(first.simulated.detections, ranges, gap_cost)
                alphas[ranges, gap_cost] = _mean([first], [ids])["alpha"]
            except TimeoutError:
                unsolved += 1
    if not alphas:
        return {"failed": "not solved in time with any settings"}
    best, gap_cost = max(alphas, key=lambda each: alphas[each])
    try:
        scores = _mean(movies, [link_motile(each.simulated.detections, best, gap_cost) for each in movies])
    except TimeoutError as error:
        return {"failed": str(error)}
    return scores | best._asdict() | {"gap_cost": gap_cost, "unsolved": unsolved}


def _count(movie: Movie, ids: Sequence[Ids]) -> int:
    """Return the number of tracks of 3 detections or more."""
    return int((track_table(movie.simulated.detections, ids)["particle"].value_counts() >= 3).sum())


def main() -> None:
    """Run the benchmark, print its table and write its file."""
    arguments = _parse_arguments()
    chosen = arguments.methods or [name for name in METHODS if not (arguments.quick and name == "motile")]
    for reason in filter(None, map(missing, chosen)):
        print(reason, file=sys.stderr)
    seeds = list(range(SEED, SEED + (1 if arguments.quick else 3)))
    old = _kept(arguments.out, seeds) if arguments.methods else {}
    new = {
        "command": command_line("linking.motions"),
        "machine": machine(),
        "versions": versions() | peer_versions(),
        "seeds": seeds,
        "rows": measure(seeds, [name for name in chosen if not missing(name)]),
    }
    _print_table(new["rows"])
    write(add(old, new), arguments.out)


def _parse_arguments() -> argparse.Namespace:
    parser = command_parser(__doc__, "one movie of each kind, without motile unless it is named: a minute")
    parser.add_argument("--methods", type=_names, help=f"some of {','.join(METHODS)}; default: all")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = some_of(METHODS)(text)
    for reason in filter(None, map(missing, names)):
        raise argparse.ArgumentTypeError(reason)
    return names


def _kept(path: Path | None, seeds: Sequence[int]) -> dict[str, Any]:
    """Return what the file holds; refuse to add to figures of other movies."""
    if path is None or not path.exists():
        return {}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if record.get("seeds") != seeds:
        raise SystemExit(f"{path} holds figures of other movies: choose another --out, or run all methods")
    return record


def add(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the old record with the new figures in its rows, and under ``added`` how they were made."""
    if not old:
        return new
    rows = {row["family"]: row for row in old["rows"]}
    for row in new["rows"]:
        rows[row["family"]] = rows.get(row["family"], {}) | row
    how = {name: new[name] for name in ("command", "machine", "versions")}
    return old | {"added": [*old.get("added", []), how], "rows": list(rows.values())}


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    table = Table("", *COLUMNS, "of seen", "tracks", title="alpha (JSC of tracks)")
    for row in rows:
        scores = [_cell(row.get(method)) for method in METHODS]
        seen = f"{row['imm']['alpha_seen']:.3f}" if "alpha_seen" in row.get("imm", {}) else ""
        tracks = f"{np.mean(row['tracks']):.0f} for {np.mean(row['particles']):.0f}" if "tracks" in row else ""
        table.add_row(row["family"], *scores, seen, tracks)
    Console(width=140).print(table)


def _cell(scores: dict[str, Any] | None) -> str:
    if not scores:
        return ""
    return scores.get("failed") or f"{scores['alpha']:.3f} ({scores['jsc_theta']:.2f})"


BESIDE: dict[str, Callable[[Sequence[Movie]], dict[str, Any]]] = {
    "relink": _relinked,
    "trackpy": partial(_best, link_trackpy),
    "laptrack": partial(_best, link_laptrack),
    "motile": _motile,
    "truth": lambda movies: _mean(movies, [movie.identities for movie in movies]),
}
METHODS = ("imm", *BESIDE)
COLUMNS = [f"{name}, tuned" if name in ("trackpy", "laptrack", "motile") else name for name in METHODS]


if __name__ == "__main__":
    main()
