"""Random activity on a world: commands at given rates, from a seed of its own, scheduled in world time.

    Activity(world, Rates(stop=0.2, start=0.2, die=0.05), seed=3).begin(until=world.now + 3600)

Rates are commands per second over the whole cluster. A draw that finds nobody it could be about is let pass.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, fields

from .model import Agent, World

_DRAWS = 20  # of an agent among all, before those that fit are sought


@dataclass(frozen=True, slots=True)
class Rates:
    """Commands per second. `start` wakes an agent that is not running; `outage` takes a manager away for a while."""

    register: float = 0.0
    remove: float = 0.0
    start: float = 0.0
    stop: float = 0.0
    die: float = 0.0
    move: float = 0.0
    graceful_move: float = 0.0
    refuse_version: float = 0.0
    restart_remoted: float = 0.0
    outage: float = 0.0
    restart_authd: float = 0.0
    outage_seconds: tuple[float, float] = (5.0, 60.0)
    failover: float = 0.5  # share of outages whose agents are told another manager

    def weights(self) -> dict[str, float]:
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: rate for name, rate in every.items() if name not in ("outage_seconds", "failover") and rate > 0}


class Activity:
    """One stream of random commands."""

    def __init__(self, world: World, rates: Rates, seed: int) -> None:
        self.played: dict[str, int] = {}
        self._world = world
        self._rates = rates
        self._weights = rates.weights()
        self._random = random.Random(seed)
        self._until = float("inf")
        self._commands: dict[str, Callable[[], bool]] = {
            "register": self._register,
            "remove": lambda: self._for_agent(lambda agent: world.master.up, lambda agent: world.remove(agent.id)),
            "start": lambda: self._for_agent(lambda agent: not agent.alive, lambda agent: world.start(agent.id, self._up())),
            "stop": lambda: self._for_agent(_connected, lambda agent: world.stop(agent.id)),
            "die": lambda: self._for_agent(_connected, lambda agent: world.die(agent.id)),
            "move": lambda: self._for_agent(_connected, lambda agent: self._move(agent, graceful=False)),
            "graceful_move": lambda: self._for_agent(_connected, lambda agent: self._move(agent, graceful=True)),
            "refuse_version": lambda: self._for_agent(_connected, lambda agent: world.refuse_version(agent.id)),
            "restart_remoted": self._restart_remoted,
            "outage": self._outage,
            "restart_authd": self._restart_authd,
        }

    def begin(self, until: float = float("inf")) -> None:
        """Schedule commands from now on until world time `until`."""
        self._until = until
        if self._weights:
            self._plan()

    def _plan(self) -> None:
        at = self._world.now + self._random.expovariate(sum(self._weights.values()))
        if at <= self._until:
            self._world.schedule(at, self._play)

    def _play(self) -> None:
        name = self._random.choices(list(self._weights), list(self._weights.values()))[0]
        if self._commands[name]():
            self.played[name] = self.played.get(name, 0) + 1
        self._plan()

    def _for_agent(self, fits: Callable[[Agent], bool], play: Callable[[Agent], None]) -> bool:
        everybody = list(self._world.agents.values())
        for _ in range(_DRAWS if everybody else 0):
            agent = self._random.choice(everybody)
            if fits(agent):
                play(agent)
                return True
        found = [agent for agent in everybody if fits(agent)]
        if found:
            play(self._random.choice(found))
        return bool(found)

    def _register(self) -> bool:
        if self._world.master.up:
            number = self._world.register()
            self._world.schedule(self._world.now + self._random.uniform(1, 30), self._first_start, number, self._up())
        return self._world.master.up

    def _first_start(self, number: int, node: str) -> None:
        agent = self._world.agents.get(number)
        if agent is not None and not agent.alive:
            self._world.start(number, node)

    def _move(self, agent: Agent, *, graceful: bool) -> None:
        others = [name for name in self._names_up() if name != agent.node]
        if others:
            self._world.move(agent.id, self._random.choice(others), graceful)

    def _restart_remoted(self) -> bool:
        names = self._names_up()
        if names:
            self._world.restart_remoted(self._random.choice(names))
        return bool(names)

    def _outage(self) -> bool:
        names = self._names_up()
        if not names:
            return False
        node = self._random.choice(names)
        others = [name for name in names if name != node]
        failover = self._random.choice(others) if others and self._random.random() < self._rates.failover else None
        self._world.node_down(node, failover)
        self._world.schedule(self._world.now + self._random.uniform(*self._rates.outage_seconds), self._world.node_up, node)
        return True

    def _restart_authd(self) -> bool:
        self._world.restart_authd()
        return True

    def _names_up(self) -> list[str]:
        return [node.name for node in self._world.nodes.values() if node.up]

    def _up(self) -> str:
        return self._random.choice(self._names_up() or list(self._world.nodes))


def _connected(agent: Agent) -> bool:
    return agent.session is not None and agent.session.accepted
