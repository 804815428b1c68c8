"""What may be changed while a run runs, from any thread: the loop makes each change between two frames."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from streamtrack.config import RunConfig, did_you_mean
from streamtrack.control.requests import FULL, Asked, Changes, Made, Mailbox, Make, Request, Who
from streamtrack.errors import ControlRefused
from streamtrack.interrupts import Stop
from streamtrack.parts import Parts
from streamtrack.protocols import Engine, HasThreshold
from streamtrack.triggers.rule import Rule
from streamtrack.types import ONE_STREAM, Frame, FrameResult

LONGEST_MARK = 1000
"""Characters of a remark."""
UNSEEN_FRAMES = 25
"""A track that is in none of so many frames of each stream after it was chosen is taken to be over."""
ENDED = "the run is over"


class Control:
    """Changes a run while it runs. Every method may be called from any thread, and returns at once.

    What is asked for waits for the loop, which makes it between two frames, or within half a second where none comes.
    Each method returns a `Request`: a future, on which ``wait()`` waits in time. Whatever is made or refused is a line
    in ``commands.jsonl`` and in the report's ``changes``, with the first frame for which it holds.

    Parameters
    ----------
    config, parts
        What runs.
    stop
        Ends the run.
    """

    def __init__(self, config: RunConfig, parts: Parts, stop: Stop) -> None:
        self._config, self._stop = config, stop
        self._rule_names = [rule.name or rule.kind for rule in config.triggers]
        self._rules: Callable[[], Sequence[Rule]] = lambda: parts.rules
        self._engines: Callable[[], Iterable[Engine]] = lambda: (parts.engine,)
        self._paused: set[str] = set()
        self._threshold: float | None = None
        self._following: int | None = None
        self._unseen = 0
        self._most_unseen = UNSEEN_FRAMES * max(1, len(parts.info.streams or ()))
        self._where: dict[str, Any] = {"frame": 0}
        self._flooded = False
        self.mailbox = Mailbox()
        self.changes = Changes()

    def stop(self, who: Who = "python") -> None:
        """End the run at once, as `streamtrack.session.Session.stop` does: this waits for nothing."""
        self._stop.request()
        self.changes.add(Asked("stop", True, who), self._where, "done")

    def pause(self, rule: str, who: Who = "python") -> Request:
        """Have a rule give no commands; its trigger goes on to see every frame, and what it sees is counted."""
        return self._ask(Asked("paused", True, who, rule), partial(self._pause, rule, True))

    def resume(self, rule: str, who: Who = "python") -> Request:
        """Have a rule that was paused give commands again."""
        return self._ask(Asked("paused", False, who, rule), partial(self._pause, rule, False))

    def set_threshold(self, value: float, who: Who = "python") -> Request:
        """Have the engine find what it is surer, or less sure of; tracks go on."""
        return self._ask(Asked("threshold", value, who), partial(self._set_threshold, value))

    def follow(self, particle: int | None, who: Who = "python") -> Request:
        """Show this track, and no other, to the rules that say ``chosen = true``; with None they see no track.

        When the track has ended, or is not there at all, a further change says so, and they see none.
        """
        return self._ask(Asked("following", particle, who), partial(self._follow, particle))

    def mark(self, text: str, who: Who = "python") -> Request:
        """Write a remark down, with frame and time."""
        return self._ask(Asked("mark", text, who), partial(self._mark, text))

    def snapshot(self) -> dict[str, Any]:
        """Return how what can be changed stands."""
        return {
            "threshold": self._now_threshold(),
            "following": self._following,
            "limits": self._config.safety.model_dump(mode="json"),
            **self.changes.outcome(),
        }

    def of_several(self, rules: Sequence[Rule], engines: Mapping[Any, Engine]) -> None:
        """Say that the run has several streams: their rules and engines, to which more are added later."""
        self._rules, self._engines = lambda: rules, engines.values

    def begun(self, rules: Iterable[Rule], engine: Engine) -> None:
        """Make what a new stream begins with as everything else is by now."""
        for rule in rules:
            rule.paused, rule.particle = rule.name in self._paused, self._following
        if self._threshold is not None:
            _with_threshold(engine).set_threshold(self._threshold)

    def answer(self, frame: Frame | None, last: FrameResult | None) -> None:
        """Make what was asked for. Called by the loop only.

        Parameters
        ----------
        frame
            Comes next; None where it is not there yet.
        last
            What became of the one before.
        """
        self._where, self._flooded = _where(frame, last), False
        for request in self.mailbox.take():
            self._make(request, last)
        if self._following is not None and frame is not None:
            self._look_for_followed(last)
        if self._following is not None:
            self.mailbox.asked = True

    def close(self) -> None:
        """Refuse what waits, and whatever is asked for from now on."""
        for request in self.mailbox.close(ENDED):
            if request.set_running_or_notify_cancel():
                self.changes.refuse(request, self._where, ENDED)

    def _ask(self, asked: Asked, make: Make) -> Request:
        request = Request(asked, make)
        if reason := self.mailbox.put(request):
            if reason == FULL and not self._flooded:  # one line for all of them
                self._flooded = True
                self.changes.refuse(request, self._where, reason)
            else:
                request.set_exception(ControlRefused(f"{asked.change}: {reason}"))
        return request

    def _make(self, request: Request, last: FrameResult | None) -> None:
        asked = request.asked
        if not request.set_running_or_notify_cancel():
            self.changes.add(asked, self._where, "withdrawn", wanted=asked.wanted)
            return
        try:
            if request.is_late:
                raise ControlRefused("no frame came in time: ask again")
            made = request.make(last)
        except Exception as error:  # whatever it is, the loop goes on
            self.changes.refuse(request, self._where, error)
        else:
            request.set_result(self.changes.add(asked, self._where, "done", **made._asdict()))

    def _pause(self, name: str, paused: bool, last: FrameResult | None) -> Made:
        if name not in self._rule_names:
            known = ", ".join(map(repr, self._rule_names)) or "none"
            raise ControlRefused(
                f"no rule is called {name!r}{did_you_mean(name, self._rule_names) or f' (known: {known})'}"
            )
        before = name in self._paused
        (self._paused.add if paused else self._paused.discard)(name)
        for rule in self._rules():
            rule.paused = rule.name in self._paused
        return Made(before, paused)

    def _set_threshold(self, value: float, last: FrameResult | None) -> Made:
        engines = [_with_threshold(engine) for engine in dict.fromkeys(self._engines())]
        before = engines[0].threshold
        for engine in engines:
            engine.set_threshold(value)
        self._threshold = engines[0].threshold
        return Made(before, self._threshold)

    def _follow(self, particle: int | None, last: FrameResult | None) -> Made:
        is_id = isinstance(particle, int | np.integer) and not isinstance(particle, bool) and particle >= 0
        if particle is not None and not is_id:
            raise ControlRefused(f"{particle!r} is not the number of a track")
        before = self._following
        self._choose(None if particle is None else int(particle))
        return Made(before, self._following)

    def _choose(self, particle: int | None) -> None:
        self._following, self._unseen = particle, 0
        for rule in self._rules():
            rule.particle = particle

    def _look_for_followed(self, last: FrameResult | None) -> None:
        """Follow no track that has ended, or was never there."""
        followed = self._following
        if followed is None or last is None:
            return
        if followed in last.tracks.ended:
            self._lose(f"track {followed} has ended")
        elif followed in last.tracks.particle:
            self._unseen = -1  # it is there: from now on its end will be told
        elif self._unseen >= 0:
            self._unseen += 1
            if self._unseen > self._most_unseen:
                self._lose(f"there is no track {followed}")

    def _lose(self, why: str) -> None:
        before = self._following
        self._choose(None)
        self.changes.add(Asked("following", None, "run"), self._where, "done", before=before, after=None, error=why)

    def _mark(self, text: str, last: FrameResult | None) -> Made:
        if not isinstance(text, str) or not 0 < len(text) <= LONGEST_MARK:
            raise ControlRefused(f"a mark is a text of 1 to {LONGEST_MARK} characters")
        return Made(None, text)

    def _now_threshold(self) -> float | None:
        engine = next(iter(self._engines()), None)
        return engine.threshold if isinstance(engine, HasThreshold) else None


def _with_threshold(engine: Engine) -> HasThreshold:
    if not isinstance(engine, HasThreshold):
        raise ControlRefused("the engine has no threshold that can be set while it runs")
    return engine


def _where(frame: Frame | None, last: FrameResult | None) -> dict[str, Any]:
    """Return the first frame for which a change holds."""
    at = frame or (None if last is None else last.frame)
    if at is None:
        return {"frame": 0}
    index = at.index if frame is not None else at.index + 1
    return {"frame": index, **({} if at.stream is ONE_STREAM else {"stream": asdict(at.stream)})}
