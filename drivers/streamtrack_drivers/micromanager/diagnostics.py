"""What ``streamtrack doctor`` says about Micro-Manager on this machine."""

import ctypes
import importlib.util
import socket
import sys
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from streamtrack.deadline import Deadline
from streamtrack.diagnostics import Finding
from streamtrack.errors import MicroscopeError, one_line

BRIDGE = ("127.0.0.1", 4827)
CONNECT_TIMEOUT_S = 0.5
SNAP_TIMEOUT_S = 5.0
INSTALL = 'pip install ".[micromanager]"'


def findings() -> list[Finding]:
    """Look for the core, the device adapters, a camera that works, and a running Micro-Manager."""
    return [_core(), *_adapters(), _pycromanager(), bridge(*BRIDGE)]


def _core() -> Finding:
    topic = "Micro-Manager core"
    missing = [name for name in ("pymmcore", "pymmcore_plus") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding(topic, "missing", f"{' and '.join(missing)} not installed", INSTALL)
    try:
        import pymmcore

        core = pymmcore.CMMCore()
        versions = f"pymmcore {version('pymmcore')}, pymmcore-plus {version('pymmcore-plus')}"
        return Finding(topic, "ok", f"{core.getVersionInfo()}, {core.getAPIVersionInfo()}; {versions}")
    except Exception as error:  # a broken binary package may raise anything
        return Finding(topic, "broken", one_line(error), f"{INSTALL} --force-reinstall")


def _adapters() -> list[Finding]:
    """Find the folders with device adapters, and try a camera of the first one that fits the core."""
    topic = "device adapters"
    try:
        import pymmcore
        from pymmcore_plus import find_micromanager

        folders = [Path(folder) for folder in find_micromanager(return_first=False) or ()]
    except ImportError:
        return []  # the core is missing, and said so
    except Exception as error:  # as above
        return [Finding(topic, "broken", one_line(error), INSTALL)]
    if not folders:
        return [Finding(topic, "missing", "no Micro-Manager folder found", _get_adapters(pymmcore))]
    listing = ", ".join(f"{folder} (device interface {_interface_of(folder) or 'unknown'})" for folder in folders)
    return [Finding(topic, "ok", listing), demo_camera(folders)]


def demo_camera(folders: list[Path]) -> Finding:
    """Take an image with DemoCamera from the first of these folders whose adapters fit the core."""
    topic, errors = "demo camera", []
    for folder in folders:
        in_time = Deadline(SNAP_TIMEOUT_S)
        try:
            return Finding(topic, "ok", in_time("demo camera", partial(_snap, folder)))
        except MicroscopeError as error:
            errors.append(f"{folder}: {error}")
        finally:
            in_time.close()
    import pymmcore

    return Finding(topic, "broken", "; ".join(errors), f"{_misfit(pymmcore, folders)}: {_get_adapters(pymmcore)}")


def bridge(host: str, port: int) -> Finding:
    """Look whether a Micro-Manager with its server switched on listens."""
    topic = "running Micro-Manager"
    try:
        with socket.create_connection((host, port), CONNECT_TIMEOUT_S):
            return Finding(topic, "ok", f"something listens on {host}:{port}")
    except OSError:
        cure = "to attach to one: in Micro-Manager, Tools > Options > Run pycro-manager server on port 4827"
        return Finding(topic, "missing", f"nothing listens on {host}:{port}", cure)


def _pycromanager() -> Finding:
    try:
        return Finding("pycromanager", "ok", version("pycromanager"))
    except PackageNotFoundError:
        return Finding("pycromanager", "missing", "not installed", INSTALL)


def _snap(folder: Path) -> str:
    import pymmcore

    core = pymmcore.CMMCore()
    core.setDeviceAdapterSearchPaths([str(folder)])
    core.loadDevice("Camera", "DemoCamera", "DCam")
    try:
        core.initializeDevice("Camera")
        core.setCameraDevice("Camera")
        core.snapImage()
        height, width = core.getImage().shape
        return f"snapped {height} x {width} px with the adapters in {folder}"
    finally:
        core.unloadAllDevices()


def _misfit(pymmcore: Any, folders: list[Path]) -> str:
    """Say what adapters have to fit, and which of these do not."""
    needed = _interface(pymmcore)
    found = {folder: _interface_of(folder) for folder in folders}
    others = [f"those in {folder} have {number}" for folder, number in found.items() if number not in (None, needed)]
    wanted = f"the core needs adapters with device interface {needed}"
    return f"{wanted}, {', '.join(others)}" if others else wanted


def _interface(pymmcore: Any) -> int:
    return int(pymmcore.CMMCore().getAPIVersionInfo().split(",")[0].rpartition(" ")[2])


def _interface_of(folder: Path) -> int | None:
    """Return the device interface of the adapters in a folder, as the first that can be loaded says it."""
    for path in sorted(folder.glob("*mmgr_dal_*")):
        with suppress(OSError, AttributeError):  # a text file beside it, a library that lacks another one
            ask = ctypes.CDLL(str(path)).GetDeviceInterfaceVersion
            ask.restype = ctypes.c_long
            return int(ask())
    return None


def _get_adapters(pymmcore: Any) -> str:
    interface = _interface(pymmcore)
    if sys.platform in ("win32", "darwin"):
        return f"install a Micro-Manager with device interface {interface}, a nightly build ('mmcore install' does)"
    return f'pip install "mm-test-adapters=={interface}.*" (demo devices; real ones have to be built from source)'
