"""Conformance suites for plug-ins, and a clock for tests.

Derive a test class from ``streamtrack.testing.sources.SourceTests``, ``.engines.EngineTests``,
``.linkers.LinkerTests``, ``.triggers.TriggerTests``, ``.microscopes.MicroscopeTests``, ``.actuators.ActuatorTests`` or
``.sinks.SinkTests``, say how your plug-in is made, and run pytest.
``.microscope.SimulatedMicroscope`` is a microscope without hardware.
"""

from streamtrack.testing.clock import FakeClock

__all__ = ["FakeClock"]
