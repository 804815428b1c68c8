from streamtrack.measures.intensity import Intensity
from streamtrack.measures.size import Size
from streamtrack.protocols import Measure
from streamtrack.testing.measures import MeasureTests
from streamtrack_engines.classify.measure import Classify


class TestIntensity(MeasureTests):
    def make_measure(self) -> Measure:
        return Intensity()


class TestSizeByMoments(MeasureTests):
    def make_measure(self) -> Measure:
        return Size(radius_px=4)


class TestSizeByFit(MeasureTests):
    def make_measure(self) -> Measure:
        return Size(method="fit", radius_px=4)


class TestClassify(MeasureTests):
    def make_measure(self) -> Measure:
        return Classify(threads=1)
