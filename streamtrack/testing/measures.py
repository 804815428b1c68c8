"""What every measure has to do, as tests.

In the tests of a plug-in::

    class TestMyMeasure(MeasureTests):
        def make_measure(self):
            return MyMeasure()
"""

import inspect
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from streamtrack.protocols import Measure
from streamtrack.testing.engines import DTYPES, SHAPES, SPOTS, example_frame
from streamtrack.types import Detections

FOUND = tuple(spot for spot in SPOTS if spot[0] < 32 and spot[1] < 46)


def found_at(yx: tuple[tuple[float, float], ...] | NDArray[np.float64]) -> Detections:
    """Return detections at places (N, 2), px."""
    table = np.array(yx, np.float32).reshape(-1, 2)
    ones = np.ones(len(table), np.float32)
    detections = Detections(table[:, 0].copy(), table[:, 1].copy(), ones, 500 * ones, 0.2 * ones)
    for column in (detections.y, detections.x, ones):
        column.flags.writeable = False
    return detections


class MeasureTests:
    """Conformance suite for implementations of :class:`streamtrack.protocols.Measure`."""

    def make_measure(self) -> Measure:
        """Return a new measure, not prepared yet, that can measure spots such as those in `example_frame`."""
        raise NotImplementedError("override make_measure: say how your measure is made")

    @pytest.fixture
    def measure(self) -> Measure:
        """Give a measure to a test, prepared for `example_frame`."""
        measure = self.make_measure()
        measure.prepare((64, 96), "uint8")
        return measure

    def _columns(self, measure: Measure, found: Detections, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        return measure.values(measure.measure(example_frame(), found, rows))

    def test_settings_are_annotated_keywords(self) -> None:
        """A plug-in's settings come from its signature."""
        for setting in inspect.signature(type(self.make_measure())).parameters.values():
            assert setting.kind is setting.KEYWORD_ONLY, f"{setting.name} is not keyword-only"
            assert setting.annotation is not setting.empty, f"{setting.name} has no annotation"

    def test_it_says_what_it_measures_before_it_is_prepared(self) -> None:
        """Column names are identifiers, each there once; budget and averaging are said."""
        measure = self.make_measure()
        names = [column.name for column in measure.columns]
        assert names
        assert len(set(names)) == len(names)
        assert all(name.isidentifier() for name in names)
        assert measure.most_per_frame is None or measure.most_per_frame >= 1
        assert isinstance(measure.averages, bool)

    def test_info_goes_into_the_report(self, measure: Measure) -> None:
        """Settings and versions as JSON."""
        assert json.loads(json.dumps(dict(measure.info), allow_nan=False)) is not None

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_values_are_as_documented(self, shape: tuple[int, int], dtype: str) -> None:
        """A row for each particle, a float32 for each column; of a clear spot all are measured."""
        measure = self.make_measure()
        measure.prepare(shape, dtype)
        values = measure.values(measure.measure(example_frame(shape, dtype), found_at(FOUND), np.arange(len(FOUND))))
        assert values.shape == (len(FOUND), len(measure.columns))
        assert values.dtype == np.float32
        assert np.isfinite(values).all()

    def test_classes_are_numbers_of_their_names(self, measure: Measure) -> None:
        """From 0, whole, or NaN."""
        values = self._columns(measure, found_at(SPOTS), np.arange(len(SPOTS)))
        for column, value in zip(measure.columns, values.T, strict=True):
            if column.classes:
                known = value[~np.isnan(value)]
                assert np.isin(known, np.arange(len(column.classes))).all(), column.name

    def test_only_some_are_measured_when_there_is_no_time_for_all(self, measure: Measure) -> None:
        """In the order asked for, and as they would be among all."""
        found = found_at(SPOTS)
        every = self._columns(measure, found, np.arange(len(SPOTS)))
        rows = np.array([3, 0])
        np.testing.assert_allclose(self._columns(measure, found, rows), every[rows], rtol=1e-4)
        assert self._columns(measure, found, rows[:0]).shape == (0, len(measure.columns))

    def test_the_same_frame_gives_the_same_bits(self, measure: Measure) -> None:
        """Again and again; what was given before stays as it was."""
        rows = np.arange(len(SPOTS))
        first = self._columns(measure, found_at(SPOTS), rows)
        kept = first.copy()
        self._columns(measure, found_at(np.array(SPOTS) + 3), rows)
        np.testing.assert_array_equal(self._columns(measure, found_at(SPOTS), rows), kept)
        np.testing.assert_array_equal(first, kept)

    def test_particles_at_and_beyond_the_border_are_taken(self, measure: Measure) -> None:
        """Corners, edges, a pixel outside, and places that are no numbers: measured or NaN, never an error."""
        places = [(0, 0), (63, 95), (-0.5, 40), (30, 95.5), (-1, -1), (64, 96), (np.nan, 10), (1e9, -1e9), (np.inf, 0)]
        values = self._columns(measure, found_at(np.array(places)), np.arange(len(places)))
        assert values.shape == (len(places), len(measure.columns))

    def test_a_crowd_is_taken(self, measure: Measure) -> None:
        """Two thousand particles, many on top of each other."""
        places = np.random.default_rng(0).uniform(0, (63, 95), (2000, 2))
        assert len(self._columns(measure, found_at(places), np.arange(2000))) == 2000

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("level", [0, 255])
    def test_a_frame_without_contrast_is_taken(self, level: int, dtype: str) -> None:
        """Lens cap on, or saturated."""
        measure = self.make_measure()
        measure.prepare((64, 96), dtype)
        seen = measure.measure(np.full((64, 96), level, dtype), found_at(SPOTS), np.arange(len(SPOTS)))
        assert measure.values(seen).shape == (len(SPOTS), len(measure.columns))

    def test_prepares_anew_for_another_movie(self, measure: Measure) -> None:
        """One measure serves one shape and dtype after another."""
        rows = np.arange(len(FOUND))
        for shape, dtype in zip(SHAPES, DTYPES, strict=True):
            measure.prepare(shape, dtype)
            measure.measure(example_frame(shape, dtype), found_at(FOUND), rows)
