"""What a batch takes for each of many short movies, besides searching them."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import zarr

from benchmarks.offline.batches import tracked, warm_workers
from benchmarks.offline.scaling import SPAWN, bare
from streamtrack.types import Pixels

FRAMES = 20
TARGET_S = 0.1


def many(pixels: Pixels, place: Path, n_movies: int) -> dict[str, Any]:
    """Return seconds for each movie of a batch with one worker, beside a process that reads and searches the same.

    Half of the movies are searched before the batch, the other half after it.
    """
    movies = [place / f"{n}.zarr" for n in range(n_movies)]
    for path in movies:
        zarr.create_array(path, data=pixels[:FRAMES], chunks=(1, *pixels.shape[1:]))
    with ProcessPoolExecutor(1, SPAWN) as pool, warm_workers(1, movies[0], place) as client:
        bare([pool], movies[:2])  # its start is left out
        searched_s = bare([pool], movies[: n_movies // 2])
        took = tracked(movies, place / "out", client)
        searched_s += bare([pool], movies[n_movies // 2 :])
    return {
        "movies": n_movies,
        "frames": FRAMES,
        "searched_s": round(searched_s / n_movies, 4),
        "batch_s": round(took.wall_s / n_movies, 4),
        "besides_s": round((took.wall_s - searched_s) / n_movies, 4),
        "own_cpu_s": round(took.own_cpu_s / n_movies, 4),
        "target_s": TARGET_S,
    }
