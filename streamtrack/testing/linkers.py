"""What every linker has to do, as tests.

In the tests of a plug-in::

    class TestMyLinker(LinkerTests):
        def make_linker(self):
            return MyLinker()
"""

import inspect
import json

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from streamtrack.errors import LinkerError
from streamtrack.protocols import Linker
from streamtrack.types import CONFIRMED, Detections, TrackUpdate

SHAPE = (120, 160)


def detections_at(positions: ArrayLike) -> Detections:
    """Return detections at positions of shape (N, 2): y, x in px; sure of them, equally bright, right to 0.3 px."""
    table = np.asarray(positions, np.float32).reshape(-1, 2)
    ones = np.ones(len(table), np.float32)
    return Detections(table[:, 0].copy(), table[:, 1].copy(), ones, ones, np.full(len(table), 0.3, np.float32))


class LinkerTests:
    """Conformance suite for implementations of :class:`streamtrack.protocols.Linker`.

    The linker has to follow particles 20 px apart that move by less than 1 px a frame, over images of 120 x 160 px
    and up to 30 detections; how it fares in a crowd is its own affair.
    """

    def make_linker(self) -> Linker:
        """Return a new linker, not yet prepared."""
        raise NotImplementedError("override make_linker: say how your linker is made")

    @pytest.fixture
    def linker(self) -> Linker:
        """Return a prepared linker."""
        linker = self.make_linker()
        linker.prepare(SHAPE)
        return linker

    def test_every_detection_gets_a_track_at_first(self, linker: Linker) -> None:
        """Without a past, each detection starts a track of its own."""
        update = linker.update(detections_at(_apart()), 0, 0.0)
        assert (update.particle >= 0).all()
        assert update.n_live == len(np.unique(update.particle)) == len(_apart())
        assert sorted(update.started) == sorted(update.particle)
        assert len(update.ended) == len(update.revised) == 0

    def test_the_first_index_is_free(self, linker: Linker) -> None:
        """A part of a movie may begin at any frame."""
        assert linker.update(detections_at(_apart()), 1000, 1000.0).n_live == len(_apart())

    def test_separate_particles_keep_their_tracks(self, linker: Linker) -> None:
        """The order of detections means nothing."""
        rng = np.random.default_rng(1)
        position = _apart()
        track_of: dict[int, int] = {}
        for index in range(20):
            order = rng.permutation(len(position))
            update = linker.update(detections_at(position[order]), index, float(index))
            for particle, track in zip(order, update.particle, strict=True):
                assert track_of.setdefault(particle, track) == track
            position = position + rng.uniform(-0.5, 0.5, position.shape)

    def test_what_stays_is_confirmed(self, linker: Linker) -> None:
        """A particle seen in ten frames is confirmed, which is told once; one seen once is not."""
        updates = [linker.update(detections_at(_apart()), index, float(index)) for index in range(10)]
        assert (updates[0].existence < CONFIRMED).all()
        assert (updates[-1].existence >= CONFIRMED).all()
        assert sorted(np.concatenate([update.confirmed for update in updates])) == sorted(updates[-1].particle)

    def test_empty_movie(self, linker: Linker) -> None:
        """Nothing in, nothing out."""
        for index in range(100):
            update = linker.update(Detections.empty(), index, float(index))
            assert (len(update.particle), len(update.ended), update.n_live) == (0, 0, 0)

    def test_gone_particles_end_once_and_for_all(self, linker: Linker) -> None:
        """After a long darkness no track is left, and what appears then is new."""
        before = linker.update(detections_at(_apart()), 0, 0.0).particle
        dark = [linker.update(Detections.empty(), index, float(index)) for index in range(1, 300)]
        assert sorted(np.concatenate([update.ended for update in dark])) == sorted(before)
        assert dark[-1].n_live == 0
        assert not np.isin(linker.update(detections_at(_apart()), 300, 300.0).particle, before).any()

    def test_a_long_gap_leaves_no_ghosts(self, linker: Linker) -> None:
        """Nobody can tell who is who after 10,000 lost frames."""
        before = linker.update(detections_at(_apart()), 0, 0.0).particle
        after = linker.update(detections_at(_apart()), 10_000, 10_000.0)
        assert sorted(after.ended) == sorted(before)
        assert not np.isin(after.particle, before).any()
        assert after.n_live == len(_apart())

    @pytest.mark.parametrize("index", [7, 3])
    def test_an_index_that_does_not_rise_is_refused(self, linker: Linker, index: int) -> None:
        """The error names both frames; the linker goes on with the next good one."""
        before = linker.update(detections_at(_apart()), 7, 7.0)
        with pytest.raises(LinkerError, match=rf"\b{index}\b.*\b7\b"):
            linker.update(detections_at(_apart()), index, float(index))
        after = linker.update(detections_at(_apart()), 8, 8.0)
        np.testing.assert_array_equal(after.particle, before.particle)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_detections_without_a_place_get_no_track(self, linker: Linker, bad: float) -> None:
        """They are left alone, and disturb no other."""
        good = linker.update(detections_at(_apart()), 0, 0.0).particle
        update = linker.update(detections_at([[bad, 5.0], *_apart(), [5.0, bad]]), 1, 1.0)
        assert update.particle[0] == update.particle[-1] == -1
        assert update.existence[0] == update.existence[-1] == 0.0
        np.testing.assert_array_equal(update.particle[1:-1], good)
        assert update.n_live == len(good)

    def test_detections_outside_the_image_get_no_track(self, linker: Linker) -> None:
        """But up to a pixel beyond the border they do, as sub-pixel positions may lie there."""
        edge = [[-1.0, 40.0], [float(SHAPE[0]), float(SHAPE[1])]]
        outside = [[-3.0, 40.0], [SHAPE[0] + 3.0, 40.0], [40.0, SHAPE[1] + 30.0], [-1e6, 1e6]]
        update = linker.update(detections_at(edge + outside), 0, 0.0)
        assert (update.particle[:2] >= 0).all()
        assert (update.particle[2:] == -1).all()
        assert (update.existence[2:] == 0).all()
        assert update.n_live == 2

    def test_the_books_balance(self, linker: Linker) -> None:
        """In a random scene: documented form; no id twice in a frame, after its end or out of nothing; none lost."""
        seen: set[int] = set()
        gone: set[int] = set()
        for index, detections in enumerate(_random_scene()):
            update = linker.update(detections, index, float(index))
            _check_form(update, len(detections))
            assert not seen & set(update.started.tolist())
            seen |= set(update.started.tolist())
            said = {*update.particle.tolist(), *update.confirmed.tolist(), *update.ended.tolist()}
            assert said <= seen - gone
            gone |= set(update.ended.tolist())
            assert update.n_live == len(seen) - len(gone)

    def test_revisions_keep_to_what_is_not_final(self, linker: Linker) -> None:
        """They name detections that exist, of frames that were not settled, and leave no track two of one frame."""
        tracks: list[NDArray[np.int64]] = []
        final = -1
        for index, detections in enumerate(_random_scene()):
            update = linker.update(detections, index, float(index))
            tracks.append(update.particle.copy())
            assert (update.revised.frame_index > final).all()
            assert (update.revised.frame_index < index).all()
            for n in range(len(update.revised)):
                tracks[update.revised.frame_index[n]][update.revised.detection[n]] = update.revised.particle[n]
            assert final <= update.final_index <= index
            final = update.final_index
        assert all(len(np.unique(each)) == len(each) for each in tracks)
        assert final > 0

    def test_same_input_same_tracks(self) -> None:
        """Two linkers fed in turn give the same, and do not know of each other."""
        linkers = [self.make_linker() for _ in range(2)]
        for linker in linkers:
            linker.prepare(SHAPE)
        for index, detections in enumerate(_random_scene()):
            one, other = (linker.update(detections, index, float(index)) for linker in linkers)
            np.testing.assert_array_equal(one.particle, other.particle)
            np.testing.assert_array_equal(one.existence, other.existence)
            np.testing.assert_array_equal(one.ended, other.ended)

    def test_prepare_starts_over(self, linker: Linker) -> None:
        """A prepared linker is as new, whatever it did before."""
        first = linker.update(detections_at(_apart()), 5, 5.0)
        linker.prepare(SHAPE)
        again = linker.update(detections_at(_apart()), 0, 0.0)
        np.testing.assert_array_equal(again.particle, first.particle)
        assert len(again.ended) == 0

    def test_arrays_belong_to_whom_they_were_given(self, linker: Linker) -> None:
        """The linker writes neither into the detections nor into an update that it gave away."""
        detections = detections_at(_apart())
        for array in (detections.y, detections.x, detections.score, detections.mass):
            array.setflags(write=False)
        update = linker.update(detections, 0, 0.0)
        particle, existence = update.particle.copy(), update.existence.copy()
        for index in range(1, 5):
            linker.update(detections, index, float(index))
        np.testing.assert_array_equal(update.particle, particle)
        np.testing.assert_array_equal(update.existence, existence)

    def test_info_goes_into_the_report(self, linker: Linker) -> None:
        """The report is JSON, and is also written when not one frame came."""
        assert json.loads(json.dumps(dict(linker.info), allow_nan=False))
        linker.update(detections_at(_apart()), 0, 0.0)
        assert json.loads(json.dumps(dict(linker.info), allow_nan=False))

    def test_settings_are_keywords_with_types_and_defaults(self, linker: Linker) -> None:
        """A linker is chosen by its name alone, and its settings are checked before it is made."""
        for setting in inspect.signature(type(linker)).parameters.values():
            assert setting.kind is setting.KEYWORD_ONLY, f"{setting.name} is not keyword-only"
            assert setting.annotation is not setting.empty, f"{setting.name} has no annotation"
            assert setting.default is not setting.empty, f"{setting.name} has no default"


def _apart() -> NDArray[np.float64]:
    y, x = np.meshgrid(np.arange(20, SHAPE[0] - 10, 25), np.arange(20, SHAPE[1] - 10, 25), indexing="ij")
    return np.column_stack((y.ravel(), x.ravel())).astype(np.float64)


def _random_scene() -> list[Detections]:
    rng = np.random.default_rng(2)
    steady = rng.uniform(0, SHAPE, (10, 2))
    frames = []
    for _ in range(60):
        steady = np.clip(steady + rng.normal(0, 1.0, steady.shape), 0, np.array(SHAPE) - 1)
        seen = steady[rng.random(len(steady)) < 0.8]
        frames.append(detections_at(np.concatenate((seen, rng.uniform(0, SHAPE, (rng.integers(20), 2))))))
    return frames


def _check_form(update: TrackUpdate, n_detections: int) -> None:
    assert update.particle.shape == update.existence.shape == (n_detections,)
    for ids in (update.particle, update.started, update.confirmed, update.ended, update.revised.particle):
        assert ids.dtype == np.int64
    assert update.existence.dtype == np.float32
    assert ((update.existence >= 0) & (update.existence <= 1)).all()
    assert len(np.unique(update.particle)) == n_detections
    assert (update.particle >= 0).all()
