"""authd on the master: who is registered, client.keys, and the ids it gives (reference sections 5 and 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import connecting, rows, syncing
from .rows import Row
from .state import Agent, KeyLine, Node
from .writes import Keys

if TYPE_CHECKING:
    from .model import World


class Authd:
    """The registration service of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._next = 1
        self._names: set[str] = set()

    def register(self, name: str | None) -> int:
        world = self._world
        agent = self._new_agent(name)
        if agent.id in world.master.rows:
            # A given-again id: its old row is deleted before the queue of authd's writer reaches the new one.
            world.delete(world.master, [agent.id])
        world.master.keyring[agent.id] = agent.key
        self._publish_keys(self._with(agent))
        world.insert(world.master, self._fresh_row(world.master, agent))
        world.fact(agent, "registered", world.master.name)
        return agent.id

    def remove(self, agent: Agent) -> None:
        world = self._world
        self._need_master()
        del world.agents[agent.id]
        self._names.discard(agent.name)
        world.fact(agent, "removed", world.master.name, agent.contact)
        if world.master.members.get(agent.id) is agent:
            connecting.let_go(world, agent)
        agent.alive = False
        del world.master.keyring[agent.id]
        self._publish_keys(self._without(agent))
        world.schedule(world.now + world.between(world.config.database_delay), self._delete_row, agent)

    def restart(self) -> None:
        self._next = max((line.id for line in self._world.master.lines), default=0) + 1

    def populate(self, count: int, nodes: list[Node]) -> list[int]:
        world = self._world
        agents = [self._new_agent(None) for _ in range(count)]
        world.master.lines = (*world.master.lines, *(self._line(agent) for agent in agents))
        world.master.keyring |= {agent.id: agent.key for agent in agents}
        for node in world.nodes.values():
            node.copy_keys(world.master)
            world.journal.add(Keys(node.name, world.now, node.lines))
        for index, agent in enumerate(agents):
            self._settle(agent, nodes[index % len(nodes)])
        for node in world.workers:  # whoever was registered before them
            syncing.follow_keys(world, node)
        return [agent.id for agent in agents]

    def _settle(self, agent: Agent, home: Node) -> None:
        """Rows of an agent that has been connected to `home` for a while: active there and on the master, unknown elsewhere."""
        world = self._world
        last = world.tick - world.random.randrange(home.period)
        for node in world.nodes.values():
            row = self._fresh_row(node, agent)
            if node is home or node is world.master:
                for name, value in connecting.heard(world, agent, home).items():
                    setattr(row, name, value)
                row.last_keepalive = node.clock(world.time_of(last))
            world.insert(node, row)
        world.fact(agent, "registered", world.master.name)
        world.fact(agent, "started", home.name)
        world.fact(agent, "connected", home.name)
        connecting.settle(world, agent, home, last - 2 * home.period)

    def _new_agent(self, name: str | None) -> Agent:
        world = self._world
        self._need_master()
        number = self._next
        name = name or f"agent-{number:04d}-{world.random.randrange(16**4):04x}"
        if name in self._names:
            raise ValueError(f"Duplicate name: {name} is registered already.")
        self._next += 1
        self._names.add(name)
        key = f"{world.random.getrandbits(256):064x}"
        ip = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        system = rows.SYSTEMS[number % len(rows.SYSTEMS)]
        agent = Agent(number, name, ip, key, system, world.master.clock(world.now))
        world.agents[number] = agent
        return agent

    def _fresh_row(self, node: Node, agent: Agent) -> Row:
        date_add = agent.date_add if node is self._world.master else 0
        return Row(agent.id, agent.name, "any", agent.key, date_add)

    def _line(self, agent: Agent) -> KeyLine:
        return KeyLine(agent.id, agent.name, "any", agent.key)

    def _with(self, agent: Agent) -> tuple[KeyLine, ...]:
        """Live lines first, then removed ones, as OS_WriteKeys puts them."""
        live, gone = self._split()
        return (*live, self._line(agent), *gone)

    def _without(self, agent: Agent) -> tuple[KeyLine, ...]:
        """The last live entry moves into the gap; the removed one stays, marked, where nothing is purged."""
        live, gone = self._split()
        place = next(index for index, line in enumerate(live) if line.id == agent.id)
        last = live.pop()
        if place < len(live):
            live[place] = last
        if not self._world.config.purge:
            gone.append(KeyLine(agent.id, agent.name, "any", agent.key, removed=True))
        return (*live, *gone)

    def _split(self) -> tuple[list[KeyLine], list[KeyLine]]:
        """The lines of client.keys, live and removed; where those are purged, all live."""
        lines = self._world.master.lines
        if self._world.config.purge:
            return list(lines), []
        return [line for line in lines if not line.removed], [line for line in lines if line.removed]

    def _publish_keys(self, lines: tuple[KeyLine, ...]) -> None:
        master = self._world.master
        master.lines = lines
        self._world.journal.add(Keys(master.name, self._world.now, master.lines))

    def _delete_row(self, agent: Agent) -> None:
        row = self._world.master.rows.get(agent.id)
        if row is not None and row.internal_key == agent.key:
            self._world.delete(self._world.master, [agent.id])

    def _need_master(self) -> None:
        if not self._world.master.up:
            raise ValueError("The master is down, and authd with it: nobody can be registered or removed.")
