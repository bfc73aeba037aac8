"""The whole table is gathered while what moves is told: the pure part, and a source that does it over a real socket."""

import random
import threading
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import rowcheck, rows, wdb
from collector.gather import Gathering
from collector.rows import Decoded, Reading
from collector.socketsource import SocketSource
from shared.clock import SystemClock
from shared.errors import SourceUnavailable
from shared.models import AgentRow
from tests.collector import schemas
from tests.collector.fakes import agent
from tests.collector.wdb_server import WdbServer, fill, frame, ids, selects

IDS = st.integers(1, 6)
READ = st.tuples(st.just("rows"), st.lists(st.builds(agent, IDS, st.sampled_from(["active", "pending"])), max_size=3))
REFUSED = st.tuples(st.just("refused"), st.lists(IDS, max_size=2))
GONE = st.tuples(st.just("gone"), st.lists(IDS, max_size=2))


@given(st.lists(READ | REFUSED | GONE, max_size=12), st.lists(IDS, unique=True))
def test_what_comes_later_is_newer_and_nobody_is_told_who_is_not_asked_for(
    steps: list[tuple[str, list[AgentRow | int]]], asked: list[int]
) -> None:
    gathering, model, refused = Gathering(), dict[int, AgentRow | None](), 0
    for what, come in steps:
        if what == "rows":
            found = [one for one in come if isinstance(one, AgentRow)]
            gathering.put(Decoded(tuple(found)))
            model |= {one.id: one for one in found}
            continue
        numbers = [one for one in come if isinstance(one, int)]
        model = {number: one for number, one in model.items() if number not in numbers}
        if what == "gone":
            gathering.forget(numbers)
        else:
            gathering.put(Decoded((), tuple(numbers), len(numbers), "is refused" if numbers else ""))
            model |= dict.fromkeys(numbers)
            refused += len(numbers)
    assert gathering.missing(asked) == [number for number in asked if number not in model]
    decoded = gathering.decoded(asked)
    assert decoded.rows == tuple(one for number in asked if (one := model.get(number)) is not None)
    assert decoded.unreadable == tuple(number for number in asked if number in model and model[number] is None)
    assert (decoded.refused, decoded.refusal) == (refused, "is refused" if refused else "")


# Over a socket ------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(server: WdbServer, database: wdb.Wdb) -> SocketSource:
    """Seven agents have been told, and a gathering has begun by pages of two, three, and two rows."""
    made = SocketSource(database, SystemClock(), 0.5, 3600.0, "node01")
    fill(server, 7)
    made.read()
    made.poll()
    made._limits["rows"] = 2
    made.gather()
    del server.requests[:]
    return made


def wait(source: SocketSource) -> None:
    source.wait(10, threading.Event(), lambda: False)


def pages(server: WdbServer) -> int:
    return sum(" from agent where id>" in sql for sql in selects(server))


def behind_page(server: WdbServer, number: int, change: Callable[[], None]) -> None:
    """Something is written as soon as that page of the gathering has been read."""

    def behave(request: str) -> None:
        if " from agent where id>" in request and pages(server) == number:
            change()

    server.answered = behave


def test_a_table_is_gathered_by_pages_and_probes_go_on_meanwhile(server: WdbServer, source: SocketSource) -> None:
    assert source.gathering
    wait(source)
    assert " p from" not in server.requests[-1], "the last page ended the wait"
    assert pages(server) == 3
    reading = source.poll()
    assert reading is not None
    assert (ids(reading), reading.complete, source.gathering) == (list(range(1, 8)), True, False)
    assert source.poll() is None


def test_looks_are_not_put_off_by_pages(server: WdbServer, source: SocketSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.socketsource._REST", 100.0)
    wait(source)
    asked = selects(server)
    between = asked[: max(at for at, sql in enumerate(asked) if " from agent where id>" in sql)]
    assert any(sql == rows.TOTAL_CHANGES or " p from" in sql for sql in between)


def test_who_asks_twice_gathers_once(server: WdbServer, source: SocketSource) -> None:
    source.wait(0.01, threading.Event(), lambda: False)
    source.gather()
    wait(source)
    assert pages(server) == 3


def test_what_moves_meanwhile_is_told_at_once_and_the_whole_has_it(
    server: WdbServer, source: SocketSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.socketsource._REST", 100.0)
    behind_page(server, 1, lambda: server.execute("update agent set connection_status = 'pending' where id in (1, 7)"))
    wait(source)
    moved = source.poll()
    assert (ids(moved), source.gathering) == ([1, 7], True)
    wait(source)
    whole = source.poll()
    assert whole is not None
    assert (whole.complete, [row.status for row in whole.rows]) == (True, ["pending", *["active"] * 5, "pending"])


def test_what_moves_behind_the_last_page_is_in_the_whole(server: WdbServer, source: SocketSource) -> None:
    wait(source)
    server.execute("update agent set connection_status = 'pending' where id = 2")
    server.execute("delete from agent where id = 3")
    server.many(schemas.INSERT, [schemas.agent(9, "active")])
    whole = source.poll()
    assert whole is not None
    assert (ids(whole), whole.complete, whole.gone) == ([1, 2, 4, 5, 6, 7, 9], True, ())
    assert whole.rows[1].status == "pending"
    assert source.poll() is None


def test_a_name_that_changed_is_in_the_whole(server: WdbServer, source: SocketSource) -> None:
    """No probe shows it."""
    server.execute("update agent set name = 'another' where id = 5")
    wait(source)
    whole = source.poll()
    assert whole is not None
    assert whole.rows[4].name == "another"


def test_who_came_while_its_page_was_read_and_left_before_a_probe_is_not_told(server: WdbServer, source: SocketSource) -> None:
    server.many(schemas.INSERT, [schemas.agent(9, "active")])
    behind_page(server, 3, lambda: server.execute("delete from agent where id = 9"))
    source._seems_still = lambda: True  # type: ignore[method-assign]
    wait(source)
    assert ids(source.poll()) == list(range(1, 8))


def test_who_left_while_its_page_was_read_and_came_before_a_probe_is_there(server: WdbServer, source: SocketSource) -> None:
    server.execute("create table away as select * from agent where id = 4")
    server.execute("delete from agent where id = 4")
    behind_page(server, 2, lambda: server.execute("insert into agent select * from away"))
    source._seems_still = lambda: True  # type: ignore[method-assign]
    wait(source)
    assert ids(source.poll()) == list(range(1, 8))


def test_a_row_that_is_refused_is_told_as_unreadable(server: WdbServer, source: SocketSource) -> None:
    server.execute("update agent set name = ? where id = 6", "x" * (rowcheck.MAX_NAME + 1))
    wait(source)
    whole = source.poll()
    assert whole is not None
    assert (ids(whole), whole.unreadable, whole.refused) == ([1, 2, 3, 4, 5, 7], (6,), 1)
    assert "agent 6 has name" in whole.refusal


def test_a_fault_ends_the_gathering_and_is_told(server: WdbServer, source: SocketSource) -> None:
    server.behave(lambda connection, _, __: connection.sendall(frame(b"unk")))
    wait(source)
    with pytest.raises(SourceUnavailable, match="unk"):
        source.poll()
    assert not source.gathering
    assert ids(source.read()) == list(range(1, 8))


def test_an_upgrade_in_between_has_everything_read_anew(server: WdbServer, source: SocketSource) -> None:
    server.execute("alter table agent drop column status_code")
    wait(source)
    whole = source.poll()
    assert whole is not None
    assert (ids(whole), whole.complete, {row.code for row in whole.rows}) == (list(range(1, 8)), True, {None})
    assert not source.gathering


def test_what_was_read_at_once_ends_a_gathering(server: WdbServer, source: SocketSource) -> None:
    source.read()
    assert not source.gathering


def fold(table: dict[int, AgentRow], reading: Reading | None) -> None:
    if reading is None:
        return
    if reading.complete:
        table.clear()
    table |= {row.id: row for row in reading.rows}
    for number in reading.gone:
        del table[number]


def write(server: WdbServer, chance: random.Random) -> None:
    number = chance.randint(1, 9)
    match chance.randint(0, 4):
        case 0:
            server.execute("delete from agent where id = ?", number)
        case 1:
            server.execute("insert or ignore into agent (id, name, date_add) values (?, 'new', ?)", number, chance.randint(1, 1000))
        case _:
            status = chance.choice(["active", "pending", "disconnected"])
            server.execute(
                "update agent set connection_status = ?, disconnection_time = disconnection_time + 1 where id = ?", status, number
            )


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_written_meanwhile_what_is_told_is_the_table(server: WdbServer, source: SocketSource, seed: int) -> None:
    """The law: what was told, folded, is in the end what is there, and no poll tells anything twice."""
    chance, told = random.Random(seed), dict[int, AgentRow]()
    fold(told, source.read())
    for _ in range(6):
        source.gather()
        server.answered = lambda _: write(server, chance) if chance.random() < 0.4 else None
        while source.gathering:
            wait(source)
            fold(told, source.poll())
        server.answered = lambda _: None
        while (reading := source.poll()) is not None:
            fold(told, reading)
        there = SocketSource(source._wdb, SystemClock(), 0.5, 3600.0, "node01").read()
        assert _states(told.values()) == _states(there.rows)


def _states(table: Iterable[AgentRow]) -> dict[int, AgentRow]:
    return {row.id: row for row in table}
