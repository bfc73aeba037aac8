"""Against a real unix socket with the real framing, and SQLite behind it; what goes wrong there goes wrong here."""

import socket
import struct
import threading
from pathlib import Path

import pytest

from collector import rows, wdb
from shared.clock import SystemClock
from shared.errors import SourceUnavailable
from tests.collector.as_nobody import as_nobody
from tests.collector.wdb_server import MAX, TIMEOUT, WdbServer, close_mid_frame, frame

# One request --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "delete from agent", "update agent set name='x'", "insert into agent values(1)", "drop table agent", "vacuum", "begin",
        "pragma user_version=7", "pragma journal_mode=wal", "select 1; delete from agent", "SELECT 1", "select 1\n", "",
        "select " + "1," * 5000 + "1",
    ],
)  # fmt: skip
def test_nothing_but_a_small_statement_that_reads_is_ever_sent(sql: str, server: WdbServer, database: wdb.Wdb) -> None:
    with pytest.raises(ValueError, match="only reads"):
        database.select(sql)
    assert server.requests == []


def test_an_answer_is_rows_and_its_cost_is_measured(database: wdb.Wdb) -> None:
    answer = database.select("select id,name,last_keepalive k,null x from agent")
    assert answer.rows == [{"id": 0, "name": "manager", "k": 253402300799}]
    assert not answer.more
    assert database.busy > 0
    assert database.connections == 1


def test_due_says_that_there_is_more(server: WdbServer, database: wdb.Wdb) -> None:
    server.behave(lambda connection, _, __: connection.sendall(frame(b'due [{"i":1}]')))
    assert database.select(rows.TOTAL_CHANGES) == wdb.Answer([{"i": 1}], more=True, room=13 / MAX)


def test_an_answer_in_drops_is_read_to_its_end(server: WdbServer, database: wdb.Wdb) -> None:
    def drip(connection: socket.socket, _: str, answer: bytes) -> None:
        for byte in frame(answer):
            connection.sendall(bytes([byte]))

    server.behave(drip)
    assert database.select(rows.TOTAL_CHANGES).rows == [{"c": 2}]


def test_what_the_daemon_says_is_in_the_sentence(database: wdb.Wdb) -> None:
    with pytest.raises(wdb.Refused, match=r"no such table: nosuchtable") as caught:
        database.select("select * from nosuchtable")
    assert caught.value.state == "garbled"
    assert database.select(rows.TOTAL_CHANGES).rows == [{"c": 2}]
    assert database.connections == 1, "an err leaves the connection good"


def _close(connection: socket.socket, _: str, __: bytes) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def _send(payload: bytes) -> object:
    return lambda connection, _, __: connection.sendall(payload)


FAULTS = [
    (close_mid_frame, "garbled", "in the middle"),
    (_send(struct.pack("<I", MAX + 1)), "garbled", "65537 bytes"),
    (_send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "garbled", "bytes"),
    (_send(frame(b"unk")), "garbled", "unk"),
    (_send(frame(b"")), "garbled", "answered ''"),
    (_send(frame(b"ok {")), "garbled", "JSON"),
    (_send(frame(b"ok " + b"[" * 60_000)), "garbled", "JSON"),
    (_send(frame(b"ok 7")), "garbled", "no list"),
    (_send(frame(b"ok [] []")), "garbled", "no list"),
    (_send(frame(b'ok ["x"]')), "garbled", "no list"),
    (_send(frame(b"ok []") * 2), "garbled", "more than it was asked"),
    (_send(frame(b"ok [{" + b"x" * (MAX - 5))), "garbled", "cut"),
    (_send(b""), "silent", "did not answer"),
    (_send(frame(b"ok []")[:6]), "silent", "did not answer"),
]


@pytest.mark.parametrize(("fault", "state", "words"), FAULTS)
def test_a_fault_is_one_sentence_and_the_next_request_is_answered(
    fault: object, state: str, words: str, server: WdbServer, database: wdb.Wdb
) -> None:
    server.behave(fault)  # type: ignore[arg-type]
    with pytest.raises(SourceUnavailable, match=words) as caught:
        database.select(rows.TOTAL_CHANGES)
    assert caught.value.state == state
    assert str(server.path) in str(caught.value)
    assert str(caught.value).isprintable()
    assert database.select(rows.TOTAL_CHANGES).rows == [{"c": 2}]


def test_a_daemon_that_drips_for_ever_is_silent_in_time(server: WdbServer, database: wdb.Wdb) -> None:
    """The wait is bounded as a whole, not between two bytes."""
    stop = threading.Event()

    def drip(connection: socket.socket, _: str, __: bytes) -> None:
        connection.sendall(struct.pack("<I", MAX))
        while not stop.wait(TIMEOUT / 20):
            connection.sendall(b" ")

    server.behave(drip)
    with pytest.raises(SourceUnavailable, match="did not answer"):
        database.select(rows.TOTAL_CHANGES)
    stop.set()


def test_a_connection_that_died_idle_is_opened_again_without_a_word(server: WdbServer, database: wdb.Wdb) -> None:
    database.select(rows.TOTAL_CHANGES)
    server.restart()
    assert database.select(rows.TOTAL_CHANGES).rows == [{"c": 2}]
    assert database.connections == 2


def test_a_daemon_that_hangs_up_on_every_request_is_silent(server: WdbServer, database: wdb.Wdb) -> None:
    database.select(rows.TOTAL_CHANGES)
    server.behave(_close, _close)
    with pytest.raises(SourceUnavailable, match="closed its socket") as caught:
        database.select(rows.TOTAL_CHANGES)
    assert caught.value.state == "silent"


def test_no_such_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file" / "wdb"):
        with pytest.raises(SourceUnavailable, match="does not exist") as caught:
            wdb.Wdb(path, SystemClock(), TIMEOUT).select(rows.TOTAL_CHANGES)
        assert caught.value.state == "missing"


def test_a_socket_that_nobody_listens_at_and_a_path_too_long_for_one(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "wdb"))
    stale.close()
    for path in (tmp_path / "wdb", tmp_path / ("x" * 120)):
        with pytest.raises(SourceUnavailable, match="nobody answers") as caught:
            wdb.Wdb(path, SystemClock(), TIMEOUT).select(rows.TOTAL_CHANGES)
        assert caught.value.state == "silent"


def test_a_socket_of_another_group(open_dir: Path) -> None:
    with WdbServer(open_dir / "wdb") as server:
        server.path.chmod(0)

        def ask() -> str:
            try:
                wdb.Wdb(server.path, SystemClock(), TIMEOUT).select(rows.TOTAL_CHANGES)
            except SourceUnavailable as error:
                return f"{error.state}: {error}"
            return "answered"

        told = as_nobody(ask)
    assert told.startswith("denied: ")
    assert "group wazuh" in told
