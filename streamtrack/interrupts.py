"""Requests to stop, heard by a thread that does nothing else and at once makes safe what has to be.

The thread waits on a socket. The interpreter's own C handler writes each signal to it (`signal.set_wakeup_fd`), so that
Ctrl-C is heard also while the main thread is in a C call that does not return, such as compiling. The thread opens no
file and takes no lock that others hold for longer than a moment: a folder that hangs keeps it from nothing.
"""

import _thread
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType, TracebackType
from typing import Any, Self

from streamtrack.waiting import joined_within, set_within

SAFE_TIMEOUT_S = 15.0
"""How long making safe may take before its thread is left behind."""
CONSOLE_S = 4.5
"""Windows ends a process 5 s after its console was closed, whatever it does."""
DROPPED_S = 0.01
"""A callback whose exceptions Python drops is over by then, or drops the next as well."""
CLOSING_EVENTS = (2, 5, 6)
"""Console closed, log-off, shut-down; Ctrl-C and Ctrl-Break come as signals."""
ASKED, OVER, DROPPED = 0xFF, 0xFE, 0xFD
"""What is written to the thread besides the numbers of signals."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end a program here: Ctrl-C, ``kill``, a terminal that was closed, Ctrl-Break."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


@contextmanager
def heard_by(
    handler: Callable[[int, FrameType | None], Any], *, only_deadly: bool = False
) -> Iterator[tuple[signal.Signals, ...]]:
    """Have these signals call ``handler``; an ignored SIGHUP (``nohup``) stays ignored.

    An ignored SIGINT does not: scripts start programs in the background so, and who interrupts one means it.
    With ``only_deadly`` those that somebody handles already are left to him. Only the main thread can hear signals:
    elsewhere this does nothing.
    """
    previous: dict[signal.Signals, Any] = {}
    if _in_main_thread():
        previous = {number: signal.getsignal(number) for number in stop_signals()}
        previous = {
            number: old
            for number, old in previous.items()
            if (old is signal.SIG_DFL if only_deadly else old is not None and not _stays_ignored(number, old))
        }
    for number in previous:
        signal.signal(number, handler)
    try:
        yield tuple(previous)
    finally:
        if _in_main_thread():
            for number, old in previous.items():
                signal.signal(number, old)


def _stays_ignored(number: signal.Signals, handler: Any) -> bool:
    return handler is signal.SIG_IGN and number.name == "SIGHUP"


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def on_ctrl_c(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first of these signals, between two steps; a second one breaks off what still runs."""

    def first(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)
        stop()

    with heard_by(first) as numbers:
        yield


class Stop:
    """A request to stop: by a signal, the console's closing, or `request`. Between ``with`` it is obeyed at once.

    Nothing here waits for the thread that is to be stopped. May be entered again within itself.
    """

    def __init__(self) -> None:
        self.requested = threading.Event()
        self._calls: list[Callable[[], object]] = []
        self._asked = False
        self._safe = threading.Event()
        self._over = threading.Event()
        self._depth = 0
        self._entered: Any = None
        self._pen: socket.socket | None = None
        self._numbers: tuple[signal.Signals, ...] = ()
        self._breaks_off = 0
        self._poked = self._raised = False
        self._signals = 0
        self.trouble: str | None = None
        """What went wrong when something was called."""

    def on_request(self, call: Callable[[], object]) -> None:
        """Have something called by the safety thread when there is a request, after what was named before it.

        If there has been one, it is called now.
        """
        self._calls.append(call)
        if self.requested.is_set():
            self._attempt(call)

    def request(self) -> None:
        """Ask to stop. Returns at once; may be called from any thread and from a signal handler."""
        self._asked = True
        self._write(ASKED)
        if self._pen is None:  # obeyed when the block begins
            self.requested.set()

    @property
    def asked(self) -> bool:
        """Whether there was a request, though nobody may have obeyed it yet: `requested` is set when somebody does."""
        return self._asked

    @property
    def is_safe(self) -> bool:
        """Whether all that was to be called after a request has been."""
        return self._safe.is_set()

    @property
    def insists(self) -> bool:
        """Whether a second signal came: the user wants to wait for nothing that can be left out."""
        return self._signals > 1

    def settle(self) -> None:
        """If there was a request, wait until it was obeyed."""
        if self._asked:
            set_within(self._safe, SAFE_TIMEOUT_S)

    @contextmanager
    def breaks_off(self) -> Iterator[None]:
        """Within, a request raises KeyboardInterrupt in the main thread; in another one, at the end of the block."""
        self._breaks_off += 1
        try:
            self._raise_if_asked()
            with self._raised_again() if _in_main_thread() else nullcontext():
                yield
            self._raise_if_asked()
        except Exception:  # an import makes another exception of KeyboardInterrupt now and then
            self._raise_if_asked()
            raise
        finally:
            self._breaks_off -= 1

    def on_console_event(self, event: int) -> bool:
        """Obey Windows, which ends the process when this returns: after the block, or after 4.5 s."""
        if event not in CLOSING_EVENTS:
            return False
        self.request()
        set_within(self._over, CONSOLE_S)
        return True

    def __enter__(self) -> Self:
        self._depth += 1
        if self._depth == 1:
            self._entered = self._listening()
            self._entered.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._entered.__exit__(None, None, None)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        ear, self._pen = socket.socketpair()
        self._pen.setblocking(False)
        thread = threading.Thread(target=self._listen, args=(ear,), name="streamtrack-safety", daemon=True)
        thread.start()
        if self._asked:
            self._write(ASKED)
        with ear, self._pen, _woken_by_signals(self._pen), heard_by(self._on_signal) as self._numbers:
            with _told_by_console(self.on_console_event):
                try:
                    yield
                finally:
                    self._write(OVER)
                    joined_within(thread, SAFE_TIMEOUT_S)
                    self._over.set()

    def _write(self, number: int) -> None:
        if self._pen is not None:
            with suppress(OSError):  # closed: the block is over; full: it is asked already
                self._pen.send(bytes((number,)))

    def _listen(self, ear: socket.socket) -> None:
        """Safety thread: wait for a request, and obey the first."""
        obeyed, heard = False, b""
        while OVER not in heard:
            try:
                heard = ear.recv(64)
            except OSError:
                return
            if not obeyed and not {ASKED, *self._numbers}.isdisjoint(heard):
                obeyed = True
                self._obey()
            if DROPPED in heard and not set_within(self._over, DROPPED_S):
                self._poke()

    def _obey(self) -> None:
        self._asked = True
        self.requested.set()
        for call in self._calls:
            self._attempt(call)
        self._safe.set()
        self._poke()

    def _poke(self) -> None:
        """Break off what the main thread does there: it hears nothing but a signal."""
        if self._breaks_off and self._numbers and not self._raised:
            self._poked = True
            _thread.interrupt_main(self._numbers[0])

    def _attempt(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # what follows has to be called all the same
            self.trouble = self.trouble or f"{type(error).__name__}: {error}"

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._poked:
            self._poked = False
        else:
            self._signals += number != getattr(signal, "SIGHUP", None)  # a terminal that closes sends two
            self._asked = True
            self._write(ASKED)  # the C handler has written already, unless somebody else took its socket
        if self._breaks_off and not self._raised:  # once: what has been built is being closed then
            self._raised = True
            raise KeyboardInterrupt

    @contextmanager
    def _raised_again(self) -> Iterator[None]:
        """Within, what Python drops because it came in a destructor or a callback of one is raised once more."""
        told = sys.unraisablehook

        def dropped(told_of: "sys.UnraisableHookArgs") -> None:
            if not (self._raised and issubclass(told_of.exc_type, KeyboardInterrupt)):
                told(told_of)
            else:
                self._raised = False
                self._write(DROPPED)  # raised here it would be dropped again

        sys.unraisablehook = dropped
        try:
            yield
        finally:
            sys.unraisablehook = told

    def _raise_if_asked(self) -> None:
        if self._asked:
            raise KeyboardInterrupt


@contextmanager
def instead_of_dying(stop: Stop) -> Iterator[None]:
    """Have signals that would end the program at once request a stop and then raise KeyboardInterrupt, the first time.

    For a run in somebody else's program, whose own handlers of signals stay.
    """
    raised = False

    def hear(*_: object) -> None:
        nonlocal raised
        stop.request()
        if not raised:
            raised = True
            raise KeyboardInterrupt

    with heard_by(hear, only_deadly=True):
        yield


@contextmanager
def _woken_by_signals(pen: socket.socket) -> Iterator[None]:
    """Have the interpreter write the number of each signal to a socket, whatever the main thread is doing."""
    if not _in_main_thread():
        yield
        return
    previous = signal.set_wakeup_fd(pen.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)


@contextmanager
def _told_by_console(handler: Callable[[int], bool]) -> Iterator[None]:
    """Have Windows call ``handler`` in a thread of its own when the console closes; other systems send a signal."""
    if sys.platform != "win32":
        yield
        return
    import ctypes

    routine = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(handler)  # kept alive until the end of the block
    ctypes.windll.kernel32.SetConsoleCtrlHandler(routine, True)
    try:
        yield
    finally:
        ctypes.windll.kernel32.SetConsoleCtrlHandler(routine, False)
