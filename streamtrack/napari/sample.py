"""Sample data: a small simulated movie with the tracks that were found in it."""

from streamtrack.api import simulate, track
from streamtrack.napari.layers import Layer, World, detections_layer, image_layer, tracks_layer


def demo() -> list[Layer]:
    """Simulate a movie and track it; return the movie, detections and tracks as layers."""
    movie = simulate("receptor", snr=4, density=200, frames=50, size=256, seed=2026).movie
    found = track(movie, progress=False)
    world = World()
    layers = (detections_layer(found.detections, world), tracks_layer(found.tracks, world))
    return [image_layer(movie, world, "simulated receptors", movie[0]), *(layer for layer in layers if layer)]
