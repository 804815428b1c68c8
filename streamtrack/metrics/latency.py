"""Latency percentiles in bounded memory, however long the run.

Log-linear buckets after HdrHistogram (G. Tene): every bucket is at most 1/128 = 0.8 % wide relative to its value.
"""

from collections.abc import Mapping

import numpy as np

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

    def percentile_ns(self, percent: float) -> float:
        """Return the middle of the bucket that holds this percentile; NaN when nothing was counted."""
        total = len(self)
        if total == 0:
            return float("nan")
        rank = max(int(np.ceil(percent / 100 * total)), 1)
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(_middle_ns(bucket), float(self._max_ns))

    def summary_ms(self) -> Mapping[str, float | int]:
        """Return ``n``, ``p50``, ``p95``, ``p99``, ``p99.9`` and ``max`` in ms; only ``n`` when nothing was counted."""
        if not len(self):
            return {"n": 0}
        shares = {f"p{p:g}": round(self.percentile_ns(p) / 1e6, 4) for p in (50, 95, 99, 99.9)}
        return {"n": len(self), **shares, "max": round(self._max_ns / 1e6, 4)}


def _middle_ns(bucket: int) -> float:
    """Return the middle of a bucket: exact below 256 ns, where buckets are 1 ns wide."""
    exponent = max((bucket >> _SUB_BITS) - 1, 0)
    mantissa = bucket - exponent * _SUB
    return (mantissa << exponent) + ((1 << exponent) - 1) / 2
