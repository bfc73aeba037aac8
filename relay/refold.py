"""The snapshots that a ledger holds of its nodes become tables again. Pure.

What `relay.tables` folds of them, but all at once and without a word of what is new. Every node of a cluster has a row for every agent and
the same client.keys, so that ten nodes hold a million rows of a hundred thousand agents: columns of a full snapshot that are those of the
one before, byte for byte, are unpacked and checked once. What is alike is held once, as by `relay.alike`: a row of an agent that was never
in contact, a key, each name, address and time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, TypeVar

import msgpack

from shared import wire
from shared.columns import Column, Columns, Reader, malformed
from shared.models import AgentRow, KeyEntry

from .byid import ById
from .tables import Table

_Held = TypeVar("_Held", AgentRow, KeyEntry)

_LIMITS: Final = {"max_array_len": wire.MAX_ROWS, "max_ext_len": 0}


Known = dict[str, tuple[bytes, Column]]
"""Columns of the last full snapshot by their names: as they came, and as they were read."""


class _Columns(Reader):
    """Reads columns: their values become those of `values`, where all that comes is put; a column whose bytes are in `known` is that."""

    def __init__(self, packed: Mapping[str, bytes], values: dict[Any, Any], known: Known) -> None:
        super().__init__({})
        self._packed, self._values, self._known = packed, values, known

    def ints(self, name: str, *, nullable: bool = False) -> Column:
        """Numbers."""
        return self._known[name][1] if self._is_known(name) else self._keep(name, super().ints(name, nullable=nullable))

    def texts(self, name: str, *, nullable: bool = False) -> Column:
        """Texts."""
        return self._known[name][1] if self._is_known(name) else self._keep(name, super().texts(name, nullable=nullable))

    def words(self, name: str, words: Sequence[object]) -> Column:
        """Words."""
        self._fields[name] = _value(self._packed, name)
        return super().words(name, words)

    def _is_known(self, name: str) -> bool:
        if self._known.get(name, (b"",))[0] == self._packed.get(name):
            return True
        self._fields[name] = _value(self._packed, name)
        return False

    def _keep(self, name: str, column: Column) -> Column:
        column = list(map(self._values.setdefault, column, column))
        self._known[name] = self._packed[name], column
        return column


class Refold:
    """Folds snapshots into tables, one after the other, and remembers the last full one."""

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}
        self._known: Known = {}
        self._blank = ById[AgentRow]()  # the rows of agents that were never in contact
        self._key_columns: Columns = ()
        self._keys = ById[KeyEntry]()

    def fold(self, table: Table, payload: bytes) -> None:
        """Bring a table's rows and keys to what a snapshot says; digest and who is quiet are the caller's.

        Raises ValueError, or Quarantine: malformed, newer_schema, oversized.
        """
        packed = _fields(wire.unwrapped(payload))
        wire.check_version(_value(packed, "v"))
        full = _value(packed, "kind") == "full"
        read = _Columns(packed, self._values, self._known if full else {})
        rows, keys = wire.row_columns(read), wire.key_columns(read)
        if _value(packed, "source_state") == "ok":
            table.rows = self._all_rows(rows) if full else _brought(table.rows, rows[0], _new(AgentRow, rows), read.ints("gone"))
            table.rows.pop(0, None)  # the manager itself, never an agent
        if _value(packed, "keys_state") == "ok":
            table.keys = self._all_keys(keys) if full else _brought(table.keys, keys[0], _new(KeyEntry, keys), read.ints("keys_gone"))

    def _all_rows(self, columns: Columns) -> ById[AgentRow]:
        before = self._blank.of(columns[0])
        made = _same(before, _new(AgentRow, columns))
        blank = [new for old, new in zip(before, made, strict=True) if new is not old and new.last_keepalive is None]
        self._blank.put([row.id for row in blank], blank)
        return _brought(ById(), columns[0], made, ())

    def _all_keys(self, columns: Columns) -> ById[KeyEntry]:
        if self._key_columns != columns:
            self._keys = _brought(ById(), columns[0], _same(self._keys.of(columns[0]), _new(KeyEntry, columns)), ())
            self._key_columns = columns
        return self._keys.copy()


def _new(kind: type[_Held], columns: Columns) -> Iterator[_Held]:
    return map(tuple.__new__, repeat(kind), zip(*columns, strict=True))  # as `_make` does, which is the half of it again


def _same(before: Sequence[_Held | None], come: Iterable[_Held]) -> list[_Held]:
    return [old if old == new else new for old, new in zip(before, come, strict=True)]


def _brought(held: ById[_Held], numbers: Sequence[int], come: Iterable[_Held], gone: Iterable[int]) -> ById[_Held]:
    for number in gone:
        held.pop(number, None)
    held.put(numbers, list(come))
    return held


def _fields(packed: bytes) -> dict[str, bytes]:
    """The msgpack of each field. Raises Quarantine: malformed."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(packed), **_LIMITS)
    unpacker.feed(packed)
    fields: dict[str, bytes] = {}
    try:
        for _ in range(unpacker.read_map_header()):
            name, begin = unpacker.unpack(), unpacker.tell()
            unpacker.skip()
            fields[name] = packed[begin : unpacker.tell()]
    except (ValueError, TypeError, msgpack.OutOfData) as error:
        raise malformed("it is not a msgpack map") from error
    return fields


def _value(packed: Mapping[str, bytes], name: str) -> Any:
    return msgpack.unpackb(packed[name], **_LIMITS) if name in packed else None
