"""Conformance suites for plug-ins, and a clock for tests.

Derive a test class from ``streamtrack.testing.sources.SourceTests``, ``.engines.EngineTests``,
``.linkers.LinkerTests`` or ``.sinks.SinkTests``, say how your plug-in is made, and run pytest.
"""

from streamtrack.testing.clock import FakeClock

__all__ = ["FakeClock"]
