"""Track a pymmcore-plus acquisition while it runs, and let a trigger add a burst of frames to it.

    python examples/pymmcore_plus_mda.py

The demo camera shows beads. Whenever more than three of them are seen, ten frames of 5 ms are taken at once, at the
camera's full speed, before the acquisition goes on as it was planned.
"""

from pathlib import Path

import useq
from pymmcore_plus import CMMCorePlus

from streamtrack.config import RunConfig
from streamtrack_drivers.micromanager.mda import MdaTap

RUN = RunConfig.model_validate(
    {
        "mode": "armed",
        "triggers": [
            {
                "kind": "count",
                "above": 3,
                "confirmed": False,
                "do": "burst",
                "action": {"exposure": 5.0},
                "cool_down_s": 2.0,
            }
        ],
        "actuators": {"burst": {"kind": "mda_event", "repeats": 10}},
        "safety": {"exposure_ms": [1.0, 50.0]},
    }
)
OUT = Path("mda-results")


def main() -> None:
    """Acquire 50 frames, and what the trigger adds."""
    core = CMMCorePlus()
    core.loadSystemConfiguration()  # the demo configuration; yours: core.loadSystemConfiguration("scope.cfg")
    size = {"OnCameraCCDXSize": "256", "OnCameraCCDYSize": "256"}
    for name, value in {**size, "PixelType": "16bit", "Mode": "Fluorescent Beads"}.items():
        core.setProperty("Camera", name, value)
    plan = useq.MDASequence(time_plan={"interval": 0.1, "loops": 50}, channels=[{"config": "DAPI", "exposure": 20.0}])
    with MdaTap(RUN, out=OUT, core=core, overwrite=True) as tap:
        core.run_mda(tap.events(plan), block=True)
    frames = tap.report["frames"]
    print(f"{tap.report['status']}: {frames['processed']} frames tracked, {frames['lost']} lost; see {OUT}")


if __name__ == "__main__":
    main()
