"""Implements `sources.Source` over wazuh-db's socket: the table by pages, and what moved in it by looks that cost little.

Rules
 * A *probe* is one SELECT over the table and tells what moved but for keepalives. Where not even a keepalive was written, the count
   of writes is enough.
 * What a wait has seen is what the next poll goes by, unless something else was asked for in between: who is quiet is to be asked
   for before the rows.
 * All looks together take their budget of wazuh-db's time (`cadence.Pace`).
 * The whole table is gathered page by page between the looks, with a rest after each page: nothing that moves meanwhile waits for it.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from shared.clock import Clock
from shared.errors import SourceUnavailable

from . import cadence, known, rows
from .gather import Gathering
from .wdb import Cut, Refused, Wdb

_LIMITS: Final = {"rows": 400, "ids": 3000, "pairs": 1500}  # to begin with; an answer holds about 500, 4000 and 2000 of them
_ROOM: Final = 0.8  # of an answer's limit: below it a page may grow
_ROUNDS: Final = 3  # probes in one poll while ids come and go
_STIR: Final = 0.2  # seconds between two looks at what else may have stirred: nobody waits for a registration by the millisecond
_REST: Final = 4.0  # seconds of rest for each that a page took: others have four fifths of wazuh-db's time meanwhile
_NAP: Final = 0.25  # seconds for which `stop` may be left unseen: sleeping costs a third of what waiting for an Event does


@dataclass(frozen=True, slots=True)
class _Found:
    """What a poll found."""

    decoded: rows.Decoded
    gone: tuple[int, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a wait saw: more than has been told."""

    as_of: int  # Unix ms: before it was asked for
    probe: rows.Probe


@dataclass(slots=True)
class _Gathering:
    """The whole table, as far as it has been read."""

    pages: Iterator[list[dict[str, object]]]
    read: Gathering
    next_at: float  # monotonic s: when the next page may be read
    done: bool = False

    def add(self, page: list[dict[str, object]] | None, cost: float, now: float) -> None:
        """A page that took so many seconds of wazuh-db's time; None: there is no more."""
        self.next_at = now + _REST * cost
        self.done = page is None
        self.read.put(rows.decode(page or ()))


_NOTHING: Final = _Found(rows.Decoded(()))
_EVERYTHING: Final = _Found(rows.Decoded(()))  # that only a whole read can tell


def _pairs(page: list[dict[str, object]], name: str) -> Iterator[tuple[int, int]]:
    for row in page:
        number, value = row.get("i"), row.get(name)
        if type(number) is int and type(value) is int:
            yield number, value


def _stopped(stop: threading.Event, seconds: float) -> bool:
    """Whether the end is asked for, after so many seconds or at once."""
    if seconds > _NAP or stop.is_set():
        return stop.wait(seconds)
    time.sleep(seconds)
    return stop.is_set()


class SocketSource:
    """wazuh-db's table of agents."""

    kind: Literal["socket"] = "socket"

    def __init__(self, database: Wdb, clock: Clock, budget: float, poll_interval: float, own: str) -> None:
        """`budget` is the share of wazuh-db's time that looking may take, `poll_interval` (seconds) the longest pause, and `own`
        what rows call this node."""
        self._wdb, self._clock, self._own = database, clock, own
        self._pace = cadence.Pace(budget, poll_interval)
        self._table: rows.Schema | None = None
        self._connections = 0  # the connection that `_table` was learnt from
        self._known: known.Known | None = None
        self._changes = -1
        self._idle = False  # all was told, and nothing at all was written between the last two looks
        self._unsettled = False
        self._seen: _Seen | None = None
        self._gathering: _Gathering | None = None
        self._trouble: SourceUnavailable | None = None  # met in a wait
        self._spent = 0.0  # seconds of wazuh-db's time since the last pause
        self._took: list[float] = []
        self._limits = dict(_LIMITS)
        self.as_of = 0

    @property
    def busy(self) -> float:
        """See `sources.Source`."""
        return self._wdb.busy

    def read(self) -> rows.Reading:
        """Every row, by pages. Raises SourceUnavailable."""
        as_of, busy = self._clock.now_ms(), self._wdb.busy
        self._known, self._idle, self._unsettled, self._seen, self._gathering, self._trouble = None, False, False, None, None, None
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

    @property
    def gathering(self) -> bool:
        """See `sources.Source`."""
        return self._gathering is not None

    def gather(self) -> None:
        """See `sources.Source`."""
        if self._gathering is None:
            self._gathering = _Gathering(
                self._pages("rows", lambda *of: rows.page(self._schema(), *of)), Gathering(), self._clock.monotonic()
            )

    def poll(self) -> rows.Reading | None:
        """What moved, or the whole table where that is gathered. Raises SourceUnavailable."""
        as_of, busy = self._clock.now_ms(), self._wdb.busy
        try:
            self._meet_trouble()
            as_of, found = self._look(as_of)
        except (Cut, Refused):  # more moved than a probe can name, or the columns changed
            self._table, found = None, _EVERYTHING
        except SourceUnavailable:
            self._known = self._gathering = None  # what was fetched before the fault has not been told
            raise
        finally:
            self._spent += self._wdb.busy - busy
        if found is _EVERYTHING:
            return self.read()
        self.as_of = as_of
        nothing = not (found.whole or found.decoded.rows or found.decoded.refused or found.gone)
        return None if nothing else self._reading(found.decoded, complete=found.whole, gone=found.gone, busy=busy)

    def moved(self) -> bool:
        """See `sources.Source`: a keepalive may come at any time."""
        return True

    def keepalives(self, before: int, sample: Sequence[int]) -> list[tuple[int, int]]:
        """See `sources.Source`; `sample` holds at most rows.IDS_PER_SELECT ids. Raises SourceUnavailable."""
        self._seen = None
        try:
            return self._keepalives(before, sample)
        except Refused:  # an upgrade may have changed the columns
            self._table = None
            return self._keepalives(before, sample)

    def _keepalives(self, before: int, sample: Sequence[int]) -> list[tuple[int, int]]:
        pages = self._pages("pairs", partial(rows.keepalive_page, self._schema(), before, sample))
        return [pair for page in pages for pair in _pairs(page, "k")]

    def wait(self, seconds: float, stop: threading.Event, stirred: Callable[[], bool]) -> None:
        """Until a look shows that something moved, or that it cannot be told."""
        now = self._clock.monotonic()
        deadline, ask_at, look_at = now + seconds, now + _STIR, now + self._pause()
        while now < deadline:
            page_at, next_look = self._page_at(), min(look_at, deadline)
            if _stopped(stop, max(0.0, min(page_at, next_look) - now)):
                return
            now = self._clock.monotonic()
            if now >= ask_at:
                if stirred():
                    return
                ask_at = now + _STIR
            if not (self._read_on() if page_at < next_look else self._seems_still()):
                return
            now = self._clock.monotonic()
            look_at = look_at if page_at < next_look else now + self._pause()

    def took(self) -> list[float]:
        """See `sources.Source`."""
        self._pause()
        took, self._took = self._took, []
        return took

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

    def _look(self, as_of: int) -> tuple[int, _Found]:
        """When that was, at the earliest, and what was found. `as_of`: now."""
        told = self._known
        if told is None:
            return as_of, _EVERYTHING
        gathered = self._gathering if self._gathering is not None and self._gathering.done else None
        seen, self._seen = None if gathered else self._seen, None  # what was seen before the last page is not all
        seen = seen or self._news(told)
        found = _NOTHING if seen is None else self._found(told, seen.probe)
        if gathered and found is not _EVERYTHING:
            found = self._gathered(told, gathered.read)
        return as_of if seen is None else seen.as_of, found

    def _found(self, told: known.Known, probe: rows.Probe) -> _Found:
        parts: list[rows.Decoded] = []
        gone: list[int] = []
        for _ in range(_ROUNDS):
            moved = told.moved(probe)
            if not moved.listing:
                changed = self._changed(told, moved, probe)
                if changed is None:
                    return _EVERYTHING
                parts += changed
                break
            left, fresh = self._listing(told)
            told.forget(left)
            if self._gathering is not None:
                self._gathering.read.forget(left)
            gone += left
            parts += self._fetch(told, fresh)
            probe = self._probe(told)
        return _Found(rows.together(parts), tuple(gone))

    def _seems_still(self) -> bool:
        """Whether nothing moved, as far as little cost can tell; the next poll() tells what did, or what is wrong."""
        told, busy = self._known, self._wdb.busy
        if told is None:
            return False
        try:
            self._seen = self._news(told)
        except (Cut, Refused):
            return False
        except SourceUnavailable as error:
            self._trouble = error
            return False
        finally:
            self._spent += self._wdb.busy - busy
        return self._seen is None

    def _news(self, told: known.Known) -> _Seen | None:
        """What a look shows, where that is not what has been told."""
        if self._idle and self._value(rows.TOTAL_CHANGES, "c") == self._changes and self._connections == self._wdb.connections:
            return None
        changes, self._idle = self._changes, False
        as_of, ranges = self._clock.now_ms(), self._ranges(told)
        if not told.is_at(ranges):
            probe = rows.parse_probe(ranges, told.usual)
            if told.moved(probe) != rows.Moved():
                return _Seen(as_of, probe)
        self._idle, self._unsettled = self._changes == changes, False
        return None

    def _probe(self, told: known.Known) -> rows.Probe:
        return rows.parse_probe(self._ranges(told), told.usual)

    def _ranges(self, told: known.Known) -> rows.Ranges:
        table = self._schema()
        self._changes, ranges = rows.probed([self._value(rows.probe(table, told.usual, *span), "p") for span in told.ranges])
        return ranges

    def _pause(self) -> float:
        """Seconds until wazuh-db may be asked again, for what was asked since the last pause."""
        if self._spent > 0:
            self._pace.spent(self._spent)
            self._took.append(self._spent)
            self._spent = 0.0
        return self._pace.wait

    def _meet_trouble(self) -> None:
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble

    def _changed(self, told: known.Known, moved: rows.Moved, probe: rows.Probe) -> list[rows.Decoded] | None:
        """The rows a probe points at. A time that moved is usually one of theirs; where there are none, or the sums do not meet for the
        second time running, it is another's: all of them are compared. None: it can only be somebody's date_add."""
        parts = self._fetch(told, moved.ids)
        behind = moved.times and not told.has_times_of(probe)
        suspect = behind and (not moved.ids or self._unsettled)
        self._unsettled = behind and not suspect
        if not suspect:
            return parts
        pages = self._pages("pairs", partial(rows.times_page, self._schema()))
        others = told.other_times(pair for page in pages for pair in _pairs(page, "d"))
        return [*parts, *self._fetch(told, others)] if others or moved.ids else None

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
            if self._gathering is not None:
                self._gathering.read.put(part)
        return parts

    # The whole table ------------------------------------------------------------------------------------------------

    def _page_at(self) -> float:
        """When the next page may be read, in monotonic s."""
        return math.inf if self._gathering is None or self._gathering.done else self._gathering.next_at

    def _read_on(self) -> bool:
        """Read a page; whether that was not all."""
        gathering, busy = self._gathering, self._wdb.busy
        try:
            page = None if gathering is None else next(gathering.pages, None)
        except (Cut, Refused):  # the columns changed: the next poll reads everything anew
            self._table = self._known = None
            return False
        except SourceUnavailable as error:
            self._trouble = error
            return False
        if gathering is not None:
            gathering.add(page, self._wdb.busy - busy, self._clock.monotonic())
        return page is not None

    def _gathered(self, told: known.Known, read: Gathering) -> _Found:
        """The whole table as it is told now."""
        self._fetch(told, read.missing(told.ids))
        decoded = read.decoded(told.ids)
        self._known, self._gathering = known.Known(decoded, self._own), None
        return _Found(decoded, whole=True)

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
