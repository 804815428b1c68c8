import numpy as np
import pytest

from streamtrack.config import PluginConfig
from streamtrack.registry import build
from streamtrack.step import Step, mask_non_finite
from streamtrack.testing import FakeClock
from streamtrack.types import Frame, Stamps


class NoLinks:
    """Links nothing."""

    def update(self, detections, frame_index, time_s):
        from streamtrack.types import TrackUpdate

        n = len(detections)
        none = np.empty(0, np.int64)
        return TrackUpdate(np.full(n, -1), np.zeros(n, np.float32), none, none, none, 0, frame_index)


@pytest.mark.usefixtures("lab_plugins")
def test_stages_are_stamped_in_order():
    engine = build("engines", PluginConfig(kind="brightest")).instance
    step = Step(engine, NoLinks(), clock=FakeClock(tick_ns=10), wants_denoised=lambda index: index == 1)
    pixels = np.zeros((40, 40), np.float32)
    pixels[3, 4] = 99
    results = [step(Frame(index, pixels, grabbed_ns=0, time_s=float(index))) for index in (0, 1)]
    assert results[0].stamps == Stamps(grabbed=0, dequeued=10, detected=20, linked=30, measured=30, decided=40)
    assert (results[0].detections.y[0], results[0].detections.x[0]) == (3, 4)
    assert results[0].denoised is None
    assert results[1].denoised is not None


@pytest.mark.usefixtures("lab_plugins")
@pytest.mark.parametrize(
    ("indices", "in_a_row"),
    [((0, 1, 2), [1, 2, 3]), ((5, 6, 8, 9, 12), [1, 2, 1, 2, 1])],
    ids=["complete", "gaps"],
)
def test_the_engine_forgets_where_frames_are_missing(indices, in_a_row):
    engine = build("engines", PluginConfig(kind="brightest")).instance
    engine.in_a_row = 7  # as after another movie
    step = Step(engine, NoLinks())
    counts = []
    for index in indices:
        step(Frame(index, np.zeros((40, 40), np.float32), grabbed_ns=0, time_s=float(index)))
        counts.append(engine.in_a_row)
    assert counts == in_a_row


@pytest.mark.usefixtures("lab_plugins")
def test_a_frame_on_which_the_engine_failed_is_missing():
    engine = build("engines", PluginConfig(kind="brightest", fail_at=2)).instance
    step = Step(engine, NoLinks())
    frames = [Frame(index, np.zeros((40, 40), np.float32), grabbed_ns=0, time_s=float(index)) for index in range(4)]
    for frame in frames[:2]:
        step(frame)
    with pytest.raises(ValueError, match="a bug"):
        step(frames[2])
    engine.calls += 1  # past its fault
    step(frames[3])
    assert engine.in_a_row == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_pixels_become_the_mean_of_the_others(bad):
    pixels = np.full((32, 32), 5, np.float32)
    pixels[0, :4] = 9
    pixels[1, 1] = pixels[2, 2] = bad
    masked, count = mask_non_finite(pixels)
    assert count == 2
    assert masked[1, 1] == masked[2, 2] == pytest.approx((5 * (1024 - 6) + 9 * 4) / 1022)
    assert masked.dtype == np.float32
    assert not np.isfinite(pixels[1, 1]), "the source's frame is never written into"


def test_opposite_infinities_are_both_found():
    pixels = np.zeros((32, 32), np.float32)
    pixels[0, 0], pixels[0, 1] = np.inf, -np.inf
    assert mask_non_finite(pixels)[1] == 2


def test_a_frame_of_nothing_but_nan_becomes_zero():
    masked, count = mask_non_finite(np.full((32, 32), np.nan, np.float32))
    assert count == 1024
    assert not masked.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_finite_frames_are_not_copied(dtype):
    pixels = np.full((32, 32), 200, dtype)
    masked, count = mask_non_finite(pixels)
    assert masked is pixels
    assert count == 0
