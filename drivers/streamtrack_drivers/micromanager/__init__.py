"""Micro-Manager: cores in this process, a running Micro-Manager, and taps for acquisitions of the user's own.

Nothing of Micro-Manager is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamtrack_drivers.micromanager.bridge import PycroManager
    from streamtrack_drivers.micromanager.core import MicroManager
    from streamtrack_drivers.micromanager.live import PycroManagerSource
    from streamtrack_drivers.micromanager.mda import MdaTap
    from streamtrack_drivers.micromanager.source import MicroManagerSource
    from streamtrack_drivers.micromanager.tap import Tap

__all__ = ["MdaTap", "MicroManager", "MicroManagerSource", "PycroManager", "PycroManagerSource", "Tap"]

_HOME = {
    "MdaTap": "mda",
    "MicroManager": "core",
    "MicroManagerSource": "source",
    "PycroManager": "bridge",
    "PycroManagerSource": "live",
    "Tap": "tap",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
