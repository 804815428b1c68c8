import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrack.metrics.latency import LatencyHistogram


@given(st.lists(st.integers(0, 2**48), min_size=1, max_size=200), st.sampled_from([1, 50, 95, 99, 100]))
def test_percentiles_are_within_a_bucket_of_the_exact_ones(durations_ns, percent):
    histogram = LatencyHistogram()
    for duration_ns in durations_ns:
        histogram.add(duration_ns)
    exact = float(np.percentile(durations_ns, percent, method="inverted_cdf"))
    assert histogram.percentile_ns(percent) == pytest.approx(exact, rel=0.008, abs=0.5)


def test_summary_is_in_ms_and_counts():
    histogram = LatencyHistogram()
    for duration_us in range(1, 1001):
        histogram.add(duration_us * 1000)
    summary = histogram.summary_ms()
    assert summary["n"] == len(histogram) == 1000
    assert summary["p50"] == pytest.approx(0.5, rel=0.01)
    assert summary["p99.9"] == pytest.approx(0.999, rel=0.01)
    assert summary["max"] == 1.0


def test_nothing_counted():
    assert LatencyHistogram().summary_ms() == {"n": 0}
    assert math.isnan(LatencyHistogram().percentile_ns(50))


def test_extremes_are_kept():
    histogram = LatencyHistogram()
    histogram.add(-5)
    histogram.add(2**62)
    assert len(histogram) == 2
    assert histogram.summary_ms()["max"] == round(2**62 / 1e6, 4)
