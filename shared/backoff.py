"""How long to wait before the next attempt: exponential, with full jitter.

Pure: the random number comes in as a function. Full jitter (a uniform share of the ceiling) spreads a crowd of clients
that lost the same server best: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from collections.abc import Callable


class Backoff:
    """One series of attempts. `first` and `highest` in seconds; `jitter` gives a number from 0 to 1."""

    def __init__(self, first: float = 0.25, highest: float = 15.0, *, jitter: Callable[[], float]) -> None:
        self._first = first
        self._highest = highest
        self._jitter = jitter
        self._ceiling = first

    def next(self) -> float:
        """Seconds to wait now: a share of a ceiling that starts at `first` and doubles until it is `highest`."""
        ceiling = self._ceiling
        self._ceiling = min(2 * ceiling, self._highest)
        return ceiling * self._jitter()

    def reset(self) -> None:
        """Begin anew: the last attempt succeeded."""
        self._ceiling = self._first
