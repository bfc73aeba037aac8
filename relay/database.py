"""The ledger's database: opened, locked, and its errors said in sentences. All that SQLite and PostgreSQL do not share is here.

Rules
 * PostgreSQL ends a session that sits in a transaction, waits for a lock or works on one statement for long: a relay that is
   frozen, or cut off, must not hold up the one that stands by for it.
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

from sqlalchemy import ColumnElement, Connection, Engine, Insert, Integer, Table, create_engine, event, exc, literal_column, text
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

_CLOCKS: Final[Mapping[str, str]] = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
}

BUSY_TIMEOUT: Final = 5.0  # seconds: a reader's or a backup's lock on SQLite is over by then
_COMMON: Final = {"max_overflow": 0, "hide_parameters": True}  # names and payloads are not for error texts

# PostgreSQL, in its own units.
SETTINGS: Final = "-c idle_in_transaction_session_timeout=5s -c lock_timeout=10s -c statement_timeout=30s -c client_min_messages=warning"
NETWORK: Final[Mapping[str, int | str]] = {  # a peer that is gone is noticed within about ten seconds
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "wazuh-relay",
}
CONNECTIONS: Final = 2  # the ledger's thread and the lease's: a long transaction must not cost the lease
SERIAL: Final = 0x57617A756821  # the advisory lock under which the schema is changed
STUCK_S: Final = 3.0
"""A session that holds a row somebody else is entitled to, and that has waited for its client so long, is a frozen relay's.
idle_in_transaction_session_timeout does not see it where it froze between the statements of a pipeline."""

CHUNK: Final = 5_000  # rows handed to the driver at once: a few MB
JOURNAL_BYTES: Final = 64 * 1024 * 1024  # what the log is cut back to after a large transaction
MODE: Final = 0o640  # names and addresses of a fleet are for its operators

_NAMES_NO_FILE: Final = "relay.ledger_url names no file; write sqlite:////absolute/path/ledger.db"


Prepared = NewType("Prepared", str)
"""A statement that was compiled once, for many rows of tuples."""


class Database:
    """One database. `where` names it in sentences, `now` is its clock (Unix ms) as an expression."""

    def __init__(self, engine: Engine, where: str, lock: int | None) -> None:
        self.where = where
        self.now: ColumnElement[int] = literal_column(_CLOCKS[engine.dialect.name], Integer)
        self._engine = self._reading = self._writing = engine
        self._lock = lock
        if engine.dialect.name == "sqlite":
            event.listen(engine, "begin", _begin)
            self._writing = engine.execution_options(writing=True)
        else:
            self._reading = engine.execution_options(isolation_level="REPEATABLE READ")
            self._writing = engine.execution_options(isolation_level="READ COMMITTED")

    @property
    def alone(self) -> bool:
        """Whether nobody else can write here, as long as this is open: the lock of a SQLite ledger is held."""
        return self._lock is not None

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
        with self._explained(), self._reading.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed whole at its end, or not at all."""
        with self._explained(), self._writing.begin() as connection:
            yield connection

    def serialize(self, connection: Connection) -> None:
        """Let nobody else change the schema until the end of this transaction, however long that takes."""
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SERIAL})")

    def evict(self, connection: Connection, table: Table) -> int:
        """End the sessions that hold rows of a table and have waited for their clients too long; how many."""
        if connection.dialect.name != "postgresql":
            return 0
        return len(connection.execute(_EVICT, {"table": table.name, "seconds": STUCK_S}).all())

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


_EVICT: Final = text(
    """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND wait_event_type = 'Client' AND state_change < clock_timestamp() - make_interval(secs => :seconds)
    AND pid IN (
        SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
        WHERE relation = to_regclass(:table) AND granted AND mode IN ('RowShareLock', 'RowExclusiveLock')
        AND datname = current_database())"""
)


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

    return create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=1, **_COMMON)


def _pragmas(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise ConfigError(f"the file system of the ledger {path} cannot hold SQLite's log; put it on a local disk")
    # Not FULL: a lost last transaction is harmless, for RAW is replayed from the position that is left (module docstring).
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES}")


def _postgresql(url: URL, *, read_only: bool) -> Engine:
    settings = [SETTINGS, "-c default_transaction_read_only=on"] if read_only else [SETTINGS]
    own = {name: value for name, value in NETWORK.items() if name not in url.query}  # what an operator sets counts
    own["options"] = " ".join([*settings, *url.normalized_query.get("options", ())])
    try:
        return create_engine(url, connect_args=own, paramstyle="format", poolclass=QueuePool, pool_size=CONNECTIONS, **_COMMON)
    except ImportError as error:
        raise ConfigError("relay.ledger_url is a PostgreSQL database; install wazuh-jetstream[relay,postgresql], or use sqlite") from error


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
