"""Latency percentiles: of durations that are kept, and in bounded memory however long the run.

Log-linear buckets after HdrHistogram (G. Tene): every bucket is at most 1/128 = 0.8 % wide relative to its value.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

PERMILLE = {"p50": 500, "p95": 950, "p99": 990, "p99.9": 999}

_SUB_BITS = 7
_SUB = 1 << _SUB_BITS
_MAX_EXPONENT = 42
"""Values up to 2**49 ns (6 days) have buckets of their own; longer ones share the last."""


class LatencyHistogram:
    """Durations of one stage, in ns."""

    def __init__(self) -> None:
        self._counts = np.zeros((_MAX_EXPONENT + 1) * _SUB, np.int64)
        self._max_ns = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration; a negative one counts as 0."""
        duration_ns = max(duration_ns, 0)
        exponent = max(duration_ns.bit_length() - _SUB_BITS - 1, 0)
        bucket = exponent * _SUB + (duration_ns >> exponent) if exponent <= _MAX_EXPONENT - 1 else len(self._counts) - 1
        self._counts[bucket] += 1
        self._max_ns = max(self._max_ns, duration_ns)

    def __len__(self) -> int:
        return int(self._counts.sum())

    def percentile_ns(self, permille: int) -> float:
        """Return the middle of the bucket that holds this share of the durations; NaN when nothing was counted."""
        total = len(self)
        if total == 0:
            return float("nan")
        bucket = int(np.searchsorted(np.cumsum(self._counts), max(_rank(total, permille), 1)))
        return min(_middle_ns(bucket), float(self._max_ns))

    def summary_ms(self) -> Mapping[str, float | int]:
        """Return ``n``, ``p50``, ``p95``, ``p99``, ``p99.9`` and ``max`` in ms; only ``n`` when nothing was counted."""
        if not len(self):
            return {"n": 0}
        shares = {name: round(self.percentile_ns(permille) / 1e6, 4) for name, permille in PERMILLE.items()}
        return {"n": len(self), **shares, "max": round(self._max_ns / 1e6, 4)}

    def counts_ms(self, edges_ms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return how many durations lie in each of the bins between rising edges (N + 1,), shape (N,), for a drawing.

        The first and the last bin take what lies beyond them.
        """
        used = np.flatnonzero(self._counts)
        middle_ms = np.array([_middle_ns(bucket) / 1e6 for bucket in used.tolist()])
        counts: NDArray[np.int64] = np.zeros(len(edges_ms) - 1, np.int64)
        np.add.at(counts, np.searchsorted(edges_ms[1:-1], middle_ms, side="right"), self._counts[used])
        return counts


def percentiles(values: NDArray[np.float64]) -> dict[str, float | int | None]:
    """Return ``n``, ``p50``, ``p95``, ``p99``, ``p99.9`` and ``max``; None where there are too few values to tell.

    No interpolation: each is the least of the values that so many of them do not exceed. For p99 a hundred are needed,
    for p99.9 a thousand, and so on: of fewer it would be the longest by another name.
    """
    n, ordered = len(values), np.sort(values)
    found: dict[str, float | int | None] = {"n": n}
    for name, permille in PERMILLE.items():
        enough = n * (1000 - permille) >= 1000
        found[name] = round(float(ordered[_rank(n, permille) - 1]), 4) if enough else None
    return found | {"max": round(float(ordered[-1]), 4) if n else None}


def _rank(n: int, permille: int) -> int:
    """Return how many of n values that share takes, at least."""
    return -(-n * permille // 1000)


def _middle_ns(bucket: int) -> float:
    """Return the middle of a bucket: exact below 256 ns, where buckets are 1 ns wide."""
    exponent = max((bucket >> _SUB_BITS) - 1, 0)
    mantissa = bucket - exponent * _SUB
    return (mantissa << exponent) + ((1 << exponent) - 1) / 2
