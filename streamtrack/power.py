"""What the operating system must not do during a live run: fall asleep, or let waiting threads wait too long."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

AWAKE, AS_BEFORE = 0x80000001, 0x80000000
"""ES_CONTINUOUS with and without ES_SYSTEM_REQUIRED: the display may go dark."""
TICK_MS = 1
"""Of Windows' timer; otherwise every wait with a time-out ends at a tick of 15.6 ms."""
POWER_THROTTLING, FULL_PACE = 4, 0b101
"""Windows 11 slows down programs whose window is covered, and coarsens their timer: not this one."""


def switch_interval_s() -> float:
    """Return how long one Python thread may keep the others waiting; Python's own 5 ms is a frame at 200 frames/s.

    On Windows the interpreter waits in whole milliseconds: less than one becomes none, and waiting threads spin.
    """
    return 1e-3 if sys.platform == "win32" else 5e-4


@contextmanager
def awake() -> Iterator[None]:
    """Keep the computer awake, and Windows' timer fine, until the end of the block; Linux does not sleep by itself."""
    with ExitStack() as granted:
        with suppress(OSError, AttributeError):  # not granted: no reason not to run
            if sys.platform == "win32":
                _ask_windows(granted)
            elif sys.platform == "darwin":
                _ask_macos(granted)
        yield


def _ask_windows(granted: ExitStack) -> None:
    import ctypes

    kernel, timer = ctypes.windll.kernel32, ctypes.windll.winmm  # type: ignore[attr-defined,unused-ignore]
    kernel.SetThreadExecutionState(AWAKE)
    granted.callback(kernel.SetThreadExecutionState, AS_BEFORE)
    timer.timeBeginPeriod(TICK_MS)
    granted.callback(timer.timeEndPeriod, TICK_MS)
    full_pace = (ctypes.c_ulong * 3)(1, FULL_PACE, 0)
    this_process = ctypes.c_void_p(-1)
    kernel.SetProcessInformation(this_process, POWER_THROTTLING, full_pace, ctypes.sizeof(full_pace))


def _ask_macos(granted: ExitStack) -> None:
    command = ["caffeinate", "-i", "-w", str(os.getpid())]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    granted.callback(child.terminate)
