"""One look at this node: its table of agents and its client.keys, as a finding that can be told.

Rules
 * A source that fails is a finding too: with its state and one sentence, and everything else as last known. It is asked
   again with backoff, told in the log once per change of state and counted each time.
 * After a failure the whole table is read: what a source tells as moved is relative to what it told before.
 * `quiet` is asked for where it is due and there may be something newer than at the last time, and BEFORE the rows: who is in
   no list and lives by the rows was heard of when the list was taken. The other way round, an agent that falls silent between
   the two would be in neither, and seem alive. So it is asked before the table is gathered, and not meanwhile. What is wrong
   with that question is told by the next look, so that the rows of this one are not lost.
 * What looking cost, and how many agents there are, is shown where `quiet` is due: once in a poll_interval is soon enough.
 * client.keys is looked at every time, and a few times a second while the source waits; it is read where it changed, or where all of
   it is to be told, whatever its time says.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, cast

from shared import logs, models
from shared.clock import Clock
from shared.errors import SourceUnavailable
from shared.guard import Guard, Words
from shared.models import KeyEntry, KeysState, SourceKind, SourceState
from shared.telemetry import Telemetry

from . import clientkeys
from .cadence import Rhythm
from .compose import Look
from .mirror import NO_CHANGES, NO_KEY_CHANGES, Changes, KeyChanges, Mirror
from .rows import Reading
from .sources import Source

_logger = logging.getLogger("collector.source")

SOURCE: Final = Words("source", "source_lost", "Wazuh's agents cannot be read", "source_back", "Wazuh's agents can be read again")

Quiet = tuple[tuple[int, int], ...]

Depth = Literal["moved", "gather", "whole"]
"""How deep a look goes: at what moved; at that, while the whole table is gathered for a later look; at all there is."""


class KeysFile(Protocol):
    """client.keys: `collector.clientkeys.KeysFile`."""

    state: KeysState
    error: str

    def stirred(self) -> bool:
        """Whether it may be worth reading again."""

    def doubt(self) -> None:
        """Read it again at the next time, though nothing seems to have changed."""

    def all(self) -> tuple[KeyEntry, ...]:
        """All entries, as they were read last."""

    def read_if_changed(self) -> clientkeys.Keys | None:
        """All entries, or None where they are as they were or cannot be read: `state` says which."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look found. `whole` and `all_keys` where everything was asked for and could be read."""

    look: Look
    changes: Changes = NO_CHANGES
    keys: KeyChanges = NO_KEY_CHANGES
    whole: Reading | None = None
    all_keys: tuple[KeyEntry, ...] = ()
    turned: bool = False  # the source was lost or came back, or fails in another way


@dataclass(frozen=True, slots=True)
class _Listed:
    """An answer to the question for `quiet`: (id, last_keepalive in Unix s) of who may be, and of the sample."""

    keepalives: Sequence[tuple[int, int]]
    before: int  # Unix s: who was heard of since is not quiet
    sample: tuple[int, ...]
    period: int  # ms


@dataclass(slots=True)
class _Source:
    """What is known of the source beside its rows."""

    look: Look
    quiet_as_of: int = 0
    busy: float = 0.0  # seconds of the source's time that are counted
    trouble: SourceUnavailable | None = None  # met at the end of the last look
    refusal: str = ""
    read_by: SourceKind | None = None  # what told it last, None where it failed


@dataclass(slots=True)
class _Keys:
    """client.keys, and what was said about it."""

    file: KeysFile
    said: tuple[KeysState, int] = ("unread", 0)  # state, bad lines
    changes: KeyChanges = NO_KEY_CHANGES


class Lookout:
    """Looks, on the reader's thread alone. `guard` is the source's; `period` (ms) is what was known of the agents' rhythm before, 0
    nothing."""

    def __init__(self, source: Source, keys: KeysFile, clock: Clock, guard: Guard, telemetry: Telemetry, period: int = 0) -> None:
        self._source, self._clock, self._guard, self._telemetry = source, clock, guard, telemetry
        self._mirror = Mirror()
        self._rhythm = Rhythm(period)
        self._keys = _Keys(keys)
        self._state = _Source(Look(0, 0, 0, source.kind, "ok", "", 0, "unread", None, 0, 0, 0))

    @property
    def failing(self) -> bool:
        """Whether the source could not be read at the last look."""
        return self._state.look.source_state != "ok"

    def patience(self) -> float:
        """Seconds until a failing source is asked again."""
        return self._guard.patience()

    def rest(self, seconds: float, stop: threading.Event) -> None:
        """Return when a look may find something, after `seconds` at the latest, at once where `stop` is set. A source that fails is
        not waited on: it may not even be there."""
        if self.failing:
            stop.wait(seconds)
        else:
            self._source.wait(seconds, stop, self._keys.file.stirred)

    def look(self, depth: Depth, *, quiet: bool, late: float) -> Finding:
        """Look, and who is `quiet`; `late` (seconds) is told as it is."""
        was, taken_at = self._state.look, self._clock.now_ms()
        gathers, begins = self._source.gathering, depth == "gather" and not self._source.gathering
        if taken_at < was.taken_at:  # the clock was set back: nothing would seem newer until it has caught up
            self._state.quiet_as_of = 0
        self._look_at_keys(doubt=begins or depth == "whole")
        reading, listed, read = self._look_at_source(taken_at, depth, quiet=quiet and not gathers)
        changes = self._absorb(reading) if reading else NO_CHANGES
        if quiet:
            self._measure()
        look = self._state.look = Look(
            taken_at=taken_at,
            as_of=self._source.as_of if read else was.as_of,
            late=round(late * 1000),
            source=self._source.kind,
            source_state=self._state.look.source_state,
            source_error=self._state.look.source_error,
            db_version=reading.db_version if reading else was.db_version,
            keys_state=self._keys.file.state,
            quiet=self._silent(listed) if listed else None,
            period=self._state.look.period,
            count=self._mirror.count,
            digest=self._mirror.digest,
        )
        return Finding(
            look,
            changes,
            self._keys.changes,
            whole=reading if reading and reading.complete else None,
            all_keys=self._keys.file.all() if reading and reading.complete and self._keys.file.state == "ok" else (),
            turned=look.source_state != was.source_state,
        )

    # The source -----------------------------------------------------------------------------------------------------

    def _look_at_source(self, taken_at: int, depth: Depth, *, quiet: bool) -> tuple[Reading | None, _Listed | None, bool]:
        """(what was read, who may be quiet, whether the source answered)."""
        if self._guard.delay() > 0:
            return None, None, False
        trouble, self._state.trouble = self._state.trouble, None
        if trouble:
            self._lost(trouble)
            return None, None, False
        kind, listed = self._source.kind, self._ask_quiet(taken_at) if quiet else None
        if depth == "gather":
            self._source.gather()
        try:
            reading = self._ask(everything=depth == "whole" or self.failing)
        except SourceUnavailable as error:
            self._state.trouble = None  # the same fault
            self._lost(error)
            return None, None, False
        if self._source.kind != kind or self.failing:
            self._state.trouble = None  # of the way that was left, or of the fault that is over
        self._back()
        if listed:
            self._learn(listed)
        return reading, listed, True

    def _ask(self, *, everything: bool) -> Reading | None:
        reading = self._source.read() if everything else self._source.poll()
        if reading:
            kind = "full" if reading.complete else "partial"
            self._telemetry.count("wazuh_jetstream_collector_reads_total", kind=kind)
        return reading

    def _measure(self) -> None:
        for status, count in self._mirror.by_status.items():
            self._telemetry.gauge("wazuh_jetstream_collector_agents", count, status=status)
        busy, self._state.busy = self._state.busy, self._source.busy
        self._telemetry.count("wazuh_jetstream_collector_source_busy_seconds_total", self._state.busy - busy)
        for seconds in (took := self._source.took()):
            self._telemetry.observe("wazuh_jetstream_collector_probe_seconds", seconds)
        self._telemetry.count("wazuh_jetstream_collector_probes_total", len(took))

    def _ask_quiet(self, taken_at: int) -> _Listed | None:
        """Active and pending agents without a keepalive for 1.5 periods; None: nothing newer is to be seen, or it was not answered."""
        if self._source.as_of <= self._state.quiet_as_of and not self._source.moved():
            return None
        period, sample = self._rhythm.period, self._rhythm.sample
        before = -(-(taken_at - models.quiet_after(period)) // 1000)
        try:
            return _Listed(self._source.keepalives(before, sample), before, sample, period)
        except SourceUnavailable as error:
            self._state.trouble = error
            return None

    def _learn(self, listed: _Listed) -> None:
        """What an answer is of, and the agents' rhythm from those of the sample."""
        self._state.quiet_as_of = self._source.as_of
        self._rhythm.note(listed.keepalives, self._source.as_of // 1000)
        self._state.look = replace(self._state.look, period=listed.period)
        self._telemetry.gauge("wazuh_jetstream_collector_keepalive_period_seconds", listed.period / 1000)

    def _silent(self, listed: _Listed) -> Quiet:
        """Who is named: of the sample those alone who live."""
        followed = frozenset(number for number in listed.sample if not self._mirror.is_alive(number))
        return tuple((number, at) for number, at in listed.keepalives if at < listed.before and number not in followed)

    def _absorb(self, reading: Reading) -> Changes:
        changes = self._mirror.absorb(reading)
        if reading.complete:
            self._rhythm.choose((r.id, r.last_keepalive) for r in reading.rows if r.status == "active" and r.last_keepalive)
        self._telemetry.observe("wazuh_jetstream_collector_read_seconds", reading.cost)
        if reading.refused:
            self._refused(reading)
        return changes

    def _refused(self, reading: Reading) -> None:
        self._telemetry.count("wazuh_jetstream_collector_rows_refused_total", reading.refused)
        if reading.refusal != self._state.refusal:
            logs.log(_logger, "warning", "rows_refused", reading.refusal, refused=reading.refused)
            self._state.refusal = reading.refusal

    def _lost(self, error: SourceUnavailable) -> None:
        self._telemetry.count("wazuh_jetstream_collector_source_errors_total", state=error.state)
        self._telemetry.gauge("wazuh_jetstream_collector_source_up", 0)
        self._guard.failed(error, error.state, state=error.state)
        self._state.read_by = None
        self._state.look = replace(self._state.look, source_state=cast("SourceState", error.state), source_error=str(error))

    def _back(self) -> None:
        kind, was = self._source.kind, self._state.read_by
        if kind == was:
            return
        self._state.read_by = kind
        if self.failing:
            self._state.look = replace(self._state.look, source_state="ok", source_error="")
        elif was:
            logs.log(_logger, "warning", "source_changed", f"Wazuh's agents are now read by the {kind}")
        self._guard.succeeded(f"read by the {kind}", source=kind)
        self._telemetry.gauge("wazuh_jetstream_collector_source_up", 1)

    # client.keys ----------------------------------------------------------------------------------------------------

    def _look_at_keys(self, *, doubt: bool) -> None:
        if doubt:
            self._keys.file.doubt()
        found = self._keys.file.read_if_changed()
        self._keys.changes = self._mirror.absorb_keys(found.entries) if found else NO_KEY_CHANGES
        self._say_keys(self._keys.file.state, found.bad_lines if found else self._keys.said[1])

    def _say_keys(self, state: KeysState, bad_lines: int) -> None:
        was, were_bad = self._keys.said
        if state not in ("ok", was):
            logs.log(_logger, "warning", "keys_lost", self._keys.file.error, state=state)
        elif state == "ok" and was in ("missing", "denied"):
            logs.log(_logger, "info", "keys_back", "client.keys can be read again")
        if bad_lines > were_bad:
            text = f"client.keys holds {bad_lines} lines that Wazuh would not accept; it skips them, and so do we"
            logs.log(_logger, "warning", "keys_bad_lines", text, bad_lines=bad_lines)
            self._telemetry.count("wazuh_jetstream_collector_keys_bad_lines_total", bad_lines - were_bad)
        if state != was:
            self._telemetry.gauge("wazuh_jetstream_collector_keys_up", state == "ok")
        self._keys.said = state, bad_lines
