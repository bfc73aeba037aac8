"""Opening a ledger's database either works or says in one sentence why not; its errors say what passes and what does not."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import URL, exc

from relay import database
from relay.database import Database
from relay.lease import Superseded
from relay.ledger import Ledger
from shared.errors import ConfigError, Stop, Unreachable, WazuhJetstreamError
from tests.relay import ledgers

ROOT = Path(__file__).parents[2]
AS_NOBODY = """
import os, sys
sys.path.insert(0, "")
from relay.ledger import Ledger
from relay.lease import Superseded
if os.geteuid() == 0:
    os.setuid(65534)
Ledger.open(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "is no database URL"),
        ("ledger.db", "is no database URL"),
        ("postgresql://user:secret@host:port/name", "is no database URL"),
        ("mysql://host/name", "asks for 'mysql'; the ledger works on sqlite and postgresql"),
        ("sqlite+aiosqlite:////tmp/ledger.db", r"asks for 'sqlite\+aiosqlite'"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://var/lib/ledger.db", "names no file"),
        ("sqlite:///file:ledger.db?uri=true", "names no file"),
        ("sqlite:////tmp/a\0b.db", "names no file"),
        ("sqlite:////nowhere/ledger.db", "the directory of the ledger /nowhere/ledger.db does not exist; create it"),
        ("sqlite:////dev/null/ledger.db", "the directory of the ledger /dev/null/ledger.db does not exist; create it"),
        ("sqlite:////tmp", "the ledger /tmp is a directory"),
    ],
)
def test_a_wrong_url_is_refused_with_a_sentence_that_holds_no_password(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refusal:
        Ledger.open(url)
    assert "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None or "secret" not in str(refusal.value.__cause__)


def test_a_postgresql_that_cannot_be_reached_is_named_without_its_password() -> None:
    with pytest.raises((Unreachable, ConfigError)) as refusal:  # ConfigError: its driver is not installed
        Ledger.open("postgresql://user:secret@127.0.0.1:1/name")
    assert "secret" not in str(refusal.value)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("client.keys belongs elsewhere\n" * 100)
    with pytest.raises(ConfigError, match=r"is not a database; correct relay\.ledger_url"):
        Ledger.open(ledgers.fresh_url(tmp_path))
    assert path.read_text().startswith("client.keys")


def test_a_ledger_without_permission_is_refused_with_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, ledgers.fresh_url(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    tmp_path.chmod(0o700)
    assert "ConfigError: no permission to write the ledger" in done.stderr
    assert "give it and its directory to the relay's user" in done.stderr


def test_two_relays_never_share_a_ledger(tmp_path: Path) -> None:
    url = ledgers.fresh_url(tmp_path)
    first = Ledger.open(url)
    with pytest.raises(ConfigError, match=r"another relay uses the ledger .*; stop it, or give this one a relay\.ledger_url of its own"):
        Ledger.open(url)
    first.skip(1)
    first.close()
    second = Ledger.open(url)
    assert second.position() == 1
    second.close()


def test_a_ledger_that_could_not_be_opened_is_not_locked(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("not a database, not at all\n" * 100)
    with pytest.raises(ConfigError, match="is not a database"):
        Ledger.open(ledgers.fresh_url(tmp_path))
    path.unlink()
    Ledger.open(ledgers.fresh_url(tmp_path)).close()


def test_who_only_reads_needs_a_ledger_that_is_there_and_cannot_write_it(tmp_path: Path) -> None:
    url = ledgers.fresh_url(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no ledger at .* yet; start the relay first"):
        Ledger.open(url, read_only=True)
    Ledger.open(url).close()
    reader = Ledger.open(url, read_only=True)
    with pytest.raises(Superseded):
        reader.skip(1)
    reader.close()


def test_a_path_may_hold_what_a_uri_does_not(tmp_path: Path) -> None:
    strange = tmp_path / "a b?c#d%41"
    strange.mkdir()
    url = URL.create("sqlite", database=str(strange / "ledger.db")).render_as_string()
    Ledger.open(url).close()
    Ledger.open(url, read_only=True).close()
    assert (strange / "ledger.db").stat().st_size > 0


def test_a_ledger_is_for_its_operators_alone(tmp_path: Path) -> None:
    ledger = Ledger.open(ledgers.fresh_url(tmp_path))
    ledger.skip(1)
    assert {path.name for path in tmp_path.iterdir()} >= {"ledger.db", "ledger.db-wal", "ledger.db.lock"}
    assert all(path.stat().st_mode & 0o027 == 0 for path in tmp_path.iterdir())
    ledger.close()


def insert_into_one_and_two(opened: Database) -> None:
    with opened.write() as connection:
        connection.exec_driver_sql("INSERT INTO one VALUES (1)")
        connection.exec_driver_sql("INSERT INTO two VALUES (1)")


def test_a_transaction_happens_whole_or_not_at_all(tmp_path: Path) -> None:
    opened = Database.open(ledgers.fresh_url(tmp_path))
    with opened.write() as connection:
        connection.exec_driver_sql("CREATE TABLE one (number INTEGER)")
    with pytest.raises(Stop, match="no such table: two"):
        insert_into_one_and_two(opened)
    with opened.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM one").scalar() == 0
    opened.close()


def write_nothing(opened: Database, reached: list[str]) -> None:
    with opened.write():
        reached.append("the transaction")


def test_a_transaction_that_writes_does_not_begin_while_somebody_else_writes(tmp_path: Path) -> None:
    opened, reached = Database.open(f"sqlite:///{tmp_path / 'ledger.db'}"), list[str]()
    with opened.read() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=0")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unreachable, match="locked by another program"):
        write_nothing(opened, reached)
    other.close()
    assert not reached
    write_nothing(opened, reached)
    assert reached
    opened.close()


class ServerError(Exception):
    """An error as PostgreSQL's driver raises it."""

    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate
        super().__init__("the server says so\nDETAIL: and more")


@pytest.mark.parametrize(
    ("kind", "sqlstate", "family"),
    [
        (exc.OperationalError, None, Unreachable),  # it could not be connected to
        (exc.OperationalError, "57P01", Unreachable),  # shut down by its administrator
        (exc.OperationalError, "40001", Unreachable),  # serialization failure
        (exc.OperationalError, "53100", Unreachable),  # disk full
        (exc.InternalError, "25006", Unreachable),  # a standby, read-only
        (exc.ProgrammingError, "42P01", Stop),  # no such table
        (exc.DataError, "22021", Stop),  # a character that it does not hold
    ],
)
def test_errors_of_a_server_are_told_apart_by_what_passes(
    kind: type[exc.DBAPIError], sqlstate: str | None, family: type[Exception]
) -> None:
    said: WazuhJetstreamError = database.explain(kind("SELECT", {"name": "hidden"}, ServerError(sqlstate)), "db")
    assert type(said) is family
    assert str(said).startswith("the ledger db ")
    assert "the server says so;" in str(said)
    assert "hidden" not in str(said)
