"""The ledgers that the relay is measured on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.postgres_server import PostgresServer

KINDS: Final = ("SQLite", "PostgreSQL")


@contextmanager
def opened(kind: str, directory: Path) -> Iterator[str]:
    """The URL of a ledger that nobody has used yet."""
    if kind == "SQLite":
        yield f"sqlite:///{directory}/ledger.db"
        return
    server = PostgresServer()
    try:
        yield server.url(server.create())
    finally:
        server.close()
