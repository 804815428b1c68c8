"""A clock that stands still until it is told to go on."""


class FakeClock:
    """Stand-in for :data:`streamtrack.clock.monotonic_ns`.

    Parameters
    ----------
    tick_ns
        How far each reading moves it on.
    """

    def __init__(self, tick_ns: int = 0) -> None:
        self._now_ns = 0
        self._tick_ns = tick_ns

    def __call__(self) -> int:
        """Return the time in ns."""
        self._now_ns += self._tick_ns
        return self._now_ns

    def advance(self, duration_ns: int) -> None:
        """Move the clock on."""
        self._now_ns += duration_ns
