"""The back ends on a real GPU."""

import numpy as np
import pytest

from streamtrack_engines.backends.deploy_file import read_deploy_file
from streamtrack_engines.backends.plan_cache import PlanCache
from streamtrack_engines.backends.proof import reference_movie
from streamtrack_engines.backends.runner import FrameSize
from streamtrack_engines.backends.tensorrt import TENSORRT, TENSORRT_RTX, open_proved
from streamtrack_engines.weights import packaged_weights

pytestmark = pytest.mark.gpu
SIZE = FrameSize(256, 320, 2)


@pytest.fixture(params=[TENSORRT, TENSORRT_RTX], ids=lambda backend: backend.NAME)
def libraries(request):
    backend = request.param
    if reason := backend.reason_against():
        pytest.skip(reason)
    return backend.load()


@pytest.mark.parametrize("name", packaged_weights())
def test_proved_then_kept_then_the_same_again(libraries, name, tmp_path):
    said = []
    open_ = [libraries, read_deploy_file(name), SIZE, PlanCache(tmp_path), said.append]
    first = open_proved(*open_)
    assert first.info["cuda_graph"] == "yes"
    tables = [results_of(first), results_of(first)]
    first.close()
    second = open_proved(*open_)
    assert second.info["plan"].startswith("kept")
    tables.append(results_of(second))
    second.close()
    np.testing.assert_array_equal(tables[0], tables[1])
    np.testing.assert_array_equal(tables[0], tables[2])


def results_of(runner):
    runner.clear()
    for frame in reference_movie(5, SIZE):
        runner.current[:] = frame
        table, _ = runner.run(denoise=False)
    return table.copy()
