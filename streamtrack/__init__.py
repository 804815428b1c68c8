"""streamtrack: real-time streaming particle tracking for live microscopy.

What is listed in ``__all__`` is public, and so are `streamtrack.protocols`, `streamtrack.types`, `streamtrack.errors`
and `streamtrack.testing` for those who write plug-ins; everything else may change. Names are imported when they are
first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamtrack.api import Simulation, Tracker, detect, read, simulate, track
    from streamtrack.errors import StreamtrackError
    from streamtrack.feed import Feed
    from streamtrack.offline.batch import batch
    from streamtrack.results import Results

__version__ = "0.1.0"
__all__ = [
    "Feed",
    "Results",
    "Simulation",
    "StreamtrackError",
    "Tracker",
    "batch",
    "detect",
    "read",
    "simulate",
    "track",
]

_MODULES = {"Feed": "feed", "Results": "results", "StreamtrackError": "errors", "batch": "offline.batch"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'streamtrack' has no attribute {name!r}")
    value = getattr(import_module(f"streamtrack.{_MODULES.get(name, 'api')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
