"""What ``streamtrack doctor`` is told: a plug-in of the group ``streamtrack.diagnostics`` is a function that finds out.

It takes nothing and returns findings; it changes nothing, waits for nothing longer than a few seconds, and does not
raise.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether one thing works on this machine.

    Attributes
    ----------
    topic
        What it is, for example ``"Micro-Manager core"``.
    state
        ``ok``, ``missing`` (not installed, not connected: nothing is wrong) or ``broken``.
    detail
        Versions, devices, figures; or what is wrong.
    cure
        What to do about it, empty if there is nothing to do.
    """

    topic: str
    state: Literal["ok", "missing", "broken"]
    detail: str
    cure: str = ""
