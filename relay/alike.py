"""What is alike is held once: the rows and keys of a snapshot, as they are made. Pure.

Every node of a cluster has a row for every agent and the same client.keys, so that ten nodes hold a million rows of a hundred thousand
agents; and a full snapshot repeats each minute what is known. What equals a value that is held becomes that very value: a whole row of the
node's own table, or of any other where the agent was never in contact; a whole key; else each name, address and time by itself.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, Final, TypeVar

from shared import wire
from shared.models import AgentRow, KeyEntry

from .byid import ById
from .tables import Table

_Held = TypeVar("_Held", AgentRow, KeyEntry)
_Values = tuple[Any, ...]

CHUNK: Final = 4_096  # values looked at together: what is needed on the way stays small

_id: Final = itemgetter(0)
_LAST_KEEPALIVE: Final = AgentRow._fields.index("last_keepalive")


class Alike:
    """Makes the values of one snapshot of a node. `tables`: its own first, then the others."""

    def __init__(self, tables: Sequence[Table]) -> None:
        # The table that came last is the likeliest to be like this one, and the first is the master's, whose rows are like no other's.
        order = [*tables[:1], *reversed(tables[1:])]
        self._rows = [table.rows for table in order]
        self._keys = [table.keys for table in order]
        self._pool: dict[Any, Any] = {}

    def rows(self, columns: wire.Columns) -> Iterator[AgentRow]:
        """A row for each place in the columns."""
        for many in _chunks(columns):
            blank = [at for at, values in enumerate(many) if values[_LAST_KEEPALIVE] is None]
            found = _found(self._rows[:1], many, range(len(many)))
            found |= _found(self._rows[1:], many, [at for at in blank if at not in found])
            for at, values in enumerate(many):
                yield found[at] if at in found else self._new(values)

    def _new(self, values: _Values) -> AgentRow:
        same = self._pool.setdefault
        for rows in self._rows:
            like = rows.get(values[0])
            if like is not None:
                return AgentRow._make([old if old == new else same(new, new) for old, new in zip(like, values, strict=True)])
        return AgentRow._make(map(same, values, values))

    def keys(self, columns: wire.Columns) -> Iterator[KeyEntry]:
        """A key for each place in the columns."""
        same = self._pool.setdefault
        for many in _chunks(columns):
            found = _found(self._keys, many, range(len(many)))
            for at, values in enumerate(many):
                yield found[at] if at in found else KeyEntry._make(map(same, values, values))


def _chunks(columns: wire.Columns) -> Iterator[list[_Values]]:
    every = zip(*columns, strict=True)
    while many := list(islice(every, CHUNK)):
        yield many


def _found(tables: Sequence[ById[_Held]], many: Sequence[_Values], places: Sequence[int]) -> dict[int, _Held]:
    """By its place in `many`, what equals the values there in one of the tables; for these places."""
    found: dict[int, _Held] = {}
    for table in filter(None, tables):
        held = table.of([many[at][0] for at in places])
        found.update((at, one) for at, one in zip(places, held, strict=True) if one == many[at])
        places = [at for at in places if at not in found]
    return found
