"""What a ledger restores is what was heard, and of what all nodes say alike each thing is held once."""

from collections.abc import Sequence
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import tables
from relay.refold import Refold
from relay.tables import Table
from shared import wire
from shared.errors import Quarantine
from shared.models import AgentRow, KeyEntry
from tests.relay.lab import T0, Speaker, key, row
from tests.relay.test_alike import CONTENT, Content, snapshot

STATES = st.sampled_from(["ok", "ok", "ok", "silent"])
KEYS_STATES = st.sampled_from(["ok", "ok", "ok", "denied"])
NUMBERS = st.lists(st.integers(0, 6), max_size=3)
SAID = st.builds(
    lambda content, kind, source, keys, gone, keys_gone: replace(
        snapshot(content, kind), source_state=source, keys_state=keys, gone=tuple(gone), keys_gone=tuple(keys_gone)
    ),
    CONTENT, st.sampled_from(["full", "delta"]), STATES, KEYS_STATES, NUMBERS, NUMBERS,
)  # fmt: skip


def tables_of(again: Refold, *said: Content) -> list[Table]:
    many = [Table() for _ in said]
    for table, one in zip(many, said, strict=True):
        again.fold(table, wire.encode(snapshot(one)))
    return many


@given(st.lists(st.lists(SAID, min_size=1, max_size=3), min_size=1, max_size=3))
def test_a_table_is_what_the_fold_made_of_its_snapshots(nodes: Sequence[Sequence[wire.Snapshot]]) -> None:
    """Whatever was read before, and whatever was done meanwhile to the tables that were read."""
    again = Refold()
    for snapshots in nodes:
        folded, restored = Table(), Table()
        for said in snapshots:
            tables.absorb(folded, said)
            again.fold(restored, wire.encode(said))
        assert (restored.rows, restored.keys) == (folded.rows, folded.keys)
        assert tables.digest(restored.rows.values()) == folded.digest
        assert [list(map(type, one)) for one in restored.rows.values()] == [list(map(type, one)) for one in folded.rows.values()]
        tables.absorb(restored, Speaker("w", "worker").snapshot("full", T0, rows=(row(3, "pending"),), keys=(key(row(5, "pending")),)))


def test_who_was_never_in_contact_is_one_row_on_all_nodes_and_a_key_is_one_key() -> None:
    blank, met = row(1000, "never_connected"), row(2000, "active", T0)
    content = [blank, met], [key(blank), key(met)]
    one, two, three = tables_of(Refold(), content, ([blank, met], [key(blank)]), content)
    assert one.rows[1000] is two.rows[1000] is three.rows[1000]
    assert one.rows[2000] is not two.rows[2000]
    assert one.keys[1000] is two.keys[1000] is three.keys[1000]


def test_a_node_that_has_been_met_in_between_is_blank_in_the_old_row_again() -> None:
    blank = row(1000, "never_connected")
    one, _, three = tables_of(Refold(), ([blank], []), ([row(1000, "active", T0)], []), ([blank], []))
    assert one.rows[1000] is three.rows[1000]


def test_texts_and_times_are_held_once_whether_or_not_their_column_is_the_same() -> None:
    def named(number: int, name: str) -> AgentRow:
        return row(number, "active", T0)._replace(name=name)

    one, two, three = tables_of(
        Refold(),
        ([named(1000, "web"), named(2000, "db")], []),
        ([named(1000, "web"), named(2000, "db")], []),
        ([named(1000, "web"), named(3000, "mail")], []),
    )
    assert one.rows[1000].name is two.rows[1000].name is three.rows[1000].name
    assert one.rows[1000].id is two.rows[1000].id is three.rows[1000].id
    assert (
        one.rows[1000].last_keepalive is one.rows[2000].last_keepalive is two.rows[2000].last_keepalive is three.rows[1000].last_keepalive
    )


def packed(**fields: object) -> bytes:
    told = msgpack.unpackb(wire.unwrapped(wire.encode(snapshot(([row(1, "active", T0)], [KeyEntry(1, "a", "any", removed=False)])))))
    again: bytes = msgpack.packb({name: value for name, value in (told | fields).items() if value is not None})
    return b"\x00" + again


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x00\x91\x01", "malformed"),
        (b"\x00", "malformed"),
        (b"\x00\x81\x90\x01", "malformed"),
        (b"\x00" + msgpack.packb({"v": wire.SCHEMA_VERSION + 1}), "newer_schema"),
        (packed(row_id=None), "malformed"),
        (packed(row_id=["1"]), "malformed"),
        (packed(row_name=[1]), "malformed"),
        (packed(row_status=b"\x09"), "malformed"),
        (packed(key_id=[1, 2]), "malformed"),
        (packed(v=None), "malformed"),
    ],
)
def test_what_is_no_snapshot_is_refused_whatever_was_read_before(payload: bytes, reason: str) -> None:
    again = Refold()
    for _ in range(2):
        with pytest.raises(Quarantine) as refused:
            again.fold(Table(), payload)
        assert refused.value.reason == reason
        again.fold(Table(), packed())
