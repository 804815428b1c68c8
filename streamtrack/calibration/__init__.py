"""Measures what a run has to know of the microscope."""
