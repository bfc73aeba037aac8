"""A clock that stands still until a test moves it."""


class ManualClock:
    """Implements `shared.clock.Clock`."""

    def __init__(self, now_ms: int = 1_750_000_000_000) -> None:
        self._start_ms = now_ms
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return self._now_ms

    def monotonic(self) -> float:
        """Seconds that the test let pass."""
        return (self._now_ms - self._start_ms) / 1000

    def set_back(self, seconds: float) -> None:
        """Somebody sets the wall clock back; no time passes."""
        self._now_ms -= round(seconds * 1000)
        self._start_ms -= round(seconds * 1000)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_ms += round(seconds * 1000)
