"""What is alike is held once: the rows and keys of a snapshot, as they are made. Pure.

Every node of a cluster has a row for every agent and the same client.keys, so that ten nodes hold a million rows of a hundred thousand
agents; and a full snapshot repeats each minute what is known. What equals a value that is held becomes that very value: a whole row of the
node's own table, or of any other where the agent was never in contact; a whole key; else each name, address and time by itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any, Final, TypeVar, cast

from shared.columns import Columns
from shared.models import AgentRow, KeyEntry

from .byid import ById
from .tables import Table

_Any = TypeVar("_Any")
_Held = TypeVar("_Held", AgentRow, KeyEntry)
_Values = tuple[Any, ...]

CHUNK: Final = 4_096  # values looked at together: what is needed on the way stays small

_LAST_KEEPALIVE: Final = AgentRow._fields.index("last_keepalive")
_NOBODY: Final = (None,) * len(AgentRow._fields)


class Alike:
    """Makes the values of one snapshot of a node. `tables`: its own first, then the others."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._own = tables[0].rows
        # The table that came last is the likeliest to be like this one, and the first is the master's, whose rows are like no other's.
        self._others = [table.rows for table in reversed(tables[1:]) if table.rows]
        self._keys = [table.keys for table in (tables[0], *reversed(tables[1:])) if table.keys]
        self._pool: dict[Any, Any] = {}

    def rows(self, columns: Columns) -> list[AgentRow]:
        """A row for each place in the columns."""
        made: list[AgentRow] = []
        for many in _chunks(zip(*columns, strict=True)):
            made += self._settled(self._own.of([values[0] for values in many]), many)
        return made

    def _settled(self, held: list[AgentRow | None], many: list[_Values]) -> list[AgentRow]:
        if held != many:
            unlike = _unlike(held, many, range(len(many)))
            blank = [at for at in unlike if many[at][_LAST_KEEPALIVE] is None]
            met = [at for at in unlike if many[at][_LAST_KEEPALIVE] is not None]
            places = [*met, *_look(self._others, held, many, blank)]
            for at, row in zip(places, self._made([held[at] for at in places], [many[at] for at in places]), strict=True):
                held[at] = row
        return cast("list[AgentRow]", held)

    def _made(self, like: list[AgentRow | None], come: list[_Values]) -> Iterator[AgentRow]:
        for rows in self._others:
            bare = [at for at, row in enumerate(like) if row is None]
            for at, row in zip(bare, rows.of([come[at][0] for at in bare]), strict=True):
                like[at] = row
        old = zip(*(row or _NOBODY for row in like), strict=True)
        columns = map(self._same, old, zip(*come, strict=True))
        return map(tuple.__new__, repeat(AgentRow), zip(*columns, strict=True))  # as `_make` does, which is the half of it again

    def _same(self, like: _Values, values: _Values) -> _Values:
        """Values, each of them that one which is held already: in its place in `like`, or anywhere in this snapshot."""
        same = self._pool.setdefault
        return like if like == values else tuple([old if old == new else same(new, new) for old, new in zip(like, values, strict=True)])

    def keys(self, columns: Columns) -> list[KeyEntry]:
        """A key for each place in the columns."""
        same = self._pool.setdefault
        made: list[KeyEntry] = []
        for many in _chunks(zip(*columns, strict=True)):
            held: list[KeyEntry | None] = [None] * len(many)
            for at in _look(self._keys, held, many, range(len(many))):
                held[at] = KeyEntry._make(map(same, many[at], many[at]))
            made += cast("list[KeyEntry]", held)
        return made


def _chunks(values: Iterable[_Any]) -> Iterator[list[_Any]]:
    every = iter(values)
    while many := list(islice(every, CHUNK)):
        yield many


def _look(tables: Sequence[ById[_Held]], held: list[_Held | None], many: Sequence[_Values], places: Sequence[int]) -> Sequence[int]:
    """Put in its place what equals the values there in one of the tables; the places for which there is none."""
    for table in tables:
        wanted = many if len(places) == len(many) else [many[at] for at in places]
        found = table.of([values[0] for values in wanted])
        for at, one in zip(places, found, strict=True):
            held[at] = one
        places = () if found == wanted else _unlike(held, many, places)
    return places


def _unlike(held: Sequence[_Held | None], many: Sequence[_Values], places: Sequence[int]) -> list[int]:
    return [at for at in places if held[at] != many[at]]
