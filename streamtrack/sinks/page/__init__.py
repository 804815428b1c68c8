"""A run as one page: ``report.html``."""

from streamtrack.sinks.page.sink import ReportSink

__all__ = ["ReportSink"]
