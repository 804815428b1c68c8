"""Actuators: what carries commands out, behind the limits of the run."""
