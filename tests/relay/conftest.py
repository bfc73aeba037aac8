"""What tests of the relay may ask for: databases for ledgers. Whatever asks for `fresh` or `url` runs on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay import outbox
from tests.postgres_server import PostgresServer

Fresh = Callable[[], str]


@pytest.fixture
def read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ledgers give out what the database holds, and nothing from memory."""
    monkeypatch.setattr(outbox, "FRESH", 0)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all tests of this process."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def fresh_postgres(postgres: PostgresServer) -> Iterator[Fresh]:
    """URLs of databases on PostgreSQL that nobody has used yet."""
    names: list[str] = []

    def fresh() -> str:
        names.append(postgres.create())
        return postgres.url(names[-1])

    yield fresh
    for name in names:
        postgres.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Fresh:
    """URLs of databases that nobody has used yet, on one kind of database after the other."""
    if request.param == "postgresql":
        found: Fresh = request.getfixturevalue("fresh_postgres")
        return found
    numbers = iter(range(1_000_000))
    return lambda: f"sqlite:///{tmp_path}/ledger{next(numbers)}.db"


@pytest.fixture
def url(fresh: Fresh) -> str:
    """The URL of a database that nobody has used yet."""
    return fresh()
