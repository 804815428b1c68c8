"""The one clock of the loop: monotonic nanoseconds.

Wall-clock time is never subtracted; it only names a run in its report. Tests replace the clock by
:class:`streamtrack.testing.FakeClock`.
"""

from collections.abc import Callable
from time import perf_counter_ns

Clock = Callable[[], int]
"""Returns monotonic time in ns; only differences have a meaning."""

monotonic_ns: Clock = perf_counter_ns
