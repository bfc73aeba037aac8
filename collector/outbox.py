"""What is to be sent: the spool, and beside it one place in memory for what is worth sending only while it is the newest.

Rules
 * Everything leaves in the order in which it was made.
 * What is kept goes to the spool. Where the disk refuses, a gap is owed and the full that stands for it may go through
   memory: a node with a full disk still says what it believes.
 * What is passing (beats, periodic fulls) replaces what passed before. Where something was replaced unsent, a fresh full
   is owed as soon as nothing waits any more.

The reader thread fills it, the publisher's thread empties it.
"""

import threading
from collections.abc import Callable

from shared import wire

from .spool import Item, Spool, SpoolFailed


class Outbox:
    """`wake` is called, from the reader thread, whenever there is something to send."""

    def __init__(self, spool: Spool, wake: Callable[[], None]) -> None:
        self._spool = spool
        self._wake = wake
        self._lock = threading.Lock()
        self._passing: Item | None = None
        self._owes_full = False

    @property
    def gap(self) -> bool:
        """Whether something was given up that no full has stood for yet."""
        return self._spool.gap

    @property
    def owes_full(self) -> bool:
        """Whether it is time for a fresh full: something was dropped, and nothing waits."""
        return self._owes_full and self._passing is None and not self._spool.depth()

    def depth(self) -> int:
        """How many items wait in the spool."""
        return self._spool.depth()

    def size(self) -> int:
        """Bytes of the payloads that wait in the spool."""
        return self._spool.size()

    def oldest_age(self, now_ms: int) -> float:
        """Seconds since the oldest snapshot in the spool was taken; 0 where nothing waits or the disk does not say."""
        try:
            taken_at = wire.taken_at(self._spool.head())
        except SpoolFailed:
            return 0.0
        return 0.0 if taken_at is None else max(0, now_ms - taken_at) / 1000

    def remember_period(self, period: int) -> None:
        """Let the next process know the agents' rhythm, once it is learnt. Raises SpoolFailed."""
        if period not in (0, self._spool.period):
            self._spool.remember_period(period)

    def keep(self, item: Item, *, gap: bool) -> bool:
        """Put an item into the spool; `gap`: it is a full flagged as one. False: everything was given up (see Spool.put).

        Raises SpoolFailed where the disk refuses; a full then passes through memory.
        """
        try:
            return self._spool.put(item, gap=gap)
        except SpoolFailed:
            if item.kind == "full":
                self.offer(item)
            raise
        finally:
            self._wake()

    def offer(self, item: Item) -> None:
        """Send this if it is still the newest when its turn comes."""
        with self._lock:
            self._owes_full = item.kind != "full" and (self._owes_full or self._passing is not None)
            self._passing = item
        self._wake()

    def tidy(self) -> None:
        """Let the disk forget what NATS has; it costs nothing where there is nothing. Raises SpoolFailed."""
        self._spool.tidy()

    def next(self) -> Item | None:
        """What leaves now. Raises SpoolFailed."""
        kept, passing = self._spool.oldest(), self._passing
        if kept is None or passing is None:
            return kept or passing
        return min(kept, passing, key=lambda item: item.order)

    def sent(self, item: Item) -> None:
        """NATS has it."""
        if not self._passed(item):
            self._spool.forget(item)

    def refused(self, item: Item) -> None:
        """NATS will never take it: let go of it and owe a gap. Raises SpoolFailed."""
        self._passed(item)
        self._spool.refuse(item)

    def _passed(self, item: Item) -> bool:
        with self._lock:
            if self._passing is item:
                self._passing = None
                return True
            return False
