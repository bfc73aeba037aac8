"""The outbox's place in a ledger, within a transaction: what waits, how far it is sent, and the chain that it makes."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Case, ColumnElement, Connection, case, delete, select, update
from sqlalchemy import Row as Found

from . import stored
from .chain import GENESIS, Chain, Head
from .database import Prepared, execute
from .events import Message
from .schema import META, OUTBOX


def put(
    connection: Connection, insert: Prepared, meta: Found[Any], messages: Sequence[Message], position: int, traceparent: str = ""
) -> None:
    """Put in what is not known to be sent, tied to the end of the chain; `meta` counts all of it already. `traceparent`: as in
    `stored.outbox_rows`."""
    before = meta.outbox_sequence - len(messages)
    end = Chain(Head(meta.chain, max(before, meta.sent_through), meta.chain_digest))
    unsent = messages[max(0, meta.sent_through - before) :]
    execute(connection, insert, stored.outbox_rows(end.extend(unsent, position), position, traceparent))
    if unsent:
        connection.execute(update(META).values(chain=end.head.chain, chain_digest=end.head.digest))


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
    connection.execute(delete(OUTBOX).where(OUTBOX.c.sequence <= sequence))


def at_least(column: ColumnElement[int], number: int) -> Case[int]:
    """The greater of the two."""
    return case((column < number, number), else_=column)
