"""A dock widget for napari and napari-micromanager: what the camera sees, tracked while one looks.

It takes the images of the core that everybody shares, ``CMMCorePlus.instance()``: those of the live view and those of a
running acquisition. It moves and writes nothing. For results, use `streamtrack_drivers.micromanager.MdaTap`.
"""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymmcore_plus import CMMCorePlus
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDoubleSpinBox, QFormLayout, QLabel, QPushButton, QWidget

from streamtrack.types import FrameResult
from streamtrack_drivers.micromanager.newest_tracked import NewestTracked

LOOK_MS = 50
TAIL_FRAMES = 20


class TrackCamera(QWidget):  # type: ignore[misc]
    """Start and stop, a threshold, and layers with the particles and tails of the newest image.

    Parameters
    ----------
    napari_viewer
        Where to show them.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer, self._core = napari_viewer, CMMCorePlus.instance()
        self._newest: NewestTracked | None = None
        self._tails: dict[int, deque[tuple[float, float]]] = {}
        self._seen: dict[int, int] = {}
        """In which image each track was seen last: others may have ended in images that were passed over."""
        self._live_number: Any = None
        self._button = QPushButton("Start")
        self._threshold = QDoubleSpinBox(minimum=0.01, maximum=0.99, singleStep=0.05, value=0.5)
        self._said = QLabel("live view, or an acquisition")
        layout = QFormLayout(self)
        layout.addRow(self._button)
        layout.addRow("Threshold", self._threshold)
        layout.addRow(self._said)
        self._button.clicked.connect(self.toggle)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._look)

    @property
    def said(self) -> str:
        """What the widget says below its buttons."""
        return str(self._said.text())

    @property
    def threshold(self) -> float:
        """The score from which something is a particle; holds from the next image on."""
        return float(self._threshold.value())

    @threshold.setter
    def threshold(self, value: float) -> None:
        self._threshold.setValue(value)

    def toggle(self) -> None:
        """Start to track, or stop."""
        if self._newest is not None:
            self._timer.stop()
            self._core.mda.events.frameReady.disconnect(self._newest.take_event)
            self._newest.close()
            self._newest = None
        else:
            self._newest = NewestTracked()
            self._core.mda.events.frameReady.connect(self._newest.take_event)
            self.destroyed.connect(self._newest.close)
            self._tails.clear()
            self._seen.clear()
            self._timer.start(LOOK_MS)
        self._button.setText("Start" if self._newest is None else "Stop")

    def _look(self) -> None:
        if self.isWindow() and not self.isVisible():  # closed, or taken out of napari's window
            self.toggle()
        newest = self._newest
        if newest is None:
            return
        newest.threshold = self.threshold
        if self._core.isSequenceRunning() and not self._core.mda.is_running() and self._core.getRemainingImageCount():
            image, about = self._core.getLastImageAndMD()
            number = about.get("ImageNumber")
            if number != self._live_number:
                self._live_number = number
                newest.take(image)
        result, newest.result = newest.result, None
        if newest.error:
            self._said.setText(newest.error)
        elif result is not None:
            self._show(result)

    def _show(self, result: FrameResult) -> None:
        found, tracks = result.detections, result.tracks
        pixel, index = self._core.getPixelSizeUm() or 1.0, result.frame.index
        for particle, y, x in zip(tracks.particle.tolist(), found.y.tolist(), found.x.tolist(), strict=True):
            if particle >= 0:
                self._tails.setdefault(particle, deque(maxlen=TAIL_FRAMES)).append((y, x))
                self._seen[particle] = index
        for gone in [each for each, last in self._seen.items() if not 0 <= index - last < TAIL_FRAMES]:
            del self._seen[gone], self._tails[gone]
        places = [np.array(tail) for tail in self._tails.values() if len(tail) > 1]
        steps = [np.stack([tail[:-1], np.diff(tail, axis=0)], axis=1) for tail in places]
        vectors = np.concatenate([np.empty((0, 2, 2)), *steps])
        rings = {"size": 9, "face_color": "transparent", "border_color": "#ffd000", "border_width": 0.12}
        self._put("tails", "vectors", vectors, pixel, {"edge_width": 0.7, "vector_style": "line"})
        self._put("particles", "points", np.column_stack([found.y, found.x]), pixel, rings)
        self._said.setText(f"image {index}: {len(found)} particles, {tracks.n_live} tracks")

    def _put(self, name: str, kind: str, data: NDArray[Any], pixel: float, look: dict[str, Any]) -> None:
        name = f"camera {name}"
        if name in self._viewer.layers:
            self._viewer.layers[name].data = data
            self._viewer.layers[name].scale = (pixel, pixel)
        else:
            getattr(self._viewer, f"add_{kind}")(data, name=name, scale=(pixel, pixel), **look)
