"""Puts the questions of every kind but the statuses: builds the scene of a history, asks each oracle, pairs what was told."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.truth import managers, moves, refusals, silences
from tests.truth.collectors import Collector, Log
from tests.truth.contacts import stays
from tests.truth.faults import Faults
from tests.truth.hearing import Hearing
from tests.truth.lines import Line, Relay
from tests.truth.notices import Score, Subject, Told, Want, score
from tests.truth.scene import STATUSES, Scene
from tests.world.config import Fact
from tests.world.model import World
from tests.world.oracle import Expected

_ROUNDING = 2.0  # seconds: rows hold whole ones

KINDS = (
    "moved", "overdue", "overdue_cleared", "version_refused", "removed_but_connected",
    "manager_restarted", "manager_unreachable", "manager_back", "duplicate_collector", "clock_off",
)  # fmt: skip


def scene_of(
    world: World, log: Log, relay: Relay, collectors: Mapping[str, Collector], lines: Mapping[str, Line], faults: Faults,
    expected: Iterable[Expected], began: float, until: float, grace: float, behind: float,
) -> Scene:  # fmt: skip
    facts: dict[Subject, list[Fact]] = {}
    for fact in world.history:
        facts.setdefault((fact.agent, fact.name), []).append(fact)
    wanted: dict[Subject, list[Expected]] = {}
    for one in expected:
        wanted.setdefault((one.agent_id, one.name), []).append(one)
    return Scene(
        world=world, log=log, hearing=Hearing({name: line.arrivals for name, line in lines.items()}, relay.fleet.policy.node_stale / 1000),
        stays=stays(world), facts=facts, expected=wanted, told=_told(world, relay),
        learnt={name: collector.period / 1000 for name, collector in collectors.items()},
        began=began, until=until, grace=grace, behind=behind, wrong=faults.wrong, away=faults.away,
    )  # fmt: skip


def judge_notices(scene: Scene, faults: Faults) -> Score:
    """Everything but the statuses."""
    told = [one for mine in scene.told.values() for one in mine if one.kind in KINDS and one.at > scene.began]
    return score(_wants(scene, faults), told)


def _wants(scene: Scene, faults: Faults) -> Iterator[Want]:
    yield from moves.moved(scene)
    yield from silences.overdue(scene)
    yield from silences.cleared(scene)
    yield from refusals.version_refused(scene)
    yield from refusals.removed_but_connected(scene)
    yield from managers.restarted(scene)
    yield from managers.unreachable(scene)
    yield from managers.duplicate_collector(scene, faults.twins)
    yield from managers.clock_off(scene)


def _told(world: World, relay: Relay) -> Mapping[Subject, Sequence[Told]]:
    found: dict[Subject, list[Told]] = {}
    for told in relay.told:
        event = told.event
        subject, about = (event.agent_id, event.agent_name), _world_time(world, event.manager_node, event.timestamp, told.at)
        found.setdefault(subject, []).append(Told(event.kind, subject, event.manager_node, told.at, about, event.event_id))
    for of in relay.told_of_managers:
        subject, about = (0, of.event.node), _world_time(world, of.event.node, of.event.timestamp, of.at)
        found.setdefault(subject, []).append(Told(of.event.kind, subject, of.event.node, of.at, about, of.event.event_id))
    return found


def _world_time(world: World, node: str, seconds: int, told_at: float) -> float:
    place = world.nodes.get(node)
    return float(seconds) if place is None else place.world_time(seconds, told_at + _ROUNDING)


__all__ = ["KINDS", "STATUSES", "judge_notices", "scene_of"]
