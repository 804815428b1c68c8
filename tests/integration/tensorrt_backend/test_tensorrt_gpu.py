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
    results = [results_of(first), results_of(first)]
    first.close()
    second = open_proved(*open_)
    assert second.info["plans"].startswith("kept")
    results.append(results_of(second))
    second.close()
    for again in results[1:]:
        for one, other in zip(results[0], again, strict=True):
            np.testing.assert_array_equal(one, other)


def results_of(runner):
    """Return the last frame's table by either plan, and the denoised frame."""
    arrays = []
    for last in (False, True):
        runner.clear()
        for n, frame in enumerate(reference_movie(5, SIZE), 1):
            runner.current[:] = frame
            table, denoised = runner.run(denoise=last if n == 5 else n % 2 == 0)  # the plans in turn
        arrays.append(table.copy())
    return [*arrays, denoised.copy()]
