"""What is alike is held once: the rows and keys of a snapshot, as they are made. Pure.

Every node of a cluster has a row for every agent and the same client.keys, so that ten nodes hold a million rows of a hundred thousand
agents; and a full snapshot repeats each minute what is known. What equals a value that is held becomes that very value: a whole row of the
node's own table, or of any other where the agent was never in contact; a whole key; else each name, address and time by itself.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar, cast

from shared import wire
from shared.models import AgentRow, KeyEntry

from .byid import ById
from .tables import Table

_Held = TypeVar("_Held", AgentRow, KeyEntry)
_Values = tuple[Any, ...]

CHUNK: Final = 4_096  # values looked at together: what is needed on the way stays small

_LAST_KEEPALIVE: Final = AgentRow._fields.index("last_keepalive")


class Alike:
    """Makes the values of one snapshot of a node. `tables`: its own first, then the others."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._own = tables[0].rows
        # The table that came last is the likeliest to be like this one, and the first is the master's, whose rows are like no other's.
        self._others = [table.rows for table in reversed(tables[1:]) if table.rows]
        self._keys = [table.keys for table in (tables[0], *reversed(tables[1:])) if table.keys]
        self._pool: dict[Any, Any] = {}

    def rows(self, columns: wire.Columns) -> Iterator[AgentRow]:
        """A row for each place in the columns."""
        for many in _chunks(columns):
            held = self._own.of([values[0] for values in many])
            unlike = _unlike(held, many, range(len(many))) if self._own else range(len(many))
            blank = [at for at in unlike if many[at][_LAST_KEEPALIVE] is None]
            met = [at for at in unlike if many[at][_LAST_KEEPALIVE] is not None] if len(blank) < len(unlike) else ()
            for at in (*met, *_look(self._others, held, many, blank)):
                held[at] = self._new(many[at], held[at])
            yield from cast("list[AgentRow]", held)

    def _new(self, values: _Values, like: AgentRow | None) -> AgentRow:
        """`like`: a row of the same id, if one is at hand."""
        same = self._pool.setdefault
        for rows in () if like else self._others:
            like = rows.get(values[0])
            if like is not None:
                break
        made = [old if old == new else same(new, new) for old, new in zip(like, values, strict=True)] if like else map(same, values, values)
        return tuple.__new__(AgentRow, made)  # as `_make` does, which is the half of it again

    def keys(self, columns: wire.Columns) -> Iterator[KeyEntry]:
        """A key for each place in the columns."""
        same = self._pool.setdefault
        for many in _chunks(columns):
            held: list[KeyEntry | None] = [None] * len(many)
            for at in _look(self._keys, held, many, range(len(many))):
                held[at] = KeyEntry._make(map(same, many[at], many[at]))
            yield from cast("list[KeyEntry]", held)


def _chunks(columns: wire.Columns) -> Iterator[list[_Values]]:
    every = zip(*columns, strict=True)
    while many := list(islice(every, CHUNK)):
        yield many


def _look(tables: Sequence[ById[_Held]], held: list[_Held | None], many: Sequence[_Values], places: Sequence[int]) -> Sequence[int]:
    """Put in its place what equals the values there in one of the tables; the places for which there is none."""
    for table in tables:
        found = table.of([many[at][0] for at in places])
        if found == many:
            held[:] = found
            return ()
        for at, one in zip(places, found, strict=True):
            held[at] = one
        places = _unlike(held, many, places)
    return places


def _unlike(held: Sequence[_Held | None], many: Sequence[_Values], places: Sequence[int]) -> list[int]:
    return [at for at in places if held[at] != many[at]]
