"""The quarantine: messages that could not be accepted or published, kept aside in the ledger with the reason and as they came.

Its size is bounded: the oldest give way. How much there is is counted once, and then kept in mind; `doubt` forgets it.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from . import stored
from .schema import QUARANTINE
from .stored import Quarantined

PAGE: Final = 200  # messages that give way at once
_SIZE: Final = func.length(QUARANTINE.c.payload) + func.length(QUARANTINE.c.headers)

Transaction = Callable[[], AbstractContextManager[Connection]]


class Shelf:
    """The part of a ledger that holds them. All times are Unix ms by the stream's clock. Raises as a ledger does."""

    def __init__(self, read: Transaction, write: Transaction) -> None:
        self._read, self._write = read, write
        self._bytes: int | None = None

    def doubt(self) -> None:
        """Something was deleted or rolled back."""
        self._bytes = None

    def put(
        self,
        connection: Connection,
        position: int,
        now: int,
        subject: str,
        reason: str,
        sentence: str,
        headers: Mapping[str, str],
        payload: bytes,
    ) -> None:
        """Keep a message, within a transaction."""
        text = stored.headers_text(headers)
        connection.execute(
            insert(QUARANTINE).values(
                position=position,
                now=now,
                subject=stored.plain(subject),
                reason=reason,
                sentence=stored.plain(sentence),
                headers=text,
                payload=payload,
            )
        )
        if self._bytes is not None:
            self._bytes += len(payload) + len(text)

    def keep_event(
        self, position: int, now: int, subject: str, reason: str, sentence: str, headers: Mapping[str, str], payload: bytes
    ) -> None:
        """Keep an event that cannot be published; once, however often it is told. Its headers hold its Nats-Msg-Id."""
        known = select(QUARANTINE.c.number).where(
            QUARANTINE.c.position == position,
            QUARANTINE.c.subject == stored.plain(subject),
            QUARANTINE.c.headers == stored.headers_text(headers),
        )
        with self._write() as connection:
            if connection.execute(known.limit(1)).first() is None:
                self.put(connection, position, now, subject, reason, sentence, headers, payload)

    def kept(self, limit: int, before: int | None = None) -> list[Quarantined]:
        """The last messages, or the last before a number, the newest first."""
        query = select(QUARANTINE).order_by(QUARANTINE.c.number.desc()).limit(limit)
        with self._read() as connection:
            found = connection.execute(query if before is None else query.where(QUARANTINE.c.number < before))
            return list(map(stored.quarantined_of, found))

    def drop(self, position: int, subject: str) -> int:
        """Let go of a message; how many there were."""
        self.doubt()
        this = delete(QUARANTINE).where(QUARANTINE.c.position == position, QUARANTINE.c.subject == stored.plain(subject))
        with self._write() as connection:
            return connection.execute(this).rowcount

    def held(self) -> tuple[int, int]:
        """How many messages there are, and their bytes."""
        with self._read() as connection:
            count, size = connection.execute(select(func.count(), func.coalesce(func.sum(_SIZE), 0)).select_from(QUARANTINE)).one()
        return int(count), int(size)

    def bound(self, most: int) -> int:
        """Let the oldest go until there are at most so many bytes; how many messages went."""
        if self._bytes is None:
            with self._read() as connection:
                self._bytes = int(connection.scalar(select(func.coalesce(func.sum(_SIZE), 0))) or 0)
        went = 0
        while self._bytes is not None and self._bytes > most:
            went += self._give_way(self._bytes - most)
        return went

    def _give_way(self, excess: int) -> int:
        """Let at most PAGE of the oldest go, for so many bytes; how many went."""
        with self._write() as connection:
            oldest = connection.execute(select(QUARANTINE.c.number, _SIZE).order_by(QUARANTINE.c.number).limit(PAGE)).all()
            sums = list(accumulate(size for _, size in oldest))
            gone = oldest[: 1 + bisect_left(sums, excess)]
            connection.execute(delete(QUARANTINE).where(QUARANTINE.c.number.in_([number for number, _ in gone])))
        self._bytes = None if self._bytes is None or not gone else self._bytes - sums[len(gone) - 1]
        return len(gone)
