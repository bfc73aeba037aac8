"""What a fault is, and what the kinds of faults share.

`play` brings the fault about, holds it for `seconds` and takes it back; it returns when all is as it should be again. What it
may have hidden from a collector it writes down (`Facts`), and nothing else is ever excused. `befalls` names what no two
faults may hold at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tests.manager.driver import unix_now
from tests.soak.processes import Service
from tests.soak.stage import Stage


class Missed(Exception):
    """It did not come about as it was meant to; what it did was taken back."""


@dataclass(frozen=True, slots=True)
class Fault(ABC):
    """One thing that can go wrong with one target."""

    target: str
    seconds: float
    name: ClassVar[str]
    help: ClassVar[str]
    weight: ClassVar[float] = 1.0
    lasts: ClassVar[tuple[float, float]] = (0.0, 2.0)

    @staticmethod
    @abstractmethod
    def targets(stage: Stage) -> Sequence[str]:
        """Whom it can befall."""

    @abstractmethod
    async def play(self, stage: Stage) -> None:
        """From the first harm to the last repair."""

    def befalls(self, stage: Stage) -> frozenset[str]:
        """Whom it keeps busy; all nats-servers are one."""
        return frozenset({"nats" if self.target.startswith("nats") else self.target})

    @property
    def counted_as(self) -> str:
        """What the numbers call it."""
        return self.name


def service_of(stage: Stage, name: str) -> Service:
    return next(service for service in stage.services if service.name == name)


def collectors(stage: Stage) -> list[str]:
    return [service.name for service in stage.collectors.values()]


def relays(stage: Stage) -> list[str]:
    return [service.name for service in stage.relays]


def servers(stage: Stage) -> list[str]:
    return [f"nats-{number}" for number in range(1, len(stage.nats) + 1)]


def databases(stage: Stage) -> list[str]:
    return [f"wazuh-db-{node}" for node in stage.managers.nodes]


def node_of(target: str) -> str:
    return target.removeprefix("collector-").removeprefix("wazuh-db-")


def killed(stage: Stage, kind: str) -> None:
    stage.facts.kills[kind] = stage.facts.kills.get(kind, 0) + 1


def hidden(stage: Stage, target: str, begin: float) -> None:
    """A collector may not have looked since `begin`."""
    if target.startswith(("collector-", "wazuh-db-")):
        stage.facts.blind.setdefault(node_of(target), []).append((begin, unix_now()))
