"""What a snapshot says is the same whoever makes its values; what was held before is held once."""

from hypothesis import given
from hypothesis import strategies as st

from relay import alike, tables
from relay.alike import Alike
from relay.fleet import Fleet
from relay.tables import Table
from shared import models, wire
from shared.models import AgentRow, KeyEntry
from tests.relay.lab import T0, Speaker, key, row

ROWS = st.builds(
    AgentRow,
    st.integers(0, 6),
    st.sampled_from(["web", "db"]),
    st.sampled_from([None, "any"]),
    st.sampled_from(models.CONNECTION_STATUSES),
    st.sampled_from([None, 0, 1, 1000]),
    st.sampled_from([0, T0]),
    st.sampled_from([None, 0, T0]),
    st.sampled_from([0, T0]),
    st.sampled_from([None, "w"]),
)
KEYS = st.builds(KeyEntry, st.integers(0, 6), st.sampled_from(["web", "db"]), st.just("any"), st.booleans())
Content = tuple[list[AgentRow], list[KeyEntry]]
CONTENT = st.tuples(st.lists(ROWS, max_size=6), st.lists(KEYS, max_size=6))


def snapshot(content: Content, kind: wire.Kind = "full") -> wire.Snapshot:
    return Speaker("w", "worker").snapshot(kind, T0, rows=tuple(content[0]), keys=tuple(content[1]))


def decoded(said: wire.Snapshot, *known: Table) -> wire.Snapshot:
    return wire.decode(wire.encode(said), Alike(known))


@given(CONTENT, st.lists(CONTENT, min_size=1, max_size=3))
def test_a_snapshot_says_the_same_whatever_is_held(said: Content, held: list[Content]) -> None:
    known = [Table() for _ in held]
    for table, content in zip(known, held, strict=True):
        tables.absorb(table, snapshot(content))
    made = decoded(snapshot(said), *known)
    assert made == snapshot(said)
    assert [list(map(type, one)) for one in made.rows] == [list(map(type, one)) for one in said[0]]


def test_a_full_that_says_nothing_new_makes_nothing() -> None:
    known, content = Table(), ([row(1, "active", T0), row(2, "never_connected")], [key(row(1, "active"))])
    tables.absorb(known, decoded(snapshot(content), known))
    again = decoded(snapshot(content), known)
    assert all(one is known.rows[one.id] for one in again.rows)
    assert all(one is known.keys[one.id] for one in again.keys)


def test_of_another_nodes_table_only_who_was_never_in_contact_is_taken() -> None:
    """Two nodes that say the same of an agent say it of two contacts."""
    other = Table()
    tables.absorb(other, snapshot(([row(1, "active", T0), row(2, "never_connected")], [])))
    made = decoded(snapshot(([row(1, "active", T0), row(2, "never_connected")], [])), Table(), other)
    assert [one is other.rows[one.id] for one in made.rows] == [False, True]


def test_texts_and_times_are_held_once() -> None:
    known, other = Table(), Table()
    tables.absorb(known, decoded(snapshot(([row(1000, "active", T0), row(2000, "active", T0)], [key(row(1000, "active"))])), known))
    tables.absorb(other, decoded(snapshot(([row(1000, "active", T0 + 5, node="w")], [])), other, known))
    first, second, elsewhere = known.rows[1000], known.rows[2000], other.rows[1000]
    assert first.last_keepalive is second.last_keepalive
    assert known.keys[1000].name is first.name
    assert known.keys[1000].id is first.id
    assert (elsewhere.id is first.id, elsewhere.name is first.name, elsewhere.ip is first.ip) == (True, True, True)


def test_more_than_is_looked_at_together() -> None:
    rows = [row(number, "never_connected" if number % 3 else "active", T0 if number % 5 else None) for number in range(1, alike.CHUNK + 10)]
    content = (rows, [key(one) for one in rows])
    known = Table()
    tables.absorb(known, decoded(snapshot(content), known))
    assert (list(known.rows.values()), list(known.keys.values())) == content
    assert decoded(snapshot(content), Table(), known) == snapshot(content)


def test_a_fleet_asks_the_node_itself_first_and_a_node_that_is_new() -> None:
    fleet = Fleet("lab", tables={"m": Table(), "w": Table()})
    tables.absorb(fleet.tables["w"], snapshot(([row(1, "never_connected")], [])))
    for node in ("m", "w", "new"):
        made = wire.decode(wire.encode(snapshot(([row(1, "never_connected")], []))), fleet.alike(node))
        assert made.rows[0] is fleet.tables["w"].rows[1]
