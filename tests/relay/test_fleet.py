"""Laws of the books: the relay's copy of a node's table is the collector's."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from relay import tables
from relay.alike import Alike
from relay.decided import Hold
from relay.fleet import Fleet, Heard, Policy
from relay.tables import Table
from shared import wire
from shared.models import AgentRow
from tests.relay.lab import T0, Lab, Speaker, key, row

STATUS = st.sampled_from(["active", "disconnected", "pending", "never_connected"])


def rows_of(numbers: list[int], statuses: list[str]) -> list[AgentRow]:
    return [row(n, s, T0, code=3) for n, s in zip(numbers, statuses, strict=False)]  # type: ignore[arg-type]


changes = st.lists(
    st.tuples(st.sampled_from(["full", "delta", "beat"]), st.dictionaries(st.integers(1, 8), STATUS), st.sets(st.integers(1, 8))),
    max_size=12,
)


@given(changes)
def test_full_and_deltas_leave_the_collectors_table_and_its_digest(steps: list[tuple[str, dict[int, str], set[int]]]) -> None:
    speaker, table = Speaker("solo", "standalone"), Table()
    for kind, upserts, gone in steps:
        new = {r.id: r for r in rows_of(list(upserts), list(upserts.values()))}
        if kind == "full":
            speaker.rows = new
        elif kind == "delta":
            gone -= new.keys()
            speaker.rows = {n: r for n, r in speaker.rows.items() if n not in gone} | new
        rows = {"rows": tuple(new.values()), "gone": tuple(gone)} if kind == "delta" else {}
        said = speaker.snapshot(kind, T0, **rows)  # type: ignore[arg-type]
        tables.absorb(table, said)
        assert table.rows == speaker.rows
        assert table.digest == said.digest


def test_touched_are_the_ids_whose_row_key_or_silence_changed() -> None:
    speaker, table = Speaker("solo", "standalone"), Table()
    one, two = row(1, "active", T0), row(2, "active", T0)
    speaker.rows, speaker.keys = {1: one, 2: two}, {1: key(one), 2: key(two)}
    assert tables.absorb(table, speaker.snapshot("full", T0)) == {1, 2}
    assert tables.absorb(table, speaker.snapshot("full", T0)) == set()
    assert tables.absorb(table, speaker.snapshot("beat", T0, quiet=((2, T0),))) == {2}
    assert tables.absorb(table, speaker.snapshot("beat", T0)) == set()
    assert tables.absorb(table, speaker.snapshot("beat", T0, quiet=())) == {2}
    assert tables.absorb(table, speaker.snapshot("delta", T0, keys=(key(one, removed=True),))) == {1}
    assert tables.absorb(table, speaker.snapshot("delta", T0, keys_gone=(2,), gone=(5,))) == {2}


def test_row_0_is_the_manager_itself() -> None:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(0, "active", T0), row(1, "active", T0)], T0)
    assert set(lab.fleet.agents) == {1}


def test_a_gap_is_unproved_until_the_digest_agrees_again() -> None:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(1, "active", T0)], T0)
    assert lab.fleet.nodes["solo"].proved
    speaker = lab.speakers["solo"]
    speaker.rows[2] = row(2, "active", T0)
    speaker.seq += 1  # a delta that never arrived
    lab.beat("solo", T0 + 5)
    assert not lab.fleet.nodes["solo"].proved
    lab.delta("solo", speaker.rows[2], now=T0 + 6)
    assert lab.fleet.nodes["solo"].proved


def test_a_node_is_fresh_while_its_rows_were_read_lately() -> None:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(1, "active", T0)], T0)
    lab.ticks(T0 + 10, T0 + 30)
    assert lab.fleet.nodes["solo"].fresh
    lab.tick(T0 + 31)
    assert not lab.fleet.nodes["solo"].fresh
    lab.beat("solo", T0 + 40, source_state="locked", source_error="locked")
    assert not lab.fleet.nodes["solo"].fresh  # a dead source is not a quiet one
    lab.beat("solo", T0 + 41)
    assert lab.fleet.nodes["solo"].fresh


def test_what_drains_from_a_spool_does_not_make_a_node_fresh() -> None:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(1, "active", T0)], T0)
    lab.ticks(T0 + 10, T0 + 100)
    old = lab.speakers["solo"].snapshot("beat", T0 + 50)
    folded = lab.fleet.fold(Heard(3, (T0 + 101) * 1000, (T0 + 101) * 1000, old))
    assert not lab.fleet.nodes["solo"].fresh
    assert folded.late


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=30))
def test_the_offset_is_the_least_delay_seen_whatever_waited(delays: list[int]) -> None:
    lab = Fleet("lab", Policy())
    speaker = Speaker("solo", "standalone", skew=-20)
    for n, delay in enumerate(delays):
        said = speaker.snapshot("beat", T0 + n)
        lab.fold(Heard(n + 1, (T0 + n) * 1000 + delay, said.taken_at, said))
    assert lab.nodes["solo"].offset == 20_000 + min(delays)


def test_the_offset_follows_a_clock_that_was_set() -> None:
    lab = Fleet("lab", Policy())
    speaker = Speaker("solo", "standalone", skew=30)
    for n in range(0, 300, 100):
        said = speaker.snapshot("beat", T0 + n)
        lab.fold(Heard(n + 1, (T0 + n) * 1000, said.taken_at, said))
    assert lab.nodes["solo"].offset == -30_000
    speaker.skew = 0
    for n in range(300, 1900, 100):
        said = speaker.snapshot("beat", T0 + n)
        lab.fold(Heard(n + 1, (T0 + n) * 1000, said.taken_at, said))
    assert lab.nodes["solo"].offset == 0


def test_a_snapshot_from_the_future_does_not_keep_a_node_fresh() -> None:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(1, "active", T0)], T0)
    said = replace(lab.speakers["solo"].snapshot("beat", T0), taken_at=(T0 + 9_000) * 1000, as_of=(T0 + 9_000) * 1000)
    lab.fleet.fold(Heard(2, (T0 + 1) * 1000, (T0 + 1) * 1000, said))
    lab.ticks(T0 + 10, T0 + 60)
    assert not lab.fleet.nodes["solo"].fresh


def test_registrars_are_the_masters_or_everybody_where_none_is_heard() -> None:
    lab = Lab()
    lab.node("w1", "worker")
    lab.full("w1", [], T0)
    assert [n.node for n in lab.fleet.registrars()] == ["w1"]
    lab.node("m", "master")
    lab.full("m", [], T0)
    assert [n.node for n in lab.fleet.registrars()] == ["m"]


def test_counts_follow_the_agents() -> None:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(1, "active", T0), row(2, "active", T0)], T0)
    assert lab.fleet.counts["Active"] == 2
    lab.delta("solo", row(1, "disconnected", T0, code=3, dt=T0 + 3), now=T0 + 3)
    assert (lab.fleet.counts["Active"], lab.fleet.counts["Disconnected"]) == (1, 1)
    lab.delta("solo", now=T0 + 4, gone=[1], gone_keys=[1])
    assert (lab.fleet.counts["Active"], lab.fleet.counts["Disconnected"]) == (1, 0)


def test_where_the_stream_itself_was_silent_no_node_is_to_blame() -> None:
    lab = Lab()
    lab.node("solo")
    lab.node("other")
    lab.full("other", [], T0)
    lab.ticks(T0 + 10, T0 + 40)
    lab.full("solo", [row(1, "active", T0 + 40)], T0 + 40)
    lab.tick(T0 + 500)
    assert lab.fleet.nodes["solo"].fresh
    assert not lab.fleet.nodes["other"].fresh  # it was silent before the stream was
    lab.ticks(T0 + 510, T0 + 530)
    assert not lab.fleet.nodes["solo"].fresh


def test_who_is_adopted_takes_the_place_of_who_was_known() -> None:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(1, "active", T0), row(2, "active", T0)], T0)
    known = lab.fleet.agents[1]
    lab.fleet.adopt([known._replace(status="Disconnected", hold=Hold("reset", T0, T0 * 1000))])
    assert (lab.fleet.counts["Active"], lab.fleet.counts["Disconnected"], lab.fleet.holding) == (1, 1, {1})
    lab.fleet.adopt([known])
    assert (lab.fleet.counts["Active"], lab.fleet.counts["Disconnected"], lab.fleet.holding) == (2, 0, set())


def test_what_is_alike_on_two_nodes_is_held_once() -> None:
    """A million rows of a hundred thousand agents fit into memory: a key, and a row without a contact, are one object."""
    here, there = Table(), Table()
    rows = {1: row(1, "never_connected", node="unknown", added=0), 2: row(2, "active", T0, node="w1")}
    one, two = Speaker("w1", "worker", rows=rows), Speaker("w2", "worker", rows=dict(rows))
    one.keys = two.keys = {number: key(of) for number, of in rows.items()}
    for table, speaker, others in ((here, one, ()), (there, two, (Table(), here))):
        tables.absorb(table, wire.decode(wire.encode(speaker.snapshot("full", T0)), Alike([table, *others])))
    assert there.rows[1] is here.rows[1]
    assert all(there.keys[number] is here.keys[number] for number in rows)
    assert (there.rows, there.keys, there.digest) == (here.rows, here.keys, here.digest)


def test_whose_row_changed_is_kept_only_where_a_list_of_who_is_quiet_is_to_be_read_with_it() -> None:
    """The first full of a great table says of everybody that it is new: that is not worth a hundred thousand ids."""
    table, speaker = Table(), Speaker("m", "master", rows={1: row(1, "active", T0)})
    tables.absorb(table, speaker.snapshot("full", T0))
    assert table.news is None
    tables.absorb(table, speaker.snapshot("beat", T0 + 5, quiet=()))
    tables.absorb(table, speaker.snapshot("delta", T0 + 6, rows=(row(1, "pending", T0),)))
    assert table.news == {1}


def test_a_digest_that_is_known_is_not_summed_again() -> None:
    table = Table()
    tables.absorb(table, Speaker("m", "master", rows={1: row(1, "active", T0)}).snapshot("full", T0), digest=7)
    assert table.digest == 7
