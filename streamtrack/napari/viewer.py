"""A run in napari, also while it is on."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from streamtrack.errors import ConfigError, StreamtrackError
from streamtrack.napari.layers import Layer
from streamtrack.napari.run_layers import RunLayers

LOOK_MS = 1000
"""How often a run that is on is looked at: it writes down what it has once or twice a second."""
SHARE = 0.2
"""Most of the time that the viewer spends on what is new."""


def open_run(folder: Path, *, follow: bool = True) -> None:
    """Open a run in a window of napari, and return when that is closed.

    Parameters
    ----------
    folder
        The run's.
    follow
        Whether layers of a run that is on grow with it.

    Raises
    ------
    ConfigError
        There is no run, or no napari.
    """
    if find_spec("napari") is None:
        raise ConfigError('napari is not installed: pip install ".[napari]"')
    import napari

    run = RunLayers(folder)
    viewer = napari.Viewer(title=f"{folder.absolute().name} - streamtrack")
    shown = ShownRun(viewer, run)
    shown.look()
    if follow and run.is_on:
        shown.follow()
    napari.run()


class ShownRun:
    """A run in a viewer: what there is of it, and what comes later when it is looked at again.

    Layers that somebody removes stay away, and what somebody set (colours, what is visible) stays.

    Parameters
    ----------
    viewer
        A ``napari.Viewer``, or its model.
    run
        What to show.
    """

    def __init__(self, viewer: Any, run: RunLayers) -> None:
        self._viewer, self._run = viewer, run
        self._layers: dict[str, Any] = {}
        self._n_images = 0
        self._newest: float | None = None
        self._at: float | None = None
        self._timer: Any = None
        self._next_s = 0.0

    def look(self) -> None:
        """Show what there is by now; raises StreamtrackError where a file cannot be read.

        A slider that stands on the newest frame stays on it.
        """
        stays = self._viewer.dims.ndim > 2 and self._viewer.dims.point[0] in (self._at, self._newest)
        layers = self._run.layers()
        for layer in layers:
            self._show(*layer)
        self._newest = _newest(layers)
        self._at = None
        if stays:
            self._to_newest()
        if self._run.remarks:
            self._viewer.status = "; ".join(self._run.remarks)

    def follow(self) -> None:
        """Go to the newest frame, and look until the run is over; needs the event loop of the viewer's window."""
        from qtpy.QtCore import QTimer

        self._to_newest()
        self._timer = QTimer(self._viewer.window._qt_window)
        self._timer.timeout.connect(self._tick)
        self._timer.start(LOOK_MS)

    def _to_newest(self) -> None:
        """Put the slider on the newest frame, or as far as the layers reach that somebody left there."""
        if self._newest is not None:
            self._viewer.dims.set_point(0, self._newest)
        self._at = self._viewer.dims.point[0]

    def _tick(self) -> None:
        began_s = time.monotonic()
        if began_s < self._next_s:
            return
        try:
            goes_on = self._run.is_on
            self.look()
        except StreamtrackError as error:  # a file that is just being replaced
            self._viewer.status = str(error)
        else:
            if not goes_on:
                self._timer.stop()
        now_s = time.monotonic()
        self._next_s = now_s + (now_s - began_s) * (1 - SHARE) / SHARE

    def _show(self, data: Any, settings: dict[str, Any], kind: str) -> None:
        name = settings["name"]
        if name not in self._layers:
            from napari.layers import Layer as NapariLayer

            layer = self._layers[name] = NapariLayer.create(data, settings, kind)
            if kind == "image":  # those that come late, too, lie below the rest
                self._viewer.layers.insert(self._n_images, layer)
                self._n_images += 1
            else:
                self._viewer.add_layer(layer)
        elif self._layers[name] in self._viewer.layers:
            _REFRESH[kind](self._layers[name], data, settings)


def _refresh_image(layer: Any, data: Any, settings: dict[str, Any]) -> None:
    finest = data[0] if isinstance(data, list) else data
    if finest.shape != layer.level_shapes[0].shape:
        layer.data = data


def _refresh_points(layer: Any, data: Any, settings: dict[str, Any]) -> None:
    if not np.array_equal(data, layer.data):
        layer.data = data
        layer.features, layer.size = settings["features"], settings["size"]


def _refresh_tracks(layer: Any, data: Any, settings: dict[str, Any]) -> None:
    if not np.array_equal(data, layer.data):
        colour = layer.color_by
        layer.color_by = "track_id"  # new data have no other property yet
        layer.data = data
        layer.features, layer.graph = settings["features"], settings["graph"]
        layer.color_by = colour if colour in layer.properties_to_color_by else "track_id"


_REFRESH = {"image": _refresh_image, "points": _refresh_points, "tracks": _refresh_tracks}


def _newest(layers: list[Layer]) -> float | None:
    """Return the time of the newest frame in which something was found, or which was recorded; None of no frame."""
    times = {kind: _last(data, kind) * s["scale"][0] + s["translate"][0] for data, s, kind in layers}
    return times.get("points", times.get("image"))


def _last(data: Any, kind: str) -> float:
    """Return the last frame of a layer."""
    if kind == "image":
        return float((data[0] if isinstance(data, list) else data).shape[0] - 1)
    return float(data[:, 0 if kind == "points" else 1].max())
