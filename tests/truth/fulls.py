"""When a collector says its whole table: at its start, when one is owed, and every period.

In virtual time the period may be an hour instead of a minute. What a second full must confirm (a table that lost most of its
agents, rule 6) is confirmed as soon as in real life all the same.
"""

_REAL = 60.0  # seconds: collector.full_interval
_MANY = 10  # agents lost at once that may be doubted


class Fulls:
    """The plan of one collector. `period`: seconds between fulls."""

    def __init__(self, period: float) -> None:
        self._period, self._at, self._again = period, 0.0, 0
        self.said_one = False  # in this life of the collector

    def begin(self) -> None:
        """The collector starts."""
        self.said_one, self._at, self._again = False, 0.0, 1

    def is_due(self, now: float) -> bool:
        return now >= self._at or not self.said_one

    def said(self, now: float, *, owed: bool) -> None:
        """One was said; `owed`: for what was given up or could not be sent."""
        self._again = max(self._again, 1) if owed else self._again
        self._at = now + (min(_REAL, self._period) if self._again else self._period)
        self._again = max(0, self._again - 1)
        self.said_one = True

    def lost(self, now: float, gone: int) -> None:
        """So many agents left the table at once."""
        if gone >= _MANY:
            self._at, self._again = min(self._at, now + _REAL), 1
