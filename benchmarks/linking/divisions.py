"""How many divisions of nuclei are found: by the linker as frames come, and by relink afterwards.

``python -m benchmarks.linking.divisions [--quick] [--out FILE.json] [--data FOLDER]``

The movies are those of `benchmarks.nuclei`, of other images of the validation part of BBBC039v1, 60 frames each: nuclei
drift and are bent to and fro, and four in a thousand divide in a frame, whose halves go apart by .8 px a frame. The
engine ``cells`` finds what is in them. A division is right if two tracks of one parent begin at the true halves, within
12 px, while both are in the image and at most 25 frames after they parted: ``late`` is by how many. ``visible`` are
those whose halves the engine finds as two before the end of the movie; ``recall`` is of these.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.detection.nuclei import DATA, OURS, table_of
from benchmarks.detection.nuclei_images import read
from benchmarks.detection.nuclei_movie import nuclei_movie
from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.config import PluginConfig
from streamtrack.linking.imm import ImmLinker
from streamtrack.linking.relinking import relink
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.report import machine, versions
from streamtrack.types import Detections

IMAGES, QUICK_IMAGES = (5, 8, 11, 14, 17), 1
FRAMES, QUICK_FRAMES = 60, 20
SEED = 200
NEAR_PX, LATEST_FRAMES = 12.0, 25

Place = tuple[int, float, float]
Row = dict[str, Any]


class Halves(NamedTuple):
    """The ways of two halves, shape (T, 2) each, NaN where it is not in the image; the frame in which they part."""

    one: NDArray[np.float64]
    other: NDArray[np.float64]
    frame: int

    def are_at(self, frame: int, yx: NDArray[np.float64]) -> bool:
        """Return whether two places (2, 2) of a frame are those of the halves."""
        true = np.stack([self.one[frame], self.other[frame]])
        off = min(np.hypot(*(pair - yx).T).max() for pair in (true, true[::-1]))
        return bool(off < NEAR_PX)


class Movie(NamedTuple):
    """What is found in the frames of a movie of a shape, and its true divisions."""

    shape: tuple[int, int]
    found: list[Detections]
    divisions: list[Halves]


def main() -> None:
    """Run the benchmark, print its table and write its record."""
    arguments = _parse()
    if not (arguments.data / "nuclei.csv").is_file():
        print(f"skipped: there is no nuclei.csv in {arguments.data} (see benchmarks.nuclei --help)")
        return
    n_images, n_frames = (QUICK_IMAGES, QUICK_FRAMES) if arguments.quick else (len(IMAGES), FRAMES)
    movies = list(movies_of(arguments.data, IMAGES[:n_images], n_frames))
    rows = [row_of("imm, divisions = true", movies, [online(movie) for movie in movies])]
    rows.append(row_of("relink --divisions", movies, [afterwards(movie) for movie in movies]))
    record: Record = {"command": command_line("linking.divisions"), "machine": machine(), "versions": versions()}
    Console(width=120).print(table_of("divisions of nuclei", rows))
    write(record | {"rows": rows}, arguments.out)


def _parse() -> argparse.Namespace:
    parser = command_parser(__doc__, "one movie of 20 frames")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the images and their table")
    return parser.parse_args()


def movies_of(data: Path, images: Sequence[int], n_frames: int) -> Iterator[Movie]:
    """Make movies of some of the images, and find what is in them."""
    annotated = list(read(data, "validation"))
    engine: Engine = build("engines", PluginConfig.model_validate({**OURS["cells"], "threads": 1})).instance
    for k in images:
        movie = nuclei_movie(annotated[k].pixels, annotated[k].nuclei, n_frames, SEED + k)
        shape = movie.frames.shape[1], movie.frames.shape[2]
        engine.prepare(shape, movie.frames.dtype.name)
        found = [engine.detect(frame, denoise=False)[0] for frame in movie.frames]
        yield Movie(shape, found, divisions_of(movie.truth, len(annotated[k].nuclei), n_frames))
    engine.close()


def divisions_of(truth: pd.DataFrame, n_nuclei: int, n_frames: int) -> list[Halves]:
    """Return the divisions whose halves are both in the image when they part: of halves, each two numbers follow."""
    ways = {}
    for particle, rows in truth[truth["particle"] >= n_nuclei].groupby("particle"):
        ways[particle] = np.full((n_frames, 2), np.nan)
        ways[particle][rows["frame"]] = rows[["y", "x"]]
    pairs = [(ways[one], ways[one + 1]) for one in ways if (one - n_nuclei) % 2 == 0 and one + 1 in ways]
    firsts = [[int(np.flatnonzero(~np.isnan(way[:, 0]))[0]) for way in pair] for pair in pairs]
    return [Halves(*pair, first[0]) for pair, first in zip(pairs, firsts, strict=True) if first[0] == first[1]]


def online(movie: Movie) -> list[tuple[Place, Place]]:
    """Return where and when the two begin that the linker says came out of one."""
    linker = ImmLinker(divisions=True)
    linker.prepare(movie.shape)
    ids, parents = [], {}
    for index, found in enumerate(movie.found):
        update = linker.update(found, index, float(index))
        ids.append(update.particle.copy())
        revised = update.revised
        for frame, place, particle in zip(revised.frame_index, revised.detection, revised.particle, strict=True):
            ids[frame][place] = particle
        if update.parent is not None:
            parents |= {p: q for p, q in zip(update.particle.tolist(), update.parent.tolist(), strict=True) if q >= 0}
    table = as_table(movie.found).assign(particle=np.concatenate(ids))
    return begun(table.assign(parent=table["particle"].map(parents).fillna(-1)))


def afterwards(movie: Movie) -> list[tuple[Place, Place]]:
    """Return the same of what relink says."""
    return begun(relink(as_table(movie.found), movie.shape, divisions=True))


def as_table(found: Sequence[Detections]) -> pd.DataFrame:
    """Return what was found as a table of detections."""
    columns = {name: np.concatenate([getattr(each, name) for each in found]) for name in Detections.__slots__[:5]}
    return pd.DataFrame({"frame": np.repeat(np.arange(len(found)), [len(each) for each in found]), **columns})


def begun(tracks: pd.DataFrame) -> list[tuple[Place, Place]]:
    """Return frame, y, x of the first detections of the two of each parent."""
    firsts = tracks[(tracks["particle"] >= 0) & (tracks["parent"] >= 0)].drop_duplicates("particle")
    places = [list(zip(two["frame"], two["y"], two["x"], strict=True)) for _, two in firsts.groupby("parent")]
    return [(two[0], two[1]) for two in places if len(two) == 2]


def row_of(name: str, movies: Sequence[Movie], found: Sequence[Sequence[tuple[Place, Place]]]) -> Row:
    """Return how many of the divisions were found, and how many of those found are right."""
    late = [each for movie, here in zip(movies, found, strict=True) for each in _right(movie, here)]
    n_true, n_found = sum(len(movie.divisions) for movie in movies), sum(map(len, found))
    n_visible = sum(_is_visible(movie, each) for movie in movies for each in movie.divisions)
    return {
        "method": name,
        "divisions": n_true,
        "visible": n_visible,
        "found": n_found,
        "right": len(late),
        "recall": len(late) / n_visible if n_visible else None,
        "precision": len(late) / n_found if n_found else None,
        "late": float(np.mean(late)) if late else None,
    }


def _is_visible(movie: Movie, halves: Halves) -> bool:
    """Return whether both are found, each as one, in a frame."""
    for frame in range(halves.frame, len(movie.found)):
        found = np.column_stack((movie.found[frame].y, movie.found[frame].x)).astype(np.float64)
        half_apart = 0.5 * np.hypot(*(halves.one[frame] - halves.other[frame]))
        near = [np.hypot(*(found - way[frame]).T) < min(half_apart, NEAR_PX) for way in (halves.one, halves.other)]
        if all(each.any() for each in near):
            return True
    return False


def _right(movie: Movie, found: Sequence[tuple[Place, Place]]) -> list[int]:
    """Return how late each division was found that was."""
    late, left = [], list(found)
    for halves in movie.divisions:
        for two in left:
            frame = max(two[0][0], halves.frame)
            in_time = halves.frame - 2 <= two[0][0] <= halves.frame + LATEST_FRAMES
            if in_time and halves.are_at(frame, np.array([place[1:] for place in two])):
                late.append(int(two[0][0]) - halves.frame)
                left.remove(two)
                break
    return late


if __name__ == "__main__":
    main()
