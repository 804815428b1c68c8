"""Track what a pycromanager script acquires, while it acquires it: three more lines in a script that you have.

    python examples/pycromanager_tap.py            # a running Micro-Manager, its pycro-manager server switched on
    python examples/pycromanager_tap.py --demo     # pycromanager's own core with the demo camera, no Micro-Manager

The tracks are in ``tap-results/tracks.csv`` when the acquisition is over, and grow while it runs.
"""

import sys
from pathlib import Path

from pycromanager import Acquisition, Core, multi_d_acquisition_events, start_headless

from streamtrack.config import RunConfig
from streamtrack_drivers.micromanager import Tap

RUN = RunConfig()  # or the path of a TOML file: engine, linker, triggers, actuators, limits
OUT = Path("tap-results")


def main() -> None:
    """Acquire 100 frames and track them."""
    if "--demo" in sys.argv:
        start_demo_camera()
    with Tap(RUN, out=OUT, core=Core(), overwrite=True) as tap:
        with Acquisition(directory=None, name="cells", image_process_fn=tap) as acquisition:
            acquisition.acquire(multi_d_acquisition_events(num_time_points=100))
    frames = tap.report["frames"]
    print(f"{tap.report['status']}: {frames['processed']} frames tracked, {frames['lost']} lost; see {OUT}")


def start_demo_camera() -> None:
    """Start a core in this process, with beads in front of its camera."""
    import mm_test_adapters

    folder = mm_test_adapters.device_adapter_path()
    start_headless(folder, "MMConfig_demo.cfg", python_backend=True, buffer_size_mb=64)
    size = {"OnCameraCCDXSize": "256", "OnCameraCCDYSize": "256"}
    for name, value in {**size, "PixelType": "16bit", "Mode": "Fluorescent Beads"}.items():
        Core().set_property("Camera", name, value)
    Core().set_exposure(50.0)


if __name__ == "__main__":
    main()
