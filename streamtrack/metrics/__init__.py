"""Measures of detection, tracking and latency."""
