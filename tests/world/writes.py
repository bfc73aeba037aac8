"""What a world writes on its managers' disks: rows of `agent` and client.keys, node by node, in order.

`Journal` gathers them. Rows that get the same columns in the same instant are one Update, as one statement for many
ids, unless one of the ids was written otherwise in between.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Value = int | str | None
Columns = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row of `agent`; `row` holds every column of the node's schema that is not left to its default."""

    node: str
    at: float
    row: Columns


@dataclass(frozen=True, slots=True)
class Update:
    """The same columns for many rows. An id without a row is passed over, as SQL does."""

    node: str
    at: float
    ids: tuple[int, ...]
    columns: Columns


@dataclass(frozen=True, slots=True)
class Delete:
    node: str
    at: float
    ids: tuple[int, ...]


class Line(Protocol):
    """A line of client.keys: `state.KeyLine`."""

    def text(self) -> str:
        """As it stands in the file."""


@dataclass(frozen=True, slots=True, match_args=False)
class Keys:
    """The whole new content of client.keys; its text is only made for who reads it."""

    __match_args__ = ("node", "at", "text")

    node: str
    at: float
    content: str | Sequence[Line] = field(repr=False)

    @property
    def text(self) -> str:
        """The file."""
        return self.content if isinstance(self.content, str) else "".join(line.text() for line in self.content)


Write = Insert | Update | Delete | Keys


def as_json(write: Write) -> dict[str, object]:
    """The form in which a manager process reads it; `node` and `at` stay with the driver."""
    match write:
        case Insert():
            return {"op": "insert", "row": write.row}
        case Update():
            return {"op": "update", "ids": write.ids, "columns": write.columns}
        case Delete():
            return {"op": "delete", "ids": write.ids}
        case Keys():
            return {"op": "keys", "text": write.text}


@dataclass(slots=True)
class _Bulk:
    node: str
    at: float
    ids: list[int]
    columns: Columns

    def frozen(self) -> Update:
        return Update(self.node, self.at, tuple(self.ids), self.columns)


_Group = tuple[str, tuple[tuple[str, Value], ...]]


class Journal:
    """Writes since the last `take`."""

    def __init__(self) -> None:
        self._entries: list[Insert | Delete | Keys | _Bulk] = []
        self._at = float("-inf")
        self._groups: dict[_Group, int] = {}
        self._touched: dict[tuple[str, int], int] = {}

    def add(self, write: Insert | Delete | Keys) -> None:
        self._instant(write.at)
        ids = write.ids if isinstance(write, Delete) else (write.row["id"],) if isinstance(write, Insert) else ()
        for number in ids:
            self._touched[write.node, int(number or 0)] = len(self._entries)
        self._entries.append(write)

    def update(self, node: str, at: float, number: int, columns: Columns) -> None:
        """One row. It joins an Update of the same instant and columns unless the row was written after that one."""
        self._instant(at)
        group = (node, tuple(columns.items()))
        place = self._groups.get(group, -1)
        if place < self._touched.get((node, number), 0) or place < 0:
            place = self._groups[group] = len(self._entries)
            self._entries.append(_Bulk(node, at, [], columns))
        bulk = self._entries[place]
        assert isinstance(bulk, _Bulk)
        bulk.ids.append(number)
        self._touched[node, number] = place

    def bulk(self, node: str, at: float, ids: Iterable[int], columns: Columns) -> None:
        """Many rows at once, as its own Update: what is cheap for thousands of keepalives."""
        self._instant(at)
        numbers = list(ids)
        if numbers:
            self._groups.clear()
            self._entries.append(_Bulk(node, at, numbers, columns))

    def take(self) -> list[Write]:
        entries, self._entries = self._entries, []
        self._groups.clear()
        self._touched.clear()
        return [entry.frozen() if isinstance(entry, _Bulk) else entry for entry in entries]

    def _instant(self, at: float) -> None:
        if at != self._at:
            self._at = at
            self._groups.clear()
            self._touched.clear()
