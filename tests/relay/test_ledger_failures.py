"""A SQLite ledger that cannot be written or read says so in one sentence, and the same call succeeds once it can."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import fleet
from relay.decided import Decision
from relay.fleet import Fleet
from relay.ledger import Ledger
from shared.errors import ConfigError, Unreachable
from tests.relay import lab, ledgers
from tests.relay.lab import T0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger.open(url)
    yield opened
    opened.close()


def pragma(ledger: Ledger, text: str) -> None:
    """Set something on the one connection that the ledger has."""
    with ledger._database.read() as connection:
        connection.exec_driver_sql(f"PRAGMA {text}")


def refused_record(ledger: Ledger) -> tuple[Decision, Fleet, str]:
    """A decision that cannot be recorded now, the fleet to record it with, and the sentence."""
    desk = ledgers.Desk(ledger)
    desk.node("m")
    speaker = desk.speakers["m"]
    speaker.rows = {number: lab.row(number, "active", T0, name="x" * 5000) for number in range(1, 40)}
    speaker.keys = {number: lab.key(row) for number, row in speaker.rows.items()}
    heard = fleet.Heard(1, T0 * 1000, T0 * 1000, speaker.snapshot("full", T0))
    decision = ledgers.judged(desk.fleet, heard)
    with pytest.raises(Unreachable) as refusal:
        ledger.record(decision, desk.fleet, ledgers.kept(heard))
    assert ledger.position() == 0
    return decision, desk.fleet, str(refusal.value)


def test_a_full_disk_is_said_and_the_same_call_succeeds_once_there_is_room(ledger: Ledger) -> None:
    pragma(ledger, "max_page_count=20")
    decision, view, sentence = refused_record(ledger)
    assert "its disk is full; free some space" in sentence
    pragma(ledger, "max_page_count=100000")
    ledger.record(decision, view, None)
    assert (ledger.position(), len(list(ledger.agents()))) == (1, 39)


def test_a_ledger_that_became_read_only_is_said_and_the_same_call_succeeds_later(ledger: Ledger) -> None:
    pragma(ledger, "query_only=ON")
    decision, view, sentence = refused_record(ledger)
    assert "read-only" in sentence
    with pytest.raises(Unreachable, match="read-only; give its file"):
        ledger.check()
    pragma(ledger, "query_only=OFF")
    ledger.record(decision, view, None)
    assert ledger.position() == 1
    ledger.check()


def test_a_ledger_that_another_program_locks_is_said_and_the_same_call_succeeds_later(ledger: Ledger, tmp_path: Path) -> None:
    pragma(ledger, "busy_timeout=0")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    decision, view, sentence = refused_record(ledger)
    assert "locked by another program" in sentence
    other.execute("COMMIT")
    other.close()
    ledger.record(decision, view, None)
    assert ledger.position() == 1


def test_a_damaged_ledger_stops_the_relay_with_a_sentence(url: str, tmp_path: Path) -> None:
    desk = ledgers.settled(Ledger.open(url), agents=200)
    desk.ledger.close()
    path = tmp_path / "ledger.db"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(ConfigError, match="is damaged; restore it, or move it away"):
        Ledger.open(url).restore("lab", ledgers.POLICY)


@pytest.mark.parametrize(
    "change", ["UPDATE nodes SET facts = '{}'", "UPDATE snapshots SET payload = x'00'", "UPDATE quiet SET quiet = x'c1'"]
)
def test_a_view_that_cannot_be_read_stops_the_relay_with_a_sentence(ledger: Ledger, tmp_path: Path, change: str) -> None:
    desk = ledgers.settled(ledger)
    desk.beat("m", T0 + 1, {1: T0 - 100})
    other = sqlite3.connect(tmp_path / "ledger.db")
    assert other.execute(change).rowcount == 1
    other.commit()
    other.close()
    with pytest.raises(ConfigError, match="of a node cannot be read; restore it, or move it away"):
        ledger.restore("lab", ledgers.POLICY)
