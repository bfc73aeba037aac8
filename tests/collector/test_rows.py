"""The SELECTs are run on real SQLite, so that what they say is what Wazuh's table says."""

import sqlite3
from collections.abc import Mapping, Sequence

import pytest

from collector import rows
from shared.errors import SourceUnavailable
from shared.models import AgentRow
from tests.collector import schemas

Table = tuple[sqlite3.Connection, rows.Schema]
Ranges = Sequence[tuple[int, int | None]]
WHOLE: Ranges = ((0, None),)
MARKS = range(80)  # each status, with each code, own and not


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


def ask(table: Table, usual: rows.Mark = 0, ranges: Ranges = WHOLE) -> tuple[int, rows.Ranges]:
    return rows.probed([table[0].execute(rows.probe(table[1], usual, *span)).fetchone()[0] for span in ranges])


def probe(table: Table, usual: rows.Mark = 0, ranges: Ranges = WHOLE) -> rows.Probe:
    return rows.parse_probe(ask(table, usual, ranges)[1], usual)


def told(read: Sequence[AgentRow], usual: rows.Mark, own: str = "node01") -> rows.Probe:
    """What a probe shows of rows that were read."""
    marks = {row.id: rows.mark(row, own) for row in read}
    times = sum((row.disconnection_time + row.date_add) * (row.id % 1000 + 1) for row in read)
    return rows.Probe(len(marks), sum(marks), times, unlike(marks, usual))


def unlike(marks: Mapping[int, rows.Mark], usual: rows.Mark) -> frozenset[int]:
    return frozenset(rows.named(number, mark) for number, mark in marks.items() if mark != usual)


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
    assert probe(table) == told([row], 0)


@pytest.mark.parametrize("version", schemas.AGENT)
def test_no_statement_ever_names_the_secret_key(version: str) -> None:
    _, schema = make(version)
    statements = (
        rows.everything(schema),
        rows.page(schema, 0, 1),
        rows.chosen(schema, [1], 0, 1),
        *(rows.probe(schema, usual, 0, None) for usual in MARKS),
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
    assert probe((database, schema)).names == {3_20}
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
