"""What the figures were measured on."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from streamtrack.report import versions

_MIB = 2**20


def describe() -> dict[str, Any]:
    """Return system, processor, cores, GPUs (None where ``nvidia-smi`` finds none) and versions."""
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": gpus(),
        "versions": versions(),
    }


def processor() -> str:
    """Return the processor's name as its maker gives it, or what Python knows."""
    if sys.platform == "win32":
        import winreg

        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    for line in _text("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpus() -> list[str] | None:
    """Return name, driver and memory of each NVIDIA GPU."""
    answer = _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    return answer.splitlines() if answer else None


def memory_mib() -> dict[str, float | None]:
    """Return this process's resident memory now and at its most, in MiB; None where the system does not say."""
    if sys.platform == "win32":
        return _memory_on_windows()
    fields = dict(line.split(":", 1) for line in _text("/proc/self/status").splitlines() if ":" in line)
    if "VmRSS" in fields:
        return {key: round(int(fields[name].split()[0]) / 1024, 1) for key, name in _STATUS_FIELDS.items()}
    import resource

    return {"now": None, "peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB, 1)}


_STATUS_FIELDS = {"now": "VmRSS", "peak": "VmHWM"}


def _memory_on_windows() -> dict[str, float | None]:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("cb", wintypes.DWORD),
            ("PageFaultCount", wintypes.DWORD),
            ("PeakWorkingSetSize", ctypes.c_size_t),
            ("WorkingSetSize", ctypes.c_size_t),
            ("others", ctypes.c_size_t * 6),
        )

    counters = Counters(cb=ctypes.sizeof(Counters))
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    kernel.K32GetProcessMemoryInfo.argtypes = (wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD)
    if not kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb):
        return {"now": None, "peak": None}
    return {
        "now": round(counters.WorkingSetSize / _MIB, 1),
        "peak": round(counters.PeakWorkingSetSize / _MIB, 1),
    }


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _output(*command: str) -> str | None:
    """Return what a command prints, or None where there is no such command or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
