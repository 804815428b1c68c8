"""A run in napari's window, as ``streamtrack view FOLDER --napari`` opens it, looked at by a program.

    window.py FOLDER PICTURE [N_FRAMES]

When so many images are there, and particles in the last, it takes the picture, says what it shows, and closes.
"""

import json
import sys
import time
from pathlib import Path

import napari
from napari.qt import get_qapp
from qtpy.QtCore import QTimer

from streamtrack.napari.viewer import open_run

TIMEOUT_S = 60.0


def main():
    folder, picture, *wanted = sys.argv[1:]
    n_frames, give_up = int(*wanted or (0,)), time.monotonic() + TIMEOUT_S

    def look():
        viewer = napari.current_viewer()
        if viewer is None:
            return
        shown = viewer.layers["detections"].data[:, 0].max() + 1 if "detections" in viewer.layers else -1
        images = viewer.layers["raw"].data.shape[0] if "raw" in viewer.layers else 0
        if min(shown, images) < n_frames and time.monotonic() < give_up:
            return
        timer.stop()
        viewer.reset_view()
        QTimer.singleShot(500, close)

    def close():
        viewer = napari.current_viewer()
        viewer.window.resize(1180, 760)
        viewer.screenshot(picture, canvas_only=False, flash=False)
        layers = {layer.name: int(layer.data.shape[0]) for layer in viewer.layers}
        print(json.dumps({"layers": layers, "at": float(viewer.dims.point[0])}), flush=True)
        viewer.close()

    application = get_qapp()
    timer = QTimer(application)
    timer.timeout.connect(look)
    timer.start(100)
    open_run(Path(folder))


if __name__ == "__main__":
    main()
