"""What the relay knows: each node's own view, and each agent's decided state. Pure: time comes in with each message.

The view of a node is folded from its raw snapshots exactly as its collector made it; nothing is judged here, only kept:

 * A node's messages are taken in the order (boot, seq). A repeat is dropped. A lower boot than the one held is refused:
   two collectors speak for one node (rule 7).
 * A gap in seq leaves rows usable and absence unproved, until a `full`, or until the digest that each snapshot carries
   says that our copy is the collector's after all (rule 7).
 * Times of a node are brought to the stream's clock by `relay.clocks`.
 * A node is fresh while its last readable snapshot is at most `node_stale` old, by the stream's clock. What drains from a
   spool does not make it fresh.
 * Where the stream itself fell silent, ticks included, NATS was away and no node is to blame: each node that was fresh
   stays so for another `node_stale`, to say what its spool holds.

`fold` keeps the books and says which agents were touched; `decide` judges them; `settle` takes over what it judged.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from shared import models, wire

from . import clocks, doubts, tables
from .alike import Alike
from .clocks import NodeClock
from .decided import Agent, Decision, Ghost, Manager, Refusal
from .events import Status
from .tables import Table

MISSED: Final = 3
"""Keepalives that may be missed before a silence is told; as many as make BGP give up a peer (RFC 4271, 4.4)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator may set; milliseconds."""

    reset_grace: int = 60_000
    sync_jitter: int = 30_000
    baseline_timeout: int = 90_000
    node_stale: int = 30_000


@dataclass(frozen=True, slots=True)
class Heard:
    """One whole snapshot as it stands in RAW. Times are Unix ms."""

    position: int  # the stream sequence of its last part
    now: int  # the stream's time
    sent_at: int  # the node's clock when it was handed to NATS
    snapshot: wire.Snapshot


@dataclass(frozen=True, slots=True)
class Ticked:
    """The relay's own tick: time has passed and nothing came."""

    position: int
    now: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """An operator has retired a node."""

    position: int
    now: int
    node: str


Input = Heard | Ticked | Forgotten


@dataclass(frozen=True, slots=True)
class Node:
    """The small facts of one node; its tables are in `Table`. Times are Unix ms."""

    node: str
    cluster: str
    node_name: str
    node_type: models.NodeType
    boot: int
    seq: int
    source: models.SourceKind
    source_state: models.SourceState
    source_error: str
    db_version: int
    keys_state: models.KeysState
    period: int  # between keepalives as the collector learnt it; 0 unknown
    late: int
    clock: NodeClock
    heard_at: int  # stream time of its last message
    seen_at: int  # stream time at which its rows were last read
    as_of: int  # stream time up to which its rows tell all
    quiet_at: int  # the node's clock when `quiet` was taken; 0 never
    whole: bool  # has sent a full, so that absence means something
    proved: bool  # our copy is the collector's: the digests agree
    doubted: bool  # it lost most of its agents, and client.keys did not: broken until proved otherwise (rule 6)
    spared_until: int  # stream time until which it is fresh in any case
    fresh: bool
    quiet_through: int = 0  # `quiet_at` by the stream's clock: setting the node's clock does not move it

    @property
    def offset(self) -> int:
        """Stream time minus this node's clock, ms."""
        return self.clock.offset

    def at(self, seconds: int) -> int:
        """Stream time (Unix ms) of a moment by this node's record (Unix s)."""
        return self.clock.stream_time(seconds * 1000)


@dataclass(frozen=True, slots=True)
class Folded:
    """What an input touched. `refused` where it was not taken at all."""

    touched: frozenset[int]
    late: bool = False
    told: tuple[tuple[int, int], ...] = ()  # stream times up to which the heard node told its rows, and who is quiet: (before, after)
    refused: Refusal | None = None


@dataclass(slots=True)
class Fleet:
    """All that decide looks at."""

    cluster: str
    policy: Policy = field(default_factory=Policy)
    nodes: dict[str, Node] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    agents: dict[int, Agent] = field(default_factory=dict)
    ghosts: dict[int, Ghost] = field(default_factory=dict)
    managers: dict[str, Manager] = field(default_factory=dict)
    holding: set[int] = field(default_factory=set)
    counts: Counter[Status] = field(default_factory=Counter)
    began_at: int | None = None  # stream time of the first snapshot
    heard_at: int | None = None  # stream time of the last input
    settled: bool = False  # the baseline is over

    def adopt(self, agents: Iterable[Agent]) -> None:
        """Take over agents as they were decided before."""
        come = {agent.id: agent for agent in agents}
        for number in come.keys() & self.agents.keys():
            self._drop(number)
        self.agents |= come
        self.counts.update(agent.status for agent in come.values())
        self.holding.update(agent.id for agent in come.values() if agent.hold is not None)

    def settle(self, judged: Decision) -> None:
        """Take over what decide judged."""
        for number in judged.removed:
            self._drop(number)
        for agent in judged.agents:
            self._put(agent)
        self.agents |= {agent.id: agent for agent in judged.met}
        for number in judged.laid:
            self.ghosts.pop(number, None)
        self.ghosts |= {ghost.id: ghost for ghost in judged.ghosts}
        self.managers |= {manager.node: manager for manager in judged.managers}
        self.settled = judged.settled

    def _put(self, agent: Agent) -> None:
        self._drop(agent.id)
        self.agents[agent.id] = agent
        self.counts[agent.status] += 1
        if agent.hold is not None:
            self.holding.add(agent.id)

    def _drop(self, number: int) -> None:
        known = self.agents.pop(number, None)
        if known is not None:
            self.counts[known.status] -= 1
        self.holding.discard(number)

    def fold(self, given: Input) -> Folded:
        """Take an input into the books. Nothing is judged."""
        if self.began_at is None and isinstance(given, Heard):
            self.began_at = given.now
        self._spare(given.now)
        lines = self._overdue_lines()
        if isinstance(given, Ticked):
            return Folded(frozenset(self._freshen(given.now) | self._fell_silent(lines)))
        if isinstance(given, Forgotten):
            return Folded(frozenset(self.forget(given.node) | self._freshen(given.now) | self._fell_silent(lines)))
        known = self.nodes.get(given.snapshot.node)
        refusal = order(known, given.snapshot)
        if refusal is not None:
            return Folded(frozenset(self._freshen(given.now) | self._fell_silent(lines)), refused=refusal)
        touched = self._take(known, given)
        told = _told(known, self.nodes[given.snapshot.node])
        touched |= self._freshen(given.now) | self._fell_silent(lines)
        return Folded(frozenset(touched), late=given.sent_at - given.snapshot.taken_at > self.policy.node_stale, told=told)

    def _take(self, known: Node | None, given: Heard) -> set[int]:
        table = self.tables.setdefault(given.snapshot.node, Table())
        said = doubts.believed(known is not None and known.doubted, table, given.snapshot)
        touched = tables.absorb(table, said)
        node = heard(known, replace(given, snapshot=said), proved=table.digest == given.snapshot.digest)
        node = self.nodes[node.node] = replace(node, doubted=said is not given.snapshot)
        if known is not None and node.clock.set_at != known.clock.set_at:
            touched.update(table.rows)  # a clock was set: every contact is another
        if tells_absence(node) and not (known is not None and tells_absence(known)):
            touched.update(
                number for number in self.agents if number not in table.rows
            )  # what left while that proved nothing is proved now
        return touched

    def forget(self, name: str) -> set[int]:
        """A node leaves the fleet; the ids that it had rows of, or that were its agents."""
        self.nodes.pop(name, None)
        self.managers.pop(name, None)
        rows = self.tables.pop(name, Table()).rows
        return {*rows, *(agent.id for agent in self.agents.values() if name in (agent.witness, agent.manager_node))}

    def _overdue_lines(self) -> dict[str, int]:
        """For each fresh node the last keepalive (Unix s by its clock) up to which a silence is overdue (rule 9)."""
        through = self.through()
        return {
            node.node: (min(through - node.offset, node.quiet_at) - patience(node)) // 1000 for node in self.nodes.values() if node.fresh
        }

    def _fell_silent(self, before: dict[str, int]) -> set[int]:
        """The agents whose silence became overdue since `before`."""
        return {
            number
            for node, line in self._overdue_lines().items()
            for number in self.tables[node].silent(before.get(node, 0), line)
        }  # fmt: skip

    def _spare(self, now: int) -> None:
        """The relay ticks every second: a stream without anything for half of `node_stale` was not there."""
        silent = 0 if self.heard_at is None else now - self.heard_at
        self.heard_at = now
        if silent > self.policy.node_stale // 2:
            until = now + self.policy.node_stale
            self.nodes = {name: replace(node, spared_until=until) if node.fresh else node for name, node in self.nodes.items()}

    def _freshen(self, now: int) -> set[int]:
        """Say which nodes are fresh now; where that changed, every agent of that node and every mirrored one is touched."""
        touched: set[int] = set()
        for node in list(self.nodes.values()):
            fresh = now - node.seen_at <= self.policy.node_stale or now < node.spared_until
            if fresh != node.fresh:
                self.nodes[node.node] = replace(node, fresh=fresh)
                touched.update(self.tables[node.node].rows)
        return touched

    def alike(self, node: str) -> Alike:
        """What makes the values of a node's next snapshot: those that are held already are taken (`relay.alike`)."""
        own = self.tables.get(node, Table())
        return Alike([own, *(table for table in self.tables.values() if table is not own)])

    # What the nodes say together ------------------------------------------------------------------------------------

    def registrars(self) -> list[Node]:
        """The nodes that register, name and remove (rule 5): the masters, or all where no master is heard."""
        masters = [node for node in self.nodes.values() if node.node_type != "worker"]
        return masters or list(self.nodes.values())

    def named(self, node_name: str | None) -> Node | None:
        """The node that rows call so."""
        return next((node for node in self.nodes.values() if node.node_name == node_name), None)

    def through(self) -> int:
        """Stream time up to which every reachable node has told all it saw (rule 9); 0 where none is reachable."""
        return min((node.as_of for node in self.nodes.values() if node.fresh), default=0)


def _told(known: Node | None, node: Node) -> tuple[tuple[int, int], ...]:
    before = (0, 0) if known is None else (known.as_of, known.quiet_through)
    return tuple(zip(before, (node.as_of, node.quiet_through), strict=True))


def order(known: Node | None, snapshot: wire.Snapshot) -> Refusal | None:
    """Whether a snapshot is in order (rule 7); None: it is."""
    if known is None or snapshot.boot > known.boot:
        return None
    if snapshot.boot < known.boot:
        return "duplicate_collector"
    return "repeat" if snapshot.seq <= known.seq else None


def patience(node: Node) -> int:
    """Milliseconds of silence that are overdue: three missed keepalives, and by how much the collector itself was late."""
    return MISSED * (node.period or models.UNKNOWN_PERIOD) + node.late


def tells_absence(node: Node) -> bool:
    """Whether an agent that is in neither table nor client.keys is known not to be there."""
    return node.whole and node.proved and node.keys_state == "ok"


def heard(known: Node | None, given: Heard, *, proved: bool) -> Node:
    """The small facts of a node after a snapshot."""
    s = given.snapshot
    seen = given.now - given.sent_at
    clock = clocks.first(seen, given.now) if known is None else clocks.heard(known.clock, seen, given.now)
    offset = clock.offset
    readable = s.source_state == "ok"
    whole = (known is not None and known.whole and known.boot == s.boot) or (s.kind == "full" and readable)
    listed = s.quiet is not None and readable
    return Node(
        node=s.node,
        cluster=s.cluster,
        node_name=s.node_name,
        node_type=s.node_type,
        boot=s.boot,
        seq=s.seq,
        source=s.source,
        source_state=s.source_state,
        source_error=s.source_error,
        db_version=s.db_version,
        keys_state=s.keys_state,
        period=s.period,
        late=s.late,
        clock=clock,
        heard_at=given.now,
        # By one clock alone, so that setting it makes no node unheard.
        seen_at=max(given.now - max(0, given.sent_at - s.taken_at) if readable else 0, known.seen_at if known else 0),
        as_of=max(
            min(s.as_of + offset, given.now) if readable and proved else 0, known.as_of if known else 0
        ),  # after a gap not all is told
        quiet_at=s.taken_at if listed else (known.quiet_at if known else 0),
        whole=whole,
        proved=proved,
        doubted=False,
        spared_until=known.spared_until if known else 0,
        fresh=known.fresh if known else False,
        quiet_through=s.taken_at + offset if listed else (known.quiet_through if known else 0),
    )
