import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest

from streamtrack import interrupts
from streamtrack.interrupts import Stop, on_ctrl_c, stop_signals
from streamtrack.waiting import set_within

posix = pytest.mark.skipif(sys.platform == "win32", reason="sends signals of POSIX")


def in_child(code, *, before=""):
    """Run code in a process of its own, whose main thread gets signals; return what it printed."""
    text = "import hashlib, os, signal, threading, time\nfrom streamtrack.interrupts import *\n" + textwrap.dedent(code)
    command = [sys.executable, "-c", text]
    if before:
        command = ["sh", "-c", f'{before}; exec "$0" "$@"', *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_request_is_obeyed_in_order_by_a_thread_of_its_own_and_only_once():
    stop, calls = Stop(), []
    stop.on_request(lambda: calls.append(threading.current_thread().name))
    stop.on_request(lambda: calls.append("then"))
    with stop:
        stop.request()
        stop.request()
        stop.settle()
        assert stop.is_safe
        stop.on_request(lambda: calls.append("late"))
    assert calls == ["streamtrack-safety", "then", "late"]
    assert not [thread for thread in threading.enumerate() if thread.name == "streamtrack-safety"]


def test_what_goes_wrong_is_kept_and_does_not_keep_the_next_from_being_tried():
    stop, calls = Stop(), []
    stop.on_request(lambda: sys.exit("enough"))
    stop.on_request(lambda: calls.append("closed"))
    with stop:
        stop.request()
        stop.settle()
    assert calls == ["closed"]
    assert stop.trouble == "SystemExit: enough"


def test_a_request_before_the_block_is_obeyed_when_it_begins():
    stop, safe = Stop(), threading.Event()
    stop.on_request(safe.set)
    stop.request()
    assert not safe.is_set()
    with stop:
        assert set_within(safe, 30)


def test_preparations_are_broken_off_by_a_request_from_elsewhere():
    stop = Stop()

    def prepare():
        with stop.breaks_off():
            threading.Timer(0.1, stop.request).start()
            for _ in range(300):
                time.sleep(0.1)

    with stop, pytest.raises(KeyboardInterrupt):
        prepare()
    with pytest.raises(KeyboardInterrupt), stop.breaks_off():
        raise AssertionError("it had been requested before")


@posix
def test_closing_what_had_been_built_is_not_broken_off_by_a_second_signal():
    said = in_child("""
        stop = Stop()
        stop.on_request(lambda: time.sleep(0.3))
        try:
            with stop, stop.breaks_off():
                try:
                    signal.raise_signal(signal.SIGINT)
                finally:
                    signal.raise_signal(signal.SIGINT)
                    time.sleep(1)
                    print("closed", flush=True)
        except KeyboardInterrupt:
            print("once")
    """)
    assert said == ["closed", "once"]


def test_what_an_import_makes_of_a_keyboard_interrupt_is_one_again():
    stop = Stop()

    def load():
        with stop.breaks_off():
            stop.request()
            raise RuntimeError("Error calling __set_name__")

    with pytest.raises(KeyboardInterrupt):
        load()


def test_in_another_thread_preparations_end_with_their_block():
    stop, outcome = Stop(), []

    def prepare():
        try:
            with stop, stop.breaks_off():
                stop.request()
                stop.settle()
                outcome.append("went on")
        except KeyboardInterrupt:
            outcome.append("broken off")

    thread = threading.Thread(target=prepare)
    thread.start()
    thread.join(30)
    assert outcome == ["went on", "broken off"]


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_is_obeyed_while_the_main_thread_is_in_a_c_call_that_does_not_return(name):
    took_s, late = in_child(f"""
        stop = Stop()
        stop.on_request(lambda: print(time.monotonic() - sent_s, flush=True))
        with stop:
            sent_s = time.monotonic() + 0.1
            threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.{name})).start()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)
            print(time.monotonic() - sent_s)
    """)
    assert float(took_s) < float(late)


@posix
def test_a_second_ctrl_c_insists_and_raises_nothing_and_the_handlers_are_given_back():
    said = in_child("""
        before = [signal.getsignal(number) for number in stop_signals()]
        with Stop() as stop:
            signal.raise_signal(signal.SIGINT)
            print(stop.insists)
            signal.raise_signal(signal.SIGINT)
            print(stop.insists)
        print(before == [signal.getsignal(number) for number in stop_signals()], signal.set_wakeup_fd(-1))
    """)
    assert said == ["False", "True", "True", "-1"]


@posix
def test_other_signals_are_none_of_our_business():
    said = in_child("""
        signal.signal(signal.SIGUSR1, lambda *_: print("theirs"))
        with Stop() as stop:
            signal.raise_signal(signal.SIGUSR1)
            time.sleep(0.3)
            print(stop.requested.is_set())
    """)
    assert said == ["theirs", "False"]


@posix
def test_a_signal_that_is_ignored_stays_ignored():
    said = in_child(
        """
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            time.sleep(0.3)
            print(stop.requested.is_set())
            signal.raise_signal(signal.SIGTERM)
            stop.requested.wait(30)
            print(stop.requested.is_set())
    """,
        before="trap '' HUP",
    )
    assert said == ["False", "True"]


def test_the_second_signal_breaks_off_what_only_looks_between_its_steps():
    asked = []

    def twice():
        with on_ctrl_c(lambda: asked.append(True)):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert asked == [True]


@posix
def test_ctrl_break_is_heard_where_there_is_such_a_thing(monkeypatch):
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    assert signal.SIGUSR1 in stop_signals()
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert set_within(stop.requested, 30)


@pytest.mark.parametrize("event", [2, 5, 6])
def test_a_console_that_closes_is_kept_waiting_until_the_block_is_over(event):
    stop, safe = Stop(), []
    stop.on_request(lambda: (time.sleep(0.3), safe.append(True)))  # a microscope takes its time
    answers = []
    with stop:
        console = threading.Thread(target=lambda: answers.append(stop.on_console_event(event)))
        console.start()
        assert set_within(stop.requested, 30)
        stop.settle()
        assert safe == [True]
        time.sleep(0.2)
        assert answers == []
    console.join(30)
    assert answers == [True]


def test_a_console_is_not_kept_waiting_longer_than_windows_allows(monkeypatch):
    monkeypatch.setattr(interrupts, "CONSOLE_S", 0.2)
    with Stop() as stop:
        assert stop.on_console_event(2)


@pytest.mark.parametrize("event", [0, 1])
def test_ctrl_c_and_ctrl_break_come_as_signals_and_not_as_events(event):
    with Stop() as stop:
        assert not stop.on_console_event(event)
        assert not stop.requested.is_set()


def test_a_signal_heard_in_a_callback_that_python_lets_nothing_out_of_is_raised_after_it(capsys):
    class Thing:
        pass

    kept = [Thing()]
    watched = weakref.ref(kept[0], lambda _: signal.raise_signal(signal.SIGINT))

    def prepare():
        with stop.breaks_off():
            kept.clear()
            threading.Event().wait(5)
            kept.append("reached")

    with Stop() as stop:
        with pytest.raises(KeyboardInterrupt):
            prepare()
    assert watched() is None
    assert not kept
    assert capsys.readouterr().err == ""
