"""The probe, run on real SQLite: it names who is not as most are, and what it says is what Wazuh's table says."""

import sqlite3
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import ossecconf, rowcheck, rows, wdb
from shared.errors import SourceUnavailable
from shared.models import CONNECTION_STATUSES
from tests.collector import schemas
from tests.collector.test_rows import MARKS, Table, ask, make, probe, read, told, unlike


def a_table_of_everything(version: str) -> Table:
    """Agents of each mark that this version can have, and of each NULL."""
    database, schema = make(version)
    have = {name for (name,) in database.execute(rows.COLUMNS)}
    names = [name for name in ("status_code", "disconnection_time", "node_name") if name in have]
    values = product(CONNECTION_STATUSES, (0, 4, rowcheck.MAX_CODE, None), (0, 1_800_000_000, None), ("node01", "worker1", None))
    for step, (status, code, time, node) in enumerate(values):
        number = rowcheck.MAX_ID - 7 * step
        database.execute(schemas.INSERT, schemas.agent(number, status))
        of = {"status_code": code, "disconnection_time": time, "node_name": node}
        for name in names:
            database.execute(f"update agent set {name} = ? where id = ?", (of[name], number))
    database.execute(f"create index everything on agent (id, connection_status, date_add, {', '.join(names or ['name'])})")
    return database, schema


@pytest.mark.parametrize("version", schemas.AGENT)
def test_a_probe_names_exactly_those_who_have_not_the_usual_mark_whatever_the_indexes(version: str) -> None:
    table = a_table_of_everything(version)
    found = read(table).rows
    for usual in MARKS:
        assert probe(table, usual) == told(found, usual)


@pytest.mark.parametrize("version", schemas.AGENT)
def test_consecutive_ranges_are_the_same_probe(version: str) -> None:
    table = a_table_of_everything(version)
    ids = [row.id for row in read(table).rows]
    ranges = [(0, 1), (1, ids[20]), (ids[20], ids[50] + 1), (ids[50] + 1, None)]
    for usual in (0, 14, 39, 40, 70):
        assert probe(table, usual, ranges) == probe(table, usual)


def test_a_null_is_what_its_row_is_told_with() -> None:
    columns = ["id", "name", "connection_status", "status_code", "disconnection_time", "date_add", "node_name"]
    schema = rows.schema(columns, 0, "7", "unknown")
    database = sqlite3.connect(":memory:")
    database.execute(f"create table agent (id integer primary key, {', '.join(columns[1:])})")
    database.execute("insert into agent (id, name, connection_status) values (7, 'x', 'pending')")
    database.execute("insert into agent values (8, 'x', 'pending', 0, 0, 5, 'unknown')")
    assert probe((database, schema), 60) == rows.Probe(2, 15, 5 * 9, frozenset())
    for usual in MARKS:
        assert probe((database, schema), usual) == told(read((database, schema)).rows, usual, "unknown")


def test_an_empty_table_has_a_probe() -> None:
    assert probe(make()) == rows.Probe(0, 0, 0, frozenset())


def test_a_probe_counts_what_was_written_and_shows_nothing_of_it() -> None:
    database, _ = table = make()
    database.execute(schemas.INSERT, schemas.agent(1))
    changes, shown = ask(table)
    assert changes == database.total_changes
    database.execute("update agent set last_keepalive = last_keepalive + 20")
    assert ask(table) == (database.total_changes, shown)


def test_the_sum_of_a_million_agents_with_the_longest_ids_does_not_overflow() -> None:
    """SQLite's sum() raises above 2**63 - 1."""
    database, _ = table = make()
    database.execute(
        "insert into agent (id, name, date_add, connection_status, disconnection_time) "
        "with recursive n(i) as (select 99000000 union all select i + 1 from n where i < 99999999) "
        "select i, 'x', 4102444800, 'active', 4102444800 from n"
    )
    total = sum((number % 1000 + 1) * 2 * 4_102_444_800 for number in range(99_000_000, 100_000_000))
    assert probe(table) == rows.Probe(1_000_000, sum(range(99_000_000, 100_000_000)), total, frozenset())


@pytest.mark.parametrize(
    "answers",
    [
        [None],
        [7],
        [[]],
        [""],
        ["1"],
        ["1 2 3 4"],
        ["1 2 3 4 5 6"],
        ["x 2 3 4 "],
        [" 2 3 4 "],
        ["1 x 3 4 "],
        ["1 2 3 1.5e+19 "],
        ["1 2 3 4 a"],
        ["1 2 3 4 ,"],
        ["1 2 3 4 500,,600"],
        ["1 2 3 4 5.0"],
        ["1 2 3 4 ", None],
        ["1 2 3 4 ", ""],
    ],
)
def test_an_answer_that_is_no_probe_is_garbled(answers: list[object]) -> None:
    with pytest.raises(SourceUnavailable, match="probe") as caught:
        rows.parse_probe(rows.probed(answers)[1], 0)
    assert caught.value.state == "garbled"


@pytest.mark.parametrize("texts", [("",), ("1 2 3",), ("1 2 x ",), ("1 2 3 4 ",), ("1 2 3 ", "1 2 3 4,,5")])
def test_what_is_shown_and_no_probe_is_garbled(texts: rows.Ranges) -> None:
    with pytest.raises(SourceUnavailable, match="probe") as caught:
        rows.parse_probe(texts, 0)
    assert caught.value.state == "garbled"


@given(st.sets(st.integers(1, rowcheck.MAX_ID), max_size=40), st.integers(1, 8))
def test_no_range_holds_more_names_than_it_may_and_none_is_in_vain(ids: set[int], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "NAMED", most)
        ranges = rows.probe_ranges({rows.named(number, 79) for number in ids})
    assert [after for after, _ in ranges] == [0, *(up_to for _, up_to in ranges[:-1])]
    assert ranges[-1][1] is None
    held = [sum(after < number <= (up_to or rowcheck.MAX_ID) for number in ids) for after, up_to in ranges]
    assert held[:-1] == [most] * (len(held) - 1)
    assert held[-1] <= most
    assert held == [0] or all(held)


def test_an_answer_has_room_for_nearly_as_many_names_again() -> None:
    longest = len(f"{rows.named(rowcheck.MAX_ID, MARKS[-1])},")
    assert rows.NAMED * longest < 0.51 * wdb.MAX_ANSWER


@pytest.mark.parametrize("usual", [0, rowcheck.MAX_CODE])
@pytest.mark.parametrize(("before", "after"), [(0, 12), (12, 0), (3, 12), (12, 3), (0, rowcheck.MAX_CODE), (rowcheck.MAX_CODE, 0)])
def test_a_code_that_wazuh_does_not_know_is_told_as_moved(before: int, after: int, usual: rows.Mark) -> None:
    database, _ = table = make()
    database.executemany(schemas.INSERT, [schemas.agent(1), schemas.agent(2)])
    database.execute("update agent set status_code = ? where id = 1", (before,))
    old = probe(table, usual)
    database.execute("update agent set status_code = ? where id = 1", (after,))
    assert rows.moved(old, probe(table, usual)) == rows.Moved(ids=(1,))


@pytest.mark.parametrize("column", ["status_code", "disconnection_time", "date_add", "connection_status"])
@pytest.mark.parametrize("value", [1.5, -0.5, -(2**63), -3, "x", "1.5x", b"x"])
def test_a_hostile_value_does_not_cost_the_probe(column: str, value: object) -> None:
    database, _ = table = make(checked=False)
    database.executemany(schemas.INSERT, [schemas.agent(1), schemas.agent(2)])
    database.execute(f"update agent set {column} = ? where id = 1", (value,))
    assert read(table).unreadable == (1,)
    old = probe(table)
    assert (old.count, old.id_sum) == (2, 3)
    database.execute("update agent set connection_status = 'pending' where id = 2")
    assert rows.moved(old, probe(table)) == rows.Moved(ids=(2,))


def test_a_row_that_passes_from_a_worker_to_the_master_and_stays_active_has_moved() -> None:
    database, _ = table = make()
    database.execute(schemas.INSERT, schemas.agent(1, "active"))
    for usual in (0, 40):
        seen = []
        for name in ("worker1", "node01", "", None):
            database.execute("update agent set node_name = ?", (name,))
            seen.append(probe(table, usual))
        assert [rows.moved(old, new).ids for old, new in pairwise(seen)] == [(1,), (1,), ()]


LONGEST = "\U0001f600" * ossecconf.MAX_NAME


@pytest.mark.parametrize("own", ["node01", "wörker", "O'Brien; --", "x' or 1=1 --", "new\nline", "n" * 300, "half \ud800", "", LONGEST])
@pytest.mark.parametrize("theirs", ["own", "other", ""])
def test_whatever_a_node_is_called_its_rows_are_told_from_others_by_a_plain_small_statement(own: str, theirs: str) -> None:
    database, _ = make()
    database.execute(schemas.INSERT, schemas.agent(1, "active"))
    held = own if theirs == "own" and "\ud800" not in own else theirs
    database.execute("update agent set node_name = ?", (held,))
    columns = [name for (name,) in database.execute(rows.COLUMNS)]
    schema = rows.schema(columns, 0, "7", own)
    statement = rows.probe(schema, 79, rowcheck.MAX_ID - 1, rowcheck.MAX_ID)
    assert all(" " <= character <= "~" and character != ";" for character in statement)
    assert len(f"global sql {statement}") <= wdb.MAX_REQUEST
    (row,) = read((database, schema)).rows
    for usual in (0, 40):
        assert probe((database, schema), usual) == told([row], usual, own)


def test_two_opposite_changes_do_not_hide_each_other() -> None:
    old, new = (rows.Probe(2, 3, 10, unlike(marks, 0)) for marks in ({1: 0, 2: 10}, {1: 10, 2: 0}))
    assert rows.moved(old, new) == rows.Moved(ids=(1, 2))


def test_ids_that_came_or_went_are_told_as_such() -> None:
    old = rows.Probe(2, 3, 10, frozenset())
    assert rows.moved(old, rows.Probe(1, 1, 10, frozenset({1_10}))) == rows.Moved(listing=True)
    assert rows.moved(old, rows.Probe(2, 4, 11, frozenset())) == rows.Moved(listing=True)


def test_the_sum_tells_what_the_marks_cannot() -> None:
    old = rows.Probe(2, 3, 10, frozenset({2_10}), ("2 3 10 210",))
    assert rows.moved(old, rows.Probe(2, 3, 11, frozenset({2_10}))) == rows.Moved(times=True)
    assert rows.moved(old, rows.Probe(2, 3, 11, frozenset())) == rows.Moved(ids=(2,), times=True)
    assert rows.moved(old, rows.Probe(2, 3, 10, frozenset({2_10}), ("2 3", "10 210"))) == rows.Moved()


@given(st.dictionaries(st.integers(1, rowcheck.MAX_ID), st.tuples(st.sampled_from(MARKS), st.sampled_from(MARKS))), st.sampled_from(MARKS))
def test_exactly_the_agents_whose_mark_moved_are_named(marks: dict[int, tuple[rows.Mark, rows.Mark]], usual: rows.Mark) -> None:
    old, new = (unlike({number: pair[at] for number, pair in marks.items()}, usual) for at in (0, 1))
    moved = rows.moved(rows.Probe(len(marks), sum(marks), 0, old), rows.Probe(len(marks), sum(marks), 0, new))
    assert moved == rows.Moved(ids=tuple(sorted(number for number, (before, after) in marks.items() if before != after)))


@pytest.mark.parametrize("name", [0, 99, -500, 1_00 * (rowcheck.MAX_ID + 1), 10**30])
def test_an_id_that_no_agent_can_have_is_not_asked_for(name: int) -> None:
    assert rows.parse_probe((f"1 2 3 {name},{rows.named(rowcheck.MAX_ID, 1)},{rows.named(1, 1)}",), 0).names == {9_999_999_901, 101}
