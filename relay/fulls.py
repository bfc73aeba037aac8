"""Full snapshots that are read one after the other become tables: those of a ledger that is restored. Pure.

Every node of a cluster has a row for every agent and the same client.keys, so that ten nodes hold a million rows of a hundred thousand
agents. Most columns of a payload are those of the one before, byte for byte: they are unpacked and checked once. What is alike is held
once, as `relay.alike` would: a row of an agent that was never in contact, a key, each name, address and time.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, Final

import msgpack

from shared import wire
from shared.columns import Column, Columns, Reader, malformed
from shared.models import AgentRow, KeyEntry

from .byid import ById
from .tables import Table

_LIMITS: Final = {"max_array_len": wire.MAX_ROWS, "max_ext_len": 0}


class _Columns(Reader):
    """Reads columns. One whose bytes are those of the payload before is the very same; of another each value that is known is."""

    def __init__(self, packed: Mapping[str, bytes], known: dict[str, tuple[bytes, Column]], values: dict[str, dict[Any, Any]]) -> None:
        super().__init__({})
        self._packed, self._known, self._values = packed, known, values

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
        known = self._values.setdefault(name, {})
        column = list(map(known.setdefault, column, column))
        self._known[name] = self._packed[name], column
        return column


class Fulls:
    """Reads one full snapshot after the other, and remembers the last."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bytes, Column]] = {}
        self._values: dict[str, dict[Any, Any]] = {}  # of each column that changes from payload to payload: each of them once
        self._blank = ById[AgentRow]()  # the rows of agents that were never in contact
        self._key_columns: Columns = ((),) * len(KeyEntry._fields)
        self._keys = ById[KeyEntry]()

    def table(self, payload: bytes, digest: int) -> Table:
        """The table that `tables.absorb` makes of this snapshot alone, but for who is quiet. Raises ValueError, or Quarantine:
        malformed, newer_schema, oversized."""
        packed = _fields(wire.unwrapped(payload))
        wire.check_version(_value(packed, "v"))
        read, table = _Columns(packed, self._known, self._values), Table(digest=digest)
        rows, keys = wire.row_columns(read), wire.key_columns(read)
        if _value(packed, "source_state") == "ok":
            table.rows = self._rows_of(rows)
        if _value(packed, "keys_state") == "ok":
            table.keys = self._keys_of(keys)
        return table

    def _rows_of(self, columns: Columns) -> ById[AgentRow]:
        come = map(tuple.__new__, repeat(AgentRow), zip(*columns, strict=True))  # as `_make` does, which is the half of it again
        before = self._blank.of(columns[0])
        made = [old if old == new else new for old, new in zip(before, come, strict=True)]
        blank = [new for old, new in zip(before, made, strict=True) if new is not old and new.last_keepalive is None]
        self._blank.put([row.id for row in blank], blank)
        rows = ById[AgentRow]()
        rows.put(columns[0], made)
        if 0 in rows:
            del rows[0]  # the manager itself, never an agent
        return rows

    def _keys_of(self, columns: Columns) -> ById[KeyEntry]:
        if self._key_columns != columns:
            come, before = map(KeyEntry._make, zip(*columns, strict=True)), self._keys.of(columns[0])
            self._keys = ById()
            self._keys.put(columns[0], [old if old == new else new for old, new in zip(before, come, strict=True)])
        self._key_columns = columns
        return self._keys.copy()


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
