"""Conformance suites for plug-ins, and a clock for tests."""
