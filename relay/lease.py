"""Who decides: one row in the ledger says which relay leads, in which epoch, and until when by the database's clock.

Rules
 * An epoch is given once: whoever takes the lease counts it up by one.
 * Every transaction that writes begins with a look at the row and keeps it locked (`held`). So all that was written in an epoch
   is there before the next one begins, and nothing is after it: there the writer is told that it is superseded.
 * The lease is taken where nobody has it or it ran out. The row of a relay that froze in the middle of a transaction is locked:
   its session is ended then, and the next attempt succeeds.
 * It is renewed apart from the ledger's thread, which may be long at one thing; and by every transaction that finds it old as
   it ends, so that a relay that works is not taken for one that died.
 * On SQLite the lock of the file says that nobody else is there: the lease is free for whoever holds that.

Safety comes from the epoch alone. The clock only says how soon a relay that died is followed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, select, true, update

from shared import clock
from shared.errors import WazuhJetstreamError

from . import migrations, stored
from .database import Database
from .schema import LEASE

_EPOCH: Final = select(LEASE.c.epoch)
RENEW: Final = 0.3
"""The part of the lease's duration after which it is renewed: two renewals may fail before it runs out."""


class Superseded(WazuhJetstreamError):
    """Another relay leads, or nobody does yet: this one stands by. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Who asks for the lease, in words that nobody else uses, and for how long (seconds)."""

    holder: str
    duration: float = 5.0


NAMELESS: Final = Terms("nameless")
"""For who has no other relay beside it."""


class Lease:
    """This relay's part in the lease. `epoch` is its own, 0 where it does not lead. For two threads: `held` is the ledger's,
    all else the lease's. Every method raises Unreachable where the database does not answer: the same again is right."""

    def __init__(self, database: Database, terms: Terms) -> None:
        self._database = database
        self._terms = terms
        self._clock = clock.SystemClock()
        self._until = database.now + round(terms.duration * 1000)
        self._taking_part = select(LEASE.c.epoch, LEASE.c.until, database.now).with_for_update()
        self.epoch = 0

    @property
    def alone(self) -> bool:
        """Whether nobody else can take it."""
        return self._database.alone

    def take(self) -> bool:
        """Take it if it is free; whether this relay leads now. Raises ConfigError where the ledger is of a newer program."""
        free = true() if self.alone else (LEASE.c.until <= self._database.now) | (LEASE.c.holder == self._terms.holder)
        with self._database.write() as connection:
            migrations.version(connection, self._database.where)
            before = connection.scalar(select(LEASE.c.epoch).where(free).with_for_update(skip_locked=True))
            if before is None:
                self._unlock(connection, free)
                return False
            taken = {"epoch": before + 1, "holder": stored.plain(self._terms.holder), "until": self._until}
            connection.execute(update(LEASE).values(taken))
        self.epoch = before + 1
        return True

    def holder(self) -> str:
        """Who took it last; empty where that relay gave it back."""
        with self._database.read() as connection:
            return stored.original(connection.scalar(select(LEASE.c.holder))) or ""

    def renew(self) -> None:
        """Keep it for another while. Raises Superseded where somebody else has taken it."""
        if self.alone:
            return
        with self._database.write() as connection:
            free_to_write = connection.scalar(select(LEASE.c.epoch).with_for_update(skip_locked=True)) is not None
            self.check(connection)
            if free_to_write:  # else the ledger's transaction is under way, and renews it
                connection.execute(update(LEASE).values(until=self._until))

    def release(self) -> None:
        """Give it back, if it is still ours."""
        epoch, self.epoch = self.epoch, 0
        if epoch and not self.alone:
            with self._database.write() as connection:
                connection.execute(update(LEASE).where(LEASE.c.epoch == epoch).values(holder="", until=0))

    @contextmanager
    def held(self, connection: Connection) -> Iterator[None]:
        """Around what a transaction writes: nobody else takes the lease meanwhile. Raises Superseded where somebody has it."""
        epoch, until, now = connection.execute(self._taking_part).one()
        self._check(epoch)
        began = self._clock.monotonic()
        yield
        lasts = (until - now) / 1000 - (self._clock.monotonic() - began)
        if lasts < (1 - RENEW) * self._terms.duration and not self.alone:
            connection.execute(update(LEASE).values(until=self._until))

    def check(self, connection: Connection) -> None:
        """Raise Superseded where this relay does not lead in what a transaction sees."""
        self._check(connection.scalar(_EPOCH))

    def _check(self, epoch: int | None) -> None:
        if not self.epoch:
            raise Superseded("this relay does not lead; it stands by")
        if epoch != self.epoch:
            raise Superseded(f"another relay leads in epoch {epoch}, after this one did in epoch {self.epoch}; this one stands by")

    def _unlock(self, connection: Connection, free: ColumnElement[bool]) -> None:
        if connection.scalar(select(LEASE.c.epoch).where(free)) is not None:
            self._database.evict(connection, LEASE)
