"""The way into Wazuh's table of agents, whichever it is: what a source offers, and which one is opened.

Rules
 * `socket` and `file` are what they say. `auto` takes the socket where it answers a harmless SELECT, else the file;
   having fallen back, it tries the socket again: soon, for wazuh-db may just be starting again, then ever more rarely,
   for one that hangs costs a whole request_timeout each time.
 * `auto` never goes back in time: where the file is older than what the socket has shown, the socket's fault is told
   instead. (A wazuh-db that hangs has not committed; one that was stopped has.)
 * A source that cannot be read raises SourceUnavailable; it stays usable and is simply asked again later.
 * One thread reads. No source is shared between threads.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from shared import clock as clocks
from shared.backoff import Backoff
from shared.errors import SourceUnavailable
from shared.models import SourceKind

from . import globaldb, wdb
from .rows import Reading
from .socketsource import SocketSource

if TYPE_CHECKING:
    from shared import config as configs

__all__ = ["RETRY_FIRST", "RETRY_HIGHEST", "AutoSource", "Reading", "Source", "open_source"]

RETRY_FIRST: Final = 1.0  # seconds from the socket's failure to the next try; each wait is twice the one before
RETRY_HIGHEST: Final = 60.0


class Source(Protocol):
    """Where rows come from. Every method but `gather`, `moved`, `took`, `wait` and `close` raises SourceUnavailable(state, sentence)."""

    @property
    def kind(self) -> SourceKind:
        """Which way in it is."""

    @property
    def as_of(self) -> int:
        """Unix ms: what was written to the table before that was in what the last read() or poll() saw, also one that
        returned None. 0 before the first."""

    @property
    def busy(self) -> float:
        """Seconds that the source was busy for us so far."""

    def read(self) -> Reading:
        """Every row."""

    def poll(self) -> Reading | None:
        """What moved since the last read() or poll(), whole or in part; None: nothing but keepalives moved."""

    @property
    def gathering(self) -> bool:
        """Whether the whole table is being gathered."""

    def gather(self) -> None:
        """Begin to read every row, bit by bit while it waits: the poll() that comes to the end returns all. Nothing is raised."""

    def moved(self) -> bool:
        """Whether anything, a keepalive too, may have been written since the last read() or poll(); nothing is raised."""

    def keepalives(self, before: int, sample: Sequence[int]) -> list[tuple[int, int]]:
        """(id, last_keepalive) of active and pending agents whose last_keepalive is below `before` (Unix seconds), and of
        the agents in `sample`; an agent without a keepalive is left out."""

    def took(self) -> list[float]:
        """Seconds for which the source was busy with each look that asked whether anything moved, since this was last asked."""

    def wait(self, seconds: float, stop: threading.Event, stirred: Callable[[], bool]) -> None:
        """Return when a poll() may find something, after `seconds` at the latest, at once where `stop` is set; also where
        `stirred` says so, which is asked now and then."""

    def close(self) -> None:
        """Let go of everything that is open."""


class AutoSource:
    """The socket where it answers, else the file."""

    def __init__(self, socket: Source, file: Source, clock: clocks.Clock) -> None:
        self._socket, self._file, self._clock = socket, file, clock
        self._current = socket
        self._backoff = Backoff(RETRY_FIRST, RETRY_HIGHEST, jitter=lambda: 1.0)  # nobody else asks this daemon
        self._retry_at = 0.0

    @property
    def kind(self) -> SourceKind:
        """The one in use."""
        return self._current.kind

    @property
    def as_of(self) -> int:
        """See Source."""
        return self._current.as_of

    @property
    def busy(self) -> float:
        """See Source."""
        return self._socket.busy + self._file.busy

    def read(self) -> Reading:
        """Every row, by the socket where it answers. Raises SourceUnavailable: neither way in is open."""
        if self._current is self._socket or self._clock.monotonic() >= self._retry_at:
            try:
                reading = self._socket.read()
            except SourceUnavailable as error:
                return self._fall_back(error)
            self._current = self._socket
            self._backoff.reset()
            return reading
        return self._file.read()

    def poll(self) -> Reading | None:
        """What moved; every row where the way in has just changed."""
        if self._current is not self._socket:
            return self.read() if self._clock.monotonic() >= self._retry_at else self._file.poll()
        try:
            return self._socket.poll()
        except SourceUnavailable as error:
            return self._fall_back(error)

    def _fall_back(self, why: SourceUnavailable) -> Reading:
        self._socket.close()
        self._retry_at = self._clock.monotonic() + self._backoff.next()
        try:
            reading = self._file.read()
        except SourceUnavailable as error:
            self._current, self._retry_at = self._socket, 0.0
            raise SourceUnavailable(error.state, f"{error}; the socket neither: {why}") from error
        if reading.as_of < self._socket.as_of:
            self._current, self._retry_at = self._socket, 0.0
            raise why
        self._current = self._file
        return reading

    @property
    def gathering(self) -> bool:
        """See Source."""
        return self._current.gathering

    def gather(self) -> None:
        """See Source."""
        self._current.gather()

    def moved(self) -> bool:
        """See Source."""
        return self._current.moved()

    def keepalives(self, before: int, sample: Sequence[int]) -> list[tuple[int, int]]:
        """See Source."""
        return self._current.keepalives(before, sample)

    def took(self) -> list[float]:
        """See Source."""
        return self._socket.took() + self._file.took()

    def wait(self, seconds: float, stop: threading.Event, stirred: Callable[[], bool]) -> None:
        """See Source."""
        self._current.wait(seconds, stop, stirred)

    def close(self) -> None:
        """Close both."""
        self._socket.close()
        self._file.close()


def open_source(config: "configs.Config", clock: clocks.Clock, own: str) -> Source:
    """The source that wazuh.source names, on the node that rows call `own`; nothing is opened before its first use."""
    wazuh, collector = config.wazuh, config.collector
    file = globaldb.FileSource(wazuh.db_path, clock, wazuh.poll_interval)
    if wazuh.source == "file":
        return file
    database = wdb.Wdb(wazuh.socket_path, clock, collector.request_timeout)
    socket = SocketSource(database, clock, collector.source_budget, wazuh.poll_interval, own)
    return socket if wazuh.source == "socket" else AutoSource(socket, file, clock)
