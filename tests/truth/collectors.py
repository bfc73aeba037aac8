"""One node's collector in virtual time: turns what the world writes on a node into the snapshots the real collector would say.

Rules
 * Nothing is walked that did not move: the world's writes name the rows, a look compares those alone.
 * A socket sees a write at its next probe. A file sees it at the next commit, and is as old as the last one.
 * What is said, kept and dropped, and in which words, is the product's (`collector.compose`); so is the digest.
 * Each version of a row that a look saw is put into the `Log`, with when it reached the stream: what was *shown*.
"""

import heapq
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from collector.compose import Composer, Identity, Look, Saying, sayings
from collector.mirror import Changes, KeyChanges
from shared import models, wire
from shared.models import DIGEST_MODULUS, AgentRow, KeyEntry, SourceState
from tests.truth.alike import kept_alive_only
from tests.truth.fulls import Fulls
from tests.world.config import OLD, Schema
from tests.world.jitter import BLOCK
from tests.world.model import World, Write
from tests.world.state import KeyLine, Session
from tests.world.writes import Delete, Insert, Keys, Update

NEVER: Final = float("inf")
_DB_VERSIONS: Final[dict[Schema, int]] = {"4.2": 2, "4.5": 4, "4.14": 7, "5.0": 500}
AFTER_THE_WORLD: Final = 2
"""Rank of a look among what falls on one instant: after keepalives and all else that writes."""
_WORTH: Final = 600.0  # seconds
_UNSENT: Final = 60.0  # seconds: the same, where nobody could hear of the last version
_AHEAD: Final = 2 * BLOCK + 1  # keepalives within which one is surely lost


@dataclass(frozen=True, slots=True)
class Cadence:
    """Seconds. `commit` is that of wazuh-db (wdb_commit_old: 61 s); `probe` a pace that a socket's budget allows."""

    probe: float = 0.4
    commit: float = 61.0
    beat: float = 5.0
    full: float = 60.0


@dataclass(slots=True)
class Sent:
    """When a snapshot reached the stream (NEVER where it did not), when it was taken, and up to when its rows tell all."""

    at: float = NEVER
    look: float = 0.0
    as_of: float = 0.0
    readable: bool = False
    proved: bool = False  # whether the rows were known by it, in this life of the collector
    quiet: bool = False  # whether it told who is quiet


@dataclass(frozen=True, slots=True)
class Version:
    """A row as a look saw it (None: none), from `look` on, until the next version."""

    look: float
    row: AgentRow | None
    sent: Sent


@dataclass(slots=True)
class Log:
    """All that the sources made visible."""

    rows: dict[tuple[str, int], list[Version]] = field(default_factory=dict)
    quiets: dict[str, list[tuple[float, Sent]]] = field(default_factory=dict)  # looks that told who is quiet

    def is_old(self, node: str, number: int, now: float) -> bool:
        """Whether the last version is so old, or never reached the stream, that one with a newer keepalive alone is worth keeping."""
        versions = self.rows.get((node, number))
        return not versions or now - versions[-1].look > (_WORTH if versions[-1].sent.at < NEVER else _UNSENT)

    def put(self, node: str, number: int, version: Version) -> None:
        self.rows.setdefault((node, number), []).append(version)


Source = Literal["socket", "file"]


class Line(Protocol):
    """The way to the stream: `tests.truth.lines.Line`."""

    @property
    def owes_full(self) -> bool:
        """Whether something passing was dropped and nothing waits."""

    @property
    def gap(self) -> bool:
        """Whether what was kept was given up."""

    def say(self, snapshot: wire.Snapshot, sent: Sent, saying: Saying) -> None:
        """Send it, or keep it until it can be sent."""


class Collector:
    """The collector of one node; `source` as in wazuh.source. It sees rows as they are at `world.now`."""

    def __init__(
        self, world: World, name: str, source: Source, cadence: Cadence, log: Log, line: Line, phase: float, boot: int = 100
    ) -> None:
        self.name, self.source, self.running, self.boot = name, source, False, boot
        self.trouble: SourceState = "ok"  # what a fault makes of the source
        self._world, self._place, self._cadence, self._log, self._line = world, world.nodes[name], cadence, log, line
        self._phase = phase  # 0 to 1: where in its periods this node is
        self._identity = Identity("truth", name, name, self._place.type)
        self._life = 0
        self._dirty: set[int] = set()
        self._keys_dirty = True
        self._looking = False
        self._committed = 0.0
        self._digests: dict[int, int] = {}
        self._rows: dict[int, AgentRow] = {}  # as last seen
        self._alive: set[int] = set()
        self._young: set[int] = set()
        self._losses: list[tuple[int, int, int, float, Session]] = []  # (tick, how many, agent, its start, session): what is lost next
        self._lost: dict[int, float] = {}  # agent -> until when that shows
        self._facts = 0
        self._digest = 0
        self._entries: dict[int, KeyEntry] = {}
        self._lines: tuple[KeyLine, ...] = ()
        self._composer = Composer(self._identity, 0)
        self._fulls = Fulls(cadence.full)

    # Life -----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The process starts: a new boot, and a full first. A file's first look is at its next commit."""
        self.boot, self._life, self.running = self.boot + 1, self._life + 1, True
        self._composer = Composer(self._identity, self.boot)
        self._fulls.begin()
        self._digests.clear()
        self._digest, self._entries, self._lines, self._keys_dirty = 0, {}, (), True
        self._alive.clear()
        self._looking = False
        if self.source == "socket":
            self._look_at(self._world.now)
        else:
            self._at(self._next(self._cadence.commit), self._commit)
        self._at(self._next(self._cadence.beat), self._beat)

    def stop(self) -> None:
        """The process ends; what its spool holds stays."""
        self.running = False
        self._life += 1

    def note(self, write: Write) -> None:
        """Something was written on this node."""
        match write:
            case Insert():
                self._dirty.add(int(write.row["id"] or 0))
            case Update() if write.columns.keys() != {"sync_status"}:
                self._dirty.update(write.ids)
            case Delete():
                self._dirty.update(write.ids)
            case Keys():
                self._keys_dirty = True
            case _:
                return
        if self.source == "socket" or isinstance(write, Keys):
            self._look_at(self._next(self._cadence.probe))

    def _at(self, at: float, play: object, *arguments: object) -> None:
        self._world.push(at, AFTER_THE_WORLD, self._if_alive, self._life, play, *arguments)

    def _if_alive(self, life: int, play: object, *arguments: object) -> None:
        if life == self._life and callable(play):
            play(*arguments)

    def _next(self, period: float) -> float:
        """The next instant of this node's own grid, after now."""
        phase = self._phase * period
        turns = int((self._world.now - phase) / period) + 1
        return turns * period + phase

    def _look_at(self, at: float) -> None:
        if self.running and not self._looking:
            self._looking = True
            self._at(at, self._probe)

    def _probe(self) -> None:
        self._looking = False
        if self.source == "file" and not self._fulls.said_one:
            return
        self._look(read=self.source == "socket", beat=not self._fulls.said_one)

    def _beat(self) -> None:
        self._at(self._next(self._cadence.beat), self._beat)
        # What a manager wrote before it went away is committed, and read.
        self._look(read=self.source == "socket" or not self._place.up, beat=True)

    def _commit(self) -> None:
        self._at(self._next(self._cadence.commit), self._commit)
        if self.state == "ok":
            self._committed = self._world.now
        self._look(read=True, beat=True)

    # Looking --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> SourceState:
        """A socket without its manager does not answer; a file stays where it is."""
        if self.trouble == "ok" and self.source == "socket" and not self._place.up:
            return "missing"
        return self.trouble

    def _look(self, *, read: bool, beat: bool) -> None:
        now, readable = self._world.now, read and self.state == "ok"
        due = self._fulls.is_due(now) or self._line.owes_full or self._line.gap
        proved = self._fulls.said_one or readable
        sent = Sent(look=now, as_of=now if self._settled() else self._committed, readable=self.state == "ok", proved=proved)
        gap, first = self._line.gap and readable, not self._fulls.said_one
        changes = self._read(now, sent, everything=due) if readable else Changes()
        keys = self._read_keys()
        told = sayings(whole=readable and due, first=first, gap=gap, news=bool(changes or keys), full_due=due, beat_due=beat and not first)
        if not told:
            return
        self._fulls.lost(now, len(changes.gone))
        look = self._describe(now, sent, quiet=readable and (beat or due))
        for saying in told:
            self._say(saying, look, changes, keys, sent)

    def _say(self, saying: Saying, look: Look, changes: Changes, keys: KeyChanges, sent: Sent) -> None:
        if saying.kind == "full":
            made = self._composer.full(look, tuple(self._rows.values()), tuple(self._entries.values()), gap=saying.gap)
            self._fulls.said(self._world.now, owed=saying.gap or self._line.owes_full)
        elif saying.kind == "delta":
            made = self._composer.delta(look, changes, keys)
        else:
            made = self._composer.beat(look)
        self._line.say(made, sent, saying)

    def _describe(self, now: float, sent: Sent, *, quiet: bool) -> Look:
        taken = self._clock(now)
        silence = self._quiet(taken) if quiet else None
        if silence is not None:
            sent.quiet = True
            self._log.quiets.setdefault(self.name, []).append((now, sent))
        return Look(
            taken_at=taken,
            as_of=self._clock(sent.as_of),
            late=0,
            source=self.source,
            source_state=self.state,
            source_error="" if self.state == "ok" else "played by a fault",
            db_version=_DB_VERSIONS[self._place.schema],
            keys_state="ok",
            quiet=silence,
            period=self.period,
            count=len(self._digests),
            digest=self._digest % DIGEST_MODULUS,
        )

    def _settled(self) -> bool:
        """Without a writer there is no open transaction."""
        return self.source == "socket" or not self._place.up

    def _clock(self, at: float) -> int:
        return int((at + self._place.skew_at(at)) * 1000)

    @property
    def period(self) -> int:
        """Milliseconds between keepalives, as it is learnt."""
        return round(self._place.period * self._world.config.tick * 1000)

    # Rows -----------------------------------------------------------------------------------------------------------

    def _read(self, now: float, sent: Sent, *, everything: bool) -> Changes:
        """The rows that differ from what was told; `everything`: all are looked at."""
        numbers = (self._place.rows.keys() | self._digests.keys() | self._rows.keys()) if everything else self._dirty
        rows, gone = [], []
        for number in sorted(numbers):
            row = self._row(number)
            if row is None:
                if self._forget(number, Version(now, None, sent)):
                    gone.append(number)
            elif self._store(row, now, sent):
                rows.append(row)
        self._dirty = set()
        return Changes(tuple(rows), tuple(gone))

    def _row(self, number: int) -> AgentRow | None:
        row = self._place.rows.get(number)
        if row is None:
            return None
        schema = self._place.schema
        return AgentRow(
            row.id, row.name, row.register_ip if row.ip is None else row.ip, row.connection_status,  # type: ignore[arg-type]
            None if schema in OLD else row.status_code, 0 if schema == "4.2" else row.disconnection_time,
            self._world.last_keepalive(self._place, row), row.date_add, None if schema == "5.0" else row.node_name,
        )  # fmt: skip

    def _store(self, row: AgentRow, now: float, sent: Sent) -> bool:
        held = self._rows.get(row.id)
        self._rows[row.id] = row
        fresh = (
            models.row_digest(row)
            if held is None or not kept_alive_only(held, row)
            else self._digests.get(row.id) or models.row_digest(row)
        )
        if (
            held is None
            or not kept_alive_only(held, row)
            or (held.last_keepalive != row.last_keepalive and self._log.is_old(self.name, row.id, now))
        ):
            self._log.put(self.name, row.id, Version(now, row, sent))
        (self._alive.add if row.status in ("active", "pending") else self._alive.discard)(row.id)
        before = self._digests.get(row.id)
        self._digests[row.id] = fresh
        self._digest += fresh - (before or 0)
        return before != fresh

    def _forget(self, number: int, version: Version) -> bool:
        if self._rows.pop(number, None) is not None:
            self._log.put(self.name, number, version)
        self._alive.discard(number)
        digest = self._digests.pop(number, None)
        self._digest -= digest or 0
        return digest is not None

    # Who is quiet ---------------------------------------------------------------------------------------------------

    def _quiet(self, taken: int) -> tuple[tuple[int, int], ...]:
        """Who has been silent for 1.5 periods. Whoever is steadily connected is not looked at: it keeps alive."""
        before = -(-(taken - models.quiet_after(self.period)) // 1000)
        found = []
        for number in self._alive - (self._steady() - self._lossy()):
            row = self._place.rows.get(number)
            at = None if row is None else self._world.last_keepalive(self._place, row)
            if at is not None and at < before:
                found.append((number, at))
        return tuple(found)

    def _steady(self) -> set[int]:
        steady = set(self._place.members)
        if self._place is self._world.master:
            for worker in self._world.workers:
                recent = worker.syncs and self._world.now - worker.syncs[-1] < self._world.config.sync_period + 1
                if worker.up and worker.linked and self._place.up and recent:
                    steady |= worker.members.keys()
        return steady - self._unsteady()

    def _unsteady(self) -> set[int]:
        """Who knocked lately and may not have kept alive yet."""
        history = self._world.history
        everybody = self._place is self._world.master
        started = (fact for fact in history[self._facts :] if fact.what == "started")
        self._young.update(fact.agent for fact in started if everybody or fact.node == self.name)
        self._facts = len(history)
        for number in list(self._young):
            agent = self._world.agents.get(number)
            session = agent.session if agent else None
            if session is None or session.plain(self._world.tick) is not None:
                self._young.discard(number)
                if session is not None and (session.node == self.name or self._place is self._world.master):
                    self._await_loss(number, session, self._world.tick)
        return self._young

    def _await_loss(self, number: int, session: Session, after: int) -> None:
        """Remember when the session's next keepalive is lost."""
        found = session.losses(after + 1, after + _AHEAD * session.period)
        if found:
            heapq.heappush(self._losses, (*found[0], number, session.started, session))

    def _lossy(self) -> set[int]:
        """Steady agents that may be quiet all the same: a keepalive of theirs was lost, and no sync may have told of the next."""
        world = self._world
        while self._losses and self._losses[0][0] <= world.tick:
            due, count, number, _, session = heapq.heappop(self._losses)
            agent = world.agents.get(number)
            if agent is not None and agent.session is session:
                self._lost[number] = world.time_of(due + (count + 1) * session.period) + 2 * world.config.sync_period
                self._await_loss(number, session, due + count * session.period)
        self._lost = {number: until for number, until in self._lost.items() if until > world.now}
        return set(self._lost)

    # client.keys ----------------------------------------------------------------------------------------------------

    def _read_keys(self) -> KeyChanges:
        if not self._keys_dirty:
            return KeyChanges()
        self._keys_dirty, lines = False, self._place.lines
        if lines is self._lines:
            return KeyChanges()
        before, now = (dict(zip(map(id, each), each, strict=True)) for each in (self._lines, lines))
        self._lines = lines
        lost = {before[one].id for one in before.keys() - now.keys()}
        new = {line.id: KeyEntry(line.id, line.name, line.ip, line.removed) for line in (now[one] for one in now.keys() - before.keys())}
        gone = tuple(sorted(lost - new.keys()))
        for number in gone:
            del self._entries[number]
        self._entries |= new
        return KeyChanges(tuple(entry for _, entry in sorted(new.items())), gone)
