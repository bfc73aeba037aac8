"""Reads of a ledger what may be much: the tables of its nodes, and its agents. In a transaction of the ledger's."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from shared.models import AgentRow

from . import stored, tables
from .decided import Agent
from .refold import Refold
from .schema import AGENTS, SNAPSHOTS

PAGE: Final = 5_000  # agents read at once


def table(connection: Connection, number: int, kept: stored.Quiet, again: Refold) -> tables.Table:
    """The table of a node under its number, folded again as it was folded then. Raises what `Refold.fold` raises."""
    quiet, news, woken, digest = kept
    folded = tables.Table()
    payloads = select(SNAPSHOTS.c.payload).where(SNAPSHOTS.c.node_number == number).order_by(SNAPSHOTS.c.position)
    for (payload,) in connection.execute(payloads):
        again.fold(folded, bytes(payload))
    folded.digest = tables.digest(folded.rows.values()) if digest is None else digest
    folded.listen(dict(quiet), news, dict(woken))
    return folded


def page(connection: Connection, after: int) -> Sequence[Row[Any]]:
    """The first rows of agents whose id is greater, PAGE at most."""
    return connection.execute(select(AGENTS).where(AGENTS.c.agent_id > after).order_by(AGENTS.c.agent_id).limit(PAGE)).all()


def agents(connection: Connection, known: Sequence[tables.Table]) -> Iterator[Agent]:
    """Every agent by id, made of what the tables hold where that is the same."""
    found = page(connection, -1)
    while found:
        like: list[AgentRow | None] = [None] * len(found)
        for one in known:
            if None not in like:
                break
            like = [row or other for row, other in zip(like, one.rows.of([row.agent_id for row in found]), strict=True)]
        yield from stored.agents_of(found, like)
        found = page(connection, found[-1].agent_id)
