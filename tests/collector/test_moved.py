"""What moved in the table of agents, seen over a real unix socket with SQLite behind it."""

import socket
import threading
from pathlib import Path

import pytest

from collector import rows, wdb
from collector.socketsource import SocketSource
from shared.clock import SystemClock
from shared.errors import SourceUnavailable
from tests.collector import schemas
from tests.collector.wdb_server import TIMEOUT, WdbServer, close_mid_frame, fill, frame, ids, selects


@pytest.fixture
def source(database: wdb.Wdb) -> SocketSource:
    return SocketSource(database, SystemClock(), 0.01, 5.0, "node01")


def test_the_first_poll_reads_everything(server: WdbServer, source: SocketSource) -> None:
    fill(server, 3)
    reading = source.poll()
    assert ids(reading) == [1, 2, 3]
    assert reading is not None
    assert reading.complete


def test_keepalives_alone_are_nothing(server: WdbServer, source: SocketSource) -> None:
    fill(server, 100)
    source.read()
    server.execute("update agent set last_keepalive = last_keepalive + 20")
    assert source.poll() is None


def test_what_moved_is_read_and_nothing_else(server: WdbServer, source: SocketSource) -> None:
    fill(server, 1000)
    source.read()
    server.execute("update agent set connection_status='disconnected', status_code=4, disconnection_time=9 where id in (7, 700)")
    reading = source.poll()
    assert ids(reading) == [7, 700]
    assert reading is not None
    assert not reading.complete
    assert [row.status for row in reading.rows] == ["disconnected", "disconnected"]
    assert source.poll() is None


def test_agents_that_come_and_go_are_told_by_id(server: WdbServer, source: SocketSource) -> None:
    fill(server, 50)
    source.read()
    server.execute("delete from agent where id in (3, 4)")
    server.many(schemas.INSERT, [schemas.agent(number, "never_connected") for number in (51, 60)])
    server.execute("update agent set connection_status = 'pending' where id = 5")
    reading = source.poll()
    assert ids(reading) == [51, 60, 5]
    assert reading is not None
    assert reading.gone == (3, 4)
    assert source.poll() is None


def test_a_disconnection_time_that_moved_alone_is_found(server: WdbServer, source: SocketSource) -> None:
    fill(server, 50)
    server.execute("update agent set connection_status='disconnected', status_code=4, disconnection_time=100 where id <= 20")
    source.read()
    server.execute("update agent set disconnection_time=200 where id = 11")
    assert ids(source.poll()) == [11]
    assert source.poll() is None


def test_a_disconnection_time_that_moved_behind_another_change_is_found_one_look_later(server: WdbServer, source: SocketSource) -> None:
    fill(server, 50)
    server.execute("update agent set connection_status='disconnected', status_code=4, disconnection_time=100 where id <= 20")
    source.read()
    server.execute("update agent set disconnection_time=200 where id = 11")
    server.execute("update agent set connection_status='pending' where id = 30")
    assert ids(source.poll()) == [30]
    assert ids(source.poll()) == [11]
    assert source.poll() is None


def test_a_reused_id_is_seen_by_its_date(server: WdbServer, source: SocketSource) -> None:
    server.many(schemas.INSERT, [schemas.agent(number, "never_connected") for number in (1, 2)])
    source.read()
    server.execute("update agent set name = 'dd', date_add = date_add + 1 where id = 2")
    reading = source.poll()
    assert reading is not None
    assert reading.complete
    assert reading.rows[1].name == "dd"
    assert source.poll() is None


def test_a_reused_id_behind_other_changes_is_seen_by_the_first_look_without_any(server: WdbServer, source: SocketSource) -> None:
    """In a storm rows change between probe and reading, and nobody reads the whole table for that."""
    fill(server, 5)
    source.read()
    server.execute("update agent set date_add = date_add + 1 where id = 2")
    for status in ("pending", "active", "pending"):
        server.execute(f"update agent set connection_status = '{status}' where id = 5")
        assert ids(source.poll()) == [5]
    reading = source.poll()
    assert reading is not None
    assert reading.complete
    assert source.poll() is None


def test_a_change_between_probe_and_reading_is_not_lost_when_it_is_undone(server: WdbServer, source: SocketSource) -> None:
    """What is remembered is what was told, not what the probe showed."""
    fill(server, 5)
    source.read()
    server.execute("update agent set connection_status = 'pending' where id = 2")

    def change_first(connection: socket.socket, request: str, _: bytes) -> None:
        server.execute("update agent set connection_status = 'disconnected' where id = 2")
        connection.sendall(frame(server.answer(request)))

    server.behave(None, change_first)
    reading = source.poll()
    assert reading is not None
    assert [row.status for row in reading.rows] == ["disconnected"]
    server.execute("update agent set connection_status = 'pending' where id = 2")
    reading = source.poll()
    assert reading is not None
    assert [row.status for row in reading.rows] == ["pending"]


def test_what_was_fetched_before_a_fault_is_told_after_it(server: WdbServer, source: SocketSource) -> None:
    fill(server, 2000)
    source.read()
    server.execute("update agent set connection_status = 'pending'")
    server.behave(None, None, close_mid_frame)
    with pytest.raises(SourceUnavailable):
        source.poll()
    assert ids(source.poll()) == list(range(1, 2001))


def test_an_idle_node_is_asked_for_its_changes_alone(server: WdbServer, source: SocketSource) -> None:
    fill(server, 10)
    source.read()
    source.poll()
    source.poll()
    del server.requests[:]
    assert source.poll() is None
    assert selects(server) == [rows.TOTAL_CHANGES]
    server.execute("update agent set connection_status = 'pending' where id = 1")
    assert ids(source.poll()) == [1]
    del server.requests[:]
    source.poll()
    assert rows.TOTAL_CHANGES not in selects(server), "a busy node is probed at once"


def asked(server: WdbServer) -> str:
    """One letter for each SELECT since the last call: a probe, the count of changes, or something else that is read."""
    letters = "".join("p" if " p from" in sql else "c" if sql == rows.TOTAL_CHANGES else "r" for sql in selects(server))
    del server.requests[:]
    return letters


def test_a_look_asks_once_and_then_for_what_moved_alone(server: WdbServer, source: SocketSource) -> None:
    """Keepalives among it or not."""
    fill(server, 10)
    source.read()
    source.poll()
    asked(server)
    looks: list[str] = []
    for change in ("pending", None, "active", "pending", None, None):
        server.execute("update agent set last_keepalive = last_keepalive + 1")
        if change:
            server.execute(f"update agent set connection_status = '{change}', disconnection_time = {len(looks)} where id = 3")
        assert (source.poll() is None) == (change is None)
        looks.append(asked(server))
    assert looks == ["pr", "p", "pr", "pr", "p", "p"]


def test_a_probe_that_had_news_is_followed_by_another(server: WdbServer, source: SocketSource) -> None:
    """Although nothing was written since: what is behind them has not been told."""
    fill(server, 50)
    source.read()
    source.poll()
    server.many(schemas.INSERT, [schemas.agent(51, "never_connected")])
    server.execute("update agent set disconnection_time = 200 where id = 11")
    server.execute("update agent set connection_status = 'pending' where id = 30")
    assert ids(source.poll()) == [51, 30]
    assert ids(source.poll()) == [11]
    assert source.poll() is None


def test_another_daemon_counts_its_changes_anew(server: WdbServer, source: SocketSource) -> None:
    fill(server, 10)
    source.read()
    source.poll()
    source.poll()
    changes = server.db.total_changes
    server.restart()
    server.execute("update agent set connection_status = 'pending' where id = 1")

    def same(connection: socket.socket, _: str, __: bytes) -> None:
        connection.sendall(frame(b'ok [{"c":%d}]' % changes))

    server.behave(same)
    assert ids(source.poll()) == [1]


def test_a_table_of_many_marks_is_probed_in_ranges(server: WdbServer, source: SocketSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "NAMED", 10)
    fill(server, 100)
    server.execute("update agent set connection_status = 'pending' where id % 3 = 0")
    source.read()
    assert source.poll() is None
    server.execute("update agent set connection_status = 'disconnected' where id in (1, 30, 31, 100)")
    asked(server)
    assert ids(source.poll()) == [1, 30, 31, 100]
    assert asked(server) == "ppppr"


def grow_past_an_answer(server: WdbServer, source: SocketSource) -> None:
    server.many(schemas.INSERT, [schemas.agent(number) for number in range(99_000_001, 99_006_201)])
    source.read()
    server.execute("update agent set connection_status = 'pending'")


def test_where_more_moved_than_an_answer_can_name_all_is_read_and_the_usual_mark_is_the_new_one(
    server: WdbServer, source: SocketSource
) -> None:
    grow_past_an_answer(server, source)
    reading = source.poll()
    assert reading is not None
    assert reading.complete
    assert {row.status for row in reading.rows} == {"pending"}
    assert source.poll() is None
    assert selects(server)[-1] == rows.probe(source._schema(), 20, 0, None)
    server.execute("update agent set connection_status = 'active' where id = 99006200")
    assert ids(source.poll()) == [99_006_200]


def test_a_wait_ends_where_more_moved_than_an_answer_can_name(server: WdbServer, source: SocketSource) -> None:
    grow_past_an_answer(server, source)
    source.wait(10, threading.Event(), lambda: False)
    reading = source.poll()
    assert reading is not None
    assert reading.complete


def test_columns_that_an_upgrade_changed_are_learnt_anew(server: WdbServer, source: SocketSource) -> None:
    fill(server, 3)
    source.read()
    server.execute("alter table agent drop column node_name")
    server.execute("update agent set connection_status = 'pending' where id = 1")
    reading = source.poll()
    assert ids(reading) == [1, 2, 3]
    assert reading is not None
    assert reading.complete
    assert reading.rows[0].node_name is None


@pytest.mark.parametrize("time", [2**63 - 1, 1e300])
@pytest.mark.parametrize("apart", [1, 1000])
def test_a_sum_that_overflows_is_read_whole(server: WdbServer, source: SocketSource, apart: int, time: float) -> None:
    """A hostile disconnection_time makes SQLite's sum() raise, whatever it weighs."""
    fill(server, 3)
    server.execute("update agent set disconnection_time = ?, id = id * ?", time, apart)
    reading = source.read()
    assert (reading.refused, reading.unreadable) == (3, (apart, 2 * apart, 3 * apart))
    again = source.poll()
    assert again is not None
    assert again.complete


def test_an_agent_that_cannot_be_read_is_neither_gone_nor_in_the_way(tmp_path: Path) -> None:
    with WdbServer(tmp_path / "wdb") as server:
        schemas.create(server.db, checked=False)
        server.many(schemas.INSERT, [schemas.agent(1), schemas.agent(2, "quarantined"), schemas.agent(3)])
        source = SocketSource(wdb.Wdb(server.path, SystemClock(), TIMEOUT), SystemClock(), 0.01, 5.0, "node01")
        reading = source.read()
        assert (ids(reading), reading.unreadable, reading.refused) == ([1, 3], (2,), 1)
        assert source.poll() is None
        server.execute("update agent set connection_status = 'active' where id = 2")
        assert ids(source.poll()) == [2]
        source.close()


def test_an_agent_that_cannot_be_read_does_not_hide_a_reused_id(tmp_path: Path) -> None:
    with WdbServer(tmp_path / "wdb") as server:
        schemas.create(server.db, checked=False)
        server.many(schemas.INSERT, [schemas.agent(1), schemas.agent(2, "quarantined")])
        server.execute("update agent set disconnection_time = 77 where id = 2")
        source = SocketSource(wdb.Wdb(server.path, SystemClock(), TIMEOUT), SystemClock(), 0.01, 5.0, "node01")
        source.read()
        assert source.poll() is None
        server.execute("update agent set name = 'dd', date_add = date_add + 1 where id = 1")
        reading = source.poll()
        assert reading is not None
        assert [row.name for row in reading.rows] == ["dd"]
        assert source.poll() is None
        source.close()


def test_a_table_without_metadata_is_read(tmp_path: Path) -> None:
    with WdbServer(tmp_path / "wdb") as server:
        server.db.execute(schemas.AGENT["5.0"])
        source = SocketSource(wdb.Wdb(server.path, SystemClock(), TIMEOUT), SystemClock(), 0.01, 5.0, "node01")
        reading = source.read()
        assert (reading.rows, reading.db_version) == ((), 0)
        server.execute("drop table agent")
        source.close()
        with pytest.raises(SourceUnavailable, match="no table of agents") as caught:
            source.read()
        assert caught.value.state == "unsupported"
        source.close()


def test_keepalives_of_the_quiet_and_of_a_sample_are_paged(server: WdbServer, source: SocketSource) -> None:
    fill(server, 4000)
    server.execute("update agent set last_keepalive = case when id > 3900 then 2000 else 1000 end")
    server.execute("update agent set connection_status = 'never_connected', last_keepalive = null where id = 3999")
    found = source.keepalives(1500, [3950, 3999])
    assert found == [*((number, 1000) for number in range(1, 3901)), (3950, 2000)]
    assert len([select for select in selects(server) if " k from agent" in select]) > 1


def test_columns_that_went_while_keepalives_are_asked_for_are_named(server: WdbServer, source: SocketSource) -> None:
    """And not told as an answer that cannot be understood."""
    fill(server, 2)
    source.read()
    server.execute("alter table agent rename column connection_status to status")
    with pytest.raises(SourceUnavailable, match="has no connection_status") as caught:
        source.keepalives(1500, [])
    assert caught.value.state == "unsupported"
    server.execute("alter table agent rename column status to connection_status")
    assert [number for number, _ in source.keepalives(1 << 40, [])] == [1, 2]
