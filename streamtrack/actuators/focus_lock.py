"""Keeps the continuous focus as it was, whatever moves or focuses."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamtrack.errors import MicroscopeError, described
from streamtrack.protocols import HasAutofocus, Microscope
from streamtrack.waiting import acquired_within, set_within, within

LOCK_S = 5.0
"""How long a device may take to find the focus again."""
BUSY_S = 1.0
"""How long a move waits for another one, or for a search of the focus."""
LOOK_S = 0.02


class FocusLock:
    """Has the continuous focus let go while something moves, and locked again after that.

    Parameters
    ----------
    microscope
        The hardware.
    is_over
        Whether the run was stopped or disarmed: the focus is given back all the same, but nobody waits for it.

    Attributes
    ----------
    device
        The microscope, if it has an autofocus.
    outcome
        What became of the focus when it was last given back; None where it never was let go.
    """

    def __init__(self, microscope: Microscope, is_over: Callable[[], bool]) -> None:
        self.device = microscope if isinstance(microscope, HasAutofocus) else None
        self.outcome: str | None = None
        self._is_over = is_over
        self._busy = threading.Lock()
        self._is_owed = False

    @contextmanager
    def kept(self, *, pause: bool) -> Iterator[None]:
        """Have the focus held after the block if it was before; with ``pause`` it is not held within.

        Raises
        ------
        MicroscopeError
            Something else moves or focuses, the device does not answer, or the focus does not lock again.
        """
        if self.device is None:
            yield
            return
        if not acquired_within(self._busy, BUSY_S):
            raise MicroscopeError("another command is still moving or focusing: give the rules longer cool_down_s")
        try:
            self._is_owed = self._is_owed or self.device.continuous_focus()
            try:
                if pause and self._is_owed:
                    self.device.set_continuous_focus(False)
                yield
            finally:
                self._restore(self.device)
        finally:
            self._busy.release()

    def give_back(self) -> None:
        """Have the focus held again if it is not because that failed before. Waits for nobody, and raises nothing."""
        if self.device is None or not self._is_owed or not acquired_within(self._busy, 0):
            return
        try:
            self._restore(self.device)
        except Exception as error:  # asked again the next time
            self.outcome = described(error)
        finally:
            self._busy.release()

    def _restore(self, device: HasAutofocus) -> None:
        try:
            if device.continuous_focus() != self._is_owed:
                device.set_continuous_focus(self._is_owed)
        except MicroscopeError as error:
            self.outcome = described(error)
            raise
        was_held, self._is_owed = self._is_owed, False
        if was_held:
            self.outcome = "held"
            self._wait(device)

    def _wait(self, device: HasAutofocus) -> None:
        def is_locked(step_s: float) -> bool:
            return device.is_focus_locked() or set_within(threading.Event(), min(step_s, LOOK_S))

        if not within(LOCK_S, is_locked, self._is_over) and not self._is_over():
            self.outcome = "not locked"
            raise MicroscopeError(f"the focus did not lock again within {LOCK_S:g} s: look whether it is in range")
