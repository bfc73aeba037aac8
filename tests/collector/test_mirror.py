"""Laws of the mirror: what it calls news is exactly what a receiver needs to hold the same table."""

import dataclasses
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from collector.mirror import Changes, KeyChanges, Mirror
from shared.models import CONNECTION_STATUSES, DIGEST_MODULUS, AgentRow, KeyEntry, row_digest


@dataclasses.dataclass(frozen=True)
class Seen:
    rows: tuple[AgentRow, ...]
    complete: bool = True
    gone: tuple[int, ...] = ()
    unreadable: tuple[int, ...] = ()


def agent(number: int, **fields: Any) -> AgentRow:
    row = AgentRow(number, f"a{number}", None, "active", 0, 0, 100, 1, "node01")
    return row._replace(**fields)


ids = st.integers(1, 12)
rows = st.builds(
    AgentRow,
    id=ids,
    name=st.sampled_from(["web", "db"]),
    ip=st.sampled_from([None, "10.0.0.1"]),
    status=st.sampled_from(CONNECTION_STATUSES),
    code=st.sampled_from([None, 0, 3, 4]),
    disconnection_time=st.integers(0, 2),
    last_keepalive=st.one_of(st.none(), st.integers(0, 5)),
    date_add=st.integers(0, 1),
    node_name=st.sampled_from([None, "node01"]),
)
tables = st.lists(rows, unique_by=lambda row: row.id).map(tuple)
keys = st.lists(st.builds(KeyEntry, ids, st.sampled_from(["a", "b"]), st.just("any"), st.booleans())).map(tuple)


class Receiver(RuleBasedStateMachine):
    """A copy kept from changes alone, beside the table as the source showed it."""

    def __init__(self) -> None:
        super().__init__()
        self.mirror = Mirror()
        self.source: dict[int, AgentRow] = {}
        self.copy: dict[int, AgentRow] = {}
        self.keys: dict[int, KeyEntry] = {}
        self.key_copy: dict[int, KeyEntry] = {}

    def apply(self, changes: Changes) -> None:
        assert not {row.id for row in changes.rows} & set(changes.gone)
        for number in changes.gone:
            del self.copy[number]  # only what was there is said to be gone
        for row in changes.rows:
            self.copy[row.id] = row

    @rule(table=tables)
    def whole(self, table: tuple[AgentRow, ...]) -> None:
        self.source = {row.id: row for row in table}
        self.apply(self.mirror.absorb(Seen(table)))

    @rule(some=tables, gone=st.lists(ids))
    def part(self, some: tuple[AgentRow, ...], gone: list[int]) -> None:
        present = {row.id: row for row in some}
        self.source = {number: row for number, row in self.source.items() if number not in gone} | present
        self.apply(self.mirror.absorb(Seen(some, complete=False, gone=tuple(gone))))

    @rule(entries=keys)
    def client_keys(self, entries: tuple[KeyEntry, ...]) -> None:
        changes = self.mirror.absorb_keys(entries)
        self.keys = {entry.id: entry for entry in entries}
        for number in changes.gone:
            del self.key_copy[number]
        self.key_copy |= {entry.id: entry for entry in changes.keys}

    @invariant()
    def digest_count_and_statuses_are_the_tables(self) -> None:
        assert self.mirror.digest == sum(map(row_digest, self.source.values())) % DIGEST_MODULUS
        assert self.mirror.digest == sum(map(row_digest, self.copy.values())) % DIGEST_MODULUS
        assert self.mirror.count == len(self.source)
        for status, count in self.mirror.by_status.items():
            assert count == sum(row.status == status for row in self.source.values())

    @invariant()
    def only_keepalives_differ_between_source_and_copy(self) -> None:
        assert {n: row._replace(last_keepalive=0) for n, row in self.copy.items()} == {
            n: row._replace(last_keepalive=0) for n, row in self.source.items()
        }

    @invariant()
    def alive_are_the_active_and_pending_rows(self) -> None:
        alive = [n for n in range(14) if self.mirror.is_alive(n)]
        assert alive == sorted(n for n, row in self.source.items() if row.status in ("active", "pending"))

    @invariant()
    def keys_are_the_files(self) -> None:
        assert self.key_copy == self.keys


TestReceiver = Receiver.TestCase
TestReceiver.settings = settings(max_examples=40, stateful_step_count=30)


@given(tables)
def test_the_same_table_again_is_no_news(table: tuple[AgentRow, ...]) -> None:
    mirror = Mirror()
    mirror.absorb(Seen(table))
    later = tuple(row._replace(last_keepalive=99) for row in table)
    assert not mirror.absorb(Seen(later))


def test_a_change_of_anything_but_the_keepalive_is_news() -> None:
    for field in AgentRow._fields:
        mirror = Mirror()
        mirror.absorb(Seen((agent(1),)))
        row = agent(1, **{field: "disconnected" if field == "status" else 7})
        assert bool(mirror.absorb(Seen((row,), complete=False))) == (field != "last_keepalive"), field


def test_a_row_that_cannot_be_read_is_neither_gone_nor_news() -> None:
    mirror = Mirror()
    mirror.absorb(Seen((agent(1), agent(2))))
    assert not mirror.absorb(Seen((agent(1),), unreadable=(2, 3)))
    assert mirror.digest == (row_digest(agent(1)) + row_digest(agent(2))) % DIGEST_MODULUS
    assert mirror.absorb(Seen((agent(1),))) == Changes((), (2,))


def test_the_same_client_keys_again_are_no_news_and_duplicate_ids_do_not_flap() -> None:
    mirror = Mirror()
    entries = [KeyEntry(1, "a", "any", False), KeyEntry(1, "a", "any", True)]
    assert mirror.absorb_keys(entries) == KeyChanges((entries[1],), ())
    assert not mirror.absorb_keys(entries)
    assert mirror.absorb_keys([]) == KeyChanges((), (1,))


def test_ten_thousand_agents_cost_less_than_a_megabyte() -> None:
    mirror = Mirror()
    mirror.absorb(Seen(tuple(agent(number) for number in range(1, 10_001))))
    mirror.absorb_keys([KeyEntry(number, f"a{number}", "any", False) for number in range(1, 10_001)])
    held = [part for packed in (mirror._rows, mirror._keys) for part in vars(packed).values()]
    assert len(held) == 8
    assert sum(map(sys.getsizeof, held)) < 2**20
