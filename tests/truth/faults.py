"""What goes wrong in a history, from a seed of its own. Each kind can be had alone; see KINDS.

Everything is played through the world's own queue. When a node cannot be heard is remembered (`Faults.deaf`): the oracle
asks for it where a rule must wait for everybody.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.truth.collectors import Collector
from tests.truth.lines import Line, Relay
from tests.world.model import World

KINDS: Final = {
    "skew": "clocks of the nodes up to 30 s apart",
    "loss": "beats and periodic fulls lost, snapshots twice, late by up to 2 s",
    "cut": "a node without NATS for seconds to an hour: its spool is delivered afterwards",
    "overflow": "one cut in four outlasts the spool: a full stands for what was given up",
    "restart": "a collector restarts within seconds",
    "collector": "a collector is away for ten minutes or an hour",
    "source": "a source cannot be read for a while",
    "remoted": "remoted restarts on the master or a worker: every row is reset",
    "outage": "a whole manager is away, with its collector or without, its agents told another manager or not",
    "link": "a worker's link to the master is cut; some of its agents are removed meanwhile",
    "clock": "a node's clock is set 45 s off, and put right some time later",
    "twin": "a second collector with an older boot speaks for a node for a while",
    "relay": "the relay is away: no ticks, and a backlog afterwards",
    "flap": "an agent changes its manager, or stops and starts, several times within a minute",
    "reuse": "authd restarts: ids of purged agents are given again",
}
SEEN_AGAIN: Final = 60.0  # seconds after which a node that came back has told all
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What faults may act on."""

    world: World
    relay: Relay
    collectors: Mapping[str, Collector]
    lines: Mapping[str, Line]
    twin: Callable[[str], Collector]  # makes a second collector of a node


@dataclass
class Faults:
    """`kinds`: which of KINDS to play until world time `until`. `pace`: how many times more often than usual."""

    stage: Stage
    kinds: frozenset[str]
    seed: int
    until: float
    pace: float = 1.0
    deaf: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    wrong: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # node -> when its clock was off
    twins: list[tuple[float, float, str]] = field(default_factory=list)  # (begin, end, node): when two spoke for it
    away: list[tuple[float, float]] = field(default_factory=list)  # when the relay did not tick
    played: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._busy: set[str] = set()  # nodes to which something is happening

    def begin(self) -> None:
        """Plan the first of each kind."""
        every: dict[str, tuple[float, Callable[[str], bool]]] = {  # mean seconds between two on one node
            "cut": (6 * _HOUR, self._cut),
            "restart": (6 * _HOUR, self._restart),
            "collector": (18 * _HOUR, self._collector),
            "source": (12 * _HOUR, self._source),
            "remoted": (8 * _HOUR, self._remoted),
            "outage": (12 * _HOUR, self._outage),
            "link": (8 * _HOUR, self._link),
            "clock": (24 * _HOUR, self._clock),
            "twin": (16 * _HOUR, self._twin),
        }
        for kind in sorted(self.kinds & every.keys()):
            for node in self.stage.world.nodes:
                self._plan(kind, *every[kind], node)
        if "relay" in self.kinds:
            self._plan("relay", 12 * _HOUR, self._relay, "")
        if "reuse" in self.kinds:
            self._plan("reuse", 2 * _HOUR, self._reuse, "")
        if "flap" in self.kinds:
            self._plan("flap", 0.1 * _HOUR, self._flap, "")
        if "loss" in self.kinds:
            for line in self.stage.lines.values():
                line.loss, line.repeats, line.delay = 0.02, 0.02, (0.01, 2.0)

    def _plan(self, kind: str, mean: float, play: Callable[[str], bool], node: str) -> None:
        at = self.stage.world.now + self._random.expovariate(self.pace / mean)
        if at < self.until:
            self.stage.world.schedule(at, self._play, kind, mean, play, node)

    def _play(self, kind: str, mean: float, play: Callable[[str], bool], node: str) -> None:
        if node not in self._busy and play(node):
            self.played[kind] = self.played.get(kind, 0) + 1
        self._plan(kind, mean, play, node)

    def _away(self, node: str, seconds: float, back: Callable[[], None]) -> None:
        """Something happens to a node for a while, and nothing else does meanwhile."""
        now = self.stage.world.now
        self._busy.add(node)
        self.deaf.setdefault(node, []).append((now, now + seconds + SEEN_AGAIN))

        def over() -> None:
            back()
            self._busy.discard(node)

        self.stage.world.schedule(now + seconds, over)

    # Between the collector and the stream ---------------------------------------------------------------------------

    def _cut(self, node: str) -> bool:
        line = self.stage.lines[node]
        seconds = self._random.choice((self._random.uniform(2, 60), self._random.uniform(60, 900), _HOUR))
        given_up = "overflow" in self.kinds and self._random.random() < 0.25
        line.cut()

        def back() -> None:
            if given_up:
                line.overflow()
            line.join()

        self._away(node, seconds, back)
        return True

    def _restart(self, node: str) -> bool:
        collector = self.stage.collectors[node]
        collector.stop()
        self._away(node, self._random.uniform(0.5, 10), collector.start)
        return True

    def _collector(self, node: str) -> bool:
        collector = self.stage.collectors[node]
        collector.stop()
        self._away(node, self._random.choice((600.0, _HOUR)), collector.start)
        return True

    def _source(self, node: str) -> bool:
        collector = self.stage.collectors[node]
        collector.trouble = "locked"

        def back() -> None:
            collector.trouble = "ok"

        self._away(node, self._random.choice((self._random.uniform(5, 60), 600.0)), back)
        return True

    def _relay(self, _: str) -> bool:
        relay, now = self.stage.relay, self.stage.world.now
        relay.ticking = False
        seconds = self._random.choice((30.0, 600.0, _HOUR))
        self.away.append((now, now + seconds))

        def back() -> None:
            relay.ticking = True

        self.stage.world.schedule(now + seconds, back)
        return True

    def _twin(self, node: str) -> bool:
        twin, now, seconds = self.stage.twin(node), self.stage.world.now, self._random.uniform(20, 400)
        twin.start()
        self.twins.append((now, now + seconds, node))
        self._busy.add(node)

        def over() -> None:
            twin.stop()
            self._busy.discard(node)

        self.stage.world.schedule(now + seconds, over)
        return True

    # Wazuh's own ----------------------------------------------------------------------------------------------------

    def _remoted(self, node: str) -> bool:
        if self.stage.world.nodes[node].up:
            self.stage.world.restart_remoted(node)
        return self.stage.world.nodes[node].up

    def _outage(self, node: str) -> bool:
        world = self.stage.world
        others = [other.name for other in world.nodes.values() if other.up and other.name != node]
        if not others:
            return False
        world.node_down(node, self._random.choice(others) if self._random.random() < 0.5 else None)
        collector = self.stage.collectors[node] if self._random.random() < 0.5 else None
        if collector is not None:
            collector.stop()

        def back() -> None:
            world.node_up(node)
            if collector is not None:
                collector.start()

        self._away(node, self._random.choice((self._random.uniform(5, 60), self._random.uniform(60, 1200))), back)
        return True

    def _link(self, node: str) -> bool:
        world = self.stage.world
        if node == world.master.name:
            return False
        world.cut(node)
        seconds = self._random.choice((self._random.uniform(5, 60), 1800.0))
        world.schedule(world.now + seconds, world.join, node)
        if "reuse" in self.kinds:
            for _ in range(2):
                world.schedule(world.now + self._random.uniform(0, seconds / 2), self._remove_one, node)
        return True

    def _remove_one(self, node: str) -> None:
        """The worker that is cut off goes on serving it."""
        world = self.stage.world
        served = [number for number, agent in world.nodes[node].members.items() if world.agents.get(number) is agent]
        if served and world.master.up:
            world.remove(self._random.choice(served))

    def _clock(self, node: str) -> bool:
        world = self.stage.world
        now, right, seconds = world.now, world.nodes[node].skew, self._random.uniform(1800, 5400)
        if any(end > now for _, end in self.wrong.get(node, ())):
            return False
        world.set_clock(node, self._random.choice((-45.0, 45.0)))
        self.wrong.setdefault(node, []).append((now, now + seconds))
        world.schedule(now + seconds, world.set_clock, node, right)
        return True

    def _reuse(self, _: str) -> bool:
        if self.stage.world.master.up:
            self.stage.world.restart_authd()
        return self.stage.world.master.up

    # Agents ---------------------------------------------------------------------------------------------------------

    def _flap(self, _: str) -> bool:
        connected = [agent.id for agent in self.stage.world.agents.values() if agent.session is not None and agent.session.accepted]
        if not connected:
            return False
        number, at = self._random.choice(connected), self.stage.world.now
        for _turn in range(self._random.randint(2, 5)):
            self.stage.world.schedule(at, self._turn, number)
            at += self._random.choice((self._random.uniform(1, 10), self._random.uniform(20, 50)))
        return True

    def _turn(self, number: int) -> None:
        world = self.stage.world
        agent, up = world.agents.get(number), [node.name for node in world.nodes.values() if node.up]
        if agent is None or not up:
            return
        what = self._random.choice(("move", "graceful", "stop", "start"))
        if what == "stop" and agent.session is not None:
            world.stop(number)
        elif what == "start":
            world.start(number, self._random.choice(up))
        elif what in ("move", "graceful"):
            world.move(number, self._random.choice(up), graceful=what == "graceful" and agent.session is not None)
