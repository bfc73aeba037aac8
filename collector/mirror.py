"""What was last said of this node's agents, as digests: enough to tell what changed, and to prove that a copy is the same.

Pure. Not the rows: 10,000 agents cost half a megabyte here, and several as rows.

Rules
 * A row counts as changed where anything but its last_keepalive differs: by a hash of this process alone, which costs a quarter
   of `shared.models.row_digest`.
 * The table's digest is the sum of its rows' digests modulo 2**64, kept at the cost of what changed.
 * A complete reading says by absence who is gone; a partial one only by naming ids. A row that cannot be read is not
   absent: its last known digest stays, so that a receiver without it knows that its copy proves nothing.
 * No id is both in `rows` and in `gone`, so that a receiver may apply them in either order.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from shared.models import CONNECTION_STATUSES, DIGEST_MODULUS, AgentRow, ConnectionStatus, KeyEntry, row_digest

_ALIVE: Final = (CONNECTION_STATUSES.index("active"), CONNECTION_STATUSES.index("pending"))


class Seen(Protocol):
    """What a source showed: `collector.rows.Reading`."""

    @property
    def rows(self) -> Sequence[AgentRow]:
        """Absolute rows."""

    @property
    def complete(self) -> bool:
        """Whether `rows` are all there are."""

    @property
    def gone(self) -> Sequence[int]:
        """Ids without a row any more; only where the reading is not complete."""

    @property
    def unreadable(self) -> Sequence[int]:
        """Ids that have a row which cannot be read."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new since the last reading: rows to take over, ids to drop (ascending)."""

    rows: tuple[AgentRow, ...] = ()
    gone: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rows or self.gone)


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """The same for client.keys."""

    keys: tuple[KeyEntry, ...] = ()
    gone: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.keys or self.gone)


NO_CHANGES: Final = Changes()
NO_KEY_CHANGES: Final = KeyChanges()


class _Packed:
    """id -> a hash, 64 bits and a small tag, by ascending id, in 25 bytes each.

    Arrays rather than a dictionary of numbers: small objects that stay, made while thousands of rows come and go, would
    keep the memory of those rows from going back to the system.
    """

    def __init__(self) -> None:
        self.ids = array("q")
        self._hashes = array("q")
        self._bits = array("Q")
        self._tags = bytearray()

    def __len__(self) -> int:
        return len(self.ids)

    def get(self, number: int) -> tuple[int, int] | None:
        """(bits, tag)."""
        at = bisect_left(self.ids, number)
        return (self._bits[at], self._tags[at]) if at < len(self.ids) and self.ids[at] == number else None

    def put(self, number: int, hashed: int, bits: int = 0, tag: int = 0) -> None:
        at = bisect_left(self.ids, number)
        if at == len(self.ids) or self.ids[at] != number:
            self.ids.insert(at, number)
            self._hashes.insert(at, hashed)
            self._bits.insert(at, bits)
            self._tags.insert(at, tag)
        self._hashes[at], self._bits[at], self._tags[at] = hashed, bits, tag

    def holds(self, number: int, hashed: int) -> bool:
        """Whether a number is held, with this hash."""
        at = bisect_left(self.ids, number)
        return at < len(self.ids) and self.ids[at] == number and self._hashes[at] == hashed

    def are(self, numbers: Iterable[int], hashes: Iterable[int]) -> bool:
        """Whether these are all numbers, in their order, with their hashes."""
        return array("q", numbers) == self.ids and array("q", hashes) == self._hashes

    def pop(self, number: int) -> tuple[int, int]:
        """What was held; the number must be there."""
        at = bisect_left(self.ids, number)
        del self.ids[at], self._hashes[at]
        return self._bits.pop(at), self._tags.pop(at)


_KEEPALIVE: Final = AgentRow._fields.index("last_keepalive")


def _hashed(row: AgentRow) -> int:
    """Of this process alone, and it never leaves it."""
    return hash(row[:_KEEPALIVE] + row[_KEEPALIVE + 1 :])


class Mirror:
    """The last known table and client.keys of this node."""

    def __init__(self) -> None:
        self._rows = _Packed()
        self._keys = _Packed()
        self._by_status = [0] * len(CONNECTION_STATUSES)
        self._digest = 0

    @property
    def digest(self) -> int:
        """The sum of all rows' digests modulo 2**64."""
        return self._digest % DIGEST_MODULUS

    @property
    def count(self) -> int:
        """How many agents there are."""
        return len(self._rows)

    @property
    def by_status(self) -> dict[ConnectionStatus, int]:
        """How many agents there are of each status."""
        return dict(zip(CONNECTION_STATUSES, self._by_status, strict=True))

    def is_alive(self, number: int) -> bool:
        """Whether an agent's row said active or pending when it last changed."""
        held = self._rows.get(number)
        return held is not None and held[1] in _ALIVE

    def absorb(self, seen: Seen) -> Changes:
        """Take over a reading; what in it is news."""
        if self._is_all(seen):
            return NO_CHANGES
        changed = tuple(row for row in seen.rows if self._store(row))
        present = {row.id for row in seen.rows}.union(seen.unreadable)
        candidates = self._rows.ids if seen.complete else set(seen.gone)
        absent = sorted(number for number in candidates if number not in present and self._rows.get(number) is not None)
        for number in absent:
            self._account(*self._rows.pop(number), -1)
        return Changes(changed, tuple(absent))

    def absorb_keys(self, entries: Sequence[KeyEntry]) -> KeyChanges:
        """Take over the whole of client.keys; what in it is news. Of several entries with one id the last counts."""
        latest = {entry.id: entry for entry in entries}
        changed = tuple(entry for entry in latest.values() if self._store_key(entry))
        gone = tuple(number for number in self._keys.ids if number not in latest)
        for number in gone:
            self._keys.pop(number)
        return KeyChanges(changed, gone)

    def _is_all(self, seen: Seen) -> bool:
        """Whether a reading is what is known, row by row, as nearly every complete one is."""
        if not seen.complete or seen.unreadable or len(seen.rows) != len(self._rows):
            return False
        return self._rows.are((row.id for row in seen.rows), map(_hashed, seen.rows))

    def _store(self, row: AgentRow) -> bool:
        hashed = _hashed(row)
        if self._rows.holds(row.id, hashed):
            return False
        held, fresh = self._rows.get(row.id), (row_digest(row), CONNECTION_STATUSES.index(row.status))
        if held is not None:
            self._account(*held, -1)
        self._rows.put(row.id, hashed, *fresh)
        self._account(*fresh, 1)
        return True

    def _store_key(self, entry: KeyEntry) -> bool:
        hashed = hash(entry)
        if self._keys.holds(entry.id, hashed):
            return False
        self._keys.put(entry.id, hashed)
        return True

    def _account(self, digest: int, status: int, sign: int) -> None:
        self._digest += sign * digest
        self._by_status[status] += sign
