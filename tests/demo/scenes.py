"""The demo's scenes: what happens in a fleet, each with what should come of it.

A scene is a sentence, a cue (commands to the world) and a wait: until as many events came as its cue calls for, or, where
nothing must come, until Wazuh itself has written its false alarm and the grace is over.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

from tests.manager.driver import unix_now
from tests.world.model import Columns
from tests.world.pace import MASTER, SWEEP, WORKER

from .audience import Audience
from .stage import GRACE

PATIENCE: Final = 15.0  # seconds for an event that must come
AWAY: Final = 2.5  # seconds of NATS's absence
PAUSE: Final = 0.8  # seconds between scenes: longer than a look of the collectors


class World(Protocol):
    """What the scenes command and see; see tests/world/model.py."""

    def start(self, number: int, node: str | None = None) -> None: ...
    def stop(self, number: int) -> None: ...
    def die(self, number: int) -> None: ...
    def move(self, number: int, node: str, graceful: bool) -> None: ...
    def register(self, name: str | None = None) -> int: ...
    def remove(self, number: int) -> None: ...
    def restart_remoted(self, node: str) -> None: ...
    def row(self, node: str, number: int) -> Columns | None: ...


class Server(Protocol):
    """NATS, that goes away and comes back."""

    def kill(self) -> None: ...
    def start(self) -> None: ...


class Stage(Protocol):
    """Where the scenes are played: this machine's processes, or containers."""

    @property
    def world(self) -> World: ...
    @property
    def agents(self) -> Sequence[int]: ...
    @property
    def nats(self) -> Server | None: ...


class Tour:
    """Plays the scenes in order. `outages` are the spans (Unix s) in which NATS was away: no latency is measured there."""

    def __init__(self, stage: Stage, audience: Audience) -> None:
        self.stage, self.audience = stage, audience
        self.outages: list[tuple[float, float]] = []

    async def scenes(self) -> AsyncIterator[str]:
        """Each scene's sentence, before it is played: ask for the next one to play it."""
        world, agents = self.stage.world, self.stage.agents
        nodes = (MASTER, WORKER)

        yield f"{len(agents)} registered agents start and connect, in turn to {MASTER} (the master) and {WORKER}."
        for index, agent in enumerate(agents):
            world.start(agent, nodes[index % 2])
        await self._events(len(agents))

        stopped, silent, moving = agents[1], agents[3], agents[5]
        yield f"Somebody stops agent {stopped:03d}."
        world.stop(stopped)
        await self._events(1)

        yield (
            f"Agent {moving:03d} moves from {WORKER} to {MASTER}. Seconds later {WORKER} calls it disconnected, "
            "with a fresh time; it is not, and no event may say so: it has moved."
        )
        world.move(moving, MASTER, graceful=False)
        await self._written(WORKER, moving, "disconnected")
        await self.audience.until(lambda: any("Wazuh-Left-Manager" in one.headers for one in self.audience.notices), unix_now() + PATIENCE)
        await asyncio.sleep(1.0)

        yield f"{WORKER} restarts and marks all its agents disconnected. They return within the grace: one event, and no storm."
        world.restart_remoted(WORKER)
        await asyncio.sleep(GRACE + 1.5)

        yield f"Agent {silent:03d} dies without a word. Three keepalives later it is overdue; Wazuh notices at a sweep, later."
        world.die(silent)
        await self._events(1)

        yield f"NATS goes away for {AWAY:g} seconds. Meanwhile agent {stopped:03d} returns and agent {agents[0]:03d} is stopped."
        await self._outage(stopped, agents[0])

        yield "A new agent is registered, connects, and is removed."
        await self._newcomer()

    async def encore(self, until: float) -> None:
        """Stops and returns, one after the other, until Unix time `until`."""
        world, agents = self.stage.world, self.stage.agents[6:] or self.stage.agents
        turn = 0
        while unix_now() < until:
            agent = agents[turn // 2 % len(agents)]
            if turn % 2:
                world.start(agent)
            else:
                world.stop(agent)
            turn += 1
            await asyncio.sleep(min(2.0, max(0.0, until - unix_now())))

    async def settle(self) -> None:
        """Let everything that is still on its way arrive: a sweep, a grace, and the collectors' beat after it."""
        await asyncio.sleep(max(2 * SWEEP, GRACE) + 1.5)

    async def _events(self, count: int) -> None:
        target = len(self.audience.events) + count
        await self.audience.until(lambda: len(self.audience.events) >= target, unix_now() + PATIENCE)
        await asyncio.sleep(PAUSE)

    async def _written(self, node: str, agent: int, status: str) -> None:
        """Until a node's database says `status` of an agent."""
        deadline = unix_now() + PATIENCE
        while unix_now() < deadline:
            row = self.stage.world.row(node, agent)
            if row is not None and row["connection_status"] == status:
                return
            await asyncio.sleep(0.05)

    async def _outage(self, returning: int, stopping: int) -> None:
        nats = self.stage.nats
        assert nats is not None
        began, target = unix_now(), len(self.audience.events) + 2
        await asyncio.to_thread(nats.kill)
        self.stage.world.start(returning, WORKER)
        self.stage.world.stop(stopping)
        await asyncio.sleep(AWAY)
        await asyncio.to_thread(nats.start)
        await self.audience.until(lambda: len(self.audience.events) >= target, unix_now() + PATIENCE)
        self.outages.append((began, unix_now()))

    async def _newcomer(self) -> None:
        number = self.stage.world.register()
        await self._events(1)
        self.stage.world.start(number, MASTER)
        await self._events(1)
        self.stage.world.remove(number)
        await self._events(1)
