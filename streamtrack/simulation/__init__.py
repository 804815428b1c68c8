"""Simulated movies with ground truth."""

from streamtrack.simulation.movie import Movie, MovieSettings, ground_truth
from streamtrack.simulation.scenarios import ScenarioName

__all__ = ["Movie", "MovieSettings", "ScenarioName", "ground_truth"]
