import numpy as np
import pytest

from streamtrack.config import PluginConfig
from streamtrack.registry import build
from streamtrack.step import Step
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
