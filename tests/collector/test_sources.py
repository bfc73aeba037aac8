"""Which way in is taken, and that the table never seems to go back in time."""

import sqlite3
import threading
from pathlib import Path

import pytest

from collector import sources
from shared import config
from shared.errors import SourceUnavailable
from tests.clock import ManualClock
from tests.collector import schemas
from tests.collector.wdb_server import WdbServer

START_MS = 4_000_000_000_000


class Home:
    """A manager whose daemon is in this process, over the file itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock(now_ms=START_MS)
        (path / "queue" / "db").mkdir(parents=True)
        database = sqlite3.connect(self.db_path)
        schemas.create(database)
        database.executemany(schemas.INSERT, [schemas.agent(1)])
        database.commit()
        database.close()

    @property
    def db_path(self) -> Path:
        return self.path / "queue" / "db" / "global.db"

    def daemon(self) -> WdbServer:
        return WdbServer(self.path / "queue" / "db" / "wdb", self.db_path)

    def open(self, source: str = "auto") -> sources.Source:
        variables = {"WAZUH_JETSTREAM__WAZUH__HOME": str(self.path), "WAZUH_JETSTREAM__WAZUH__SOURCE": source}
        return sources.open_source(config.load(None, variables), self.clock, "node01")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize(("source", "kind"), [("auto", "socket"), ("socket", "socket"), ("file", "file")])
def test_the_source_is_the_one_named_and_auto_takes_the_socket_where_it_answers(source: str, kind: str, home: Home) -> None:
    with home.daemon():
        opened = home.open(source)
        assert [row.id for row in opened.read().rows] == [1]
        assert opened.kind == kind
        opened.close()


def test_a_source_that_is_named_is_never_another(home: Home) -> None:
    opened = home.open("socket")
    with pytest.raises(SourceUnavailable, match="does not exist"):
        opened.read()
    opened.close()


def test_auto_reads_the_file_where_no_socket_answers_and_tries_the_socket_again(home: Home) -> None:
    opened = home.open()
    kinds = []
    assert len(opened.read().rows) == 1
    kinds.append(opened.kind)
    assert opened.as_of == START_MS
    assert opened.poll() is None
    opened.wait(0, threading.Event(), lambda: False)
    with home.daemon() as daemon:
        home.clock.advance(sources.RETRY_FIRST / 2)
        assert opened.poll() is None
        assert len(opened.read().rows) == 1
        kinds.append(opened.kind)
        home.clock.advance(sources.RETRY_FIRST / 2)
        reading = opened.poll()
        kinds.append(opened.kind)
        assert reading is not None
        assert reading.complete
        daemon.execute("update agent set connection_status = 'pending', last_keepalive = 7")
        moved = opened.poll()
        assert moved is not None
        assert not moved.complete
        assert opened.keepalives(8, []) == [(1, 7)]
    assert kinds == ["file", "file", "socket"]
    opened.close()


def test_a_daemon_that_was_stopped_has_committed_and_the_file_is_read_at_once(home: Home) -> None:
    opened = home.open()
    with home.daemon() as daemon:
        opened.read()
        daemon.execute("update agent set connection_status = 'disconnected'")
    home.clock.advance(1)
    reading = opened.poll()
    assert reading is not None
    assert (opened.kind, reading.complete, reading.rows[0].status) == ("file", True, "disconnected")
    home.clock.advance(sources.RETRY_FIRST)
    assert opened.poll() is not None, "the socket was tried, and what the file holds is told again"
    assert opened.kind == "file"
    opened.close()


def test_the_file_is_not_read_while_it_is_older_than_what_the_socket_showed(home: Home) -> None:
    """A daemon that hangs has not committed: agents would seem to fall back into the state before."""
    opened = home.open()
    with home.daemon() as daemon:
        daemon.execute("begin")
        daemon.execute("update agent set connection_status = 'disconnected'")
        assert opened.read().rows[0].status == "disconnected"
        (home.path / "queue" / "db" / "wdb").unlink()
        opened.close()
        for look in (opened.read, opened.poll):
            with pytest.raises(SourceUnavailable) as caught:
                look()
            assert caught.value.state == "missing"
            assert opened.kind == "socket"
        daemon.execute("commit")
        reading = opened.poll()
        assert reading is not None
        assert reading.rows[0].status == "disconnected"
    opened.close()


def test_a_socket_that_stays_away_is_tried_ever_more_rarely(home: Home) -> None:
    opened = home.open()
    opened.read()
    tried, waits = 0, []
    for second in range(1, round(10 * sources.RETRY_HIGHEST)):
        home.clock.advance(1)
        if opened.poll() is not None:  # the whole file is told again where the socket was tried
            waits.append(second - tried)
            tried = second
    assert waits[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(waits[7:]) == {60}
    opened.close()


def test_where_neither_way_in_is_open_both_are_told(tmp_path: Path) -> None:
    variables = {"WAZUH_JETSTREAM__WAZUH__HOME": str(tmp_path)}
    opened = sources.open_source(config.load(None, variables), ManualClock(), "node01")
    with pytest.raises(SourceUnavailable) as caught:
        opened.read()
    assert caught.value.state == "missing"
    assert "global.db" in str(caught.value)
    assert "wdb does not exist" in str(caught.value)
    opened.close()
