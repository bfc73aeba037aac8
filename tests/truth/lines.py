"""The way from a collector to the stream, and the relay's brain at its end. Virtual time; the pure core alone.

A line keeps what a real spool keeps and drops what a real outbox drops (`collector.outbox`): everything leaves in order.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from collector.compose import Saying
from relay import decide
from relay.decided import Decision
from relay.events import Event, ManagerEvent
from relay.fleet import Fleet, Folded, Heard, Input, Policy, Ticked
from shared import wire
from tests.truth.collectors import Sent
from tests.world.model import World
from tests.world.state import Node

_LAST = 3  # rank: after every look of the instant
_TICK = 1.0  # seconds without a message after which the relay says that nothing came
_DRAIN = 0.005  # seconds between two snapshots of a spool that is emptied


@dataclass(frozen=True, slots=True)
class Told:
    """An event and the world's time at which it was decided."""

    at: float
    event: Event


class Arrival(NamedTuple):
    """A snapshot that reached the stream, by the world's time: when, when it was taken, and up to when its rows tell all;
    `quiet`: and who is quiet; `proved`: whether nothing that came before it was given up."""

    at: float
    look: float
    as_of: float
    readable: bool
    quiet: bool
    proved: bool


@dataclass(frozen=True, slots=True)
class ToldOfManager:
    """The same of a manager."""

    at: float
    event: ManagerEvent


Watch = Callable[[Fleet, Input, Folded, Decision], None]
"""Sees each decision before it is taken over."""


class Relay:
    """Folds and decides. `hook` is called with each snapshot that was taken, for those who judge otherwise."""

    def __init__(
        self, world: World, policy: Policy, hook: Callable[[wire.Snapshot], None] | None = None, watch: Watch | None = None
    ) -> None:
        self.fleet = Fleet("truth", policy)
        self.told: list[Told] = []
        self.told_of_managers: list[ToldOfManager] = []
        self.superseded = 0
        self.settled_at = 0.0
        self.snapshots = 0
        self.ticking = True
        self._world, self._hook, self._watch = world, hook, watch
        self._position, self._heard_at = 0, world.now

    def start(self) -> None:
        """It ticks from now on."""
        self._world.push(self._world.now + _TICK, _LAST, self._tick)

    def hear(self, snapshot: wire.Snapshot, sent_at: int) -> None:
        self.snapshots += 1
        self._step(Heard(self._position + 1, self._now(), sent_at, snapshot))
        if self._hook is not None:
            self._hook(snapshot)

    def _tick(self) -> None:
        self._world.push(self._world.now + _TICK, _LAST, self._tick)
        if self.ticking and self._world.now - self._heard_at >= _TICK:
            self._step(Ticked(self._position + 1, self._now()))

    def _now(self) -> int:
        return int(self._world.now * 1000)

    def _step(self, given: Input) -> None:
        self._position, self._heard_at = given.position, self._world.now
        folded = self.fleet.fold(given)
        decision = decide.decide(self.fleet, given, folded, "wazuh")
        if self._watch is not None:
            self._watch(self.fleet, given, folded, decision)
        if decision.settled and not self.fleet.settled:
            self.settled_at = self._world.now
        self.fleet.settle(decision)
        self.superseded += decision.superseded
        self.told += [Told(self._world.now, event) for event in decision.happened]
        self.told_of_managers += [ToldOfManager(self._world.now, event) for event in decision.of_managers]


class Line:
    """One node's outbox, spool and link to NATS."""

    def __init__(self, world: World, relay: Relay, node: Node, rng: random.Random) -> None:
        self.owes_full = False
        self.gap = False
        self.up = True
        self.loss = 0.0  # share of passing snapshots that never leave
        self.repeats = 0.0  # share that reaches the stream twice
        self.delay = (0.01, 0.05)  # seconds
        self._world, self._relay, self._node, self._random = world, relay, node, rng
        self._kept: deque[tuple[wire.Snapshot, Sent]] = deque()
        self._passing: tuple[wire.Snapshot, Sent] | None = None
        self._last = 0.0
        self.arrivals: list[Arrival] = []

    def say(self, snapshot: wire.Snapshot, sent: Sent, saying: Saying) -> None:
        if snapshot.kind == "full":
            self.owes_full = False
            self.gap = self.gap and not saying.gap
        if self.up:
            if saying.kept or self._random.random() >= self.loss:
                self._deliver(snapshot, sent)
        elif saying.kept:
            self._kept.append((snapshot, sent))
        else:
            self._passing = (snapshot, sent)

    def cut(self) -> None:
        """NATS cannot be reached."""
        self.up = False

    def join(self) -> None:
        """It can again: what waited leaves, in the order in which it was made."""
        self.up = True
        waiting = sorted((*self._kept, *([self._passing] if self._passing else [])), key=lambda item: (item[0].boot, item[0].seq))
        self.owes_full = self._passing is not None
        self._kept.clear()
        self._passing = None
        for snapshot, sent in waiting:
            self._deliver(snapshot, sent)

    def overflow(self) -> None:
        """The spool is full: what waits is given up, and a full is owed for it."""
        if self._kept:
            self._kept.clear()
            self.gap = True

    def _deliver(self, snapshot: wire.Snapshot, sent: Sent) -> None:
        delay = self._random.uniform(*self.delay)
        at = max(self._world.now + delay, self._last + _DRAIN)
        self._last = sent.at = at
        self.arrivals.append(Arrival(at, sent.look, sent.as_of, sent.readable, sent.quiet, sent.proved and not self.gap))
        sent_at = int((at - delay + self._node.skew_at(at - delay)) * 1000)
        for _ in range(2 if self.repeats and self._random.random() < self.repeats else 1):
            self._world.push(at, _LAST, self._relay.hear, snapshot, sent_at)
