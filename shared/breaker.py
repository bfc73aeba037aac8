"""When to ask a dependency that failed again: a circuit breaker, with backoff. Pure: the time is passed in, monotonic seconds.

    closed     the last attempt succeeded: everybody may ask, at no cost
    open       the last attempt failed: nobody asks until the backoff is over
    half-open  one asks, the others wait for what comes of it

One failure opens it: what is asked here either answers or is away, and each caller keeps what it wanted to do.
After Nygard, "Release It!", 2007, chapter 5.
"""

from typing import Final, Literal

from .backoff import Backoff

State = Literal["closed", "half-open", "open"]

TRIAL_S: Final = 5.0
"""After so long a trial of which nobody told the end is taken for given up, and somebody else may try."""


class Breaker:
    """The state of one dependency. `why` is the last failure's sentence, empty while it is closed."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._until = 0.0
        self.state: State = "closed"
        self.why = ""

    def delay(self, now: float) -> float:
        """Seconds to wait before asking; 0: ask now, and tell what came of it."""
        if self.state == "closed":
            return 0.0
        if now < self._until:
            return self._until - now
        self.state, self._until = "half-open", now + TRIAL_S
        return 0.0

    def patience(self, now: float) -> float:
        """Seconds for which it is left alone; asks for nothing."""
        return max(0.0, self._until - now) if self.state == "open" else 0.0

    def hurry(self) -> None:
        """Let an open breaker be tried at once; the backoff goes on where it was."""
        if self.state == "open":
            self._until = 0.0

    def failed(self, now: float, why: str) -> None:
        """It did not answer."""
        self.state, self.why, self._until = "open", why, now + self._backoff.next()

    def succeeded(self) -> None:
        """It answered."""
        self.state, self.why = "closed", ""
        self._backoff.reset()
