"""Plays one history: a world, a collector on each node, the stream, the relay's pure core; and has it judged.

result = play(Setting(seed=1, hours=4, nodes=3, agents=60))
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from relay.fleet import Policy
from tests.truth.collectors import NEVER, Cadence, Collector, Log
from tests.truth.dues import Dues
from tests.truth.faults import KINDS, Faults, Stage
from tests.truth.judge import Said, Verdict, judge
from tests.truth.lines import Line, Relay, Watch
from tests.truth.naive import Tables
from tests.truth.notices import Score
from tests.truth.oracles import judge_notices, scene_of
from tests.truth.scene import Scene
from tests.truth.shown import Shown, Terms, Wanted
from tests.truth.unheard import unheard
from tests.world import oracle
from tests.world.activity import Activity, Rates
from tests.world.config import NodeConfig, Schema
from tests.world.model import World, WorldConfig
from tests.world.oracle import Expected

START = 1_795_400_000.0
COLLECTORS_START = 80.0  # seconds until everybody has kept alive since the populated agents' date_add
QUIET_START = 270.0  # seconds before anything happens: the baseline
QUIET_END = 120.0  # seconds at the end in which nobody acts, so that most of what happened can be told
DAY = 86_400.0
PERIODS_OF_GRACE = 3
PROOF = 75.0  # seconds after which a copy goes on beyond its stamp: a sync's jitter, and a list that does not name it as quiet

Sources = Literal["socket", "file", "mixed"]
Release = Literal["4.2", "4.5", "4.14", "5.0", "mixed"]  # mixed: an upgrade from 4.14 to 5.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What to play. `action`: mean seconds between two things that agents do."""

    seed: int = 1
    hours: float = 4.0
    nodes: int = 3
    agents: int = 60
    schema: Release = "4.14"
    sources: Sources = "mixed"
    faults: frozenset[str] = frozenset(KINDS)
    action: float = 20.0
    registrations: float = 0.0  # a day, and as many removals
    pace: float = 1.0
    cadence: Cadence = field(default_factory=lambda: Cadence(beat=10.0, full=3600.0))
    naive: bool = True
    jitter: float = 5.0  # seconds by which keepalives may be late


@dataclass(frozen=True, slots=True)
class Result:
    """A history and its verdict."""

    setting: Setting
    world: World
    log: Log
    relay: Relay
    faults: Faults
    wanted: Sequence[Wanted]
    said: Sequence[Said]
    verdict: Verdict
    naive: dict[str, Verdict]
    notices: Score
    sources: dict[str, str]
    played: dict[str, int]


def play(setting: Setting, progress: Callable[[float, int], None] = lambda hours, events: None, watch: Watch | None = None) -> Result:
    """Play it all; `progress` is told of each simulated hour, `watch` of each decision."""
    rng = random.Random(setting.seed)
    world = World(
        WorldConfig(nodes=_nodes(setting, rng), start=START, compute_keepalives=True, keepalive_jitter=setting.jitter), setting.seed
    )
    tables = Tables(world)
    relay = Relay(world, Policy(), tables.hear if setting.naive else None, watch)
    log, until = Log(), START + setting.hours * 3600
    stage = _stage(setting, world, relay, log, rng)
    world.populate(setting.agents)
    faults = Faults(stage, setting.faults, setting.seed + 1, until - QUIET_END - 60, setting.pace)
    activity = Activity(world, _rates(setting), setting.seed + 2)
    for collector in stage.collectors.values():
        world.schedule(START + COLLECTORS_START, collector.start)
    world.schedule(START + COLLECTORS_START, relay.start)
    world.schedule(START + QUIET_START, faults.begin)
    world.schedule(START + QUIET_START, activity.begin, until - QUIET_END)
    world.schedule(START + QUIET_START - 1, _settle, tables)
    _run(world, stage, until, lambda hours: progress(hours, len(relay.told)))
    scene = _scene(setting, stage, log, faults, until)
    wanted = _wanted(scene, log, faults)
    initial = {fact.agent: "Active" for fact in world.history if fact.what == "connected" and fact.at <= START}
    said = list(_said(relay))
    return Result(
        setting, world, log, relay, faults, wanted, said, judge(wanted, said, initial),
        {name: judge(wanted, rule.said, initial) for name, rule in tables.rules.items()} if setting.naive else {},
        judge_notices(scene, faults),
        {name: collector.source for name, collector in stage.collectors.items()}, activity.played,
    )  # fmt: skip


def _nodes(setting: Setting, rng: random.Random) -> tuple[NodeConfig, ...]:
    names = ["node01", *(f"worker{number}" for number in range(1, setting.nodes))]
    skews = [rng.uniform(-15, 15) if "skew" in setting.faults else 0.0 for _ in names]
    if "skew" in setting.faults and len(names) > 1:
        skews[:2] = rng.sample((-15.0, 15.0), 2)
    first = rng.randrange(2)
    upgrade: tuple[Schema, Schema] = ("4.14", "5.0")
    schemas = [upgrade[(place + first) // 2 % 2] if setting.schema == "mixed" else setting.schema for place in range(len(names))]
    return tuple(
        NodeConfig(name, "worker" if place else "master", schema, skew)
        for place, (name, schema, skew) in enumerate(zip(names, schemas, skews, strict=True))
    )


def _stage(setting: Setting, world: World, relay: Relay, log: Log, rng: random.Random) -> Stage:
    collectors, lines = {}, {}
    first_file = rng.randrange(2)
    for place, (name, node) in enumerate(world.nodes.items()):
        mixed: Literal["socket", "file"] = "file" if (place + first_file) % 2 else "socket"
        lines[name] = Line(world, relay, node, random.Random(rng.random()))
        source = mixed if setting.sources == "mixed" else setting.sources
        collectors[name] = Collector(world, name, source, setting.cadence, log, lines[name], rng.random())

    def twin(name: str) -> Collector:
        first = collectors[name]
        line = Line(world, relay, world.nodes[name], random.Random(name))
        return Collector(world, name, first.source, setting.cadence, Log(), line, 0.5, boot=first.boot - 2)

    return Stage(world, relay, collectors, lines, twin)


def _rates(setting: Setting) -> Rates:
    rate = 1 / setting.action
    more = setting.registrations / DAY
    return Rates(
        register=0.05 * rate + more, remove=0.05 * rate + more, start=0.35 * rate, stop=0.2 * rate, die=0.1 * rate,
        move=0.12 * rate, graceful_move=0.1 * rate, refuse_version=0.03 * rate,
    )  # fmt: skip


def _settle(tables: Tables) -> None:
    for rule in tables.rules.values():
        rule.settle()


def _run(world: World, stage: Stage, until: float, progress: Callable[[float], None]) -> None:
    hour = 1
    while (due := world.next_due()) is not None and due <= until:
        for write in world.advance(due):
            stage.collectors[write.node].note(write)
        if due >= START + hour * 3600:
            progress(hour)
            hour += 1
    world.advance(until)


def _grace(setting: Setting, stage: Stage) -> tuple[float, float]:
    """The longest grace that a reset is held for, and by how much the slowest source is behind."""
    grace = max(60.0, *(PERIODS_OF_GRACE * collector.period / 1000 for collector in stage.collectors.values()))
    return grace, (2 * setting.cadence.commit if setting.sources != "socket" else 0.0) + 2 * setting.cadence.beat + 35.0


def _wanted(scene: Scene, log: Log, faults: Faults) -> list[Wanted]:
    world = scene.world
    dues = Dues(scene.hearing, scene.learnt)
    terms = Terms(scene.until, scene.grace, scene.behind, world, world.master.name, dues, faults.deaf, faults.wrong)
    shown = Shown(log, world.history, terms)
    wanted = [shown.weigh(one) for one in _expected(world, scene.until)]
    late = shown.served_after_removal(stay for each in scene.stays.values() for stay in each)
    happened = sorted((*wanted, *shown.excused, *late), key=lambda one: one.expected.at)
    return sorted([*_lit(scene, happened), *unheard(scene)], key=lambda one: one.expected.at)


def _lit(scene: Scene, happened: Iterable[Wanted]) -> Iterator[Wanted]:
    """With when it came to light: nothing of an agent does before its registration, nor before what was earlier on the same manager."""
    registered: dict[tuple[int, str], float] = {}
    earlier: dict[tuple[int, str, str], float] = {}
    for one in happened:
        of = one.expected
        known = min(scene.hearing.known_at(of.node, of.at), scene.until) if of.node else of.at
        before = max(registered.get((of.agent_id, of.name), 0.0), earlier.get((of.agent_id, of.name, of.node), 0.0))
        light = max(known, before)
        earlier[of.agent_id, of.name, of.node] = light
        if of.kind == "registered":
            registered[of.agent_id, of.name] = light
        yield replace(one, light=light, copied=min(light, max(_copied(scene, of), registered.get((of.agent_id, of.name), 0.0))))


_COPIED: dict[str, tuple[str, tuple[str, ...]]] = {  # kind -> how the row says it, and what ends it
    "connected": ("active", ("stopped", "died", "moved", "lost", "refused", "removed")),
    "disconnected": ("disconnected", ("started", "removed")),
}


def _copied(scene: Scene, of: Expected) -> float:
    """When the stream had it from the master's copy, synced while it was so; that an agent lives, not by its stamp alone."""
    agent, master = (of.agent_id, of.name), scene.world.master.name
    status, ends = _COPIED.get(of.kind, ("", ()))
    over = next((fact.at for fact in scene.facts.get(agent, ()) if fact.at > of.at and fact.what in ends), scene.until)
    versions = scene.versions(master, agent, of.at, over + scene.world.config.sync_period)
    shown = (one.sent.at for one in versions if one.row is not None and one.look >= of.at and one.row.status == status)
    return next(shown, NEVER) + (PROOF if of.kind == "connected" and of.node != master else 0.0)


def _expected(world: World, until: float) -> list[Expected]:
    return oracle.expected(world.history, until=until, grace=60.0, baseline_at=START + QUIET_START - 1, shown=0.0)


def _scene(setting: Setting, stage: Stage, log: Log, faults: Faults, until: float) -> Scene:
    grace, lag = _grace(setting, stage)
    expected, began = _expected(stage.world, until), START + QUIET_START
    return scene_of(stage.world, log, stage.relay, stage.collectors, stage.lines, faults, expected, began, until, grace, lag)


def _said(relay: Relay) -> Iterator[Said]:
    for told in relay.told:
        event = told.event
        if event.previous != event.current:
            yield Said(
                event.agent_id, event.agent_name, event.previous, event.current, told.at, event.event_id, event.manager_node,
                event.reason, event.timestamp,
            )  # fmt: skip
