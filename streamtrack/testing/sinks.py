"""What every sink has to do, as tests, and results to feed to one.

In the tests of a plug-in::

    class TestMySink(SinkTests):
        def make_sink(self):
            return MySink(...)
"""

import inspect
import shutil
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
from streamtrack.types import (
    Detections,
    Frame,
    FrameResult,
    Pixels,
    Revision,
    SourceInfo,
    Stamps,
    TrackMotion,
    TrackUpdate,
)
from streamtrack.waiting import done_within

_INTERVAL_S = 0.05


class SinkTests:
    """Conformance suite for implementations of :class:`streamtrack.protocols.Sink`."""

    def make_sink(self) -> Sink:
        """Return a new sink, not yet open."""
        raise NotImplementedError("override make_sink: say how your sink is made")

    def _run(self, folder: Path, results: Iterable[FrameResult], source: SourceInfo | None = None) -> None:
        """Run a sink as the loop does: opened and asked by one thread, written and closed by another."""
        folder.mkdir(exist_ok=True)
        sink = self.make_sink()
        for name in sink.files:
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).unlink(missing_ok=True)
        sink.open(folder, source or example_source())
        asked = [r if sink.wants_denoised(r.frame.index) else replace(r, denoised=None) for r in results]

        def write_and_close() -> None:
            for result in asked:
                sink.write(result)
            sink.close()

        with ThreadPoolExecutor(1) as worker:
            written = worker.submit(write_and_close)
            assert done_within(written, 60), "write() or close() did not return"
            written.result(0)

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

    def test_takes_revisions_of_frames_that_it_never_got(self, tmp_path: Path) -> None:
        """A sink that falls behind a camera misses results; later ones may still revise them."""
        results = example_results(12)
        kept = [r for r in results if r.frame.index not in (3, 9)]
        assert {3, 9} <= {index for r in kept for index in r.tracks.revised.frame_index.tolist()}
        self._run(tmp_path, kept)

    def test_takes_tracks_that_are_settled_at_the_very_end(self, tmp_path: Path) -> None:
        """A linker may decide late, and then on everything; the frame that says so may be an empty one."""
        *results, last = [replace(r, tracks=replace(r.tracks, final_index=-1)) for r in example_results(100)]
        frame, detection = np.repeat(np.arange(99), 8), np.tile(np.arange(8), 99)
        everything = Revision(frame, detection, detection + 100, np.full(len(frame), 0.99, np.float32))
        nothing = example_results(1, n_particles=0)[0]
        tracks = replace(nothing.tracks, revised=everything, final_index=99)
        self._run(tmp_path, [*results, replace(last, detections=nothing.detections, tracks=tracks)])

    def test_does_without_motion_and_revisions(self, tmp_path: Path) -> None:
        """A simple linker says nothing of either."""
        results = example_results(12)
        plain = [replace(r.tracks, revised=Revision.none(), motion=None, final_index=r.frame.index) for r in results]
        self._run(tmp_path, [replace(r, tracks=tracks) for r, tracks in zip(results, plain, strict=True)])

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

    def test_names_every_file_that_it_writes(self, tmp_path: Path) -> None:
        """A run refuses to write over these, and ``--overwrite`` removes them; each is a name, not a path."""
        self._run(tmp_path, example_results())
        names = self.make_sink().files
        assert all(Path(name).name == name.removesuffix("/") for name in names)
        assert {f"{path.name}{'/' * path.is_dir()}" for path in tmp_path.iterdir()} <= set(names)

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
    return SourceInfo("example", shape, dtype, n_frames, pixel_size_um=0.1, frame_interval_s=_INTERVAL_S)


def example_results(
    n_frames: int = 12,
    shape: tuple[int, int] = (64, 96),
    dtype: str = "uint16",
    n_particles: int = 8,
    seed: int = 0,
) -> list[FrameResult]:
    """Return results as a run over a movie of Gaussian spots in Brownian motion would give them.

    Every particle is found in every frame, particle k as detection k. Tracks are confirmed from their third frame on;
    particle 0 never is, and the last detection of each frame is on no track. In frames 3 and 4 of every five, particles
    1 and 2 are taken for each other, which the next frame, if there is one, revises. Arrays are read-only, so that a
    sink cannot change them unseen.
    """
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 1, (n_frames, n_particles, 2))
    start = rng.uniform(0, 1, (n_particles, 2)) * (np.array(shape) - 1)
    positions = np.abs(start + np.cumsum(steps, axis=0))
    positions = np.minimum(positions, np.array(shape) - 1).astype(np.float32)
    return [_result(positions[: index + 1], shape, dtype, rng) for index in range(n_frames)]


def _result(path: NDArray[np.float32], shape: tuple[int, int], dtype: str, rng: np.random.Generator) -> FrameResult:
    index = len(path) - 1
    clean = 20 + _spots(path[-1], shape)
    pixels: Pixels = np.clip(rng.poisson(clean), 0, 255).astype(dtype)
    now = monotonic_ns()
    result = FrameResult(
        Frame(index, pixels, now, _INTERVAL_S * index),
        _detections(path[-1], rng),
        _tracks(path, rng),
        (),
        Stamps(now, now + 100_000, now + 8_000_000, now + 8_300_000, now + 8_300_000, now + 8_310_000),
        denoised=clean.astype(np.float32),
    )
    _freeze(result)
    return result


def _spots(yx: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float64]:
    y, x = np.arange(shape[0]), np.arange(shape[1])
    profile_y = np.exp(-((y[None] - yx[:, :1]) ** 2) / 4.5)
    profile_x = np.exp(-((x[None] - yx[:, 1:]) ** 2) / 4.5)
    return 80 * np.asarray(profile_y.T @ profile_x, np.float64)


def _detections(yx: NDArray[np.float32], rng: np.random.Generator) -> Detections:
    score, mass, sigma = rng.uniform((0.5, 300, 0.1), (1, 600, 1), (len(yx), 3)).astype(np.float32).T.copy()
    return Detections(yx[:, 0].copy(), yx[:, 1].copy(), np.sort(score)[::-1].copy(), mass, sigma)


def _tracks(path: NDArray[np.float32], rng: np.random.Generator) -> TrackUpdate:
    index, n = len(path) - 1, path.shape[1]
    particle = np.arange(n)
    particle[n - 1 :] = -1
    existence = np.where((particle > 0) & (index >= 2), 0.99, 0.5).astype(np.float32)
    existence[particle < 0] = 0
    if n > 3 and index % 5 >= 3:
        particle[1:3] = 2, 1
        existence[1:3] = 0.9
    none = np.empty(0, np.int64)
    started, confirmed = (particle[:-1] if index == 0 else none), (particle[1:-1] if index == 2 else none)
    return TrackUpdate(
        particle, existence, started, confirmed, none, max(n - 1, 0), index - 2, _revision(index, n), _motion(path, rng)
    )


def _revision(index: int, n_particles: int) -> Revision:
    """Return that detections 1 and 2 of the two frames before are particles 1 and 2 after all."""
    if n_particles <= 3 or index % 5 or index == 0:
        return Revision.none()
    detection = np.array([1, 2, 1, 2])
    return Revision(np.repeat([index - 2, index - 1], 2), detection, detection.copy(), np.full(4, 0.99, np.float32))


def _motion(path: NDArray[np.float32], rng: np.random.Generator) -> TrackMotion:
    """Return numbers of the right size; only age and displacement are the true ones."""
    age, n = len(path) - 1, path.shape[1]
    diffusion = rng.uniform(5, 15, (n,)).astype(np.float32)
    if age == 0:
        diffusion[:] = np.nan
    return TrackMotion(
        np.full(n, age),
        np.hypot(*(path[-1] - path[0]).T),
        rng.normal(0, 5, (n, 2)).astype(np.float32),
        rng.dirichlet((8, 1, 1), n).astype(np.float32),
        diffusion,
    )


def _freeze(result: FrameResult) -> None:
    tracks = result.tracks
    for part in (result, result.frame, result.detections, tracks, tracks.revised, tracks.motion):
        for name in getattr(part, "__slots__", ()):
            value = getattr(part, name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
