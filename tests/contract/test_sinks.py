import pytest

from streamtrack.sinks.denoised import DenoisedSink
from streamtrack.sinks.overview import OverviewSink
from streamtrack.sinks.page import ReportSink
from streamtrack.sinks.position_list import PositionList
from streamtrack.sinks.tables import TableSink
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.testing.sinks import SinkTests
from streamtrack.view.sink import ViewSink


class TestTableSink(SinkTests):
    def make_sink(self):
        return TableSink()


class TestOverviewSink(SinkTests):
    def make_sink(self):
        return OverviewSink()


class TestPositionList(SinkTests):
    def make_sink(self):
        return PositionList(microscope=SimulatedMicroscope())


class TestDenoisedSink(SinkTests):
    def make_sink(self):
        return DenoisedSink()


class TestReportSink(SinkTests):
    def make_sink(self):
        return ReportSink()


class TestViewSink(SinkTests):
    @pytest.fixture(autouse=True)
    def _soon_over(self, monkeypatch):
        """Its server does not wait for a report that never comes."""
        monkeypatch.setattr("streamtrack.view.sink.TOLD_S", 0.0)

    def make_sink(self):
        return ViewSink()
