"""A source and a client.keys that a test holds in its hands, and a receiver that believes what the wire says."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from collector.clientkeys import Keys
from collector.rows import Reading
from collector.traces import Traces
from shared.clock import Clock
from shared.errors import SourceUnavailable
from shared.models import DIGEST_MODULUS, AgentRow, KeyEntry, KeysState, SourceKind, row_digest
from shared.tracing import OFF
from shared.wire import Snapshot


def agent(number: int, status: str = "active", **fields: Any) -> AgentRow:
    row = AgentRow(number, f"agent-{number}", "10.0.0.1", status, 0, 0, 1_750_000_000, 1_700_000_000, "node01")  # type: ignore[arg-type]
    return row._replace(**fields)


def untraced(clock: Clock) -> Traces:
    """Traces that nobody sees."""
    return Traces(OFF, "wazuh.raw.node01", clock)


class FakeSource:
    """Satisfies `collector.sources.Source`. `failure`, where set, is what every question is answered with."""

    def __init__(self, clock: Clock, rows: Iterable[AgentRow] = ()) -> None:
        self.clock = clock
        self.kind: SourceKind = "socket"
        self.table = {row.id: row for row in rows}
        self.failure: Exception | None = None
        self.quiet_failure: SourceUnavailable | None = None
        self.asked: list[str] = []
        self.closed = False
        self.as_of = 0
        self.busy = 0.0
        self.stale = False  # as_of stands still: no commit
        self.then: Callable[[], None] | None = None  # happens once, after the next answer to poll() or keepalives()
        self.pages = 0  # polls before the one by which all is gathered
        self._gathers: int | None = None
        self._moved: set[int] = set()
        self._lock = threading.Lock()

    def put(self, *rows: AgentRow) -> None:
        with self._lock:
            for row in rows:
                self.table[row.id] = row
                self._moved.add(row.id)

    def remove(self, *numbers: int) -> None:
        with self._lock:
            for number in numbers:
                del self.table[number]
                self._moved.add(number)

    def read(self) -> Reading:
        with self._lock:
            self._ask("read")
            return self._whole()

    def poll(self) -> Reading | None:
        with self._lock:
            self._ask("poll")
            if self._gathers == 0:
                return self._whole()
            self._gathers = self._gathers and self._gathers - 1
            moved, self._moved = self._moved, set()
            answer = self._reading(moved, complete=False) if moved else None
        self._happen()
        return answer

    @property
    def gathering(self) -> bool:
        return self._gathers is not None

    def gather(self) -> None:
        self._gathers = self.pages if self._gathers is None else self._gathers

    def moved(self) -> bool:
        return not self.stale

    def keepalives(self, before: int, sample: Sequence[int]) -> list[tuple[int, int]]:
        with self._lock:
            self.asked.append("keepalives")
            if self.quiet_failure:
                raise self.quiet_failure
            answer = [
                (row.id, row.last_keepalive)
                for row in self.table.values()
                if row.last_keepalive is not None
                and (row.id in sample or (row.status in ("active", "pending") and row.last_keepalive < before))
            ]
        self._happen()
        return answer

    def took(self) -> list[float]:
        return []

    def wait(self, seconds: float, stop: threading.Event, stirred: Callable[[], bool]) -> None:
        if not stirred():
            stop.wait(min(seconds, 0.002))

    def close(self) -> None:
        self.closed = True

    def _happen(self) -> None:
        then, self.then = self.then, None
        if then is not None:
            then()

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.failure:
            raise self.failure
        if not self.stale:
            self.as_of = self.clock.now_ms()

    def _whole(self) -> Reading:
        self._moved.clear()
        self._gathers = None
        return self._reading(self.table, complete=True)

    def _reading(self, ids: Iterable[int], *, complete: bool) -> Reading:
        numbers = list(ids)
        rows = tuple(self.table[number] for number in numbers if number in self.table)
        gone = () if complete else tuple(number for number in numbers if number not in self.table)
        return Reading(rows, complete, gone, self.as_of, 0.001, 7)


class FakeKeys:
    """client.keys as the test last wrote it; `open` gives what `collector.clientkeys.KeysFile` would be."""

    def __init__(self, *entries: KeyEntry) -> None:
        self.entries = entries
        self.state: KeysState = "ok"
        self.error = ""
        self.bad_lines = 0
        self.version = 0

    def open(self) -> "FakeKeysFile":
        return FakeKeysFile(self)

    def write(self, *entries: KeyEntry) -> None:
        self.entries = entries
        self.version += 1


class FakeKeysFile:
    def __init__(self, keys: FakeKeys) -> None:
        self._keys = keys
        self._seen = -1
        self.state: KeysState = "unread"
        self.error = ""

    def stirred(self) -> bool:
        return self._seen != self._keys.version

    def doubt(self) -> None:
        pass

    def all(self) -> tuple[KeyEntry, ...]:
        return self._keys.entries

    def read_if_changed(self) -> Keys | None:
        self.state, self.error = self._keys.state, self._keys.error
        if self.state != "ok" or self._seen == self._keys.version:
            self._seen = self._seen if self.state == "ok" else -1
            return None
        self._seen = self._keys.version
        return Keys(self._keys.entries, self._keys.bad_lines)


class Receiver:
    """Folds snapshots in the order in which they came, and checks what each of them claims.

    A digest that is not the copy's is right only where something was lost: between a boot's first words and its first full,
    and where the spool gave up; then the next full of this boot must be the first one, or flagged as a gap.
    """

    def __init__(self) -> None:
        self.rows: dict[int, AgentRow] = {}
        self.keys: dict[int, KeyEntry] = {}
        self.last = (0, 0)
        self.proved = True
        self.first_boot = self.boot_with_full = 0

    def take(self, snapshot: Snapshot) -> None:
        assert (snapshot.boot, snapshot.seq) > self.last, "out of order"
        self.last = (snapshot.boot, snapshot.seq)
        self.first_boot = self.first_boot or snapshot.boot
        if snapshot.kind == "full":
            assert self.proved or snapshot.gap or self.boot_with_full < snapshot.boot
            self.boot_with_full = snapshot.boot
            self.rows, self.keys = {}, ({} if snapshot.keys_state == "ok" else self.keys)
        if snapshot.kind == "beat":
            assert snapshot.rows + snapshot.gone + snapshot.keys + snapshot.keys_gone == ()
        for number in snapshot.gone:
            self.rows.pop(number, None)
        for number in snapshot.keys_gone:
            self.keys.pop(number, None)
        self.rows |= {row.id: row for row in snapshot.rows}
        self.keys |= {entry.id: entry for entry in snapshot.keys}
        digest = sum(map(row_digest, self.rows.values())) % DIGEST_MODULUS
        self.proved = (snapshot.count, snapshot.digest) == (len(self.rows), digest)
        assert self.proved or snapshot.kind != "full"
