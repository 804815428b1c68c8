"""What one sees in the terminal while a live run is on."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamtrack.actuators.light import in_words
from streamtrack.commands import FATES
from streamtrack.stop_file import made_safe, unsafe
from streamtrack.terminal import Drawing

REFRESH_S = 0.5
SHOWN = ("p50", "p99", "max")


class LiveView(Drawing):
    """Draws the state of a run twice a second, on stderr, in a thread of its own.

    Parameters
    ----------
    snapshot
        Returns the state: `streamtrack.session.Session.snapshot`.
    console
        Where to draw.
    """

    def __init__(self, snapshot: Callable[[], Mapping[str, Any]], console: Console | None = None) -> None:
        self._snapshot = snapshot
        self._live = Live(console=console or Console(stderr=True), auto_refresh=False, transient=True)
        self._before = (time.monotonic(), 0, 0)
        super().__init__(self._live.start, self._show, self._live.stop, REFRESH_S)

    def _show(self) -> None:
        state = self._snapshot()
        self._live.update(render(state, self._rates(state["frames"])), refresh=True)

    def _rates(self, frames: Mapping[str, Any]) -> tuple[float, float]:
        """Return frames per second that came in and that were processed, since the last call."""
        now = (time.monotonic(), frames["in"], frames["processed"])
        passed_s, came, done = (new - old for new, old in zip(now, self._before, strict=True))
        self._before = now
        return came / passed_s, done / passed_s


def render(state: Mapping[str, Any], rates: tuple[float, float]) -> Group:
    """Return the view of one state, with the frame rates of source and loop."""
    return Group(*_head(state, rates), _stages(state["latency_ms"]), *_rules(state))


def _head(state: Mapping[str, Any], rates: tuple[float, float]) -> list[Text]:
    frames, last = state["frames"], state["last_frame"]
    style = "bold white on red" if state["mode"] == "armed" else "bold"
    title = Text.assemble((f" {state['mode']} ", style), f" {state['source']}   Ctrl-C stops")
    counts = f"{frames['processed']} frames, {rates[0]:.1f}/s in, {rates[1]:.1f}/s done"
    lines = [title, Text(f"{counts}; {last['detections']} detections, {last['tracks']} tracks")]
    if state["light"] and (light := in_words(state["light"])):
        lines.append(Text(light, style="bold yellow" if state["light"]["on"] else ""))
    causes = sorted(frames["lost_by_cause"].items(), key=lambda item: -item[1])
    lines += [Text(f"lost {count}: {cause}", style="yellow") for cause, count in causes[:3]]
    return lines if state["stopping"] is None else [*_stopping(state["stopping"]), *lines]


def _stopping(safety: Mapping[str, Any]) -> list[Text]:
    lines = [Text(f" {each} ", style="bold white on red") for each in unsafe(safety)]
    return [*lines, Text(f"{made_safe(safety)}; finishing the files (Ctrl-C again leaves pictures out)", style="bold")]


def _stages(latency_ms: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table("ms", *SHOWN, box=None, pad_edge=False)
    for stage, summary in latency_ms.items():
        if summary["n"]:
            table.add_row(stage, *(f"{summary[name]:.2f}" for name in SHOWN))
    return table


def _rules(state: Mapping[str, Any]) -> list[Text]:
    lines = [
        Text(f"rule {name}: " + ", ".join(f"{key} {value}" for key, value in outcome.items() if value))
        for name, outcome in state["rules"].items()
    ]
    for name, outcome in state["actuators"].items():
        fates = ", ".join(f"{outcome[fate]} {fate}" for fate in FATES if outcome[fate]) or "nothing yet"
        problem = f"   last problem: {outcome['error']}" if outcome["error"] else ""
        lines.append(Text(f"{name}: {fates}{problem}", style="yellow" if problem else ""))
    return lines
