"""wazuh-db's hold on global.db: one connection, one mutex, one deferred transaction that is committed by age.

Any command, a read too, opens the transaction (wdb_begin2); the collector thread of wazuh-db commits it when it is old
enough (wdb.c:931-959), and a commit that meets a reader is tried 1000 times at once and then again later (wdb.c:602-614).
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.manager import schema

_COMMIT_TRIES: Final = 1000


class Database:
    """global.db of one node. Every use is `with database.use() as connection:`."""

    def __init__(self, path: Path, version: str, commit_seconds: float) -> None:
        if not path.exists():
            schema.create(path, version)
        self.version = version
        self._connection = schema.connect(path)
        self._mutex = threading.Lock()
        self._commit_seconds = commit_seconds
        self._began = 0.0
        self._ended = threading.Event()
        self._collector = threading.Thread(target=self._collect, daemon=True)
        self._collector.start()
        self.columns = frozenset(name for _, name, *_ in self._connection.execute("PRAGMA table_info(agent)"))

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone, inside the held transaction."""
        with self._mutex:
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN")
                self._began = time.monotonic()
            yield self._connection

    def play(self, writes: Sequence[Mapping[str, object]]) -> None:
        """Inserts, updates and deletes of the driver; nobody sees the table between two of them. ValueError for what is none."""
        with self.use() as connection:
            for write in writes:
                self._play(connection, write)

    def _play(self, connection: sqlite3.Connection, write: Mapping[str, object]) -> None:
        match write:
            case {"op": "insert", "row": dict(row)}:
                names = self._names(row)
                connection.execute(f"INSERT INTO agent ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
            case {"op": "update", "ids": list(ids), "columns": dict(columns)}:
                places = ", ".join(f"`{name}` = ?" for name in columns if self._names([name]))
                connection.execute(f"UPDATE agent SET {places} WHERE {_IN_IDS}", [*columns.values(), json.dumps(ids)])
            case {"op": "delete", "ids": list(ids)}:
                connection.execute(f"DELETE FROM agent WHERE {_IN_IDS}", [json.dumps(ids)])
            case _:
                raise ValueError(f"a write is insert, update or delete, not {write.get('op')!r}")

    def close(self) -> None:
        """Commit and close, as at an orderly shutdown."""
        self._ended.set()
        self._collector.join()
        with self._mutex:
            self._commit()
            self._connection.close()

    def _names(self, names: Sequence[str] | Mapping[str, object]) -> str:
        unknown = [name for name in names if name not in self.columns]
        if unknown:
            raise ValueError(f"table agent of {self.version} has no column {', '.join(map(repr, unknown))}")
        return ", ".join(f"`{name}`" for name in names)

    def _collect(self) -> None:
        while not self._ended.wait(min(1.0, self._commit_seconds / 10)):
            with self._mutex:
                if self._connection.in_transaction and time.monotonic() - self._began >= self._commit_seconds:
                    self._commit()

    def _commit(self) -> bool:
        """Whether the transaction is committed; a reader that holds its lock too long is met again later."""
        for _ in range(_COMMIT_TRIES):
            try:
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")
            except sqlite3.OperationalError:
                continue
            return True
        return False


_IN_IDS: Final = "id IN (SELECT value FROM json_each(?))"
