"""On real SQLite files with a writer that behaves as wazuh-db: one connection, one long transaction, a rollback journal."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import globaldb, rows
from shared.clock import SystemClock
from shared.errors import SourceUnavailable
from tests.clock import ManualClock
from tests.collector import schemas
from tests.collector.as_nobody import as_nobody


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "global.db"


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    schemas.create(database)
    database.executemany(schemas.INSERT, [schemas.agent(number) for number in range(1, 6)])
    yield database
    database.close()


@pytest.fixture
def source(path: Path) -> Iterator[globaldb.FileSource]:
    made = globaldb.FileSource(path, SystemClock(), 5.0)
    yield made
    made.close()


def refusal(source: globaldb.FileSource) -> SourceUnavailable:
    with pytest.raises(SourceUnavailable) as caught:
        source.read()
    text = str(caught.value)
    assert text.isprintable()
    assert text.startswith("Wazuh's ")
    return caught.value


def names(reading: rows.Reading | None) -> list[str]:
    assert reading is not None
    return [row.name for row in reading.rows]


# Reading ------------------------------------------------------------------------------------------------------------


def test_every_committed_row_and_no_other(writer: sqlite3.Connection, source: globaldb.FileSource) -> None:
    writer.execute("begin")
    writer.execute("update agent set name = 'uncommitted'")
    reading = source.read()
    assert names(reading) == [f"agent-{number}" for number in range(1, 6)]
    assert (reading.complete, reading.db_version, reading.refused) == (True, 7, 0)
    writer.execute("commit")
    assert names(source.read()) == ["uncommitted"] * 5


def test_as_of_is_now_where_nothing_is_being_written_else_the_last_commit(writer: sqlite3.Connection, path: Path) -> None:
    clock = ManualClock(now_ms=4_000_000_000_000)
    source = globaldb.FileSource(path, clock, 5.0)
    assert source.read().as_of == clock.now_ms()
    writer.execute("begin")
    writer.execute("update agent set name = 'x'")
    os.utime(path, ns=(0, 3_000_000_000_123_456_789))
    assert source.read().as_of == 3_000_000_000_123
    clock.advance(10)
    assert source.poll() is None
    assert source.as_of == 3_000_000_000_123, "still that of what was read"
    writer.execute("rollback")
    assert source.poll() is None
    assert source.as_of == clock.now_ms()


def test_the_file_is_read_again_after_a_commit_alone(writer: sqlite3.Connection, source: globaldb.FileSource) -> None:
    assert source.poll() is not None
    assert source.poll() is None
    writer.execute("begin")
    writer.execute("update agent set name = 'x' where id = 1")
    assert source.poll() is None
    writer.execute("commit")
    assert names(source.poll())[0] == "x"
    assert source.poll() is None


def test_a_commit_during_the_reading_is_read_by_the_next_poll(
    writer: sqlite3.Connection, source: globaldb.FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = rows.decode

    def commit_first(answer: list[tuple[object, ...]]) -> rows.Decoded:
        writer.execute("update agent set name = 'late' where id = 1")
        return decode(answer)

    monkeypatch.setattr(rows, "decode", commit_first)
    assert names(source.read())[0] == "agent-1"
    monkeypatch.undo()
    assert names(source.poll())[0] == "late"


def test_a_file_that_was_replaced_is_read_anew(writer: sqlite3.Connection, path: Path, tmp_path: Path, source: globaldb.FileSource) -> None:
    """A restored backup is another inode, perhaps with the same counter."""
    source.read()
    other = tmp_path / "backup.db"
    shutil.copy(path, other)
    with sqlite3.connect(other) as database:
        database.execute("delete from agent where id = 2")
    database.close()
    other.rename(path)
    assert [row.id for row in source.poll().rows] == [1, 3, 4, 5]  # type: ignore[union-attr]
    assert source.poll() is None


def test_keepalives_of_the_quiet_and_of_a_sample(writer: sqlite3.Connection, source: globaldb.FileSource) -> None:
    writer.execute("update agent set last_keepalive = id * 10")
    writer.execute("update agent set last_keepalive = null where id = 5")
    assert source.keepalives(30, [4, 5]) == [(1, 10), (2, 20), (4, 40)]


def test_hostile_values_cost_their_own_row(path: Path, source: globaldb.FileSource) -> None:
    database = sqlite3.connect(path)
    schemas.create(database, "5.0", checked=False)
    database.executemany(schemas.INSERT, [schemas.agent(1), schemas.agent(-3), schemas.agent(4, "gone"), schemas.agent(6)])
    database.execute("update agent set name = cast(x'77ff62' as text) where id = 6")
    database.execute("insert into agent (id, name, date_add) values (9, ?, 'yesterday')", ("x" * 1_000_000,))
    database.commit()
    database.close()
    reading = source.read()
    assert [(row.id, row.name) for row in reading.rows] == [(1, "agent-1"), (6, "w\ufffdb")]
    assert (reading.refused, reading.unreadable, reading.db_version) == (2, (4, 9), 500)


# What cannot be read ------------------------------------------------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none.db", tmp_path / "file" / "global.db"):
        error = refusal(globaldb.FileSource(path, SystemClock(), 5.0))
        assert error.state == "missing"
        assert "wazuh.home" in str(error)


def test_a_file_of_another_group(open_dir: Path) -> None:
    path = open_dir / "global.db"
    sqlite3.connect(path).close()
    path.touch()
    path.chmod(0)

    def read() -> str:
        try:
            globaldb.FileSource(path, SystemClock(), 5.0).read()
        except SourceUnavailable as error:
            return f"{error.state}: {error}"
        return "read"

    told = as_nobody(read)
    assert told.startswith("denied: ")
    assert "group wazuh" in told


def test_a_locked_database_says_what_to_do_and_is_read_when_it_is_free(writer: sqlite3.Connection, source: globaldb.FileSource) -> None:
    """wazuh-db holds EXCLUSIVE from the moment its cache spills until it commits."""
    writer.execute("begin exclusive")
    error = refusal(source)
    assert error.state == "locked"
    assert "wazuh_db.commit_time_max=2" in str(error)
    with pytest.raises(SourceUnavailable, match="locked"):
        source.keepalives(1, [])
    writer.execute("commit")
    assert len(source.read().rows) == 5


def test_a_spilled_transaction_is_never_shown(writer: sqlite3.Connection, source: globaldb.FileSource, path: Path) -> None:
    source.read()
    writer.execute("pragma cache_size = 5")
    writer.execute("begin")
    writer.executemany(schemas.INSERT, [schemas.agent(number) for number in range(10, 3000)])
    assert path.stat().st_size > 100_000
    with pytest.raises(SourceUnavailable) as caught:
        source.poll()
    assert caught.value.state == "locked"
    writer.execute("rollback")
    reading = source.poll()
    assert reading is None or len(reading.rows) == 5


def test_a_lock_that_is_let_go_within_milliseconds_is_waited_for(writer: sqlite3.Connection, source: globaldb.FileSource) -> None:
    """At a commit the journal is unlinked a moment before the lock is released."""
    writer.execute("begin exclusive")
    tried = threading.Event()
    asked = source._once

    def once(sql: object) -> object:
        try:
            return asked(sql)  # type: ignore[arg-type]
        finally:
            if not tried.is_set():
                tried.set()
                writer.execute("commit")

    source._once = once  # type: ignore[assignment,method-assign]
    assert len(source.read().rows) == 5


HEADER = b"SQLite format 3\0"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "0 bytes"), (HEADER, "no SQLite"), (b"x" * 9000, "no SQLite"), (HEADER + b"\xff" * 9000, "no SQLite")],
)
def test_a_file_that_is_no_database(content: bytes, words: str, path: Path, source: globaldb.FileSource) -> None:
    path.write_bytes(content)
    error = refusal(source)
    assert error.state == "corrupt"
    assert words in str(error)


def test_a_database_with_a_broken_page(writer: sqlite3.Connection, path: Path, source: globaldb.FileSource) -> None:
    writer.executemany(schemas.INSERT, [schemas.agent(number) for number in range(10, 2000)])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xa5" * (size - 4096 * 4))
    assert refusal(source).state == "corrupt"


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_a_path_that_is_no_file_is_not_waited_for(kind: str, path: Path, source: globaldb.FileSource) -> None:
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    assert refusal(source).state == "corrupt"


def test_a_database_without_agents_or_of_another_program(path: Path, source: globaldb.FileSource) -> None:
    database = sqlite3.connect(path)
    database.execute("create table metadata (key text primary key, value text)")
    database.commit()
    assert refusal(source).state == "unsupported"
    database.execute("create table agent (id integer primary key, name text, status text)")
    database.commit()
    database.close()
    error = refusal(source)
    assert error.state == "unsupported"
    assert "connection_status" in str(error)


def test_an_unfinished_transaction_of_a_killed_daemon_waits_for_wazuh_db(writer: sqlite3.Connection, path: Path) -> None:
    """A hot journal: SQLite would have to write to play it back, and `immutable` would show what was never committed."""
    script = (
        "import os, signal, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('pragma cache_size = 2')\n"
        "db.execute('begin')\n"
        "db.execute(\"update agent set name = 'never committed'\")\n"
        "db.execute('create table filler as with recursive n(i) as (select 1 union all select i+1 from n where i < 5000) "
        "select i, hex(randomblob(50)) x from n')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, path], check=False)
    assert path.with_name("global.db-journal").stat().st_size > 0
    before = path.read_bytes()
    error = refusal(globaldb.FileSource(path, SystemClock(), 5.0))
    assert error.state == "recovering"
    assert "start wazuh-db" in str(error)
    assert path.read_bytes() == before
    assert writer.execute("select count(*) from agent where name = 'never committed'").fetchone() == (0,)
    assert len(globaldb.FileSource(path, SystemClock(), 5.0).read().rows) == 5


# Waiting ------------------------------------------------------------------------------------------------------------


def waits(source: globaldb.FileSource, seconds: float = 20.0) -> tuple[threading.Thread, threading.Event]:
    stop = threading.Event()
    thread = threading.Thread(target=source.wait, args=(seconds, stop, lambda: False), daemon=True)
    thread.start()
    return thread, stop


def test_the_unlink_of_the_journal_ends_the_wait(writer: sqlite3.Connection, path: Path) -> None:
    source = globaldb.FileSource(path, SystemClock(), 3600.0)
    source.read()
    writer.execute("begin")
    writer.execute("update agent set name = 'x'")
    thread, _ = waits(source, 3600.0)
    writer.execute("commit")
    thread.join(10)
    assert not thread.is_alive()
    assert names(source.poll()) == ["x"] * 5
    source.close()


def test_a_commit_without_a_journal_to_watch_ends_the_wait_as_well(
    writer: sqlite3.Connection, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no watch left to give, the file itself is looked at."""

    def none_left() -> None:
        raise OSError(24, "too many inotify instances")

    monkeypatch.setattr("inotify_simple.INotify", none_left)
    source = globaldb.FileSource(path, SystemClock(), 3600.0)
    source.read()
    thread, _ = waits(source, 3600.0)
    writer.execute("update agent set name = 'x'")
    thread.join(10)
    assert not thread.is_alive()


def test_a_wait_ends_with_stop_and_with_its_time(writer: sqlite3.Connection, source: globaldb.FileSource) -> None:
    source.read()
    source.wait(0.01, threading.Event(), lambda: False)
    writer.execute("begin")
    writer.execute("update agent set name = 'x'")
    source.wait(0.01, threading.Event(), lambda: False)
    thread, stop = waits(source)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_wait_ends_where_something_else_stirred(writer: sqlite3.Connection, source: globaldb.FileSource) -> None:
    source.read()
    source.wait(3600, threading.Event(), lambda: True)


def test_a_missing_file_is_waited_for_in_peace(path: Path) -> None:
    source = globaldb.FileSource(path, SystemClock(), 0.05)
    source.wait(3600, threading.Event(), lambda: False)
    source.close()


def test_nothing_but_the_journal_is_watched(writer: sqlite3.Connection, path: Path, source: globaldb.FileSource) -> None:
    """The directory holds thousands of other databases: their events must cost nothing."""
    source.read()
    writer.execute("begin")
    writer.execute("update agent set name = 'x'")
    source.wait(0.01, threading.Event(), lambda: False)
    for number in range(20):
        (path.parent / f"{number}.db").touch()
        (path.parent / f"{number}.db").unlink()
    assert source._watch._inotify is not None
    assert source._watch._inotify.read(timeout=0) == []


def test_a_schema_that_is_no_text_is_a_broken_database(tmp_path: Path) -> None:
    """SQLite quotes it in its own error, which Python then cannot decode."""
    database = sqlite3.connect(tmp_path / "global.db")
    schemas.create(database)
    database.commit()
    database.close()
    raw = (tmp_path / "global.db").read_bytes()
    place = raw.index(b"CREATE TABLE agent (") + len("CREATE TABLE agent (")
    (tmp_path / "global.db").write_bytes(raw[:place] + b"\xd4\xff,," + raw[place + 4 :])
    with pytest.raises(SourceUnavailable) as caught:
        globaldb.FileSource(tmp_path / "global.db", SystemClock(), 1.0).read()
    assert caught.value.state == "corrupt"
