"""A ledger on PostgreSQL: what its server may do to a relay, and what relays that share one may do to each other."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from relay.database import Database
from relay.ledger import Ledger
from shared.errors import Stop, Unreachable
from tests.postgres_server import PostgresServer
from tests.relay import ledgers

HANG_UP = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
def pg(fresh_postgres: Callable[[], str]) -> str:
    return fresh_postgres()


@pytest.fixture
def database(pg: str) -> Iterator[Database]:
    opened = Database.open(pg)
    yield opened
    opened.close()


def with_options(url: str, options: str) -> str:
    return f"{url}&options=" + options.replace(" ", "%20").replace("=", "%3D")


def shown(database: Database, setting: str) -> str:
    with database.read() as connection:
        return str(connection.exec_driver_sql(f"SHOW {setting}").scalar_one())


def sleep(database: Database, seconds: float) -> None:
    with database.write() as connection:
        connection.exec_driver_sql(f"SELECT pg_sleep({seconds})")


def test_a_lost_connection_is_said_and_the_same_call_succeeds_on_a_new_one(pg: str, postgres: PostgresServer) -> None:
    ledger = ledgers.opened(pg)
    ledger.skip(1)
    with postgres.connect(name_of(pg)) as session:
        session.execute(HANG_UP)
    with pytest.raises(Unreachable, match="the relay goes on when it does"):
        ledger.skip(2)
    ledger.skip(2)
    assert ledger.position() == 2
    ledger.close()


def test_a_transaction_cut_in_the_middle_happened_not_at_all(pg: str, postgres: PostgresServer) -> None:
    ledger = ledgers.opened(pg)

    def cut() -> None:
        with ledger._write() as connection, postgres.connect(name_of(pg)) as session:
            connection.exec_driver_sql("UPDATE meta SET position = 7")
            session.execute(HANG_UP)

    with pytest.raises(Unreachable):
        cut()
    assert ledger.position() == 0
    ledger.close()


@pytest.fixture
def mortal() -> Iterator[PostgresServer]:
    """A server that a test may kill."""
    server = PostgresServer()
    yield server
    server.close()


def test_a_server_that_is_away_is_waited_for(mortal: PostgresServer) -> None:
    url = mortal.url(mortal.create())
    ledger = ledgers.opened(url)
    mortal.kill()
    for _ in range(2):
        with pytest.raises(Unreachable):
            ledger.skip(1)
    with pytest.raises(Unreachable, match="does not answer"):
        Ledger.open(url)
    mortal.start()
    ledger.skip(1)
    assert ledger.position() == 1
    ledger.close()


def test_a_session_that_sits_in_a_transaction_is_ended(pg: str, database: Database) -> None:
    frozen = Database.open(with_options(pg, "-c idle_in_transaction_session_timeout=20"))

    def alive(session: int) -> bool:
        with database.read() as connection:
            return bool(connection.exec_driver_sql(f"SELECT 1 FROM pg_stat_activity WHERE pid = {session}").all())

    def sit() -> None:
        with frozen.write() as connection:
            session = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            while alive(session):
                pass

    with pytest.raises(Unreachable):
        sit()
    frozen.close()


def test_a_statement_and_a_lock_that_last_too_long_pass(pg: str) -> None:
    database = Database.open(with_options(pg, "-c statement_timeout=20 -c lock_timeout=10"))
    with pytest.raises(Unreachable, match="statement timeout"):
        sleep(database, 60)
    holder = ledgers.opened(pg)
    with holder._write(), pytest.raises(Unreachable, match="lock timeout"), database.write() as connection:
        connection.exec_driver_sql("SELECT 1 FROM lease FOR UPDATE")
    holder.close()
    database.close()


def test_nothing_lasts_for_ever_where_the_operator_says_nothing(database: Database) -> None:
    settings = ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout", "application_name")
    assert [shown(database, name) for name in settings] == ["5s", "10s", "30s", "wazuh-relay"]


def test_what_the_operator_says_counts(pg: str) -> None:
    database = Database.open(with_options(pg, "-c statement_timeout=7s") + "&application_name=other")
    assert (shown(database, "statement_timeout"), shown(database, "lock_timeout")) == ("7s", "10s")
    assert shown(database, "application_name") == "other"
    database.close()


def test_who_only_reads_cannot_write(pg: str) -> None:
    Ledger.open(pg).close()
    reader = Ledger.open(pg, read_only=True)
    with pytest.raises(Unreachable, match="read-only transaction"):
        write(reader)
    reader.close()


def write(reader: Ledger) -> None:
    with reader._database.write() as connection:
        connection.exec_driver_sql("UPDATE meta SET position = 7")


def test_who_reads_sees_one_moment(pg: str) -> None:
    ledger, reader = ledgers.opened(pg), Database.open(pg, read_only=True)
    with reader.read() as connection:
        seen = [connection.exec_driver_sql("SELECT position FROM meta").scalar_one()]
        ledger.skip(1)
        seen.append(connection.exec_driver_sql("SELECT position FROM meta").scalar_one())
    assert seen == [0, 0]
    reader.close()
    ledger.close()


def test_relays_that_start_together_make_the_ledger_together(pg: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: Ledger.open(pg), range(4)))
    assert [one.position() for one in opened] == [0] * 4
    for one in opened:
        one.close()


def test_a_right_that_is_missing_ends_the_relay_with_a_sentence(pg: str, postgres: PostgresServer) -> None:
    with postgres.connect() as session:
        session.execute("DROP ROLE IF EXISTS nobody_special")
        session.execute("CREATE ROLE nobody_special LOGIN")
    with pytest.raises(Stop, match="permission denied for schema public"):
        Ledger.open(pg.replace("postgres@", "nobody_special@"))


def name_of(url: str) -> str:
    """The database that a URL names."""
    return url.partition("?")[0].rpartition("/")[2]
