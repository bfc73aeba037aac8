"""A socket source looks by itself while it waits: what ends a wait, and what it asks meanwhile."""

import threading

import pytest

from collector import rows, wdb
from collector.socketsource import SocketSource
from shared.clock import SystemClock
from shared.errors import SourceUnavailable
from tests.collector.wdb_server import WdbServer, fill, frame, ids, selects


@pytest.fixture
def source(database: wdb.Wdb) -> SocketSource:
    """No probe falls due within a test: what ends a wait is what a look showed."""
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


def test_a_wait_asks_for_sums_alone_until_something_moved(server: WdbServer, source: SocketSource) -> None:
    fill(server, 3)
    source.read()
    source.poll()
    source.took()
    del server.requests[:]
    thread = waits(source)
    while len(server.requests) < 3:
        server.execute("update agent set last_keepalive = last_keepalive + 1")
    asked = set(selects(server))
    server.execute("update agent set connection_status = 'pending' where id = 2")
    assert ended(thread)
    assert asked <= {rows.TOTAL_CHANGES, source._schema().glance}
    assert len(source.took()) >= 3, "each is told with its cost"
    del server.requests[:]
    assert ids(source.poll()) == [2]
    assert source._schema().glance not in selects(server), "that it moved is known"


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
    source.wait(3600, threading.Event(), still)
    fill(server, 3)
    source.read()
    source.wait(3600, threading.Event(), lambda: True)
