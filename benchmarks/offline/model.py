"""How far a cluster scales, by figures that are measured here: what 1 PB would take.

``python -m benchmarks.offline.model RECORD.json docs/cluster.md`` writes the tables of the page anew from a record.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed import Client

from benchmarks.offline.batches import Watch, tracked, warm_workers
from benchmarks.offline.reading import reading
from streamtrack.offline.plan import BLOCK_FRAMES
from streamtrack.types import Pixels

N_TASKS = 1000
N_READ = 32
STORED = "zstd"
PETABYTE = 1e15
CORES = (64, 1024, 8192)
DAY_S = 86_400
BEGIN, END = "<!-- model: written by benchmarks.offline.model -->", "<!-- end of model -->"


def model(movies: Sequence[Path], pixels: Pixels, place: Path) -> dict[str, Any]:
    """Return what was measured, all of it time of processors, and what follows from it."""
    with warm_workers(1, movies[0], place) as client:
        took = tracked(movies, place / "model", client)
        task_s = _task_s(client)
    n_frames = len(movies) * len(pixels)
    row = reading(pixels[:N_READ], place, 1)["rows"][STORED]
    measured = {
        "frame_px": list(pixels.shape[1:]),
        "frame_bytes": pixels[0].nbytes,
        "engine_ms": row["engine, cpu ms"],
        "reading_ms": row["reading, cpu ms"],
        "driver_ms": round(1e3 * took.own_cpu_s / n_frames, 3),
        "task_ms": round(1e3 * task_s, 3),
        "frames_a_block": BLOCK_FRAMES[1],
    }
    return {"measured": measured, "petabyte": [of_cores(measured, cores) for cores in CORES]}


def of_cores(measured: Mapping[str, Any], cores: int, n_bytes: float = PETABYTE) -> dict[str, float]:
    """Return what tracking so many bytes takes on so many cores of workers.

    Each process that links takes the frames of as many workers as it can keep up with; where a scheduler's tasks a
    second are the limit, there are more of these, too.
    """
    frame_s = (measured["engine_ms"] + measured["reading_ms"]) / 1e3
    rate = cores / frame_s
    by_linking = rate * measured["driver_ms"] / 1e3
    by_tasks = rate / measured["frames_a_block"] * measured["task_ms"] / 1e3
    return {
        "cores": cores,
        "frames_per_s": round(rate, 1),
        "read_mb_per_s": round(rate * measured["frame_bytes"] / 1e6, 1),
        "batches": max(1, -int(-max(by_linking, by_tasks) // 1)),
        "scheduler_share": round(by_tasks, 4),
        "days": round(n_bytes / measured["frame_bytes"] / rate / DAY_S, 1),
    }


def _task_s(client: Client) -> float:
    """Return the time that client and scheduler, both in this process, take for a task that does nothing."""
    client.gather(client.map(_nothing, range(100), pure=False))
    watch = Watch()
    client.gather(client.map(_nothing, range(N_TASKS), pure=False))
    return watch.took().own_cpu_s / N_TASKS


def _nothing(_: int) -> None:
    return None


def tables_of(record: Mapping[str, Any]) -> str:
    """Return the tables of the page, in Markdown."""
    known, rows = record["model"]["measured"], record["model"]["petabyte"]
    side = " x ".join(map(str, known["frame_px"]))
    frame_s = (known["engine_ms"] + known["reading_ms"]) / 1e3
    lines = [
        f"Measured on one core of {record['computer']['processor']} (`{record['command']}`),",
        f"in time of processors, frames of {side} px, uint16, {STORED}:",
        "",
        "| | |",
        "|---|---|",
        f"| engine, DENODET, one thread | {known['engine_ms']:.1f} ms a frame |",
        f"| reading | {known['reading_ms']:.2f} ms a frame |",
        f"| so a core searches | {1 / frame_s:.1f} frames/s, {known['frame_bytes'] / frame_s / 1e6:.2f} MB/s |",
        f"| linking and writing | {known['driver_ms']:.1f} ms a frame: {1e3 / known['driver_ms']:.0f} frames/s |",
        f"| scheduler and client, a task | {known['task_ms']:.2f} ms: {1e3 / known['task_ms']:.0f} tasks/s |",
        "",
        "What 1 PB takes by these:",
        "",
        "| cores | frames/s | read, MB/s | batches side by side | share of one scheduler | days |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['cores']:,} | {row['frames_per_s']:,.0f} | {row['read_mb_per_s']:,.0f} | {row['batches']:,} | "
            f"{row['scheduler_share']:.2f} | {row['days']:,.1f} |"
        )
    return "\n".join(lines)


def rewritten(page: str, record: Mapping[str, Any]) -> str:
    """Return the page with the tables of a record."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables_of(record)}\n\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Write the page's tables anew."""
    record, page = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    page.write_text(rewritten(page.read_text(encoding="utf-8"), record), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
