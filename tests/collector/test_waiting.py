"""A socket source looks by itself while it waits: what ends a wait, and what it asks meanwhile."""

import socket
import threading
from itertools import pairwise

import pytest

from collector import rows, wdb
from collector.socketsource import SocketSource
from shared.clock import SystemClock
from shared.errors import SourceUnavailable
from tests.clock import ManualClock
from tests.collector import schemas
from tests.collector.wdb_server import WdbServer, fill, frame, ids, selects


@pytest.fixture
def source(database: wdb.Wdb) -> SocketSource:
    return SocketSource(database, SystemClock(), 0.01, 3600.0, "node01")


def still() -> bool:
    return False


def waits(source: SocketSource, stop: threading.Event | None = None) -> threading.Thread:
    thread = threading.Thread(target=source.wait, args=(3600, stop or threading.Event(), still), daemon=True)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    thread.join(10)
    return not thread.is_alive()


def test_waiting_ends_with_stop_at_once_and_with_its_time(server: WdbServer, source: SocketSource) -> None:
    stop = threading.Event()
    stop.set()
    source.wait(3600, stop, still)
    source.wait(0, threading.Event(), still)
    fill(server, 3)
    source.read()
    source.wait(0.05, threading.Event(), still)
    assert source.poll() is None


def test_a_wait_probes_until_something_moved_and_the_poll_reads_it(server: WdbServer, source: SocketSource) -> None:
    fill(server, 3)
    source.read()
    source.poll()
    source.took()
    del server.requests[:]
    thread = waits(source)
    while len(server.requests) < 3:
        server.execute("update agent set last_keepalive = last_keepalive + 1")
    server.execute("update agent set connection_status = 'pending' where id = 2")
    assert ended(thread)
    probe = rows.probe(source._schema(), 0, 0, None)
    asked = selects(server)
    assert set(asked) <= {rows.TOTAL_CHANGES, probe}
    looks = len(asked) - sum(pair == (rows.TOTAL_CHANGES, probe) for pair in pairwise(asked))
    del server.requests[:]
    assert ids(source.poll()) == [2]
    assert selects(server) == [rows.chosen(source._schema(), [2], 0, 400)], "that it moved is known"
    assert len(source.took()) == looks, "each is told with its cost"
    del server.requests[:]
    assert source.poll() is None
    assert selects(server) == [probe]


def see_a_change(server: WdbServer, source: SocketSource, changed: str = "connection_status = 'pending'") -> None:
    """A wait sees it; no poll has asked for it yet."""
    fill(server, 3)
    source.read()
    source.poll()
    server.execute(f"update agent set {changed} where id = 2")
    source.wait(10, threading.Event(), still)
    del server.requests[:]


def test_whoever_asked_for_keepalives_in_between_probes_again(server: WdbServer, source: SocketSource) -> None:
    see_a_change(server, source)
    server.execute("update agent set connection_status = 'disconnected' where id = 3")
    source.keepalives(0, [1])
    assert ids(source.poll()) == [2, 3]
    assert [" p from" in sql for sql in selects(server)] == [False, True, False]


def test_what_a_wait_saw_is_over_where_all_is_read(server: WdbServer, source: SocketSource) -> None:
    see_a_change(server, source)
    source.read()
    del server.requests[:]
    assert source.poll() is None
    assert selects(server) == [rows.probe(source._schema(), 0, 0, None)]


def test_what_a_wait_saw_is_told_as_of_the_time_before_it_asked(server: WdbServer, database: wdb.Wdb) -> None:
    clock = ManualClock(now_ms=5_000)
    source = SocketSource(database, clock, 0.01, 3600.0, "node01")

    def late(connection: socket.socket, _: str, answer: bytes) -> None:
        clock.advance(1)
        connection.sendall(frame(answer))

    fill(server, 3)
    source.read()
    source.poll()
    clock.advance(1)
    server.execute("update agent set connection_status = 'pending' where id = 2")
    server.behave(late)
    source.wait(10, threading.Event(), still)
    clock.advance(1)
    reading = source.poll()
    assert reading is not None
    assert (reading.as_of, source.as_of, clock.now_ms()) == (6_000, 6_000, 8_000)
    assert source.poll() is None
    assert source.as_of == 8_000, "what was seen is told once"


def test_a_change_that_is_undone_before_the_poll_is_told_as_it_is(server: WdbServer, source: SocketSource) -> None:
    see_a_change(server, source)
    server.execute("update agent set connection_status = 'active' where id = 2")
    reading = source.poll()
    assert reading is not None
    assert [(row.id, row.status) for row in reading.rows] == [(2, "active")]
    assert source.poll() is None
    server.execute("update agent set connection_status = 'pending' where id = 2")
    assert ids(source.poll()) == [2]


@pytest.mark.parametrize("column", ["disconnection_time", "date_add"])
def test_a_time_that_is_undone_before_the_poll_is_looked_for_once(server: WdbServer, source: SocketSource, column: str) -> None:
    see_a_change(server, source, f"{column} = {column} + 1")
    server.execute(f"update agent set {column} = {column} - 1 where id = 2")
    reading = source.poll()
    assert reading is not None
    assert reading.complete
    assert source.poll() is None


def test_agents_that_a_wait_saw_come_and_go_are_told(server: WdbServer, source: SocketSource) -> None:
    fill(server, 3)
    source.read()
    source.poll()
    server.execute("delete from agent where id = 3")
    server.many(schemas.INSERT, [schemas.agent(4, "never_connected")])
    source.wait(10, threading.Event(), still)
    server.execute("delete from agent where id = 1")
    reading = source.poll()
    assert ids(reading) == [4]
    assert reading is not None
    assert reading.gone == (1, 3)
    assert source.poll() is None


def test_what_is_seen_and_dropped_is_seen_again_although_nothing_was_written_since(server: WdbServer, source: SocketSource) -> None:
    """The time behind another change is seen by a wait, and the poll goes by its own probe."""
    fill(server, 50)
    source.read()
    source.poll()
    server.execute("update agent set disconnection_time = 200 where id = 11")
    server.execute("update agent set connection_status = 'pending' where id = 30")
    for found in ([30], [11]):
        source.wait(10, threading.Event(), still)
        source.keepalives(0, [])
        assert ids(source.poll()) == found
    assert source.poll() is None


def meet_trouble(server: WdbServer, source: SocketSource) -> None:
    fill(server, 3)
    source.read()
    source.poll()
    thread = waits(source)
    server.behave(lambda connection, _, __: connection.sendall(frame(b"unk")))
    assert ended(thread)


def test_what_is_wrong_in_a_wait_ends_it_and_is_told_by_the_next_poll(server: WdbServer, source: SocketSource) -> None:
    meet_trouble(server, source)
    with pytest.raises(SourceUnavailable, match="unk"):
        source.poll()
    assert len(source.read().rows) == 3
    assert source.poll() is None


def test_what_is_wrong_in_a_wait_is_over_where_all_is_read(server: WdbServer, source: SocketSource) -> None:
    meet_trouble(server, source)
    assert len(source.read().rows) == 3
    assert source.poll() is None


def test_an_upgrade_ends_a_wait(server: WdbServer, source: SocketSource) -> None:
    fill(server, 3)
    source.read()
    source.poll()
    thread = waits(source)
    server.execute("alter table agent drop column status_code")
    assert ended(thread)
    reading = source.poll()
    assert reading is not None
    assert reading.complete


def test_a_wait_ends_where_something_else_stirred_or_nothing_was_read_yet(server: WdbServer, source: SocketSource) -> None:
    source.wait(10, threading.Event(), still)
    fill(server, 3)
    source.read()
    source.wait(3600, threading.Event(), lambda: True)
