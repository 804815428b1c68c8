import numpy as np

from benchmarks.loop import overhead
from streamtrack.bench.replay import load_movie
from streamtrack.config import PluginConfig
from streamtrack.registry import build

MS = 1_000_000


def test_overhead_is_all_but_the_engine_summed_frame_by_frame():
    # hand over, detect, link, decide, publish; what is slow in one frame is quick in the other
    took_ms = np.array([[1, 100, 5, 0, 0], [4, 50, 0, 0, 3]])
    stamps = np.concatenate([np.zeros((2, 1), np.int64), np.cumsum(took_ms, axis=1)], axis=1) * MS
    figures = overhead.pipeline_figures(stamps)
    assert figures["overhead"]["max"] == 7.0
    assert figures["detect"]["max"] == 100.0
    assert figures["hand over"]["max"] == 4.0


def test_the_pipeline_is_measured_with_real_threads(tmp_path):
    movie = load_movie("sim:vesicle?size=64&frames=8&density=300")
    engine = build("engines", PluginConfig(kind="denodet")).instance
    engine.prepare(movie.info.shape, movie.info.dtype)
    stamps, sinks_ms = overhead.run_pipeline(movie, engine, 20, tmp_path)
    engine.close()
    assert stamps.shape[1] == 6
    assert 10 <= len(stamps) <= 20, "a frame may be dropped only where this machine did something else"
    assert (np.diff(stamps, axis=1) >= 0).all()
    assert set(sinks_ms) == {"tables", "overview"}
    assert all(each["n"] == len(stamps) for each in sinks_ms.values())
