"""The table of agents over a real unix socket, with SQLite behind it: reading it, and the pace of looking."""

import json
import socket
import threading

import pytest

from collector import cadence, wdb
from collector.socketsource import SocketSource
from shared.clock import SystemClock
from shared.errors import SourceUnavailable
from tests.clock import ManualClock
from tests.collector import schemas
from tests.collector.wdb_server import TIMEOUT, Behaviour, WdbServer, fill, frame, ids, selects


@pytest.fixture
def source(database: wdb.Wdb) -> SocketSource:
    return SocketSource(database, SystemClock(), 0.01, 5.0, "node01")


# Reading ------------------------------------------------------------------------------------------------------------


def test_every_row_by_pages_below_the_cut(server: WdbServer, source: SocketSource) -> None:
    fill(server, 2500)
    reading = source.read()
    assert ids(reading) == list(range(1, 2501))
    assert reading.complete
    assert (reading.gone, reading.refused, reading.unreadable, reading.db_version) == ((), 0, (), 7)
    assert reading.cost > 0
    pages = [select for select in selects(server) if "order by id limit" in select]
    assert len(pages) < 8
    assert source.as_of == reading.as_of


def test_as_of_is_the_time_before_the_first_question(server: WdbServer, database: wdb.Wdb) -> None:
    clock = ManualClock(now_ms=5_000)
    source = SocketSource(database, clock, 0.01, 5.0, "node01")

    def late(connection: socket.socket, _: str, answer: bytes) -> None:
        clock.advance(1)
        connection.sendall(frame(answer))

    server.behave(*[None] * 4, late)
    assert source.read().as_of == 5_000
    assert source.poll() is None
    assert source.as_of == 6_000


def test_an_answer_that_is_cut_is_asked_for_in_halves_and_pages_grow_again(server: WdbServer, source: SocketSource) -> None:
    server.many(schemas.INSERT, [(n, "n" * 250, "i" * 250, "any", "k", 1, None, "active") for n in range(1, 1001)])
    assert ids(source.read()) == list(range(1, 1001))
    limits = [int(select.rpartition(" ")[2]) for select in selects(server) if "limit" in select]
    assert limits[:3] == [400, 200, 100]
    server.execute("update agent set name = 'n', ip = 'i'")
    del server.requests[:]
    source.read()
    limits = [int(select.rpartition(" ")[2]) for select in selects(server) if "limit" in select]
    assert limits == sorted(limits)
    assert limits[-1] > limits[0]


def test_a_row_that_does_not_fit_into_an_answer_is_refused_alone(server: WdbServer, source: SocketSource) -> None:
    fill(server, 30)
    server.execute("update agent set name = ? where id = 17", "x" * 100_000)
    reading = source.read()
    assert ids(reading) == [number for number in range(1, 31) if number != 17]
    assert (reading.refused, reading.unreadable) == (1, (17,))
    assert "agent 17" in reading.refusal
    assert source.poll() is None
    server.execute("update agent set connection_status = 'pending' where id in (16, 17, 18)")
    changed = source.poll()
    assert ids(changed) == [16, 18]
    assert changed is not None
    assert changed.unreadable == (17,)


def test_text_that_is_no_utf8_does_not_cost_the_page(server: WdbServer, source: SocketSource) -> None:
    fill(server, 2)
    server.execute("update agent set name = cast(x'77ff62' as text) where id = 1")
    assert [row.name for row in source.read().rows] == ["w\ufffdb", "agent-2"]


def test_a_page_that_does_not_go_on_ends_in_a_sentence_not_in_a_loop(server: WdbServer, source: SocketSource) -> None:
    server.behave(*[None] * 4, lambda connection, _, __: connection.sendall(frame(b"due []")))
    with pytest.raises(SourceUnavailable, match="behind 0") as caught:
        source.read()
    assert caught.value.state == "garbled"


def test_due_pages_are_followed(server: WdbServer, source: SocketSource) -> None:
    fill(server, 5)

    def two(connection: socket.socket, _: str, answer: bytes) -> None:
        connection.sendall(frame(b"due " + json.dumps(json.loads(answer[3:])[:2]).encode()))

    server.behave(*[None] * 4, two, two)
    assert ids(source.read()) == [1, 2, 3, 4, 5]


# The pace -----------------------------------------------------------------------------------------------------------


def late(clock: ManualClock, seconds: float) -> Behaviour:
    """An answer that takes so long."""

    def answer_late(connection: socket.socket, _: str, answer: bytes) -> None:
        clock.advance(seconds)
        connection.sendall(frame(answer))

    return answer_late


def test_the_pace_is_the_cost_over_the_budget_within_its_bounds(server: WdbServer) -> None:
    clock = ManualClock()
    slow = wdb.Wdb(server.path, clock, TIMEOUT)
    source = SocketSource(slow, clock, 0.01, 5.0, "node01")
    assert source._pause() == cadence.FASTEST

    def cost(seconds: float) -> None:
        server.execute("update agent set name = name")
        server.behave(late(clock, seconds))
        source.poll()

    source.read()
    cost(0.003)
    assert source._pause() == pytest.approx(0.3)
    cost(0.3)
    assert 0.3 < source._pause() < 5.0, "one slow answer is no reason to look away"
    for _ in range(9):
        cost(0.3)
        pause = source._pause()
    assert pause == 5.0
    slow.close()


def test_what_is_asked_between_two_pauses_is_paid_as_one(server: WdbServer) -> None:
    """What a wait asked, and what the poll behind it did; whoever pauses for nothing pays nothing."""
    clock = ManualClock()
    slow = wdb.Wdb(server.path, clock, TIMEOUT)
    source = SocketSource(slow, clock, 0.01, 3600.0, "node01")
    fill(server, 3)
    source.read()
    server.behave(late(clock, 0.001))
    source.poll()
    assert source.took() == [pytest.approx(0.001)]
    for _ in range(2):
        server.execute("update agent set connection_status = iif(connection_status = 'active', 'pending', 'active') where id = 2")
        server.behave(late(clock, 0.003), late(clock, 0.002))
        source.wait(10, threading.Event(), lambda: False)
        assert ids(source.poll()) == [2]
    assert source.took() == [pytest.approx(0.005)] * 2
    assert source._pause() == pytest.approx((0.001 * (15 / 16) ** 2 + 0.005 * (1 - (15 / 16) ** 2)) / 0.01)
    assert source.took() == []
    slow.close()
