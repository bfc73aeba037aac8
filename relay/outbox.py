"""The outbox's place in a ledger, within a transaction: what waits, how far it is sent, and the chain that it makes."""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from sqlalchemy import Case, ColumnElement, Connection, bindparam, case, delete, select, update
from sqlalchemy import Row as Found

from . import stored
from .chain import GENESIS, Chain, Head
from .database import Prepared, execute
from .events import Message
from .schema import META, OUTBOX
from .stored import Outgoing

FRESH: Final = 2_000  # messages

_TIED: Final = update(META).values(chain=bindparam("to_chain"), chain_digest=bindparam("to_digest"))
_SENT: Final = delete(OUTBOX).where(OUTBOX.c.sequence <= bindparam("through"))


class Fresh:
    """The last messages that were put in, so that they need not be read again at once: all behind the first of them, or none."""

    def __init__(self) -> None:
        self._last: deque[Outgoing] = deque(maxlen=FRESH)

    def add(self, news: Sequence[Outgoing] | None) -> None:
        """What `put` gave."""
        if news is None or (news and self._last and self._last[-1].sequence + 1 != news[0].sequence):
            self._last.clear()
        self._last.extend(news or ())

    def forget(self, through: int | None = None) -> None:
        """All up to a sequence is sent; None: nobody knows what was committed."""
        while self._last and (through is None or self._last[0].sequence <= through):
            self._last.popleft()

    def after(self, sequence: int, limit: int) -> list[Outgoing]:
        """The first that stand behind a sequence; none where these are to be read."""
        skipped = sequence + 1 - self._last[0].sequence if self._last else -1
        return list(islice(self._last, skipped, skipped + limit)) if skipped >= 0 else []


def waiting(connection: Connection, after: int, limit: int) -> list[Outgoing]:
    """The first messages behind a sequence."""
    found = connection.execute(select(OUTBOX).where(OUTBOX.c.sequence > after).order_by(OUTBOX.c.sequence).limit(limit))
    return list(stored.outgoing_of(found))


def put(
    connection: Connection, insert: Prepared, meta: Found[Any], messages: Sequence[Message], position: int, traceparent: str = ""
) -> Sequence[Outgoing] | None:
    """Put in what is not known to be sent, tied to the end of the chain; `meta` counts all of it already. `traceparent`: as in
    `stored.outgoing`. What was put in; None where that is too much to be kept in mind."""
    before = meta.outbox_sequence - len(messages)
    end = Chain(Head(meta.chain, max(before, meta.sent_through), meta.chain_digest))
    unsent = messages[max(0, meta.sent_through - before) :]
    news: Iterable[Outgoing] = stored.outgoing(end.extend(unsent, position), position, traceparent)
    kept = list(news) if len(unsent) <= FRESH else None
    execute(connection, insert, stored.outbox_rows(news if kept is None else kept))
    if unsent:
        connection.execute(_TIED, {"to_chain": end.head.chain, "to_digest": end.head.digest})
    return kept


def head(connection: Connection) -> Head | None:
    """The chain up to the last message that is known to be in EVENTS; None where none has begun by then."""
    meta = connection.execute(select(META)).one()
    waiting = select(OUTBOX.c.chain, OUTBOX.c.previous).where(OUTBOX.c.sequence == meta.sent_through + 1)
    following = connection.execute(waiting).first()
    chain, digest = (meta.chain, meta.chain_digest) if following is None else following
    return Head(chain, int(meta.sent_through), digest) if chain and digest != GENESIS else None


def advance(connection: Connection, sequence: int, last: ColumnElement[int], end: Head | None = None) -> None:
    """All up to `sequence` is in EVENTS, and the last one given out is `last`. `end`: the chain up to there, where it may be news."""
    if end is not None:
        news = sequence > META.c.outbox_sequence, sequence > META.c.sent_through
        connection.execute(update(META).where(*news).values(chain=end.chain, chain_digest=end.digest))
    connection.execute(update(META).values(sent_through=at_least(META.c.sent_through, sequence), outbox_sequence=last))
    connection.execute(_SENT, {"through": sequence})


def at_least(column: ColumnElement[int], number: int) -> Case[int]:
    """The greater of the two."""
    return case((column < number, number), else_=column)
