import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrack.latency import LatencyHistogram, percentiles


@given(st.lists(st.integers(0, 2**48), min_size=1, max_size=200), st.sampled_from([10, 500, 990, 999, 1000]))
def test_percentiles_are_within_a_bucket_of_the_exact_ones(durations_ns, permille):
    histogram = LatencyHistogram()
    for duration_ns in durations_ns:
        histogram.add(duration_ns)
    exact = sorted(durations_ns)[max(-(-len(durations_ns) * permille // 1000), 1) - 1]
    assert histogram.percentile_ns(permille) == pytest.approx(exact, rel=0.008, abs=0.5)


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
    assert math.isnan(LatencyHistogram().percentile_ns(500))


def test_extremes_are_kept():
    histogram = LatencyHistogram()
    histogram.add(-5)
    histogram.add(2**62)
    assert len(histogram) == 2
    assert histogram.summary_ms()["max"] == round(2**62 / 1e6, 4)


def test_percentiles_are_latencies_that_were_measured():
    values = np.random.default_rng(0).gamma(2, 5, 5000).round(4)
    found = percentiles(values)
    assert all(found[name] in values for name in ("p50", "p95", "p99", "p99.9", "max"))
    assert np.count_nonzero(values > found["p99"]) == 50
    assert np.count_nonzero(values > found["p99.9"]) == 5


@pytest.mark.parametrize(("n", "known"), [(0, 0), (1, 1), (2, 2), (20, 3), (99, 3), (100, 4), (999, 4), (1000, 5)])
def test_a_percentile_that_too_few_frames_can_show_is_left_out(n, known):
    figures = percentiles(np.arange(n, dtype=float))
    assert sum(figures[name] is not None for name in ("p50", "p95", "p99", "p99.9", "max")) == known
    assert figures["n"] == n


@given(st.lists(st.integers(0, 2**40), max_size=200))
def test_what_is_drawn_counts_every_duration_in_its_bin(durations_ns):
    histogram = LatencyHistogram()
    for duration_ns in durations_ns:
        histogram.add(duration_ns)
    edges_ms = np.geomspace(1e-3, 1e5, 161)
    counts = histogram.counts_ms(edges_ms)
    exact = np.searchsorted(edges_ms[1:-1], np.array(durations_ns) / 1e6, side="right")
    near = np.repeat(np.arange(len(counts)), counts)
    assert counts.sum() == len(durations_ns)
    assert np.abs(near - np.sort(exact)).max(initial=0) <= 1  # at an edge, a bucket may lie on both sides
