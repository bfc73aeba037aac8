"""wazuh-db's socket, `queue/db/wdb`: the whole truth at once, behind a door that also lets one write.

Rules of the socket (wazuh/wazuh src/wazuh_db/main.c, src/os_net/os_net.c, src/wazuh_db/wdb_parser.c)
 * A frame is a little-endian uint32 length and that many bytes, both ways; one request, one answer.
 * A length above 65,536 ends one of the daemon's eight worker threads for ever, and a client that stops in mid-frame blocks
   one: a request is small and leaves in one piece, and every answer is read to its end.
 * `ok <json>`, `due <json>` (there is more), `err <text>`. A NULL is left out of its JSON object. An answer is cut at
   65,536 bytes without a word: then it is asked for in smaller pages.

Rules of this program
 * Nothing but a SELECT, or one PRAGMA that reads, is ever sent.
 * A wait is bounded. After any fault the connection is closed, and the next request opens another.
"""

import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from shared.clock import Clock
from shared.errors import SourceUnavailable

from . import cadence, known, rows

MAX_REQUEST: Final = 8192  # bytes
MAX_ANSWER: Final = 65_536  # bytes: OS_MAXSTR
_HEADER: Final = struct.Struct("<I")
_LIMITS: Final = {"rows": 400, "ids": 3000, "pairs": 1500}  # to begin with; an answer holds about 500, 4000 and 2000 of them
_ROOM: Final = 0.8  # of an answer's limit: below it a page may grow
_ROUNDS: Final = 3  # probes in one poll while ids come and go
_READS_ONLY: Final = re.compile(r"(select [ -:<-~]*|pragma user_version)\Z")  # printable ASCII without `;`


class Cut(SourceUnavailable):
    """An answer that did not fit into one frame."""


class Refused(SourceUnavailable):
    """wazuh-db answered `err`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows as wazuh-db gave them."""

    rows: list[dict[str, object]]
    more: bool  # `due`: there are more behind the last one
    room: float  # share of the longest answer that this one took


class Wdb:
    """One connection to wazuh-db, opened when it is needed."""

    def __init__(self, path: Path, clock: Clock, timeout: float) -> None:
        self._path, self._clock, self._timeout = path, clock, timeout
        self._socket: socket.socket | None = None
        self._buffer = bytearray(_HEADER.size + MAX_ANSWER)
        self.connections = 0
        """How many were opened so far: another one may lead to another daemon."""
        self.busy = 0.0
        """Seconds spent waiting for answers so far."""

    def select(self, sql: str) -> Answer:
        """The answer to a SELECT. Raises SourceUnavailable; ValueError for anything that is not one small statement that reads."""
        request = f"global sql {sql}".encode()
        if not _READS_ONLY.match(sql) or len(request) > MAX_REQUEST:
            raise ValueError(f"not a small statement that only reads: {sql[:80]}")
        started = self._clock.monotonic()
        try:
            return _answer(self._exchange(_HEADER.pack(len(request)) + request), self._path)
        finally:
            self.busy += self._clock.monotonic() - started

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def last_id(self, answer: Answer, after: int) -> int:
        """Where the next page begins. Raises SourceUnavailable: the answer does not go on from `after`."""
        number = answer.rows[-1].get("i") if answer.rows else None
        if type(number) is not int or number <= after:
            raise _garbled(self._path, f"answered rows behind {after} that end with {number!a}")
        return number

    def _exchange(self, frame: bytes) -> str:
        """The payload of the answer. A connection that was closed while it was idle is opened again, once."""
        idle = self._socket is not None
        try:
            return self._ask(frame)
        except SourceUnavailable:
            self.close()
            raise
        except (OSError, EOFError) as error:
            self.close()
            if not idle:
                raise SourceUnavailable(
                    "silent", f"wazuh-db closed its socket {self._path} without an answer; see whether it is running and its ossec.log"
                ) from error
        return self._exchange(frame)

    def _ask(self, frame: bytes) -> str:
        deadline = self._clock.monotonic() + self._timeout
        try:
            connection = self._socket or self._connect()
            connection.settimeout(self._timeout)
            connection.sendall(frame)
            return self._receive(connection, deadline)
        except TimeoutError as error:
            raise SourceUnavailable(
                "silent", f"wazuh-db did not answer at {self._path} within {self._timeout:g} s; see whether it is overloaded or stopped"
            ) from error

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise _unreachable(self._path, error) from error
        self.connections += 1
        self._socket = connection
        return connection

    def _receive(self, connection: socket.socket, deadline: float) -> str:
        view, have, wanted = memoryview(self._buffer), 0, _HEADER.size
        while have < wanted:
            connection.settimeout(max(deadline - self._clock.monotonic(), 0.001))
            received = connection.recv_into(view[have:])
            if not received:
                raise EOFError if not have else _garbled(self._path, "closed it in the middle of an answer")
            have += received
            if have >= _HEADER.size and wanted == _HEADER.size:
                wanted += _HEADER.unpack_from(self._buffer)[0]
            if wanted > len(self._buffer):
                raise _garbled(self._path, f"announced an answer of {wanted - _HEADER.size} bytes")
        if have > wanted:
            raise _garbled(self._path, "answered more than it was asked")
        return str(view[_HEADER.size : wanted], "utf-8", "replace")


def _answer(text: str, path: Path) -> Answer:
    word, _, rest = text.partition(" ")
    if word == "err":
        raise Refused("garbled", f"wazuh-db refused a request at {path} ({ascii(rest[:200])[1:-1]}); see its ossec.log")
    if word not in ("ok", "due"):
        raise _garbled(path, f"answered {text[:80]!a}")
    try:
        found = json.loads(rest)
    except (ValueError, RecursionError) as error:
        if len(text.encode()) >= MAX_ANSWER:
            raise Cut("garbled", f"wazuh-db cut an answer at {path} at {MAX_ANSWER} bytes") from error
        raise _garbled(path, f"answered JSON that ends or breaks in {rest[-40:]!a}") from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise _garbled(path, f"answered no list of rows but {rest[:80]!a}")
    return Answer(found, word == "due", len(text) / MAX_ANSWER)


def _garbled(path: Path, what: str) -> SourceUnavailable:
    return SourceUnavailable("garbled", f"what listens at {path} {what}; see whether it is Wazuh's own wazuh-db")


def _unreachable(path: Path, error: OSError) -> SourceUnavailable:
    if isinstance(error, PermissionError):
        return SourceUnavailable(
            "denied", f"wazuh-db's socket {path} may not be used by this user; run the collector in the group wazuh (5.0: wazuh-manager)"
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SourceUnavailable(
            "missing", f"wazuh-db's socket {path} does not exist; start Wazuh, or set wazuh.home to where it is installed"
        )
    why = error.strerror or str(error)
    return SourceUnavailable("silent", f"nobody answers at wazuh-db's socket {path} ({why}); start Wazuh, or restart its manager")


@dataclass(frozen=True, slots=True)
class _Found:
    """What a poll found."""

    decoded: rows.Decoded
    gone: tuple[int, ...] = ()


_NOTHING: Final = _Found(rows.Decoded(()))
_EVERYTHING: Final = _Found(rows.Decoded(()))  # that only a whole read can tell


def _pairs(page: list[dict[str, object]], name: str) -> Iterator[tuple[int, int]]:
    for row in page:
        number, value = row.get("i"), row.get(name)
        if type(number) is int and type(value) is int:
            yield number, value


class SocketSource:
    """Implements `sources.Source` over wazuh-db's socket."""

    kind: Literal["socket"] = "socket"

    def __init__(self, database: Wdb, clock: Clock, budget: float, poll_interval: float, own: str) -> None:
        """`budget` is the share of wazuh-db's time that looking may take, `poll_interval` (seconds) the longest pause, and `own`
        what rows call this node."""
        self._wdb, self._clock, self._own = database, clock, own
        self._pace, self._longest = cadence.Pace(budget, poll_interval), poll_interval
        self._probe_at = 0.0  # monotonic seconds: a glance is not enough any more
        self._table: rows.Schema | None = None
        self._connections = 0  # the connection that `_table` was learnt from
        self._known: known.Known | None = None
        self._changes = -1
        self._idle = False  # nothing at all was written between the last two looks
        self._unsettled = False
        self._limits = dict(_LIMITS)
        self.as_of = 0

    @property
    def busy(self) -> float:
        """See `sources.Source`."""
        return self._wdb.busy

    def read(self) -> rows.Reading:
        """Every row, by pages. Raises SourceUnavailable."""
        as_of, busy = self._clock.now_ms(), self._wdb.busy
        self._known, self._idle, self._unsettled = None, False, False
        try:
            decoded = self._everything()
        except Refused:  # an upgrade may have changed the columns
            self._table = None
            decoded = self._everything()
        self._known, self.as_of = known.Known(decoded, self._own), as_of
        return self._reading(decoded, complete=True, gone=(), busy=busy)

    def _everything(self) -> rows.Decoded:
        table = self._schema()
        return rows.together([rows.decode(page) for page in self._pages("rows", partial(rows.page, table))])

    def poll(self) -> rows.Reading | None:
        """What moved. Raises SourceUnavailable."""
        as_of, busy = self._clock.now_ms(), self._wdb.busy
        try:
            found = self._look()
        except (Cut, Refused):  # the table outgrew the probe's ranges, or its columns changed
            self._table, found = None, _EVERYTHING
        except SourceUnavailable:
            self._known = None  # what was fetched before the fault has not been told
            raise
        finally:
            self._pace.spent(self._wdb.busy - busy)
        if found is _EVERYTHING:
            return self.read()
        self.as_of = as_of
        nothing = not (found.decoded.rows or found.decoded.refused or found.gone)
        return None if nothing else self._reading(found.decoded, complete=False, gone=found.gone, busy=busy)

    def moved(self) -> bool:
        """See `sources.Source`: a keepalive may come at any time."""
        return True

    def keepalives(self, before: int, sample: Sequence[int]) -> list[tuple[int, int]]:
        """See `sources.Source`; `sample` holds at most rows.IDS_PER_SELECT ids. Raises SourceUnavailable."""
        try:
            return self._keepalives(before, sample)
        except Refused:  # an upgrade may have changed the columns
            self._table = None
            return self._keepalives(before, sample)

    def _keepalives(self, before: int, sample: Sequence[int]) -> list[tuple[int, int]]:
        pages = self._pages("pairs", partial(rows.keepalive_page, self._schema(), before, sample))
        return [pair for page in pages for pair in _pairs(page, "k")]

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Pause so that probes take their budget of wazuh-db's time and no more."""
        stop.wait(min(seconds, self.pace))

    @property
    def pace(self) -> float:
        """Seconds between two polls."""
        return self._pace.wait

    def close(self) -> None:
        """Hang up."""
        self._wdb.close()

    # What the table is ----------------------------------------------------------------------------------------------

    def _schema(self) -> rows.Schema:
        if self._table is None or self._connections != self._wdb.connections:
            columns = [row.get("n") for row in self._wdb.select(rows.COLUMNS).rows]
            user_version = self._value(rows.USER_VERSION, "user_version")
            described = self._wdb.select(rows.METADATA_COLUMNS).rows
            self._table = rows.schema(columns, user_version, self._value(rows.METADATA_VERSION, "v") if described else None, self._own)
            self._connections = self._wdb.connections
            self._idle = False  # another daemon counts its changes from 0
        return self._table

    def _value(self, sql: str, name: str) -> object:
        found = self._wdb.select(sql).rows
        return found[0].get(name) if found else None

    # What moved -----------------------------------------------------------------------------------------------------

    def _look(self) -> _Found:
        self._schema()
        told = self._known
        if told is None:
            return _EVERYTHING
        if self._idle and self._value(rows.TOTAL_CHANGES, "c") == self._changes:
            return _NOTHING
        if self._clock.monotonic() < self._probe_at and not self._unsettled and told.is_at(self._glance()):
            return _NOTHING
        parts: list[rows.Decoded] = []
        gone: list[int] = []
        for _ in range(_ROUNDS):
            moved = told.moved(self._probe(told))
            if moved.everything:
                return _EVERYTHING
            if not moved.listing:
                parts += self._changed(told, moved)
                break
            left, fresh = self._listing(told)
            told.forget(left)
            gone += left
            parts += self._fetch(told, fresh)
        # News comes after news: then a glance would be in vain.
        self._probe_at = 0.0 if parts or gone else self._clock.monotonic() + self._longest
        return _Found(rows.together(parts), tuple(gone))

    def _glance(self) -> rows.Glance:
        glance = rows.parse_glance(self._value(rows.glance(self._schema()), "g"))
        self._idle, self._changes = glance.changes == self._changes, glance.changes
        return glance

    def _probe(self, told: known.Known) -> rows.Probe:
        table = self._schema()
        parts = [rows.parse_probe(self._value(rows.probe(table, *span), "p")) for span in rows.probe_ranges(told.ids)]
        probe = rows.join_probes(parts)
        self._idle, self._changes = False, probe.changes
        return probe

    def _changed(self, told: known.Known, moved: rows.Moved) -> list[rows.Decoded]:
        """The rows a probe points at. A disconnection_time that moved is usually one of theirs; where there are none, or the
        sums do not meet for the second time running, it is another's, and all of them are compared."""
        parts = self._fetch(told, moved.ids)
        suspect = moved.times and (not moved.ids or self._unsettled)
        self._unsettled = moved.times and not suspect
        if suspect:
            pages = self._pages("pairs", partial(rows.times_page, self._schema()))
            parts += self._fetch(told, told.other_times(pair for page in pages for pair in _pairs(page, "d")))
        return parts

    def _listing(self, told: known.Known) -> tuple[list[int], list[int]]:
        """(ids that are gone, ids that are new)."""
        before = set(told.ids)
        after = {number for page in self._pages("ids", rows.id_page) for number, _ in _pairs(page, "i")}
        return sorted(before - after), sorted(after - before)

    def _fetch(self, told: known.Known, ids: Sequence[int]) -> list[rows.Decoded]:
        table = self._schema()
        parts = []
        for start in range(0, len(ids), rows.IDS_PER_SELECT):
            chunk = ids[start : start + rows.IDS_PER_SELECT]
            parts += [rows.decode(page) for page in self._pages("rows", partial(rows.chosen, table, chunk))]
        for part in parts:
            told.put(part)
        return parts

    def _pages(self, kind: str, sql: Callable[[int, int], str]) -> Iterator[list[dict[str, object]]]:
        """The answers to `sql(after, limit)` from the lowest id on. The limit is halved when an answer is cut and grows again
        while there is room. A row that does not fit by itself is left as its id alone."""
        after = 0
        while True:
            limit = self._limits[kind]
            try:
                answer = self._wdb.select(sql(after, limit))
            except Cut:
                self._limits[kind] = max(limit // 2, 1)
                if limit > 1:
                    continue
                answer = self._wdb.select(rows.id_page(after, 1))
            yield answer.rows
            if len(answer.rows) < limit and not answer.more:
                return
            after = self._wdb.last_id(answer, after)
            if answer.room < _ROOM:
                self._limits[kind] += max(limit // 8, 1)

    def _reading(self, decoded: rows.Decoded, *, complete: bool, gone: tuple[int, ...], busy: float) -> rows.Reading:
        return rows.Reading(
            rows=decoded.rows,
            complete=complete,
            gone=gone,
            as_of=self.as_of,
            cost=self._wdb.busy - busy,
            db_version=self._schema().db_version,
            refused=decoded.refused,
            refusal=decoded.refusal,
            unreadable=decoded.unreadable,
        )
