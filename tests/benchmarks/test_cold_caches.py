import numpy as np

from benchmarks.loop.cold_caches import figures, measure


class Idle:
    def detect(self, pixels, *, denoise):
        return None, None


def test_each_frame_is_linked_twice():
    ms = measure(Idle(), 4)
    assert ms.shape == (4, 2, 2)
    assert (ms > 0).all()


def test_the_ratio_is_that_of_pairs():
    ms = np.array([[[2.0, 4.0], [1.0, 1.0]], [[6.0, 9.0], [3.0, 3.0]], [[8.0, 1.0], [4.0, 1.0]]])
    assert (figures(ms)["cpu"]["ratio"], figures(ms)["wall"]["ratio"]) == (2.0, 3.0)
