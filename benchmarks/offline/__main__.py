"""What a batch costs beside its engines: the second worker's gain, memory, reading, and a peer.

``python -m benchmarks.offline [--quick] [--only PART ...] [--out FILE.json]``

*scaling*: 8 movies of vesicles (96 frames of 256x256, 125 particles, SNR 4), and one long movie, by one worker and by
two, each with one thread, beside two processes that read and search the same frames and do nothing else, against one.
One and two take turns, five pairs, workers and engines started before; a gain is the ratio within a pair, its median is
given, and as a share of the bare processes' gain. It needs two cores that do nothing else.

*peer*: the same frames by a ``dask.bag`` of ``trackpy.batch`` and ``trackpy.link``, on two workers as well. F1 is that
of the detections; ours has its own threshold, trackpy the best one on a movie that is scored.

*reading*: the engine on frames in memory, and on frames that it reads, in turn, for several ways to store them; as a
share of the engine's time, of the clock and of the processors.

With it *far*: a movie of 96 frames of 512x512, a chunk a frame, on a web server that waits 50 ms before each answer, in
a process of its own, and the same one on the disk, in turn. The figure is the ratio within a pair: others may use the
computer.

*many*: 200 movies of 20 frames by a batch with one worker, beside a process that reads and searches the same frames and
does nothing else: what a movie takes besides.

*memory*: a movie of 100,000 frames of 256x256 through an engine that does next to nothing: how much more memory is
resident than after the first 1,000 frames, while frames come and while the tables are made, for one run, and for a
batch with one worker.

*tables*: 50 million detections, 500 a frame, of which the linker revises 5 % later, in the stream that a run writes:
how much more memory is resident while tables, and the summary of tracks, are made of it, and the processor's time. A
million have to take the same.

*model*: what a frame takes a core, and the process that links, and what a task takes a scheduler, all in time of
processors; and from these, what 1 PB would take (``docs/cluster.md``).
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.offline.far import far
from benchmarks.offline.many import many
from benchmarks.offline.memory import memory
from benchmarks.offline.model import model
from benchmarks.offline.movies import FULL, QUICK, far_away, pixels_of, simulated, store, truth_of
from benchmarks.offline.peer import peer
from benchmarks.offline.reading import reading
from benchmarks.offline.scaling import scaling
from benchmarks.offline.tables import tables
from benchmarks.shared.record import command_line, command_parser, write
from streamtrack.bench.computer import describe
from streamtrack.report import versions


def main() -> None:
    """Run the benchmark, print its figures and write its file."""
    parser = command_parser(__doc__, "two short movies, one pair, 2,000 frames for memory: under a minute")
    names = ("scaling", "peer", "reading", "many", "memory", "tables", "model")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="measure these only")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    record: dict[str, Any] = {"command": command_line("offline"), "computer": describe(), "versions": versions()}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place, movies = Path(folder), simulated(size)
        pixels, truth = [pixels_of(movie) for movie in movies], [truth_of(movie) for movie in movies]
        paths, long = store(place, pixels)
        of_model, of_many = place / "of_model", place / "of_many"
        of_model.mkdir()
        of_many.mkdir()
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "scaling": lambda: scaling(paths, long, place, size.pairs),
            "peer": lambda: peer(paths, truth, place),
            "reading": lambda: {
                **reading(pixels[0], place, size.pairs),
                "far": far(far_away(size), place, size.pairs),
            },
            "many": lambda: many(pixels[0], of_many, size.short_movies),
            "memory": lambda: memory(place, size.memory_frames),
            "model": lambda: model(paths[:1], pixels[0], of_model),
            "tables": lambda: tables(place, size.table_rows),
        }
        for name in arguments.only:
            record[name] = parts[name]()
            print(name, json.dumps(record[name], indent=1), flush=True)
    write(record, arguments.out)


if __name__ == "__main__":
    main()
