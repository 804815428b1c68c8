"""ONNX Runtime's providers beside our back ends, as far as that goes without a GPU: its CPU provider in their place."""

import numpy as np
import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.measure import open_engine
from benchmarks.gpu.parity import agreement, detect_all, frames_of, parity_movies
from benchmarks.gpu.providers import PROVIDERS, Provider, ProviderEngine

ON_THE_CPU = Provider(lambda: None, lambda options, folder: options.add_provider("CPUExecutionProvider", {}), "cpu")


def opened(size_px):
    engine = ProviderEngine(ON_THE_CPU)
    engine.prepare((size_px, size_px), "uint16")
    return engine


def test_bound_memory_finds_what_our_back_end_finds():
    frames = frames_of(parity_movies(4, 64)[1])
    figures = agreement(detect_all(open_engine("onnxruntime", 64), frames), detect_all(opened(64), frames))
    assert figures["particles"] > 0
    assert (figures["f1"], figures["max_px"]) == (1.0, pytest.approx(0, abs=1e-4))


def test_a_denoised_frame_is_that_of_our_back_end():
    frame = frames_of(parity_movies(4, 64)[1])[0]
    images = [engine.detect(frame, denoise=True)[1] for engine in (open_engine("onnxruntime", 64), opened(64))]
    np.testing.assert_allclose(*images, rtol=1e-3, atol=0.05)


def test_results_are_not_written_over_by_the_next_frame():
    frames = frames_of(parity_movies(4, 64)[1])
    engine = opened(64)
    first, _ = engine.detect(frames[0], denoise=False)
    kept = first.y.copy()
    engine.detect(frames[1], denoise=False)
    np.testing.assert_array_equal(first.y, kept)


def test_what_is_not_installed_is_left_out_with_its_reason():
    reasons = gpu.reasons_against_backends()
    assert set(PROVIDERS) < set(reasons)
    for name in PROVIDERS:
        if reasons[name] is not None:
            assert "\n" not in reasons[name]
            assert gpu._left_out(reasons)[name]
