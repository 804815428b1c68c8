"""Benchmarks, run as ``python -m benchmarks.NAME``; figures come with machine, versions and command."""
