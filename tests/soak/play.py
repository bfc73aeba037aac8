"""Plays a soak: agents live, faults fall, all is healed and settles, and the checker reads what is left.

The plan of faults (`plan`) is drawn whole from the seed before anything starts: kind, target, moment and length. The agents'
chances come from the same seed. What real processes make of it differs from run to run, as it does in life.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import nats.errors
from nats.aio.client import Client

from tests.manager.driver import unix_now
from tests.soak import checker, raw, reader
from tests.soak.fault import Fault, Missed
from tests.soak.faults import KINDS
from tests.soak.shown import Terms
from tests.soak.stage import GRACE, JITTER, PACE, STALE, Stage
from tests.truth.judge import Verdict, judge
from tests.truth.shown import Wanted
from tests.world.activity import Activity, Rates
from tests.world.config import Fact

BASELINE: float = 60.0  # seconds in which the relay sees the fleet as it is
QUIET: float = 5.0  # seconds at the end without faults, in which agents still act
SETTLE: float = 2 * PACE.sweep_period + GRACE + 8.0  # seconds in which nothing happens: two sweeps, a grace, and a full
CATCH_UP: float = 120.0  # seconds after which a relay that has not decided all of RAW is stuck
LAG: float = 20.0  # seconds: how much later than the grace all is told, the longest deafness included
QUIET_PERIODS: float = 1.5  # periods without a keepalive after which an agent is named as quiet
_JUST_BEFORE: float = 0.001  # seconds
HUNG: float = 90.0  # seconds beyond its own after which a fault is no fault but an error of the soak
AGENT_ACTS: float = 30.0  # seconds between two acts of one agent
MOST_ACTS: float = 6.0  # a second


@dataclass(frozen=True, slots=True)
class Setting:
    """How long, and how rough. `pace`: mean seconds between two faults."""

    minutes: float
    seed: int
    kinds: frozenset[str]
    pace: float


@dataclass(slots=True)
class Result:
    """What came of it."""

    stage: Stage
    evidence: checker.Evidence
    laws: checker.Laws
    wanted: list[Wanted]
    verdict: Verdict
    director: "Director"
    acts: dict[str, int]
    seconds: float
    stuck: str
    raw_messages: int

    @property
    def numbers(self) -> dict[str, object]:
        """The last line of `--json`."""
        return {
            "events": self.laws.events,
            "lost": len(self.verdict.missed) + len(self.laws.lost),
            "duplicates": len(self.laws.duplicates),
            "false": len(self.verdict.false),
            "reordered": len(self.laws.reordered),
            "unverified": len(self.laws.unverified),
            "kills": sum(self.stage.facts.kills.values()),
            "killed": dict(sorted(self.stage.facts.kills.items())),
            "faults": dict(sorted(self.director.counts.items())),
            "ended_unasked": sum(len(service.ended_unasked) for service in self.stage.services),
            "stuck": bool(self.stuck),
        }

    @property
    def clean(self) -> bool:
        wrong = ("lost", "duplicates", "false", "reordered", "unverified", "ended_unasked", "stuck")
        return not any(self.numbers[name] for name in wrong)


@dataclass(slots=True)
class Planned:
    """A fault, so many seconds after the beginning."""

    at: float
    fault: Fault


def plan(stage: Stage, setting: Setting) -> list[Planned]:
    """Every fault of a run, from its seed."""
    rng, found, at = random.Random(setting.seed * 7919 + 1), [], 2.0
    kinds = {kind: _dealt(kind.targets(stage), rng) for name, kind in KINDS.items() if name in setting.kinds and kind.targets(stage)}
    while kinds and (at := at + rng.expovariate(1 / setting.pace)) < setting.minutes * 60 - QUIET:
        kind = rng.choices(list(kinds), [one.weight for one in kinds])[0]
        found.append(Planned(at, kind(next(kinds[kind]), rng.uniform(*kind.lasts))))
    return found


def _dealt(targets: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Like cards: none comes again before all have come."""
    while True:
        yield from rng.sample(targets, len(targets))


@dataclass
class Director:
    """Lets faults fall as planned. Two never befall the same one at once: the later is skipped, and counted."""

    stage: Stage
    counts: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    missed: int = 0

    def __post_init__(self) -> None:
        self._busy: set[str] = set()
        self._playing: set[asyncio.Task[None]] = set()

    async def direct(self, faults: Sequence[Planned], began: float) -> None:
        for planned in faults:
            await asyncio.sleep(max(0.0, began + planned.at - unix_now()))
            self._raise_errors()
            befallen = planned.fault.befalls(self.stage)
            if befallen & self._busy:
                self.skipped += 1
                continue
            self._busy |= befallen
            self._playing.add(asyncio.create_task(self._play(planned.fault, befallen)))

    async def healed(self) -> None:
        """Once every fault has been taken back."""
        if self._playing:
            await asyncio.wait(self._playing)
        self._raise_errors()

    async def abort(self) -> None:
        """End what still goes on, at once; what it took away it gives back."""
        for task in self._playing:
            task.cancel()
        if self._playing:
            await asyncio.wait(self._playing)

    def _raise_errors(self) -> None:
        for task in [task for task in self._playing if task.done()]:
            self._playing.discard(task)
            task.result()

    async def _play(self, fault: Fault, befallen: frozenset[str]) -> None:
        begin = unix_now()
        try:
            async with asyncio.timeout(fault.seconds + HUNG) as limit:
                await fault.play(self.stage)
            self.counts[fault.counted_as] = self.counts.get(fault.counted_as, 0) + 1
        except Missed:
            self.missed += 1
        except (nats.errors.Error, TimeoutError, OSError) as error:
            if limit.expired():
                raise RuntimeError(f"the fault {fault.counted_as} of {fault.target} did not come to its end") from error
            self.skipped += 1  # NATS was in no state for it; whatever it did was taken back
        finally:
            self.stage.facts.happened.append((begin, unix_now(), f"{fault.counted_as} {fault.target}"))
            self._busy -= befallen


async def play(stage: Stage, setting: Setting, say: Callable[[str], None]) -> Result:
    """The whole soak on a stage that stands."""
    started = unix_now()
    async with stage.judge() as client:
        await until_baseline(client)
        baseline = stage.world.now
        activity = Activity(stage.world, rates(stage), setting.seed + 2)
        activity.begin(until=unix_now() + setting.minutes * 60)
        director = Director(stage)
        progress = asyncio.create_task(_progress(stage, director, client, setting, say))
        try:
            await director.direct(plan(stage, setting), unix_now())
            await director.healed()
            await asyncio.sleep(max(0.0, started + setting.minutes * 60 - unix_now()))
            say(f"all faults are healed; {SETTLE:.0f} s for everything to be told")
            await settle(stage)
            stuck = await caught_up(client)
        finally:
            progress.cancel()
            await director.abort()
        return await judged(stage, client, baseline, director, activity, unix_now() - started, stuck)


def rates(stage: Stage) -> Rates:
    """What agents do, in acts a second."""
    rate = min(MOST_ACTS, stage.plan.agents / AGENT_ACTS)
    return Rates(
        register=0.04 * rate, remove=0.04 * rate, start=0.36 * rate, stop=0.2 * rate, die=0.12 * rate, move=0.08 * rate,
        graceful_move=0.08 * rate, refuse_version=0.01 * rate, restart_remoted=0.006, outage=0.004, restart_authd=0.005,
        outage_seconds=(4.0, 12.0),
    )  # fmt: skip


async def until_baseline(client: Client) -> None:
    """Once the relay has said what the fleet is like."""
    async with asyncio.timeout(BASELINE):
        while await reader.last(client, "WAZUH_EVENTS") == 0:
            await asyncio.sleep(0.2)


async def settle(stage: Stage) -> None:
    """Every manager is back, and nothing happens for SETTLE seconds."""
    for node in [node for node in stage.world.nodes.values() if not node.up]:
        stage.world.node_up(node.name)
    await asyncio.sleep(SETTLE)


async def caught_up(client: Client) -> str:
    """Once every message of RAW that stands there now is decided and published; a sentence where that does not come."""
    target, still, end = await reader.last(client, "WAZUH_RAW"), 0, unix_now() + CATCH_UP
    before = -1
    while unix_now() < end:
        info = await client.jetstream().consumer_info("WAZUH_RAW", "relay")
        events = await reader.last(client, "WAZUH_EVENTS")
        done = info.ack_floor is not None and info.ack_floor.stream_seq >= target
        still = still + 1 if done and events == before else 0
        before = events
        if still >= 3:
            return ""
        await asyncio.sleep(0.5)
    return f"the relay did not decide RAW up to {target} within {CATCH_UP:.0f} s after the last fault"


async def _progress(stage: Stage, director: Director, client: Client, setting: Setting, say: Callable[[str], None]) -> None:
    began = unix_now()
    while True:
        await asyncio.sleep(5.0)
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            async with asyncio.timeout(2.0):
                raws, told = await reader.last(client, "WAZUH_RAW"), await reader.last(client, "WAZUH_EVENTS")
            kills, faults = sum(stage.facts.kills.values()), sum(director.counts.values())
            now = unix_now() - began
            say(f"{now:>6.0f} s of {setting.minutes * 60:.0f}: raw {raws}, messages in EVENTS {told}, kills {kills}, faults {faults}")


# Judging ------------------------------------------------------------------------------------------------------------


async def judged(
    stage: Stage, client: Client, baseline: float, director: Director, activity: Activity, seconds: float, stuck: str
) -> Result:
    """What the checker says of all that stands in the streams."""
    raws, told = await reader.whole(client, "WAZUH_RAW"), await reader.whole(client, "WAZUH_EVENTS")
    evidence, terms = _evidence(stage, raws, baseline)
    laws = checker.read(told, stage.secrets, {message.sequence: message.at for message in raws}, stage.ciphers)
    wanted = checker.wanted(evidence, terms)
    verdict = judge(wanted, laws.said, initial(stage.world.history, baseline))
    return Result(stage, evidence, laws, wanted, verdict, director, activity.played, seconds, stuck, len(raws))


_BEGUN: Final[dict[str, str]] = {"registered": "NeverConnected", "connected": "Active", "stopped": "Disconnected"}


def initial(history: Sequence[Fact], baseline: float) -> dict[int, str]:
    """What the baseline shows of each agent; before it they do nothing but these three things."""
    return {fact.agent: _BEGUN[fact.what] for fact in history if fact.at <= baseline and fact.what in _BEGUN}


def _evidence(stage: Stage, raws: Sequence[raw.Message], baseline: float) -> tuple[checker.Evidence, Terms]:
    until, facts = stage.world.now, stage.facts
    heard = raw.snapshots(raws, facts.offsets)
    blind = _blind(stage, heard, until)
    proving = {node: [(begin, raw.proved(heard, node, end)) for begin, end in spans] for node, spans in facts.emptied.items()}
    unsure = {node: [*facts.unsure.get(node, ()), *proving.get(node, ())] for node in stage.world.nodes}
    evidence = checker.Evidence(stage.world.history, raw.log(heard), stage.managers.stood, blind, unsure, baseline)
    away = {node: [*_lost(stage, node, until), *_muddled(stage, node, heard)] for node in stage.world.nodes}
    period = max(node.period for node in stage.world.nodes.values()) * stage.world.config.tick
    deaf, silent = raw.deaf(heard, STALE, until, away), raw.deaf(heard, STALE, until, {})
    return evidence, Terms(
        until, GRACE, LAG, stage.world, stage.world.master.name, JITTER + period, QUIET_PERIODS * period + 1.0, deaf, silent
    )


def _blind(stage: Stage, heard: Sequence[raw.Heard], until: float) -> dict[str, list[raw.Span]]:
    """When the collector of each node may not have seen all: its faults, its manager's absence, and what follows of them."""
    found: dict[str, list[raw.Span]] = {}
    for node in stage.world.nodes:
        away = list(_away(stage, node, until))
        harm = [(begin, raw.next_look(heard, node, end)) for begin, end in (*stage.facts.blind.get(node, ()), *away)]
        given_up = [span for span in raw.gaps(heard).get(node, ()) if _touches(span, stage.facts.given_up.get(node, ()))]
        found[node] = [*harm, *given_up, *raw.by_file(heard, {node: harm}).get(node, ())]
    return found


def _away(stage: Stage, node: str, until: float) -> Iterator[raw.Span]:
    """When the world had taken the whole manager away."""
    began: float | None = None
    for fact in stage.world.history:
        if fact.node == node and fact.what == "down":
            began = fact.at
        elif fact.node == node and fact.what == "up" and began is not None:
            yield began, fact.at
            began = None
    if began is not None:
        yield began, until


def _lost(stage: Stage, node: str, until: float) -> Iterator[raw.Span]:
    """An outage begins as its agents are lost: what was about to be told of them then may still be."""
    return ((begin - _JUST_BEFORE, end) for begin, end in _away(stage, node, until))


def _muddled(stage: Stage, node: str, heard: Sequence[raw.Heard]) -> Iterator[raw.Span]:
    """When a node's clock was off and its file was read: the times of files are this machine's own, which no test sets off."""
    files = [one.at for one in heard if one.snapshot.node == node and one.snapshot.source == "file"]
    return ((begin, end) for begin, end in stage.facts.clocks.get(node, ()) if any(begin <= at <= end for at in files))


def _touches(span: raw.Span, others: Sequence[raw.Span]) -> bool:
    return any(begin <= span[1] and span[0] <= end for begin, end in others)
