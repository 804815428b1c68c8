"""What every sink has to do, as tests, and results to feed to one.

In the tests of a plug-in::

    class TestMySink(SinkTests):
        def make_sink(self):
            return MySink(...)
"""

import inspect
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streamtrack.clock import monotonic_ns
from streamtrack.errors import SinkError
from streamtrack.protocols import Sink
from streamtrack.types import Detections, Frame, FrameResult, Pixels, SourceInfo, Stamps, TrackUpdate


class SinkTests:
    """Conformance suite for implementations of :class:`streamtrack.protocols.Sink`."""

    def make_sink(self) -> Sink:
        """Return a new sink, not yet open."""
        raise NotImplementedError("override make_sink: say how your sink is made")

    def _run(self, folder: Path, results: Iterable[FrameResult], source: SourceInfo | None = None) -> None:
        """Run a sink as the loop does: opened and asked by one thread, written and closed by another."""
        folder.mkdir(exist_ok=True)
        sink = self.make_sink()
        sink.open(folder, source or example_source())
        asked = [r if sink.wants_denoised(r.frame.index) else replace(r, denoised=None) for r in results]

        def write_and_close() -> None:
            for result in asked:
                sink.write(result)
            sink.close()

        with ThreadPoolExecutor(1) as worker:
            worker.submit(write_and_close).result()

    def test_settings_are_annotated_keywords(self) -> None:
        """A plug-in's settings come from its signature."""
        for setting in inspect.signature(type(self.make_sink())).parameters.values():
            assert setting.kind is setting.KEYWORD_ONLY, f"{setting.name} is not keyword-only"
            assert setting.annotation is not setting.empty, f"{setting.name} has no annotation"

    def test_says_whether_it_is_critical(self) -> None:
        """The run's outcome depends on it."""
        assert isinstance(self.make_sink().critical, bool)

    def test_a_folder_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        """``open`` makes no folders; it raises SinkError, in one line, with the path in it."""
        with pytest.raises(SinkError) as caught:
            self.make_sink().open(tmp_path / "nowhere", example_source())
        assert "nowhere" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    def test_wants_denoised_is_cheap_and_keeps_its_word(self, tmp_path: Path) -> None:
        """The loop asks once per frame; asked again it must not change its mind."""
        sink = self.make_sink()
        sink.open(tmp_path, example_source(n_frames=1000))
        start_ns = monotonic_ns()
        first = [sink.wants_denoised(index) for index in range(1000)]
        assert monotonic_ns() - start_ns < 100_000_000, "more than 0.1 ms per question"
        assert [sink.wants_denoised(index) for index in range(1000)] == first
        assert set(first) <= {True, False}
        sink.close()

    @pytest.mark.parametrize(
        ("shape", "dtype"),
        [((32, 32), "uint8"), ((33, 47), "uint16"), ((40, 301), "float32"), ((513, 32), "uint16")],
    )
    def test_takes_frames_of_every_kind(self, tmp_path: Path, shape: tuple[int, int], dtype: str) -> None:
        """Any size from 32 x 32, odd and elongated ones too, in each of the three dtypes."""
        self._run(tmp_path, example_results(3, shape, dtype), example_source(shape, dtype, 3))

    @pytest.mark.parametrize("n_particles", [0, 1, 2, 2048])
    def test_takes_any_number_of_particles(self, tmp_path: Path, n_particles: int) -> None:
        """From none to the most that an engine finds."""
        self._run(tmp_path, example_results(3, n_particles=n_particles))

    @pytest.mark.parametrize("n_frames", [0, 1])
    def test_takes_very_short_runs(self, tmp_path: Path, n_frames: int) -> None:
        """A run may end before its first frame is through."""
        self._run(tmp_path, example_results(n_frames))

    def test_takes_a_movie_of_unknown_length_and_scale(self, tmp_path: Path) -> None:
        """An open-ended acquisition of a camera that was never calibrated."""
        self._run(tmp_path, example_results(5), SourceInfo("camera", (64, 96), "uint16", None, live=True))

    def test_takes_gaps(self, tmp_path: Path) -> None:
        """Lost frames leave gaps in the indices, at the start and in the middle."""
        self._run(tmp_path, [r for r in example_results(12) if r.frame.index not in (0, 5, 6, 7)])

    def test_does_without_the_denoised_image(self, tmp_path: Path) -> None:
        """An engine may have none to give."""
        self._run(tmp_path, [replace(r, denoised=None) for r in example_results(4)], example_source(n_frames=4))

    def test_takes_pixels_that_are_no_numbers(self, tmp_path: Path) -> None:
        """NaN and infinite pixels are masked for the engine, but the frame still has them; some frames only them."""
        results = example_results(3, dtype="float32")
        for result, bad in zip(results, (np.nan, np.inf, -np.inf), strict=True):
            result.frame.pixels.flags.writeable = True
            result.frame.pixels[: 8 * (1 + result.frame.index) ** 2] = bad
        self._run(tmp_path, results, example_source(dtype="float32", n_frames=3))

    def test_takes_any_name_of_a_source(self, tmp_path: Path) -> None:
        """Names are paths as users have them."""
        name = r"D:\data\µm $x_1$ 細胞_{2}/" + 60 * "very long " + "movie.zarr"
        self._run(tmp_path, example_results(2), replace(example_source(), name=name))

    def test_leaves_other_files_alone_and_replaces_its_own(self, tmp_path: Path) -> None:
        """A second run into the same folder gives the files of the first, and no others."""
        (tmp_path / "notes.txt").write_text("mine")
        self._run(tmp_path, example_results())
        first = {path.name for path in tmp_path.iterdir()}
        self._run(tmp_path, example_results(3))
        assert {path.name for path in tmp_path.iterdir()} == first
        assert (tmp_path / "notes.txt").read_text() == "mine"
        assert not [name for name in first if "partial" in name], "temporary files are left behind"

    def test_two_runs_at_once(self, tmp_path: Path) -> None:
        """Sinks of two runs in one process share nothing."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: self._run(tmp_path / name, example_results(4)), "ab"))
        files = [{path.name for path in (tmp_path / name).iterdir()} for name in "ab"]
        assert files[0] == files[1]


def example_source(shape: tuple[int, int] = (64, 96), dtype: str = "uint16", n_frames: int | None = 12) -> SourceInfo:
    """Return the description of a movie such as :func:`example_results` makes."""
    return SourceInfo("example", shape, dtype, n_frames, pixel_size_um=0.1, frame_interval_s=0.05)


def example_results(
    n_frames: int = 12,
    shape: tuple[int, int] = (64, 96),
    dtype: str = "uint16",
    n_particles: int = 8,
    seed: int = 0,
) -> list[FrameResult]:
    """Return results as a run over a movie of Gaussian spots in Brownian motion would give them.

    Every particle is found in every frame. Tracks are confirmed from their third frame on; particle 0 never is, and
    the last detection of each frame is on no track. Arrays are read-only, so that a sink cannot change them unseen.
    """
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 1, (n_frames, n_particles, 2))
    start = rng.uniform(0, 1, (n_particles, 2)) * (np.array(shape) - 1)
    positions = np.abs(start + np.cumsum(steps, axis=0))
    positions = np.minimum(positions, np.array(shape) - 1).astype(np.float32)
    return [_result(index, yx, shape, dtype, rng) for index, yx in enumerate(positions)]


def _result(
    index: int, yx: NDArray[np.float32], shape: tuple[int, int], dtype: str, rng: np.random.Generator
) -> FrameResult:
    clean = 20 + _spots(yx, shape)
    pixels: Pixels = np.clip(rng.poisson(clean), 0, 255).astype(dtype)
    n = len(yx)
    score = np.sort(rng.uniform(0.5, 1, n).astype(np.float32))[::-1]
    particle = np.arange(n)
    particle[n - 1 :] = -1
    existence = np.where((particle > 0) & (index >= 2), 0.99, 0.5).astype(np.float32)
    existence[particle < 0] = 0
    now = monotonic_ns()
    result = FrameResult(
        Frame(index, pixels, now, 0.05 * index),
        Detections(yx[:, 0].copy(), yx[:, 1].copy(), score.copy(), rng.uniform(300, 600, n).astype(np.float32)),
        TrackUpdate(particle, existence, np.empty(0, np.int64), n),
        (),
        Stamps(now, now + 100_000, now + 8_000_000, now + 8_300_000, now + 8_310_000),
        denoised=clean.astype(np.float32),
    )
    _freeze(result)
    return result


def _spots(yx: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float64]:
    y, x = np.arange(shape[0]), np.arange(shape[1])
    profile_y = np.exp(-((y[None] - yx[:, :1]) ** 2) / 4.5)
    profile_x = np.exp(-((x[None] - yx[:, 1:]) ** 2) / 4.5)
    return 80 * np.asarray(profile_y.T @ profile_x, np.float64)


def _freeze(result: FrameResult) -> None:
    d, t = result.detections, result.tracks
    for array in (result.frame.pixels, result.denoised, d.y, d.x, d.score, d.mass, t.particle, t.existence, t.ended):
        if array is not None:
            array.flags.writeable = False
