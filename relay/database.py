"""The ledger's database: opened, locked, and its errors said in sentences. All that SQLite and PostgreSQL do not share is here.

Rules
 * SQLite writes a log (WAL) and does not wait for the disk at each commit (`synchronous=NORMAL`): what a power loss takes
   is the last transactions whole, and RAW is replayed from the position that is left, to the same decisions.
 * One relay writes a SQLite ledger; the lock is a file beside it, and ends with the process that holds it.
 * A writing transaction takes its lock as it begins, so that it never fails half-way because somebody else has it.
 * What can pass by itself is `Unreachable`; what cannot, a `Stop`. No sentence holds a URL's password.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, NewType
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event, exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.dml import UpdateBase

from shared.errors import ConfigError, Stop, Unreachable, WazuhJetstreamError

from .stored import Row

DRIVERS: Final[Mapping[str, str]] = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_INSERTS: Final[Mapping[str, Callable[[Table], sqlite.Insert | postgresql.Insert]]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}

BUSY_TIMEOUT: Final = 5.0  # seconds: a reader's or a backup's lock on SQLite is over by then
CONNECT_TIMEOUT: Final = 5  # seconds, PostgreSQL
_COMMON: Final = {"pool_size": 1, "max_overflow": 0, "hide_parameters": True}  # names and payloads are not for error texts
CHUNK: Final = 5_000  # rows handed to the driver at once: a few MB
JOURNAL_BYTES: Final = 64 * 1024 * 1024  # what the log is cut back to after a large transaction
MODE: Final = 0o640  # names and addresses of a fleet are for its operators

_NAMES_NO_FILE: Final = "relay.ledger_url names no file; write sqlite:////absolute/path/ledger.db"


Prepared = NewType("Prepared", str)
"""A statement that was compiled once, for many rows of tuples."""


class Database:
    """One database, for one thread. `where` names it in sentences."""

    def __init__(self, engine: Engine, where: str, lock: int | None) -> None:
        self.where = where
        self._engine = engine
        self._writing = engine.execution_options(writing=True)
        self._lock = lock
        if engine.dialect.name == "sqlite":
            event.listen(engine, "begin", _begin)

    @classmethod
    def open(cls, url: str, *, read_only: bool = False) -> "Database":
        """Open what `relay.ledger_url` names. Raises ConfigError where it is wrong."""
        parsed = _parsed(url)
        if parsed.get_backend_name() == "postgresql":
            return cls(_postgresql(parsed, read_only=read_only), parsed.render_as_string(hide_password=True), None)
        path = _file(parsed)
        if read_only and not path.exists():
            raise ConfigError(f"there is no ledger at {path} yet; start the relay first, or correct relay.ledger_url")
        lock = None if read_only else _locked(path)
        return cls(_sqlite(path, read_only=read_only), str(path), lock)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment."""
        with self._explained(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed whole at its end, or not at all."""
        with self._explained(), self._writing.begin() as connection:
            yield connection

    def prepare(self, statement: UpdateBase, columns: Iterable[str]) -> Prepared:
        """Compile a statement for rows that hold `columns` in this order."""
        names = list(columns)
        compiled = statement.compile(dialect=self._engine.dialect, column_keys=names)
        if list(getattr(compiled, "positiontup", None) or ()) != names:
            raise AssertionError("the statement takes its values in another order than the rows have")
        return Prepared(str(compiled))

    def upsert(self, table: Table) -> Insert:
        """An insert of whole rows that replaces the row under the same primary key."""
        insert = _INSERTS[self._engine.dialect.name](table)
        others = {column.name: insert.excluded[column.name] for column in table.columns if not column.primary_key}
        return insert.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=others)

    def close(self) -> None:
        """Let go of the database and of its lock."""
        self._engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except exc.SQLAlchemyError as error:
            raise explain(error, self.where) from error


def execute(connection: Connection, statement: Prepared, rows: Iterable[Row]) -> None:
    """Run a statement for each row, a chunk at a time: rows that are made as they are taken never stand in memory at once."""
    remaining = iter(rows)
    while chunk := list(islice(remaining, CHUNK)):
        connection.exec_driver_sql(statement, chunk)


# Opening ------------------------------------------------------------------------------------------------------------


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        # Not chained, not quoted: what cannot be taken apart may hold a password anywhere.
        raise ConfigError(
            "relay.ledger_url is no database URL; write sqlite:////absolute/path/ledger.db or postgresql://user@host/database"
        ) from None
    if parsed.drivername not in DRIVERS:
        raise ConfigError(f"relay.ledger_url asks for {parsed.drivername!r}; the ledger works on sqlite and postgresql")
    return parsed.set(drivername=DRIVERS[parsed.drivername])


def _file(url: URL) -> Path:
    name = url.database
    if not name or name == ":memory:" or name.startswith("file:") or "\0" in name or url.host or url.query:
        raise ConfigError(_NAMES_NO_FILE)
    return Path(name).absolute()


def _locked(path: Path) -> int:
    """Make the file where there is none, and hold the lock beside it; the descriptor that holds it."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, MODE))
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, MODE)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"the directory of the ledger {path} does not exist; create it, owned by the relay's user") from error
    except IsADirectoryError as error:
        raise ConfigError(f"the ledger {path} is a directory; {_NAMES_NO_FILE}") from error
    except PermissionError as error:
        raise ConfigError(f"no permission to write the ledger {path}; give it and its directory to the relay's user") from error
    except OSError as error:
        raise Unreachable(f"the ledger {path} cannot be opened: {error.strerror}; check its disk") from error
    return _held(descriptor, path)


def _held(descriptor: int, path: Path) -> int:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ConfigError(f"another relay uses the ledger {path}; stop it, or give this one a relay.ledger_url of its own") from error
    return descriptor


def _sqlite(path: Path, *, read_only: bool) -> Engine:
    uri = f"file:{quote(str(path))}?mode={'ro' if read_only else 'rw'}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        if not read_only:
            _pragmas(connection, path)
        return connection

    return create_engine("sqlite://", creator=connect, poolclass=QueuePool, **_COMMON)


def _pragmas(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise ConfigError(f"the file system of the ledger {path} cannot hold SQLite's log; put it on a local disk")
    # Not FULL: a lost last transaction is harmless, for RAW is replayed from the position that is left (module docstring).
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES}")


def _postgresql(url: URL, *, read_only: bool) -> Engine:
    options = {"options": "-c default_transaction_read_only=on"} if read_only else {}
    arguments = {"connect_timeout": CONNECT_TIMEOUT, **options}
    try:
        return create_engine(url, connect_args=arguments, paramstyle="format", **_COMMON)
    except ImportError as error:
        raise ConfigError("relay.ledger_url is a PostgreSQL database; install the package psycopg, or use sqlite") from error


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writing") else "BEGIN")


# Errors -------------------------------------------------------------------------------------------------------------


def explain(error: exc.SQLAlchemyError, where: str) -> WazuhJetstreamError:
    """What a database's error means to the relay, in one sentence."""
    cause = getattr(error, "orig", None)
    if isinstance(cause, sqlite3.Error):
        return _explain_sqlite(cause, where)
    state = str(getattr(cause, "sqlstate", None) or "")
    if state[:2] in PASSING or (not state and isinstance(error, exc.OperationalError | exc.InterfaceError | exc.TimeoutError)):
        return Unreachable(f"the ledger {where} does not answer: {_line(cause or error)}; the relay goes on when it does")
    return Stop(f"the ledger {where} refused a statement: {_line(cause or error)}; see the cause in the database's own log")


PASSING: Final = ("08", "25", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE (PostgreSQL, appendix A) that pass: connection, read-only standby, serialization, resources, locks,
shutdown, the system around it."""


def _explain_sqlite(error: sqlite3.Error, where: str) -> WazuhJetstreamError:
    name = getattr(error, "sqlite_errorname", "")
    for begins, family, sentence in _SQLITE:
        if name.startswith(begins):
            return family(f"the ledger {where} {sentence}")
    return Stop(f"the ledger {where} refused a statement: {_line(error)}; it was changed by another program, restore it or start anew")


_SQLITE: Final[tuple[tuple[str, type[WazuhJetstreamError], str], ...]] = (
    ("SQLITE_FULL", Unreachable, "cannot be written: its disk is full; free some space and the relay goes on"),
    ("SQLITE_READONLY", Unreachable, "cannot be written: it is read-only; give its file and directory to the relay's user"),
    ("SQLITE_PERM", Unreachable, "cannot be written: no permission; give its file and directory to the relay's user"),
    ("SQLITE_BUSY", Unreachable, "is locked by another program; close what writes to it"),
    ("SQLITE_LOCKED", Unreachable, "is locked by another program; close what writes to it"),
    ("SQLITE_CANTOPEN", Unreachable, "cannot be opened; check that its directory is there and belongs to the relay's user"),
    ("SQLITE_IOERR", Unreachable, "cannot be read or written: the disk reports an error; check the disk"),
    ("SQLITE_NOMEM", Unreachable, "cannot be used: the machine has no memory left; free some"),
    ("SQLITE_NOTADB", ConfigError, "is not a database; correct relay.ledger_url, or move the file away"),
    ("SQLITE_CORRUPT", ConfigError, "is damaged; restore it, or move it away and the relay makes a new one from RAW and EVENTS"),
)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
