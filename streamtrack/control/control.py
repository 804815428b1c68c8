"""What may be changed while a run runs, from any thread: the loop makes each change between two frames."""

import reprlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from streamtrack.actuators.moves import started
from streamtrack.config import Mode, RunConfig, did_you_mean
from streamtrack.control.hands import Hands
from streamtrack.control.keeping import Keeping
from streamtrack.control.modes import Modes, known_mode
from streamtrack.control.regions import Regions
from streamtrack.control.requests import FULL, Asked, Changes, Made, Mailbox, Make, Request, Who
from streamtrack.errors import ControlRefused, described
from streamtrack.fanout import Fanout
from streamtrack.interrupts import Stop
from streamtrack.parts import Parts
from streamtrack.protocols import Engine, HasThreshold
from streamtrack.triggers.area import Area
from streamtrack.triggers.posted import MOST_WAITING as POSTS_WAITING
from streamtrack.triggers.posted import values_of
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
    folder
        Of the run.

    Attributes
    ----------
    mailbox
        The loop looks before each frame whether anything is asked for there.
    last
        What became of the last frame; the loop sets it.
    """

    def __init__(self, config: RunConfig, parts: Parts, stop: Stop, folder: Path) -> None:
        self._config, self._stop, self._guard = config, stop, parts.guard
        self._rule_names = [rule.name or rule.kind for rule in config.triggers]
        self._rules: Callable[[], Sequence[Rule]] = lambda: parts.rules
        self._engines: Callable[[], Iterable[Engine]] = lambda: (parts.engine,)
        self._paused: set[str] = set()
        self._threshold: float | None = None
        self._following: int | None = None
        self._unseen = 0
        self._most_unseen = UNSEEN_FRAMES * max(1, len(parts.info.streams or ()))
        self._flooded = False
        self._modes = Modes(config, parts)
        self._keeping = Keeping(folder, parts.info, parts.sinks.values())
        self._regions = Regions(lambda: self._rules(), parts.info.shape, parts.area)
        self._hands = Hands(self._refuse)
        self.mailbox = Mailbox()
        self.changes = Changes()
        self.last: FrameResult | None = None

    def stop(self, who: Who = "python") -> None:
        """End the run at once, as `streamtrack.session.Session.stop` does: this waits for nothing."""
        self._stop.request()
        self.changes.add(Asked("stop", True, who), self._where(), "done")

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

    def what_may_move(self) -> str:
        """Return, in lines, what an armed run may move, open or switch: limits, rules, and the light that is left."""
        return "\n".join(self._modes.what_may_move(self._paused))

    def set_mode(self, mode: Mode, confirmed: str | None = None, who: Who = "python") -> Request:
        """Observe, rehearse or be armed from now on.

        Down it goes at once, in the caller's thread: no command reaches the hardware any more, those that wait are
        dropped, and a thread of its own switches off what commands have switched on, and halts what moves. Up it goes
        between two frames, after all checks that a run is subject to which begins in that mode. Whoever asks for less
        meanwhile has the last word; a run that is being stopped is not armed any more.

        Parameters
        ----------
        confirmed
            To arm: what `what_may_move` returns, as somebody has read it. Less light may be left by now; where anything
            else is another, it is refused.
        """
        asked = Asked("mode", mode, who)
        try:
            mode = known_mode(mode)
            if mode == "armed" and self._stop.asked:
                raise ControlRefused("the run is being stopped")
            before = self._modes.lower(mode)
        except ControlRefused as refusal:
            return self._refused(asked, refusal)
        if before is not None:
            return self._lowered(asked, Made(before, mode))
        n_lowered = self._modes.n_lowered
        request = Request(asked, lambda last: self._go_up(mode, confirmed, n_lowered))
        self._hands.offer((request, partial(self._check_mode, mode, confirmed)))
        return request

    def set_exposure_ms(self, value: float, who: Who = "python") -> Request:
        """Set the camera's exposure, within the limits, as a command would."""
        request = Request(Asked("exposure_ms", value, who), lambda last: self._set_exposure(value))
        self._hands.offer((request, self._make))
        return request

    def mark(self, text: str, who: Who = "python") -> Request:
        """Write a remark down, with frame and time."""
        return self._ask(Asked("mark", text, who), partial(self._mark, text))

    def move_region(
        self,
        rule: str,
        y_px: Any = None,
        x_px: Any = None,
        polygon_px: Any = None,
        who: Who = "python",
    ) -> Request:
        """Have a rule look at another part of the image: a rectangle, or a polygon, as its settings say it.

        It is laid over the image in a thread of its own; the loop only exchanges the two.
        """
        said = {"y_px": y_px, "x_px": x_px, "polygon_px": polygon_px}
        wanted = {name: value for name, value in said.items() if value is not None}
        area: list[Area] = []
        request = Request(
            Asked("region", str(wanted), who, rule), lambda last: self._regions.exchange(rule, area[0], wanted)
        )

        def lay(request: Request) -> None:
            try:
                area.append(self._regions.laid(rule, said))
            except Exception as error:  # whatever it is, whoever asked hears of it
                self._refuse(request, error)
            else:
                self._put(request)

        self._hands.offer((request, lay))
        return request

    def take_snapshot(self, who: Who = "python") -> Request:
        """Write the newest raw frame and its detections into the run's folder, ``snapshots/0001_frame12.ome.tif``."""
        request = Request(Asked("snapshot", True, who), lambda last: self._keeping.snapshot(self.last))
        self._hands.offer((request, self._make))
        return request

    def record(self, on: bool, who: Who = "python") -> Request:
        """Have the sink ``raw`` write frames, or leave them out, from the next one on."""
        return self._ask(Asked("recording", on, who), lambda last: self._keeping.record(on))

    def post(self, name: str, value: Any = None, particle: int | None = None) -> list[str]:
        """Give an event to the rules of kind ``http`` that take events of this name; return those rules.

        They see it in the next frame. Waits for nothing; what is refused is counted in the report, by cause.

        Parameters
        ----------
        value
            A number, or a table of numbers.
        particle
            Track that it is about.

        Raises
        ------
        ControlRefused
            No rule takes it, there is no room, or the run is being stopped.
        """
        values = values_of(value)
        if particle is not None and not _is_track(particle):
            raise ControlRefused(f"{particle!r} is not the number of a track")
        because = "the run is being stopped" if self._stop.asked else self.mailbox.closed_because
        rules = [rule for rule in [*self._rules()] if rule.event == name]
        if not because and not rules:
            known = sorted({rule.event for rule in [*self._rules()] if rule.event})
            why = did_you_mean(str(name), known) or f" (known: {', '.join(known) or 'none'})"
            self.refuse_events("no rule takes its name")
            raise ControlRefused(f"no rule takes the event {reprlib.repr(name)}{why}")
        if because:
            self.refuse_events(because)
            raise ControlRefused(because)
        taken = [rule.name for rule in rules if rule.receive(particle, values)]
        if not taken:
            raise ControlRefused(f"{POSTS_WAITING} events wait for the next frame already: it is dropped")
        return [*dict.fromkeys(taken)]

    def refuse_events(self, cause: str, n: int = 1) -> None:
        """Count events that no rule was given."""
        self.changes.count_refused(cause, n)

    def snapshot(self) -> dict[str, Any]:
        """Return how what can be changed stands."""
        return {
            "mode": self._modes.mode,
            "threshold": self._now_threshold(),
            "following": self._following,
            "recording": self._keeping.recording,
            "regions": self._regions.drawn(),
            "limits": self._config.safety.model_dump(mode="json"),
            **self.changes.outcome(),
        }

    def of_several(self, rules: Sequence[Rule], engines: Mapping[Any, Engine]) -> None:
        """Say that the run has several streams: their rules and engines, to which more are added later."""
        first = tuple(self._engines())
        self._rules, self._engines = lambda: rules, lambda: (*first, *engines.values())

    def begun(self, rules: Iterable[Rule], engine: Engine) -> None:
        """Make what a new stream begins with as everything else is by now."""
        for rule in rules:
            rule.paused, rule.particle = rule.name in self._paused, self._following
            self._regions.begun(rule)
        if self._threshold is not None:
            _with_threshold(engine).set_threshold(self._threshold)

    def attach(self, fanout: Fanout) -> None:
        """Take the run's workers, before the first frame."""
        self._modes.attach(fanout)
        self.changes.write_to(fanout.log.add_line)

    def answer(self, frame: Frame | None) -> None:
        """Make what was asked for. Called by the loop only, with the next frame; None where it is not there yet."""
        self._flooded = False
        for request in self.mailbox.take():
            self._make(request, frame)
        if self._following is not None and frame is not None:
            self._look_for_followed(frame)
        if self._following is not None:
            self.mailbox.asked = True

    def close(self) -> None:
        """Refuse what waits, and whatever is asked for from now on."""
        for request in self.mailbox.close(ENDED):
            self._refuse(request, ENDED)
        self._hands.close(ENDED)

    def _ask(self, asked: Asked, make: Make) -> Request:
        request = Request(asked, make)
        self._put(request)
        return request

    def _put(self, request: Request) -> None:
        reason = self.mailbox.put(request)
        if reason == FULL and self._flooded:  # one line for all of them
            request.set_exception(ControlRefused(f"{request.asked.change}: {reason}"))
        elif reason:
            self._flooded = reason == FULL
            self._refuse(request, reason)

    def _refused(self, asked: Asked, why: Exception) -> Request:
        request = Request(asked, lambda last: Made(None, None))
        self._refuse(request, why)
        return request

    def _refuse(self, request: Request, why: BaseException | str) -> None:
        if request.set_running_or_notify_cancel():
            self.changes.refuse(request, self._where(), why)

    def _make(self, request: Request, frame: Frame | None = None) -> None:
        asked, where = request.asked, self._where(frame)
        if not request.set_running_or_notify_cancel():
            self.changes.add(asked, where, "withdrawn", wanted=asked.wanted)
            return
        try:
            if request.is_late:
                raise ControlRefused("no frame came in time: ask again")
            made = request.make(self.last)
        except (Exception, SystemExit) as error:  # whatever it is, the loop goes on
            self.changes.refuse(request, where, error)
        else:
            request.set_result(self.changes.add(asked, where, "done", **made._asdict()))

    def _lowered(self, asked: Asked, made: Made) -> Request:
        """Return what is answered when all is dark after the mode went down."""
        request = Request(asked, lambda last: made)
        request.set_running_or_notify_cancel()
        where = self._where()

        def settle() -> None:
            try:
                failed = self._modes.settle() if made.after != "armed" else []
            except Exception as error:  # whatever it is, whoever asked hears of it
                failed = [described(error)]
            unsafe = {"error": "; ".join(failed)} if failed else {}
            request.set_result(self.changes.add(asked, where, "done", **made._asdict(), **unsafe))

        if not started(threading.Thread(target=settle, name="streamtrack-lower", daemon=True)):
            settle()
        return request

    def _check_mode(self, mode: Mode, confirmed: str | None, request: Request) -> None:
        """Check whether the mode may go up, and have the loop do it."""
        try:
            self._check_confirmed(mode, confirmed)
            self._modes.check(mode)
            self._modes.hold()
            request.add_done_callback(lambda _: self._modes.release())  # at once where it was withdrawn meanwhile
        except (Exception, SystemExit) as error:  # sys.exit() in a plug-in of the lab's
            self._refuse(request, error)
        else:
            self._put(request)

    def _check_confirmed(self, mode: Mode, confirmed: str | None) -> None:
        if mode == "armed" and self._guard is not None:
            what, _ = self._modes.what_may_move(self._paused)
            if confirmed is None or confirmed.rpartition("\n")[0] != what:
                why = "to arm, confirm" if confirmed is None else "what was confirmed is no longer so: confirm"
                raise ControlRefused(f"{why} what may move, as what_may_move() says it")

    def _go_up(self, mode: Mode, confirmed: str | None, n_lowered: int) -> Made:
        if self._stop.asked:
            raise ControlRefused("the run is being stopped")
        self._check_confirmed(mode, confirmed)
        return Made(self._modes.go_up(mode, n_lowered), mode)

    def _set_exposure(self, value: float) -> Made:
        if self._guard is None:
            raise ControlRefused("the run has no microscope")
        before = self._guard.exposure_ms()
        self._guard.set_exposure_ms(value)
        return Made(before, self._guard.exposure_ms())

    def _where(self, frame: Frame | None = None) -> dict[str, Any]:
        """Return the first frame for which a change holds: the next one."""
        last = self.last
        at = frame or (None if last is None else last.frame)
        if at is None:
            return {"frame": 0}
        index = at.index if frame is not None else at.index + 1
        return {"frame": index, **({} if at.stream is ONE_STREAM else {"stream": asdict(at.stream)})}

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
        if particle is not None and not _is_track(particle):
            raise ControlRefused(f"{particle!r} is not the number of a track")
        before = self._following
        self._choose(None if particle is None else int(particle))
        return Made(before, self._following)

    def _choose(self, particle: int | None) -> None:
        self._following, self._unseen = particle, 0
        for rule in self._rules():
            rule.particle = particle

    def _look_for_followed(self, frame: Frame) -> None:
        """Follow no track that has ended, or was never there."""
        followed, last = self._following, self.last
        if followed is None or last is None:
            return
        if followed in last.tracks.ended:
            self._lose(frame, f"track {followed} has ended")
        elif followed in last.tracks.particle:
            self._unseen = -1  # it is there: from now on its end will be told
        elif self._unseen >= 0:
            self._unseen += 1
            if self._unseen > self._most_unseen:
                self._lose(frame, f"there is no track {followed}")

    def _lose(self, frame: Frame, why: str) -> None:
        asked, before = Asked("following", None, "run"), self._following
        self._choose(None)
        self.changes.add(asked, self._where(frame), "done", before=before, after=None, error=why)

    def _mark(self, text: str, last: FrameResult | None) -> Made:
        if not isinstance(text, str) or not 0 < len(text) <= LONGEST_MARK:
            raise ControlRefused(f"a mark is a text of 1 to {LONGEST_MARK} characters")
        if any(0xD800 <= ord(letter) < 0xE000 for letter in text):
            raise ControlRefused("a mark is a text that can be written as UTF-8")
        return Made(None, text)

    def _now_threshold(self) -> float | None:
        engine = next(iter(self._engines()), None)
        return engine.threshold if isinstance(engine, HasThreshold) else None


def _is_track(particle: object) -> bool:
    return isinstance(particle, int | np.integer) and not isinstance(particle, bool) and int(particle) >= 0


def _with_threshold(engine: Engine) -> HasThreshold:
    if not isinstance(engine, HasThreshold):
        raise ControlRefused("the engine has no threshold that can be set while it runs")
    return engine
