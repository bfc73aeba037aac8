"""What was said and is not yet in NATS, on this node's disk: a small SQLite database that outlives kill -9.

Rules
 * A snapshot with news is here before it is published, and is let go of when NATS has acked it. Payloads are kept byte for byte.
 * What was let go of leaves the disk with the next snapshot, in its transaction, and with `tidy` where none comes. Who is killed
   before sends it again under its old name, as who is killed before the ack: the stream knows it, and the relay drops what
   does not follow the (boot, seq) that it knows. What an earlier boot left is off the disk at once: told once more behind this
   boot's own snapshots it would look like a second collector's.
 * What a node's agents are known to keep alive at outlives the process too (`period`): without it nobody is quiet for long.
 * `boot` grows with every opening. It is at least the Unix time, so that a spool that was lost still counts upwards.
 * Items keep the (boot, seq) under which they were made and leave in that order, also after a restart.
 * Bounded: where an item does not fit, all give way and a gap is owed: the next full must be flagged as one. What is
   owed is remembered on disk. A full that is alone is always taken: without it nothing could be said at all.
 * One process per spool, by a lock on a file beside it: a lock on the database itself would be SQLite's business.
 * WAL and synchronous=NORMAL: a killed process loses nothing; a power cut may lose the last moments, which the full of the
   next start makes good.

Safe to use from several threads.
"""

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.errors import ConfigError, Transient
from shared.wire import Kind

_APPLICATION_ID: Final = 0x576A5370  # "WjSp", so that no other database is taken for a spool
_SCHEMA_VERSION: Final = 1
_CACHE_KIB: Final = 256  # SQLite's default of 2 MiB buys nothing for a queue
_BUSY_S: Final = 5.0  # an operator may be looking at it with sqlite3
_WAL_BYTES: Final = 4 << 20
_HEAD_BYTES: Final = 8192
_FREE_PAGES: Final = 256  # given back to the disk when the spool is empty
_PASSING: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOMEM)
_PASSING_ERRNO: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

_SETTINGS: Final = f"""
PRAGMA auto_vacuum=INCREMENTAL;
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
PRAGMA cache_size=-{_CACHE_KIB};
PRAGMA journal_size_limit={_WAL_BYTES};
"""
_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE items (boot INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (boot, seq));
INSERT INTO meta VALUES ('boot', 0), ('gap', 0), ('node', ''), ('period', 0);
PRAGMA application_id={_APPLICATION_ID};
PRAGMA user_version={_SCHEMA_VERSION};
COMMIT;
"""


_META: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_TIDY: Final = "DELETE FROM items WHERE (boot, seq) <= (?, ?)"

_Write = tuple[str, Sequence[str | int | bytes]]
"""A statement and its values."""


def _meta(key: str, value: int) -> _Write:
    return _META, (key, value)


class SpoolFailed(Transient):
    """The disk refused the spool. It can pass."""


@dataclass(frozen=True, slots=True)
class Item:
    """An encoded snapshot and the name it goes by."""

    boot: int
    seq: int
    kind: Kind
    payload: bytes

    @property
    def order(self) -> tuple[int, int]:
        """Ascending: the order in which the relay must see them."""
        return self.boot, self.seq


class Spool:
    """An open spool; made by `open`. `boot` is this opening's."""

    @classmethod
    def open(cls, path: Path, max_bytes: int, now_s: int, node: str) -> "Spool":
        """Open or make the spool of `node`. Raises ConfigError: in use, not writable, not a spool, of another node; SpoolFailed
        where the disk is full or ails, and the same call may be right later."""
        lock = _lock(path)
        connection: sqlite3.Connection | None = None
        try:
            connection = _connect(path)
            return cls(connection, lock, path, max_bytes, now_s, node)
        except BaseException as error:
            if connection is not None:
                connection.close()
            os.close(lock)
            if isinstance(error, OSError | sqlite3.Error):
                raise _refusal(error, path) from error
            raise

    def __init__(self, connection: sqlite3.Connection, lock: int, path: Path, max_bytes: int, now_s: int, node: str) -> None:
        self._connection, self._lock_file, self._path, self._max_bytes = connection, lock, path, max_bytes
        self._lock = threading.Lock()
        held = connection.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM items").fetchone()
        self._depth: int = held[0]
        self._bytes: int = held[1]
        self._done = (0, 0)  # all up to here was let go of
        self._untidy = False  # some of it is on the disk still
        self._first: Item | None = None  # what leaves first, where it was put or asked for already
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        if self._depth and meta["node"] != node:
            raise ConfigError(
                f"spool {path} holds {self._depth} snapshots of node {meta['node']!r}, and this collector is {node!r}; "
                f"let it send them under the old wazuh.manager_node first, or move the file aside"
            )
        self._gap = bool(meta["gap"])
        self.period: int = meta.get("period", 0)
        """Milliseconds between two keepalives of this node's agents, as they were learnt last; 0 never."""
        self.boot: int = max(meta["boot"] + 1, now_s)
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            connection.executemany(_META, [("boot", self.boot), ("node", node)])

    @property
    def gap(self) -> bool:
        """Whether snapshots were given up, and no full that says so has been put since."""
        return self._gap

    def depth(self) -> int:
        """How many items wait."""
        return self._depth

    def size(self) -> int:
        """Bytes of the payloads that wait."""
        return self._bytes

    def put(self, item: Item, *, gap: bool = False) -> bool:
        """Keep an item; `gap` says that it is a full flagged as one. Returns False where it did not fit: then everything
        was given up, the item as well. Raises SpoolFailed; then nothing was given up but the item, and a gap is owed too."""
        with self._lock:
            fits = self._bytes + len(item.payload) <= self._max_bytes or (item.kind == "full" and not self._depth)
            taken, owed = fits or gap, (self._gap or not fits) and not gap
            writes: list[_Write] = [] if fits else [("DELETE FROM items", ())]
            if fits and self._untidy:
                writes.append((_TIDY, self._done))
            if taken:
                writes.append(("INSERT INTO items VALUES (?, ?, ?, ?)", (item.boot, item.seq, item.kind, item.payload)))
            if owed != self._gap:
                writes.append(_meta("gap", int(owed)))
            try:
                self._write(writes)
            except SpoolFailed:
                self._gap = True
                raise
            self._gap, self._untidy = owed, False
            if not fits:
                self._first, self._depth, self._bytes = None, 0, 0
            if taken:
                self._first = self._first if self._depth else item
                self._depth += 1
                self._bytes += len(item.payload)
            return taken

    def remember_period(self, period: int) -> None:
        """The agents' rhythm was learnt. Raises SpoolFailed."""
        with self._lock:
            self._write([_meta("period", period)])
        self.period = period

    def oldest(self) -> Item | None:
        """The item that leaves first. Raises SpoolFailed."""
        if not self._depth:
            return None
        with self._lock:
            if self._first is None:
                query = "SELECT boot, seq, kind, payload FROM items WHERE (boot, seq) > (?, ?) ORDER BY boot, seq LIMIT 1"
                row = self._read(query, self._done)
                self._first = None if row is None else Item(*row)
            return self._first

    def head(self) -> bytes:
        """How the payload of the item that leaves first begins; empty where nothing waits. Raises SpoolFailed."""
        if not self._depth:
            return b""
        with self._lock:
            query = "SELECT substr(payload, 1, ?) FROM items WHERE (boot, seq) > (?, ?) ORDER BY boot, seq LIMIT 1"
            row = self._read(query, (_HEAD_BYTES, *self._done))
        return b"" if row is None else bytes(row[0])

    def forget(self, item: Item) -> None:
        """Let go of the item that `oldest` gave, for it is in NATS; one that is not here any more, or never was, is nothing."""
        with self._lock:
            self._let_go(item)
        if item.boot != self.boot:
            with contextlib.suppress(SpoolFailed):  # then with the next
                self.tidy()

    def refuse(self, item: Item) -> None:
        """The same, for NATS will never take it: a gap is owed.

        Raises SpoolFailed where the disk refused; `oldest` does not give it again all the same.
        """
        with self._lock:
            self._let_go(item)
            self._gap = True
            self._write([(_TIDY, self._done), _meta("gap", 1)])
            self._untidy = False

    def _let_go(self, item: Item) -> None:
        if item is self._first:  # else it was given up meanwhile
            self._done, self._first, self._untidy = item.order, None, True
            self._depth -= 1
            self._bytes -= len(item.payload)

    def tidy(self) -> None:
        """Let the disk forget what was let go of. Raises SpoolFailed where it refuses."""
        if self._untidy:
            with self._lock:
                self._write([(_TIDY, self._done)])
                self._untidy = False
                self._shrink()

    def close(self) -> None:
        """Close the database and give the lock back."""
        with contextlib.suppress(SpoolFailed):
            self.tidy()
        with self._lock:
            self._connection.close()
            os.close(self._lock_file)

    def _shrink(self) -> None:
        if not self._depth and self._read("PRAGMA freelist_count", ())[0] > _FREE_PAGES:
            try:
                self._connection.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);")
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def _write(self, writes: Sequence[_Write]) -> None:
        """All of it or nothing."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:  # commits, or rolls back
                for write in writes:
                    self._connection.execute(*write)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _read(self, query: str, values: Sequence[int]) -> Any:
        try:
            return self._connection.execute(query, values).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> SpoolFailed:
        return SpoolFailed(f"spool {self._path} cannot be written ({error}); {_advice(error, self._path)}")


def _refusal(error: OSError | sqlite3.Error, path: Path) -> SpoolFailed | ConfigError:
    """What it means that a spool cannot be opened."""
    if isinstance(error, OSError):
        passes, why = error.errno in _PASSING_ERRNO, error.strerror
    else:
        passes, why = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _PASSING, str(error)
    return (SpoolFailed if passes else ConfigError)(f"spool {path} cannot be used ({why}); {_advice(error, path)}")


def _lock(path: Path) -> int:
    """A lock that the kernel gives back whenever this process ends."""
    beside = path.with_name(path.name + ".lock")
    try:
        lock = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refusal(error, path) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ConfigError(
            f"spool {path} is in use by another wazuh-collector; one collector runs per spool: stop the other, or set collector.spool_path"
        ) from error
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite gives its side files the same mode
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.executescript(_SETTINGS)
        _check_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    owner, version, tables = (
        connection.execute(f"SELECT {what}").fetchone()[0]
        for what in (
            "application_id FROM pragma_application_id",
            "user_version FROM pragma_user_version",
            "count(*) FROM sqlite_master",
        )
    )
    if not tables:
        connection.executescript(_SCHEMA)
    elif owner != _APPLICATION_ID or version != _SCHEMA_VERSION:
        raise ConfigError(
            f"{path} is no spool of this version (application id {owner:#x}, schema {version}); set collector.spool_path to another file"
        )


def _advice(error: Exception, path: Path) -> str:
    """What to do, in half a sentence."""
    text = str(error).lower()
    if "full" in text or "no space" in text:
        return "free some disk space; meanwhile whole snapshots are sent and single changes may be missed"
    if "i/o error" in text or "input/output" in text or "too large" in text:
        return "its disk takes no more, or ails: see the system's log"
    if "not a database" in text or "malformed" in text:
        return f"it is damaged: move it aside and start again (mv {path} {path}.damaged), a full snapshot will follow"
    return f"the collector's user needs to write to the directory {path.parent}"
