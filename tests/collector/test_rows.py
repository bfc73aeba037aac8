"""The SELECTs are run on real SQLite, so that what they say is what Wazuh's table says."""

import sqlite3
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import known, rows
from shared.errors import SourceUnavailable
from shared.models import AgentRow
from tests.collector import schemas

Table = tuple[sqlite3.Connection, rows.Schema]


def learn(database: sqlite3.Connection) -> rows.Schema:
    columns = [name for (name,) in database.execute(rows.COLUMNS)]
    version = database.execute(rows.METADATA_VERSION).fetchone()
    return rows.schema(columns, database.execute(rows.USER_VERSION).fetchone()[0], version[0] if version else None, "node01")


def make(version: str = "4.14", *, checked: bool = True) -> Table:
    database = sqlite3.connect(":memory:")
    schemas.create(database, version, checked=checked)
    return database, learn(database)


def read(table: Table) -> rows.Decoded:
    return rows.decode(table[0].execute(rows.everything(table[1])))


def probe(table: Table, after: int = 0, up_to: int | None = None) -> rows.Probe:
    return rows.parse_probe(table[0].execute(rows.probe(table[1], after, up_to)).fetchone()[0])


def glance(table: Table) -> str:
    return rows.parse_glance(table[0].execute(table[1].glance).fetchone()[0])[0]


# The schema ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", schemas.AGENT)
def test_every_version_is_read_by_the_columns_it_has(version: str) -> None:
    table = make(version)
    table[0].execute(schemas.INSERT, schemas.agent(7, "disconnected"))
    (row,) = read(table).rows
    assert (row.id, row.name, row.ip, row.status, row.date_add) == (7, "agent-7", "10.0.0.7", "disconnected", 1_795_000_007)
    assert row.code == (None if version in ("4.2", "4.3") else 0)
    assert row.node_name == (None if version == "5.0" else "unknown")
    assert row.disconnection_time == 0
    assert table[1].db_version == schemas.DB_VERSION[version]
    assert probe(table).vector == rows.mark(row, "node01")


@pytest.mark.parametrize("version", schemas.AGENT)
def test_no_statement_ever_names_the_secret_key(version: str) -> None:
    _, schema = make(version)
    statements = (
        rows.everything(schema),
        rows.page(schema, 0, 1),
        rows.chosen(schema, [1], 0, 1),
        rows.probe(schema, 0, None),
        rows.keepalive_page(schema, 1, [1], 0, 1),
        rows.times_page(schema, 0, 1),
        rows.id_page(0, 1),
    )
    assert not any("internal_key" in statement or " * " in statement or "select *" in statement for statement in statements)


@pytest.mark.parametrize("columns", [[], ["id", "name"], ["id", "connection_status", 7], ["name", "connection_status"]])
def test_a_table_without_what_we_need_is_unsupported(columns: Sequence[object]) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        rows.schema(columns, 0, "7", "node01")
    assert caught.value.state == "unsupported"


def test_what_a_table_does_not_have_is_told_as_not_there() -> None:
    schema = rows.schema(["id", "name", "connection_status"], 0, "1", "node01")
    database = sqlite3.connect(":memory:")
    database.execute("create table agent (id integer primary key, name, connection_status)")
    database.execute("insert into agent values (3, 'x', 'pending')")
    assert read((database, schema)).rows == (AgentRow(3, "x", None, "pending", None, 0, None, 0, None),)
    assert probe((database, schema)).vector == bytes((60,))
    assert database.execute(rows.keepalive_page(schema, 9, [3], 0, 5)).fetchall() == [(3, None)]


@pytest.mark.parametrize(("columns", "shown"), [(["ip"], "1.1.1.1"), (["register_ip"], "any"), (["ip", "register_ip"], "1.1.1.1")])
def test_an_address_is_the_last_one_seen_else_the_registered_one(columns: list[str], shown: str) -> None:
    schema = rows.schema(["id", "name", "connection_status", *columns], 0, None, "node01")
    database = sqlite3.connect(":memory:")
    database.execute("create table agent (id integer primary key, name, connection_status, ip, register_ip)")
    database.execute("insert into agent values (1, 'x', 'active', '1.1.1.1', 'any')")
    assert read((database, schema)).rows[0].ip == shown


@pytest.mark.parametrize(
    ("user_version", "metadata", "version"),
    [
        (0, "7", 7),
        (0, 7, 7),
        (1, None, 500),
        (2, None, 501),
        (0, None, 0),
        ("1", None, 0),
        (1000, None, 0),
        (0, "7; drop", 0),
        (1, "²", 500),
    ],
)
def test_the_databases_version_is_metadatas_else_that_of_5(user_version: object, metadata: object, version: int) -> None:
    assert rows.schema(["id", "name", "connection_status"], user_version, metadata, "node01").db_version == version


# Rows ---------------------------------------------------------------------------------------------------------------


def test_the_manager_itself_is_no_agent_and_pages_follow_ids() -> None:
    database, schema = table = make()
    database.executemany(schemas.INSERT, [schemas.agent(number) for number in (1, 2, 30, 400)])
    assert [row.id for row in read(table).rows] == [1, 2, 30, 400]
    assert [values[0] for values in database.execute(rows.page(schema, 2, 1))] == [30]
    assert [values[0] for values in database.execute(rows.chosen(schema, [400, 1, 5], 0, 9))] == [1, 400]
    assert [values[0] for values in database.execute(rows.chosen(schema, [400, 1, 5], 1, 9))] == [400]
    assert database.execute(rows.id_page(30, 9)).fetchall() == [(400,)]


def test_too_many_ids_for_one_request_are_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="501 ids"):
        rows.chosen(make()[1], range(501), 0, 9)


def test_the_quiet_are_active_or_pending_and_heard_before_the_time_and_the_sampled_are_anyone() -> None:
    database, schema = make()
    database.executemany(schemas.INSERT, [schemas.agent(i, s) for i, s in enumerate(("active", "pending", "disconnected", "active"), 1)])
    database.execute("update agent set last_keepalive = id * 100")
    assert database.execute(rows.keepalive_page(schema, 400, [], 0, 9)).fetchall() == [(1, 100), (2, 200)]
    assert database.execute(rows.keepalive_page(schema, 100, [3, 4, 99], 0, 9)).fetchall() == [(3, 300), (4, 400)]


def test_a_null_of_the_socket_is_a_missing_key() -> None:
    answer = {"i": 4, "n": "laptop-7", "a": "192.168.1.4", "s": "never_connected", "c": 0, "d": 0, "t": 5, "o": "unknown"}
    assert rows.decode([answer]).rows == (AgentRow(4, "laptop-7", "192.168.1.4", "never_connected", 0, 0, None, 5, "unknown"),)


GOOD: tuple[object, ...] = (1, "web", "any", "active", 0, 0, 10, 5, "node01")


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, None), (0, 0), (0, -1), (0, 100_000_000), (0, "1"), (0, 1.0), (0, True),
        (1, None), (1, 5), (1, b"web"), (1, "x" * 4097), (1, "half \ud800"),
        (2, 1), (2, "x" * 100_000),
        (3, None), (3, "gone"), (3, "Active"), (3, 1), (3, []),
        (4, -1), (4, 10), (4, "3"), (4, 1.5),
        (5, None), (5, -1), (5, 253_402_300_800), (5, "now"),
        (6, -1), (6, "now"), (6, float("nan")),
        (7, None), (7, 2**63),
        (8, {}), (8, "n" * 4097),
    ],
)  # fmt: skip
def test_a_hostile_value_costs_its_own_row_alone(at: int, value: object) -> None:
    bad = (*GOOD[:at], value, *GOOD[at + 1 :])
    found = rows.decode([GOOD, bad, (2, *GOOD[1:])])
    assert [row.id for row in found.rows] == [1, 2]
    assert found.refused == 1
    assert found.unreadable == (() if at == 0 else (1,))
    assert found.refusal.isascii()
    assert found.refusal.isprintable()
    assert len(found.refusal) < 300


def test_answers_are_put_together_with_the_first_refusal() -> None:
    bad = rows.decode([("no id", *GOOD[1:])])
    assert rows.together([rows.decode([GOOD]), bad, rows.decode([(5, *GOOD[1:3], "?", *GOOD[4:])])]) == rows.Decoded(
        rows.decode([GOOD]).rows, (5,), 2, bad.refusal
    )


def test_letters_of_any_script_are_names() -> None:
    assert rows.decode([(1, "büro-żółw-局", *GOOD[2:])]).rows[0].name == "büro-żółw-局"


# The probe ----------------------------------------------------------------------------------------------------------


def test_a_probe_shows_status_and_code_by_ascending_id_whatever_the_indexes() -> None:
    database, _ = table = make()
    for number, status, code in ((30, "active", 1), (2, "disconnected", 4), (400, "pending", 0), (5, "never_connected", 0)):
        database.execute(schemas.INSERT, schemas.agent(number, status))
        database.execute("update agent set status_code = ?, disconnection_time = ? where id = ?", (code, code * 7, number))
    found = probe(table)
    assert found.vector == bytes((54, 70, 41, 60)) == b"".join(rows.mark(row, "node01") for row in read(table).rows)
    assert (found.count, found.id_sum) == (4, 437)
    assert found.disconnection_sum == 28 * 3 + 7 * 31
    assert found.added_sum == sum((1_795_000_000 + n) * (n + 1) for n in (2, 5, 30, 400))
    assert found.changes == database.total_changes
    ranges = rows.join_probes([probe(table, 0, 5), probe(table, 5, 30), probe(table, 30)])
    assert ranges == found


def test_an_empty_table_has_a_probe() -> None:
    assert probe(make()) == rows.Probe(b"", 0, 0, 0, 0, 2)


def test_the_sums_of_a_million_agents_with_the_longest_ids_do_not_overflow() -> None:
    """SQLite's sum() raises above 2**63 - 1."""
    database, schema = make()
    database.execute(
        "insert into agent (id, name, date_add, connection_status, disconnection_time) "
        "with recursive n(i) as (select 99000000 union all select i + 1 from n where i < 99999999) "
        "select i, 'x', 4102444800, 'active', 4102444800 from n"
    )
    total = sum((number % 1000 + 1) * 4_102_444_800 for number in range(99_000_000, 100_000_000))
    sums, vector, _ = schema.probe.partition("ifnull(group_concat(")
    assert vector
    sums += "'-'"
    found = rows.parse_probe(database.execute(f"select {sums} from agent where id>0").fetchone()[0])
    assert (found.disconnection_sum, found.added_sum) == (total, total)


@pytest.mark.parametrize("text", [None, 7, "", "1 2 3", "1 2 3 4 5 6 a0", "x 1 1 1 1 a0", "1 1 1.5e+19 1 1 a0"])
def test_an_answer_that_is_no_probe_is_garbled(text: object) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        rows.parse_probe(text)
    assert caught.value.state == "garbled"


def test_ranges_keep_every_answer_below_the_cut() -> None:
    assert rows.probe_ranges([]) == [(0, None)]
    assert rows.probe_ranges(range(1, 60_001)) == [(0, None)]
    assert rows.probe_ranges(range(1, 150_001)) == [(0, 60_000), (60_000, 120_000), (120_000, None)]


def test_a_code_that_wazuh_does_not_know_is_told_as_moved() -> None:
    database, _ = table = make()
    database.execute(schemas.INSERT, schemas.agent(1))
    old = probe(table)
    database.execute("update agent set status_code = 12")
    assert rows.moved(old, probe(table), [1]) == rows.Moved(ids=(1,))


def test_a_row_that_passes_from_a_worker_to_the_master_and_stays_active_has_moved() -> None:
    database, _ = table = make()
    database.execute(schemas.INSERT, schemas.agent(1, "active"))
    seen = []
    for name in ("worker1", "node01", "", None):
        database.execute("update agent set node_name = ?", (name,))
        seen.append(probe(table).vector)
        assert seen[-1] == rows.mark(read(table).rows[0], "node01")
    assert [rows.moved(old, new, [1]).ids for old, new in pairwise(map(as_probe, seen))] == [(1,), (1,), ()]


def as_probe(vector: bytes) -> rows.Probe:
    return rows.Probe(vector, len(vector), 0, 0, 0, 0)


@pytest.mark.parametrize("own", ["node01", "wörker", "O'Brien; --", "x' or 1=1 --", "new\nline", "n" * 300, "half \ud800", ""])
@pytest.mark.parametrize("theirs", ["own", "other", ""])
def test_whatever_a_node_is_called_its_rows_are_told_from_others_by_a_plain_statement(own: str, theirs: str) -> None:
    database, _ = make()
    database.execute(schemas.INSERT, schemas.agent(1, "active"))
    held = own if theirs == "own" and len(own) <= rows.MAX_NAME and "\ud800" not in own else theirs
    database.execute("update agent set node_name = ?", (held,))
    columns = [name for (name,) in database.execute(rows.COLUMNS)]
    schema = rows.schema(columns, 0, "7", own)
    assert all(" " <= character <= "~" and character != ";" for character in rows.probe(schema, 0, None))
    (row,) = read((database, schema)).rows
    assert probe((database, schema)).vector == rows.mark(row, own)


def test_two_opposite_changes_do_not_hide_each_other() -> None:
    old = rows.Probe(b"ad", 2, 3, 10, 10, 1)
    assert rows.moved(old, rows.Probe(b"da", 2, 3, 10, 10, 2), [1, 2]) == rows.Moved(ids=(1, 2))


def test_a_probe_that_was_cut_asks_for_everything() -> None:
    old = as_probe(b"ad")
    assert rows.moved(old, rows.Probe(b"a", 2, 0, 0, 0, 0), [1, 2]) == rows.Moved(everything=True)


def test_ids_that_came_or_went_are_told_as_such() -> None:
    old = rows.Probe(b"ad", 2, 3, 10, 10, 1)
    assert rows.moved(old, rows.Probe(b"a", 1, 1, 10, 10, 2), [1, 2]) == rows.Moved(listing=True)
    assert rows.moved(old, rows.Probe(b"ad", 2, 4, 10, 10, 2), [1, 2]) == rows.Moved(listing=True)


def test_sums_tell_what_the_vector_cannot() -> None:
    old = rows.Probe(b"ad", 2, 3, 10, 10, 1)
    assert rows.moved(old, rows.Probe(b"ad", 2, 3, 11, 10, 2), [1, 2]) == rows.Moved(times=True)
    assert rows.moved(old, rows.Probe(b"ad", 2, 3, 10, 11, 2), [1, 2]) == rows.Moved(everything=True)
    assert rows.moved(old, rows.Probe(b"aa", 2, 3, 10, 11, 2), [1, 2]) == rows.Moved(ids=(2,))
    assert rows.moved(old, rows.Probe(b"ad", 2, 3, 10, 10, 9), [1, 2]) == rows.Moved()


@given(st.text("adpn", max_size=700), st.data())
def test_exactly_the_agents_whose_mark_moved_are_named(agents: str, data: st.DataObject) -> None:
    changed = data.draw(st.sets(st.integers(0, len(agents) - 1), max_size=8)) if agents else set()
    after = "".join(("d" if mark != "d" else "a") if at in changed else mark for at, mark in enumerate(agents))
    old, new = as_probe(agents.encode()), as_probe(after.encode())
    ids = [10 * position + 1 for position in range(len(agents))]
    assert rows.moved(old, new, ids).ids == tuple(ids[position] for position in sorted(changed))


@pytest.mark.parametrize("text", [None, 7, "", "a b c"])
def test_what_is_no_glance_is_a_fault_of_the_source(text: object) -> None:
    with pytest.raises(SourceUnavailable, match="glance"):
        rows.parse_glance(text)


@pytest.mark.parametrize("version", schemas.AGENT)
def test_a_glance_is_the_sum_of_what_was_told(version: str) -> None:
    """A keepalive alone leaves it as it is; a status, a time or a date does not."""
    table = make(version)
    agents = [schemas.agent(number, status) for number, status in enumerate(("active", "disconnected", "pending", "never_connected"), 1)]
    table[0].executemany(schemas.INSERT, agents)
    told = known.Known(read(table), "node01")
    assert told.is_at(glance(table))
    table[0].execute("update agent set last_keepalive = 1")
    assert told.is_at(glance(table))
    for odd in ("4", f"{glance(table)} 7", f" {glance(table)}"):
        assert not told.is_at(odd), "then a probe tells what is wrong"
    table[0].execute("update agent set connection_status = 'pending' where id = 1")
    assert not told.is_at(glance(table))
