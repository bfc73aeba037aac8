"""A laboratory for deciding: hand it what nodes say, get what the relay decides. No I/O.

Times are Unix seconds here; the lab turns them into the milliseconds of the wire.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from relay import calm, decide, fleet
from relay.decided import Decision
from relay.events import Event, ManagerEvent
from relay.fleet import Fleet, Heard, Policy, Ticked
from shared import models, wire
from shared.models import AgentRow, ConnectionStatus, KeyEntry, NodeType

T0 = 1_700_000_000
PERIOD = 10  # seconds between keepalives on every node of the lab


def row(
    number: int,
    status: ConnectionStatus,
    keepalive: int | None = None,
    *,
    name: str = "",
    code: int | None = 0,
    dt: int = 0,
    node: str | None = "unknown",
    added: int = T0 - 1000,
    ip: str | None = None,
) -> AgentRow:
    """A row of the agent table; `added` is 0 on workers in the real world."""
    return AgentRow(number, name or f"agent-{number}", ip or f"10.0.0.{number % 250}", status, code, dt, keepalive, added, node)


@dataclass
class Speaker:
    """One node's collector: keeps the table so that digests are right."""

    node: str
    node_type: NodeType
    boot: int = 1
    seq: int = 0
    rows: dict[int, AgentRow] = field(default_factory=dict)
    keys: dict[int, KeyEntry] = field(default_factory=dict)
    skew: int = 0  # seconds by which its clock is ahead
    keys_state: models.KeysState = "ok"

    def snapshot(self, kind: wire.Kind, now: int, **changes: object) -> wire.Snapshot:
        self.seq += 1
        taken = (now + self.skew) * 1000
        made = wire.Snapshot(
            cluster="lab",
            node=self.node,
            node_name=self.node,
            node_type=self.node_type,
            boot=self.boot,
            seq=self.seq,
            kind=kind,
            taken_at=taken,
            as_of=taken,
            late=0,
            source="socket",
            source_state="ok",
            source_error="",
            db_version=7,
            rows=tuple(self.rows.values()) if kind == "full" else (),
            gone=(),
            keys=tuple(self.keys.values()) if kind == "full" else (),
            keys_gone=(),
            keys_state=self.keys_state,
            quiet=None,
            period=PERIOD * 1000,
            count=len(self.rows),
            digest=sum(map(models.row_digest, self.rows.values())) % models.DIGEST_MODULUS,
            gap=False,
        )
        return replace(made, **changes)  # type: ignore[arg-type]


class Lab:
    """A relay's brain on a bench."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.fleet = Fleet("lab", policy or Policy())
        self.position = 0
        self.speakers: dict[str, Speaker] = {}
        self.log: list[fleet.Input] = []
        self.events: list[Event] = []
        self.of_managers: list[ManagerEvent] = []

    def node(self, name: str, node_type: NodeType = "standalone", **more: object) -> Speaker:
        self.speakers[name] = Speaker(name, node_type, **more)  # type: ignore[arg-type]
        return self.speakers[name]

    def full(self, name: str, rows: Iterable[AgentRow], now: int, *, keys: Iterable[KeyEntry] | None = None, **changes: object) -> Decision:
        speaker = self.speakers[name]
        speaker.rows = {r.id: r for r in rows}
        speaker.keys = {k.id: k for k in (keys if keys is not None else (key(r) for r in speaker.rows.values()))}
        return self.hear(speaker.snapshot("full", now, **changes), now)

    def delta(
        self,
        name: str,
        *rows: AgentRow,
        now: int,
        gone: Iterable[int] = (),
        new_keys: Iterable[KeyEntry] = (),
        gone_keys: Iterable[int] = (),
        **changes: object,
    ) -> Decision:
        speaker = self.speakers[name]
        for number in gone:
            speaker.rows.pop(number, None)
        for number in gone_keys:
            speaker.keys.pop(number, None)
        for entry in new_keys:
            speaker.keys[entry.id] = entry
        speaker.rows |= {r.id: r for r in rows}
        said = speaker.snapshot("delta", now, rows=rows, gone=tuple(gone), keys=tuple(new_keys), keys_gone=tuple(gone_keys), **changes)
        return self.hear(said, now)

    def beat(self, name: str, now: int, quiet: Mapping[int, int] | None = None, **changes: object) -> Decision:
        listed = None if quiet is None else tuple(quiet.items())
        return self.hear(self.speakers[name].snapshot("beat", now, quiet=listed, **changes), now)

    def hear(self, snapshot: wire.Snapshot, now: int) -> Decision:
        self.position += 1
        return self.step(Heard(self.position, now * 1000, snapshot.taken_at, snapshot))

    def tick(self, now: int) -> Decision:
        self.position += 1
        return self.step(Ticked(self.position, now * 1000))

    def step(self, given: fleet.Input) -> Decision:
        self.log.append(given)
        folded = self.fleet.fold(given)
        self._hold_the_ways_together(given.now, late=folded.late)
        decision = decide.decide(self.fleet, given, folded, "wazuh")
        self.fleet.settle(decision)
        self.events += decision.happened
        self.of_managers += decision.of_managers
        return decision

    def _hold_the_ways_together(self, now: int, *, late: bool) -> None:
        """The law of `relay.calm`: who is at ease comes to what judging comes to, whatever was said and whoever is touched by it."""
        for agent in calm.judge(self.fleet, sorted(self.fleet.agents)):
            assert decide.Judged(agent.id, agent, ()) == decide._judge(self.fleet, agent.id, now, late=late)

    def beats(self, now: int, quiet: Mapping[str, Mapping[int, int]] | None = None) -> list[Event]:
        """Every node beats at `now` and time passes; the events that came of it."""
        before = len(self.events)
        for name in self.speakers:
            self.beat(name, now, (quiet or {}).get(name, {}))
        self.tick(now)
        return self.events[before:]

    def ticks(self, begin: int, end: int) -> None:
        """The stream is there and nothing comes."""
        for now in range(begin, end + 1, 10):
            self.tick(now)

    def waited(self) -> None:
        """The baseline has timed out: with 5.0 nobody can say for whom to wait."""
        if not self.fleet.settled:
            self.fleet.began_at = 1
            self.tick(T0)

    def status(self, number: int) -> str:
        return self.fleet.agents[number].status


def key(of: AgentRow, *, removed: bool = False) -> KeyEntry:
    return KeyEntry(of.id, of.name, "any", removed)


def said(decision: Decision) -> list[tuple[int, str, str]]:
    """(agent, kind, reason) of each event."""
    return [(e.agent_id, e.kind, e.reason) for e in decision.happened]


def told(lab: Lab) -> list[tuple[int, str, str]]:
    """(agent, kind, reason) of all events so far."""
    return [(e.agent_id, e.kind, e.reason) for e in lab.events]


def told_of_managers(lab: Lab) -> list[tuple[str, str]]:
    """(manager, kind) of all manager events so far."""
    return [(e.node, e.kind) for e in lab.of_managers]


def cluster(policy: Policy | None = None) -> Lab:
    """A master m and workers w1, w2; agent 1 lives on w1, agent 2 on the master, agent 3 on w2; the master mirrors."""
    lab = Lab(policy)
    lab.node("m", "master")
    lab.node("w1", "worker")
    lab.node("w2", "worker")
    never = {n: row(n, "never_connected", added=0) for n in (1, 2, 3)}
    ka = T0 - 5
    lab.full("w1", [row(1, "active", ka, node="w1", added=0), never[2], never[3]], T0)
    lab.full("w2", [never[1], never[2], row(3, "active", ka, node="w2", added=0)], T0)
    lab.full("m", [row(1, "active", ka + 3, node="w1"), row(2, "active", ka, node="m"), row(3, "active", ka + 4, node="w2")], T0)
    lab.beats(T0 + 5)
    assert lab.fleet.settled
    assert lab.events == []
    return lab
