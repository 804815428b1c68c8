"""The dock widget on the demo camera, its buttons pressed by a program: the live view first, then an acquisition.

dock.py PICTURE
"""

import json
import sys
import threading
import time

import napari
import useq
from demo_beads import core_with_beads
from napari.qt import get_qapp
from pymmcore_plus import CMMCorePlus

from streamtrack_drivers.micromanager.dock_widget import TrackCamera

TIMEOUT_S = 40.0


def until(application, happened):
    give_up = time.monotonic() + TIMEOUT_S
    while not happened():
        assert time.monotonic() < give_up
        application.processEvents()
        time.sleep(0.01)


def main():
    for core in core_with_beads(density=30, exposure_ms=20):
        assert CMMCorePlus.instance() is core
        print(json.dumps(looked_at(core, sys.argv[1])), flush=True)


def looked_at(core, picture):
    application, viewer = get_qapp(), napari.Viewer()
    core.snapImage()
    viewer.add_image(core.getImage(), name="preview")
    _, widget = viewer.window.add_plugin_dock_widget("streamtrack", "Track the camera")
    assert isinstance(widget, TrackCamera)
    widget.toggle()
    core.startContinuousSequenceAcquisition()
    until(application, lambda: "camera tails" in viewer.layers and "image 12" in widget.said)
    core.stopSequenceAcquisition()
    core.run_mda(useq.MDASequence(time_plan={"interval": 0.1, "loops": 20}))
    steps = iter(range(20))

    def over():
        core.setXYPosition(0.8 * (step := next(steps, 20)), 0.5 * step)  # the beads go with the stage
        time.sleep(0.05)
        return not core.mda.is_running()

    until(application, over)
    viewer.window.resize(1180, 760)
    viewer.reset_view()
    until(application, lambda: widget.said.startswith("image"))
    viewer.screenshot(picture, canvas_only=False, flash=False)
    shown = {"layers": {layer.name: len(layer.data) for layer in viewer.layers}, "said": widget.said}
    viewer.window.remove_dock_widget(widget)  # as its cross does
    until(application, lambda: not any(thread.name == "streamtrack-newest" for thread in threading.enumerate()))
    viewer.close()
    return shown


if __name__ == "__main__":
    main()
