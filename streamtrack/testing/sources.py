"""What every frame source has to do, as tests.

In the tests of a plug-in::

    class TestMySource(SourceTests):
        def make_source(self, tmp_path):
            return MySource(path=write_a_movie(tmp_path))

A movie of 4 to 50 frames shows everything; of a longer or open-ended one, the first ``max_frames`` are looked at.
"""

import inspect
import json
import threading
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np

from streamtrack.clock import monotonic_ns
from streamtrack.protocols import ByIndex, FrameSource
from streamtrack.types import Frame, LostFrame, SourceInfo
from streamtrack.waiting import joined_within, set_within


class SourceTests:
    """Conformance suite for implementations of :class:`streamtrack.protocols.FrameSource`.

    Attributes
    ----------
    max_frames
        How many frames are looked at.
    timeout_s
        How long ``frames()`` may take to end after ``close()``.
    """

    max_frames = 50
    timeout_s = 10.0

    def make_source(self, tmp_path: Path) -> FrameSource:
        """Return a new source. Called several times in one test: the movie has to be the same if it is not live."""
        raise NotImplementedError("override make_source: say how your source is made")

    def _take(self, tmp_path: Path) -> tuple[SourceInfo, list[Frame | LostFrame]]:
        with closing(self.make_source(tmp_path)) as source:
            return source.info, list(islice(source.frames(), self.max_frames))

    def test_settings_are_annotated_keywords(self, tmp_path: Path) -> None:
        """A plug-in's settings come from its signature."""
        with closing(self.make_source(tmp_path)) as source:
            settings = inspect.signature(type(source)).parameters.values()
        for setting in settings:
            assert setting.kind is setting.KEYWORD_ONLY, f"{setting.name} is not keyword-only"
            assert setting.annotation is not setting.empty, f"{setting.name} has no annotation"

    def test_info_is_known_before_the_first_frame(self, tmp_path: Path) -> None:
        """Engines and linkers are prepared with it; details go into the report as JSON."""
        with closing(self.make_source(tmp_path)) as source:
            info = source.info
        assert info.name
        assert len(info.shape) == 2
        assert min(info.shape) >= 32, "frames are at least 32 x 32 px"
        assert info.dtype in ("uint8", "uint16", "float32")
        assert info.n_frames is None or info.n_frames > 0
        assert info.clock in ("nominal", "camera", "host")
        for quantity in (info.pixel_size_um, info.frame_interval_s):
            assert quantity is None or 0 < quantity < np.inf, "unknown is None"
        json.dumps(dict(info.details), allow_nan=False)

    def test_frames_are_as_announced(self, tmp_path: Path) -> None:
        """Shape and dtype as in the info, C-contiguous; a lost frame has its cause on one line."""
        info, items = self._take(tmp_path)
        assert any(isinstance(item, Frame) for item in items), "not one frame came"
        for item in items:
            if isinstance(item, Frame):
                assert item.pixels.shape == info.shape
                assert item.pixels.dtype == np.dtype(info.dtype), "also the byte order must be native"
                assert item.pixels.flags.c_contiguous
            else:
                assert isinstance(item, LostFrame)
                assert len(item.cause.splitlines()) == 1, f"not one line: {item.cause!r}"

    def test_every_frame_comes_once_and_in_order(self, tmp_path: Path) -> None:
        """Indices rise from 0 or above, and lost frames count."""
        info, items = self._take(tmp_path)
        indices = [item.index for item in items]
        assert indices == sorted(set(indices))
        assert indices[0] >= 0
        if info.n_frames is not None:
            assert len(items) == min(info.n_frames, self.max_frames)

    def test_times_rise(self, tmp_path: Path) -> None:
        """Exposure times rise; ``grabbed_ns`` is read from the loop's clock when the pixels are there."""
        before_ns = monotonic_ns()
        info, items = self._take(tmp_path)
        frames = [item for item in items if isinstance(item, Frame)]
        times_s = [frame.time_s for frame in frames]
        stamps_ns = [before_ns, *(frame.grabbed_ns for frame in frames), monotonic_ns()]
        assert all(np.diff(times_s) > 0)
        assert stamps_ns == sorted(stamps_ns)
        if info.clock == "nominal":
            interval_s = info.frame_interval_s or 1.0
            np.testing.assert_allclose(times_s, [frame.index * interval_s for frame in frames])

    def test_frames_handed_over_are_left_alone(self, tmp_path: Path) -> None:
        """A source that re-uses its buffer would change frames that are still in the queue."""
        with closing(self.make_source(tmp_path)) as source:
            items = islice(source.frames(), self.max_frames)
            kept = [(item, item.pixels.copy()) for item in items if isinstance(item, Frame)]
        for frame, pixels in kept:
            np.testing.assert_array_equal(frame.pixels, pixels, f"frame {frame.index} changed")

    def test_a_replay_gives_the_same_frames(self, tmp_path: Path) -> None:
        """What is not live can be run again, with the same outcome."""
        info, first = self._take(tmp_path)
        _, second = self._take(tmp_path)
        if info.live:
            return
        assert [(type(item), item.index) for item in first] == [(type(item), item.index) for item in second]
        for one, other in zip(first, second, strict=True):
            if isinstance(one, Frame) and isinstance(other, Frame):
                np.testing.assert_array_equal(one.pixels, other.pixels)

    def test_frames_are_the_same_out_of_turn(self, tmp_path: Path) -> None:
        """One that gives any frame gives the same ones, in whatever order."""
        _, items = self._take(tmp_path)
        with closing(self.make_source(tmp_path)) as source:
            if not isinstance(source, ByIndex):
                return
            assert {item.index for item in items if isinstance(item, Frame)} <= set(source.indices())
            for item in reversed(items):
                if item.index in source.indices():
                    again = source.frame_at(item.index)
                    assert (type(again), again.index) == (type(item), item.index)
                    if isinstance(again, Frame) and isinstance(item, Frame):
                        np.testing.assert_array_equal(again.pixels, item.pixels)

    def test_close_twice(self, tmp_path: Path) -> None:
        """Also without ever having asked for a frame."""
        source = self.make_source(tmp_path)
        source.close()
        source.close()

    def test_close_from_another_thread_ends_the_frames(self, tmp_path: Path) -> None:
        """A running ``frames()`` ends soon after ``close()``, without an exception."""
        source = self.make_source(tmp_path)
        started, closed = threading.Event(), threading.Event()
        outcome: list[object] = []

        def consume() -> None:
            try:
                frames = iter(source.frames())
                next(frames)
                started.set()
                set_within(closed, self.timeout_s)
                outcome.append(sum(1 for _ in frames))
            except Exception as error:  # shown by the assertion below
                outcome.append(error)

        thread = threading.Thread(target=consume, daemon=True)
        thread.start()
        assert set_within(started, self.timeout_s), f"no first frame: {outcome}"
        source.close()
        closed.set()
        joined_within(thread, self.timeout_s)
        assert not thread.is_alive(), "frames() did not end after close()"
        assert isinstance(outcome[0], int), f"frames() raised after close(): {outcome[0]!r}"
        n_frames = source.info.n_frames
        assert n_frames is None or n_frames < 4 or outcome[0] < n_frames - 1, "close() did not stop the frames"

    def test_close_while_a_frame_is_being_read(self, tmp_path: Path) -> None:
        """The reading thread and the closing one do not get in each other's way."""
        source = self.make_source(tmp_path)
        started = threading.Event()
        errors: list[Exception] = []

        def consume() -> None:
            try:
                for _ in source.frames():
                    started.set()
            except Exception as error:  # shown by the assertion below
                errors.append(error)

        thread = threading.Thread(target=consume, daemon=True)
        thread.start()
        set_within(started, self.timeout_s)
        source.close()
        joined_within(thread, self.timeout_s)
        assert not thread.is_alive(), "frames() did not end after close()"
        assert not errors, f"frames() raised: {errors[0]!r}"
