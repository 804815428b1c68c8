from dataclasses import replace

import numpy as np
import pytest

from streamtrack.bench.timings import TimingSink, read_timings
from streamtrack.testing.sinks import SinkTests, example_results, example_source


class TestTimings(SinkTests):
    def make_sink(self):
        return TimingSink()


@pytest.mark.parametrize("announced", [30, 7, None])
def test_every_frame_is_kept_exactly(tmp_path, announced):
    results = example_results(30)
    sink = TimingSink()
    sink.open(tmp_path, example_source(n_frames=announced))
    for result in results:
        sink.write(result)
    assert not list(tmp_path.iterdir()), "nothing has its final name before it is complete"
    sink.close()
    rows = read_timings(tmp_path)
    assert rows["frame"].tolist() == list(range(30))
    for stage in ("grabbed", "dequeued", "detected", "linked", "decided"):
        assert rows[stage].tolist() == [getattr(result.stamps, stage) for result in results]
    assert (rows["received"] > rows["grabbed"]).all()
    assert (rows["detections"] == 8).all()


def test_the_array_grows_where_no_length_is_announced(tmp_path):
    (result,) = example_results(1)
    sink = TimingSink()
    sink.open(tmp_path, example_source(n_frames=None))
    for index in range(25_000):
        sink.write(replace(result, frame=replace(result.frame, index=index)))
    sink.close()
    assert np.array_equal(read_timings(tmp_path)["frame"], np.arange(25_000))
