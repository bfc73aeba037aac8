"""A pure model of a Wazuh cluster: what agents do, and what every manager's database makes of it.

    world = World(WorldConfig(nodes=cluster(workers=2)), seed=1)
    world.populate(100)                      a settled fleet, or: number = world.register("web-01"); world.start(number, "worker1")
    writes = world.advance(to)               plays all that is due up to `to` (Unix seconds), returns Insert | Update | Delete | Keys
    world.row("worker1", 7), world.table("node01")     rows as Wazuh would hold them now, by column name
    world.history                            what truly happened (Fact), for the oracle

Commands take effect at `world.now`; their writes come with the next `advance`: register, remove, restart_authd, start, stop,
die, move, refuse_version, restart_remoted, node_down, node_up, cut, join, set_clock; `schedule(at, command, *arguments)` plays one later.
A command about an unknown agent or node raises LookupError, one that a real cluster could not obey ValueError.

The rules are those of Wazuh with their distortions (reference sections 2, 5, 6, 7): a first keepalive does not reset
status_code (wdb.c:176), sweeps and resets are not synced, the master stamps its own time on workers' keepalives.
Plain keepalives are computed from each session, never stored; `compute_keepalives` only says whether they are also written.
Equal seed and commands give equal writes, however `advance` is cut into steps.
"""

import random
from dataclasses import replace

from . import connecting, registering, rows, syncing
from .config import OLD, Fact, NodeConfig, Schema, What, WorldConfig, cluster
from .engine import REST, Engine
from .rows import Changes, Row
from .state import Agent, Node, Past, Session
from .writes import Columns, Delete, Insert, Journal, Keys, Update, Write, as_json

__all__ = [
    "Agent", "Columns", "Delete", "Fact", "Insert", "Keys", "Node", "NodeConfig", "Past", "Row", "Schema", "Session", "Update", "World",
    "WorldConfig", "Write", "as_json", "cluster",
]  # fmt: skip

_MONITORD_NAP = 10.0  # 5.0: monitord sleeps before its first round (monitord.c:34)


class World(Engine):
    """The cluster at `now`, world time in Unix seconds."""

    def __init__(self, config: WorldConfig, seed: int) -> None:
        super().__init__(config.start, config.tick)
        self.config = config
        self.random = random.Random(seed)
        self.history: list[Fact] = []
        self.past: list[Past] = []  # connections that are over
        self.agents: dict[int, Agent] = {}
        self.nodes = {node.name: self._new_node(node) for node in config.nodes}
        self.master = next(node for node in self.nodes.values() if node.type == "master")
        self.workers = [node for node in self.nodes.values() if node is not self.master]
        self.unclean: set[int] = set()  # ids whose master row is not as a plain keepalive leaves it
        self.journal = Journal()
        self.authd = registering.Authd(self)
        for node in config.nodes:
            self._set_clocks(node)

    def advance(self, to: float) -> list[Write]:
        """Play everything due up to world time `to`; the writes since the last call, in order."""
        self.play_until(to)
        return self.journal.take()

    # ------------------------------------------------------------------ reading

    def row(self, node: str, number: int) -> Columns | None:
        """The row of an agent in a node's table now, by column name of its schema; None where there is none."""
        place = self._node(node)
        row = place.rows.get(number)
        return None if row is None else self._columns(place, row)

    def table(self, node: str) -> dict[int, Columns]:
        """The whole table of a node, row 0 apart: that one belongs to the manager itself."""
        place = self._node(node)
        return {number: self._columns(place, row) for number, row in place.rows.items()}

    def keys_text(self, node: str) -> str:
        """The node's client.keys."""
        return self._node(node).keys_text()

    def last_keepalive(self, node: Node, row: Row) -> int | None:
        """The row's last_keepalive with the plain keepalives of its session, or on the master of its worker's syncs."""
        agent = node.members.get(row.id)
        if agent is not None and agent.session is not None:
            plain = agent.session.plain(self.tick)
            return row.last_keepalive if plain is None else node.clock(self.time_of(plain))
        return syncing.mirrored(self, row) if node is self.master else row.last_keepalive

    # ------------------------------------------------------------------ commands: agents

    def register(self, name: str | None = None) -> int:
        """authd on the master adds an agent; its id. ValueError for a name in use or while the master is down."""
        return self.authd.register(name)

    def remove(self, number: int) -> None:
        """authd on the master drops the agent's key. Its process keeps trying and is refused."""
        self.authd.remove(self._agent(number))

    def restart_authd(self) -> None:
        """From now on the next id is the highest in client.keys plus one: a purged highest id is given again."""
        self.authd.restart()

    def populate(self, count: int, nodes: tuple[str, ...] = ()) -> list[int]:
        """A settled fleet: `count` agents registered, known everywhere and active, in turn on `nodes` (all where empty)."""
        return self.authd.populate(count, [self._node(name) for name in nodes or tuple(self.nodes)])

    def start(self, number: int, node: str | None = None) -> None:
        """The agent's process starts (or starts again) and talks to `node`; where None, to the one it had, else any that is up."""
        agent = self._agent(number)
        target = self._node(node or agent.node or self.random.choice([n.name for n in self.nodes.values() if n.up] or list(self.nodes)))
        if agent.session is not None:
            moved = target.name != agent.session.node
            self.fact(agent, "moved" if moved else "died", target.name, connecting.let_go(self, agent))
        agent.alive, agent.node = True, target.name
        connecting.reach(self, agent, 0.0)

    def stop(self, number: int) -> None:
        """The agent says goodbye and ends. Without a manager that hears it, it just ends."""
        agent = self._agent(number)
        if agent.session is None:
            self.die(number)
            return
        node = self.nodes[agent.session.node]
        connecting.let_go(self, agent)
        agent.alive = False
        self.put(node, number, self._disconnected(node, 3), rows.SYNCREQ_STATUS)
        self.fact(agent, "stopped", node.name)

    def die(self, number: int) -> None:
        """The agent falls silent; no manager is told."""
        agent = self._agent(number)
        contact = connecting.let_go(self, agent)
        if agent.alive:
            self.fact(agent, "died", agent.heard_by or agent.node, contact)
        agent.alive = False

    def move(self, number: int, node: str, graceful: bool) -> None:
        """The agent leaves its manager for `node`, with a shutdown message or without, and knocks there a little later."""
        agent = self._agent(number)
        target = self._node(node)
        if graceful:
            self.stop(number)
        elif agent.session is not None:
            self.fact(agent, "moved", node, connecting.let_go(self, agent))
        agent.alive, agent.node = True, target.name
        connecting.reach(self, agent, self.between(self.config.move_delay))

    def refuse_version(self, number: int) -> None:
        """The agent comes back with a version its manager refuses: status_code 1, the status as it was; it stays out."""
        agent = self._agent(number)
        node = self.nodes[agent.node or self.master.name]
        contact = connecting.let_go(self, agent)
        agent.alive = False
        if node.up and node.keyring.get(number) == agent.key:
            self.put(node, number, {"status_code": 1, "version": "Wazuh v9.9.9"}, rows.SYNCREQ_STATUS)
        self.fact(agent, "refused", node.name, contact)

    # ------------------------------------------------------------------ commands: nodes

    def restart_remoted(self, node: str) -> None:
        """remoted starts again: every row that is not disconnected or never_connected is reset, and its agents come back later."""
        place = self._node(node)
        if not place.up:
            raise ValueError(f"{node} is down; bring it up instead.")
        self.fact(None, "restarted", node)
        connecting.lose_members(self, place, failover=None)
        self._reset(place)

    def node_down(self, node: str, failover: str | None = None) -> None:
        """The whole manager goes away. Its agents try `failover`, or the same node again and again."""
        place = self._node(node)
        if place.up:
            place.up = False
            place.boot += 1
            self.fact(None, "down", node)
            connecting.lose_members(self, place, failover)

    def node_up(self, node: str) -> None:
        """The manager is back: rows reset, monitord counting from nought, modulesd reading client.keys."""
        place = self._node(node)
        if not place.up:
            place.up = True
            self.fact(None, "up", node)
            self._reset(place)
            nap = _MONITORD_NAP if place.schema == "5.0" else 0.0
            self.schedule(self.now + nap + place.sweep_period, self._sweep, place, place.boot)
            self.schedule(self.now + self.between(self.config.database_delay), syncing.follow_keys, self, place)

    def cut(self, worker: str) -> None:
        """The worker's link to the master breaks: nothing is synced either way."""
        self._node(worker).linked = False

    def join(self, worker: str) -> None:
        """The link is whole again."""
        self._node(worker).linked = True

    def set_clock(self, node: str, skew: float) -> None:
        """The node's clock is set: from now on it is ahead by `skew` seconds. What was written stays written."""
        self._node(node).set_clock(self.now, skew)
        self.fact(None, "clock", node, skew)

    # ------------------------------------------------------------------ for the sibling modules

    def put(self, node: Node, number: int, changes: Changes, mark: str) -> None:
        """Write one row, and on a worker its mark for the sync. A row that is not there is passed over, as SQL does."""
        row = node.rows.get(number)
        if row is None:
            return
        for name, value in changes.items():
            setattr(row, name, value)
        left = rows.SYNCED
        if node is self.master:
            (self.unclean.discard if row.clean else self.unclean.add)(number)
        else:
            left = node.set_mark(number, mark)
        self.journal.update(node.name, self.now, number, rows.columns(changes, node.schema) | {"sync_status": left})

    def insert(self, node: Node, row: Row) -> None:
        """A new row; on the master, older syncs of the same id say nothing about it."""
        node.rows[row.id] = row
        if node is self.master:
            (self.unclean.discard if row.clean else self.unclean.add)(row.id)
            for session in (worker.members[row.id].session for worker in self.workers if row.id in worker.members):
                if session is not None:
                    session.told = self.now
        self.journal.add(Insert(node.name, self.now, rows.whole(row, node.schema, rows.SYNCED)))
        if row.id in node.members:
            connecting.again(self, node, node.members[row.id])

    def delete(self, node: Node, numbers: list[int]) -> None:
        """Rows go, with their marks."""
        for number in numbers:
            del node.rows[number]
            node.marks.pop(number, None)
            if node is self.master:
                self.unclean.discard(number)
        if numbers:
            self.journal.add(Delete(node.name, self.now, tuple(numbers)))

    def fact(self, agent: Agent | None, what: What, node: str, value: float = 0.0) -> None:
        """Remember a truth. Of an agent that is no longer registered there is nothing more to say."""
        if agent is not None and what != "removed" and self.agents.get(agent.id) is not agent:
            return
        self.history.append(Fact(self.now, agent.id if agent else 0, agent.name if agent else "", what, node, value))

    def remember(self, agent: Agent) -> None:
        """The agent's connection, as it was until now, is over."""
        if agent.session is not None:
            self.past.append(Past(agent.id, agent.name, replace(agent.session), self.now))

    def notify_period(self, schema: Schema) -> float:
        """Seconds between two keepalives of an agent, written or not."""
        return self.config.old_notify_period if schema in OLD else self.config.notify_period

    def lateness(self, node: Node) -> int:
        """Ticks by which a keepalive may be late: never so much that it is missed by that alone."""
        return min(round(self.config.keepalive_jitter / self.config.tick), node.period // 4)

    def between(self, bounds: tuple[float, float]) -> float:
        """An even draw."""
        return self.random.uniform(*bounds)

    # ------------------------------------------------------------------ what nodes do by themselves

    def _reset(self, node: Node) -> None:
        """remoted's start: reset-agents-connection synced (secure.c:246)."""
        for row in list(node.rows.values()):
            if row.connection_status in ("active", "pending"):
                self.put(node, row.id, self._disconnected(node, 5), rows.SYNCED)

    def _sweep(self, node: Node, boot: int) -> None:
        """monitord's disconnect-agents; a NULL last_keepalive is never older than anything."""
        if boot != node.boot:
            return
        limit = node.clock(self.now) - int(node.sweep_period)
        for row in list(node.rows.values()):
            if row.connection_status in ("active", "pending") and (kept := self.last_keepalive(node, row)) is not None and kept < limit:
                self.put(node, row.id, self._disconnected(node, 4), rows.SYNCED)
        self.schedule(self.now + node.sweep_period, self._sweep, node, boot)

    # ------------------------------------------------------------------ small things

    def _set_clocks(self, config: NodeConfig) -> None:
        node = self.nodes[config.name]
        self.fact(None, "sweeps", node.name, node.sweep_period)
        if config.skew:
            self.fact(None, "clock", node.name, config.skew)
        self.push(self._phase(config.sweep_phase, node.sweep_period), REST, self._sweep, node, node.boot)
        if node is not self.master:
            self.push(self._phase(config.sync_phase, self.config.sync_period), REST, syncing.sync, self, node)
            self.push(self._phase(config.integrity_phase, self.config.integrity_period), REST, syncing.integrity, self, node)

    def _phase(self, phase: float | None, period: float) -> float:
        return self.now + (self.random.uniform(0.0, period) if phase is None else phase)

    def _new_node(self, config: NodeConfig) -> Node:
        """A node with its periods; 5.0 writes every n-th keepalive only."""
        notify, sweep = self.notify_period(config.schema), self.config.sweep_period
        seconds = max(notify, -(-self.config.keepalive_throttle // notify) * notify) if config.schema == "5.0" else notify
        if config.schema in OLD:
            sweep = self.config.old_sweep_period
        if sweep <= seconds + 1:
            raise ValueError(f"A sweep period of {sweep} s would take agents that write every {seconds} s for silent.")
        node = Node(config.name, config.type, config.schema, config.skew, max(1, round(seconds / self.config.tick)), sweep_period=sweep)
        node.set_clock(self.config.start, config.skew)
        return node

    def _columns(self, node: Node, row: Row) -> Columns:
        found = rows.whole(row, node.schema, syncing.mark(self, node, row.id))
        found["last_keepalive"] = self.last_keepalive(node, row)
        return found

    def _disconnected(self, node: Node, code: int) -> Changes:
        return {"connection_status": "disconnected", "disconnection_time": node.clock(self.now), "status_code": code}

    def _agent(self, number: int) -> Agent:
        if number not in self.agents:
            raise LookupError(f"No agent {number} is registered.")
        return self.agents[number]

    def _node(self, name: str) -> Node:
        if name not in self.nodes:
            raise LookupError(f"No node {name}; there are {', '.join(self.nodes)}.")
        return self.nodes[name]
