"""Speed and accuracy of the linker ``imm`` beside that of other linkers.

``python -m benchmarks.linking [--quick] [--out FILE.json]``

Simulated detections (`benchmarks.shared.particles`) of Brownian, directed and switching particles, and simulated movies
whose particles the default engine detects ("end to end"). Ours has its defaults everywhere. Peers
(`benchmarks.linking.linkers`) have search range and memory tuned for each kind of movie, by alpha on the first half of
one of the very movies that are scored (end to end: on the very movie), which no user could do: an advantage. laptrack
takes over what is best for lapmod. A setting with which a peer fails or stalls is passed over for the next best.

Time: ms per frame, wall clock and CPU time of the thread, all movies of a kind pooled, without their first 5 frames;
one process at a time, one thread, garbage collector frozen and disabled, everything compiled before. laptrack and the
optimum take whole movies: their time is divided by the frames. Accuracy: the measures of the Particle Tracking
Challenge at 5 px, mean over the movies, tracks of 3 detections or more, gaps filled, the same for all. For ours it is
that of the tracks in the end; ``live`` is that of the tracks as they were said at once.

Beside that: a first guess of the step that is wrong by a factor of 4, a very long movie, the first call in a process.
``--out`` writes JSON, and a picture beside it.
"""

import os
import sys

from benchmarks.linking.comparison import FULL, LIMIT_S, METHODS, QUICK, measure
from benchmarks.linking.figure import draw
from benchmarks.linking.linkers import missing, peer_versions
from benchmarks.linking.tables import print_tables
from benchmarks.linking.trials import Row
from benchmarks.shared.record import command_line, command_parser, write
from streamtrack.report import machine, versions

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def main() -> None:
    """Run the benchmark, print its tables and write its files."""
    arguments = command_parser(__doc__, "few particles, short movies, one seed: about a minute").parse_args()
    os.environ.update(dict.fromkeys(THREADS, "1"))  # for the processes that measure
    for reason in filter(None, map(missing, METHODS)):
        print(reason, file=sys.stderr)
    record = describe() | measure(QUICK if arguments.quick else FULL)
    print_tables(record)
    write(record, arguments.out, draw)


def describe() -> Row:
    """Return what was run on what."""
    return {
        "command": command_line("linking"),
        "machine": machine(),
        "versions": versions() | peer_versions(),
        "conditions": "ms per frame; one process at a time, 1 thread, gc frozen and disabled, first 5 frames left out",
        "tuning": "peers: search range and memory by alpha, on half of a movie that is scored; ours: none",
        "limit_s": LIMIT_S,
    }


if __name__ == "__main__":
    main()
