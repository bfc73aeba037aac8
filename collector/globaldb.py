"""Wazuh's database file, `queue/db/global.db`: the way in where the socket is not to be had.

wazuh-db commits about each 61 s (src/wazuh_db/wdb.c, wdb_commit_old): the file is that far behind. On a node with thousands
of agents it is locked from the moment SQLite's cache spills until the next commit, so that the seconds after a commit are
the only ones to read in.

Rules
 * `mode=ro`, no busy timeout, a fresh connection for every look, fetched whole and closed: a reader that stays makes
   wazuh-db's commits fail. Never immutable (shows uncommitted rows) and never nolock.
 * A commit is seen by the unlink of `global.db-journal`: that file is watched, never the directory, where 4.x keeps
   thousands of other databases. Where it cannot be watched, the file is looked at every poll_interval.
 * The header's change counter, the inode and the size say whether there is anything new to read. The header is never read
   while a connection is open: closing any descriptor of a file drops this process's POSIX locks on it.
"""

import errno
import os
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import inotify_simple

from shared.clock import Clock
from shared.errors import SourceUnavailable
from shared.models import SourceState

from . import files, rows

_MAGIC: Final = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html 1.3
_CHANGE_COUNTER: Final = struct.Struct(">24x I")  # at byte 24 of the header
_RETRIES: Final = (0.001, 0.002, 0.004, 0.008, 0.016)  # s: from the journal's unlink to the release of the lock
_LOOK: Final = 0.25  # s between two looks at `stop` while a journal is watched
_GLANCE: Final = 0.05  # s between two looks for a journal to watch
_UNLINKED: Final = inotify_simple.flags.DELETE_SELF | inotify_simple.flags.MOVE_SELF
_text = partial(str, encoding="utf-8", errors="replace")
_STATES: Final[dict[int, SourceState]] = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_READONLY: "recovering",
    sqlite3.SQLITE_CANTOPEN: "denied",
    sqlite3.SQLITE_PERM: "denied",
}
_SENTENCES: Final = {
    "locked": "is locked until wazuh-db commits; use the socket (wazuh.source), or set wazuh_db.commit_time_max=2 in "
    "etc/local_internal_options.conf and restart the manager",
    "recovering": "holds a transaction that wazuh-db did not finish; start wazuh-db, which alone can play it back",
    "corrupt": "is no SQLite database that can be read; stop Wazuh, restore it from a backup and start Wazuh",
    "denied": "may not be read by this user; run the collector in the group wazuh (5.0: wazuh-manager)",
    "missing": "does not exist; start Wazuh, or set wazuh.home to where it is installed",
    "empty": "is empty (0 bytes); start wazuh-db, which makes its tables, and see whether the disk is full",
}


@dataclass(frozen=True, slots=True)
class _Stamp:
    """Tells one content of the file from another."""

    inode: int
    size: int
    counter: int  # SQLite's, one more with each commit


class FileSource:
    """Implements `sources.Source` over global.db."""

    kind: Literal["file"] = "file"

    def __init__(self, path: Path, clock: Clock, poll_interval: float) -> None:
        self._path, self._clock, self._poll_interval = path, clock, poll_interval
        self._journal = path.with_name(path.name + "-journal")
        self._seen: _Stamp | None = None  # what has been read
        self._tried: _Stamp | None = None  # what was last asked for
        self._watch = _Watch(self._journal)
        self._took: list[float] = []
        self.as_of = 0
        self.busy = 0.0

    def read(self) -> rows.Reading:
        """Every row. Raises SourceUnavailable."""
        started, now = self._clock.monotonic(), self._clock.now_ms()
        self._seen, open_before = None, self._has_journal()
        self._tried, committed = self._stamp()
        table, answer = self._query(lambda table: rows.everything(table))
        decoded = rows.decode(answer)
        if self._stamp()[0] == self._tried:  # else a commit fell in between: the next poll reads again
            self._seen = self._tried
        settled = not open_before and not self._has_journal()
        self.as_of = now if settled else min(committed, now)
        return rows.Reading(
            rows=decoded.rows,
            complete=True,
            gone=(),
            as_of=self.as_of,
            cost=self._clock.monotonic() - started,
            db_version=table.db_version,
            refused=decoded.refused,
            refusal=decoded.refusal,
            unreadable=decoded.unreadable,
        )

    def poll(self) -> rows.Reading | None:
        """Every row if there was a commit. Raises SourceUnavailable."""
        busy = self.busy
        try:
            return self._poll()
        finally:
            self._took.append(self.busy - busy)

    def _poll(self) -> rows.Reading | None:
        now, open_before = self._clock.now_ms(), self._has_journal()
        if self._seen is None or self._stamp()[0] != self._seen:
            return self.read()
        if not open_before:
            self.as_of = now
        return None

    gathering = False

    def gather(self) -> None:
        """See `sources.Source`: the next poll reads all at once, for the file may be locked soon."""
        self._seen = None

    def moved(self) -> bool:
        """See `sources.Source`: whether there was a commit."""
        return self._changed()

    def keepalives(self, before: int, sample: Sequence[int]) -> list[tuple[int, int]]:
        """See `sources.Source`; `sample` holds at most rows.IDS_PER_SELECT ids. Raises SourceUnavailable."""
        _, answer = self._query(lambda table: rows.keepalive_page(table, before, sample, after=0, limit=-1))
        return [(number, heard) for number, heard in answer if type(heard) is int]

    def took(self) -> list[float]:
        """See `sources.Source`."""
        took, self._took = self._took, []
        return took

    def wait(self, seconds: float, stop: threading.Event, stirred: Callable[[], bool]) -> None:
        """Until a commit, or for the lesser of `seconds` and poll_interval."""
        deadline = self._clock.monotonic() + min(seconds, self._poll_interval)
        while not stop.is_set() and (left := deadline - self._clock.monotonic()) > 0:
            if self._watch.begin():
                if self._changed() or self._watch.unlinked(min(left, _LOOK)) or stirred():
                    return
            elif self._changed() or stop.wait(min(left, _GLANCE)) or stirred():
                return

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()

    def _has_journal(self) -> bool:
        return os.path.lexists(self._journal)  # not Path.exists, which raises where the directory may not be entered

    def _changed(self) -> bool:
        try:
            return self._stamp()[0] != self._tried
        except SourceUnavailable:
            return False

    def _stamp(self) -> tuple[_Stamp, int]:
        """The file's stamp, and when it was last written (Unix ms). Raises SourceUnavailable."""
        try:
            descriptor = files.open_regular(self._path)
            try:
                status, header = os.fstat(descriptor), os.pread(descriptor, _CHANGE_COUNTER.size, 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._unavailable(_state(error), error.strerror or "") from error
        if not header.startswith(_MAGIC) or len(header) < _CHANGE_COUNTER.size:
            raise SourceUnavailable("corrupt", f"Wazuh's database {self._path} {_SENTENCES['corrupt' if header else 'empty']}")
        return _Stamp(status.st_ino, status.st_size, _CHANGE_COUNTER.unpack(header)[0]), status.st_mtime_ns // 1_000_000

    def _query(self, sql: Callable[[rows.Schema], str]) -> tuple[rows.Schema, list[tuple[Any, ...]]]:
        for pause in _RETRIES:
            try:
                return self._once(sql)
            except SourceUnavailable as error:
                if error.state != "locked":
                    raise
            time.sleep(pause)
        return self._once(sql)

    def _once(self, sql: Callable[[rows.Schema], str]) -> tuple[rows.Schema, list[tuple[Any, ...]]]:
        started = self._clock.monotonic()
        try:
            return self._select(sql)
        finally:
            self.busy += self._clock.monotonic() - started

    def _select(self, sql: Callable[[rows.Schema], str]) -> tuple[rows.Schema, list[tuple[Any, ...]]]:
        self._stamp()
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)) as database:
                database.text_factory = _text
                database.execute("begin")  # one state of the file for all that follows
                table = _schema(database)
                return table, database.execute(sql(table)).fetchall()
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            raise self._unavailable(_STATES.get(code, "corrupt"), str(error)) from error
        except UnicodeDecodeError as error:  # SQLite's own sentence quotes the file
            raise self._unavailable("corrupt", "its schema is no text") from error

    def _unavailable(self, state: SourceState, why: str) -> SourceUnavailable:
        return SourceUnavailable(state, f"Wazuh's database {self._path} {_SENTENCES[state]} ({why})")


def _schema(database: sqlite3.Connection) -> rows.Schema:
    columns = [name for (name,) in database.execute(rows.COLUMNS)]
    user_version = database.execute(rows.USER_VERSION).fetchone()[0]
    described = database.execute(rows.METADATA_COLUMNS).fetchone()
    version = database.execute(rows.METADATA_VERSION).fetchone() if described else None
    return rows.schema(columns, user_version, version[0] if version else None, own="")


def _state(error: OSError) -> SourceState:
    if isinstance(error, PermissionError):
        return "denied"
    return "missing" if error.errno in (errno.ENOENT, errno.ENOTDIR) else "corrupt"


class _Watch:
    """Tells when one file, and not its directory, is unlinked. Does nothing where the system has no watch to give."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inotify: inotify_simple.INotify | None = None
        self._descriptor = -1

    def begin(self) -> bool:
        """Watch the file, unless that is being done. False: there is no such file, or no way to watch it."""
        if self._descriptor >= 0:
            return True
        try:
            self._inotify = self._inotify or inotify_simple.INotify()
            self._descriptor = self._inotify.add_watch(self._path, _UNLINKED)
        except OSError:  # no such file, or fs.inotify's limits: `wait` looks at the file itself meanwhile
            return False
        return True

    def unlinked(self, seconds: float) -> bool:
        """Whether the file that is watched was unlinked, within `seconds`."""
        if self._inotify is None:
            return False
        events = [event for event in self._inotify.read(timeout=round(seconds * 1000)) if event.wd == self._descriptor]
        if events:  # a watch ends with its file
            self._descriptor = -1
        return bool(events)

    def close(self) -> None:
        """Stop watching."""
        if self._inotify is not None:
            self._inotify.close()
        self._inotify, self._descriptor = None, -1
