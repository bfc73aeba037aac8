"""latency: from a status written in wazuh-db to its event in a durable consumer's hands.

`collector.source_budget` is a share of wazuh-db's time, and what is meant is the real daemon's: where the simulator takes longer to
answer the same question, the budget is as many times larger, and the note says so.

Rounds are interleaved with the bare loop's (`bare.py`) on the same manager and nats-server; the relay is frozen meanwhile. (A
collector that is frozen in the middle of a look would take that for wazuh-db's time, and look more rarely.)
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from tests.bench import bare, probing
from tests.bench.figures import Bar, Figure, quantile
from tests.bench.fleet import Fleet
from tests.bench.parts import Bench
from tests.bench.stage import Bare, Stage
from tests.bench.subscriber import Subscriber, of_bare, of_event
from tests.demo.audience import STREAM
from tests.manager.driver import unix_now

NAME: Final = "latency"
HELP: Final = "status write in wazuh-db -> event in a durable consumer's hands, by size of the fleet"

WATCHED: Final = 200  # agents that change; those of the bare loop too
SETTLE: Final = 3.0  # seconds for what is under way, before a round begins
PATIENCE: Final = 20.0
MS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Case:
    """One way to run it."""

    name: str
    agents: int
    rate: float  # changes a second
    seconds: float  # of one round
    budget: float = 0.01  # of the real daemon's time
    file: bool = False
    commit_seconds: float = 61.0
    p50: float | None = None  # bars, ms
    p99: float | None = None
    line: str = ""  # in the plot


CASES: Final = (
    Case("socket, 1,000 agents, idle", 1_000, 5, 24, p50=40, p99=100, line="p99, idle"),
    Case("socket, 1,000 agents, 100 changes/s", 1_000, 100, 6, p50=40, p99=100, line="p99, 100 changes/s"),
    Case("socket, 5,000 agents, idle", 5_000, 5, 16, line="p99, idle"),
    Case("socket, 5,000 agents, 100 changes/s", 5_000, 100, 6, line="p99, 100 changes/s"),
    Case("socket, 10,000 agents, idle", 10_000, 5, 20, p99=400, line="p99, idle"),
    Case("socket, 10,000 agents, 100 changes/s", 10_000, 100, 8, p99=400, line="p99, 100 changes/s"),
    Case("socket, 10,000 agents, idle, budget 5 %", 10_000, 5, 16, 0.05, p99=100, line="p99, idle, budget 5 %"),
    Case("socket, 10,000 agents, 100 changes/s, budget 5 %", 10_000, 100, 8, 0.05, p99=100),
    Case("file, 1,000 agents, idle, commits each 3 s", 1_000, 5, 15, file=True, commit_seconds=3.0),
)
QUICK: Final = (Case("socket, 300 agents, 20 changes/s", 300, 20, 1),)


async def measure(bench: Bench) -> AsyncIterator[Figure]:
    """p50 and p99 of each case, each round's beside the floor's."""
    for case in QUICK if bench.quick else CASES:
        budget, ours, floors = await _case(bench, case)
        quicker = f"{budget / case.budget:.1f} times as quick as this one"
        scaled = f"source_budget {budget:.2f}: {case.budget:.0%} of the real daemon's time, which is {quicker}"
        for share, limit in ((0.50, case.p50), (0.99, case.p99)):
            name = f"p{share * 100:.0f}"
            yield Figure(
                NAME, f"{case.name}: {name}", "ms",
                tuple(quantile(one, share) * MS for one in ours), tuple(quantile(one, share) * MS for one in floors), "bare loop",
                None if limit is None else Bar("at most", limit), scaled if share == 0.5 and not case.file else "",
                plot=("latency, ms", case.line, case.agents) if case.line and name == "p99" else None,
            )  # fmt: skip


async def _case(bench: Bench, case: Case) -> tuple[float, list[list[float]], list[list[float]]]:
    # Short: in it is a Unix socket, whose whole path has 107 bytes (unix(7)).
    directory = bench.place(f"latency-{case.agents}-{case.rate:g}-{case.budget:g}{'-file' if case.file else ''}")
    bench.say(f"latency: {case.name}: starting")
    async with (
        Fleet(directory, case.agents, case.commit_seconds) as fleet,
        Stage(directory) as stage,
        Subscriber(stage.url, STREAM, "wazuh.agent.*.status", of_event) as events,
        Subscriber(stage.url, bare.STREAM, bare.SUBJECT, of_bare, make=True) as floor,
    ):
        await stage.start_relay()
        cost = probing.measured(directory / "probing.db", case.agents)
        budget = await asyncio.to_thread(cost.budget, fleet.manager.socket, case.budget)
        settings = {"wazuh__source": "file" if case.file else "socket", "collector__source_budget": f"{budget:.4f}"}
        await stage.start_collector(fleet.manager.home, settings)
        other = await _bare(stage, fleet, case)
        return budget, *await _rounds(bench, case, fleet, stage, other, events, floor)


async def _bare(stage: Stage, fleet: Fleet, case: Case) -> Bare:
    where = ("--file", str(fleet.manager.database)) if case.file else ("--socket", str(fleet.manager.socket))
    return await stage.start_bare("bare.py", "--url", stage.url, *where, "--agents", str(WATCHED))


async def _rounds(
    bench: Bench,
    case: Case,
    fleet: Fleet,
    stage: Stage,
    other: Bare,
    events: Subscriber,
    floor: Subscriber,
) -> tuple[list[list[float]], list[list[float]]]:
    ours: list[list[float]] = []
    floors: list[list[float]] = []
    await _until_told(fleet, events)
    for number in range(bench.rounds):
        bench.say(f"latency: {case.name}: round {number + 1} of {bench.rounds}, bare loop")
        stage.relay.send(signal.SIGSTOP)
        other.go()
        floors.append(await _round(case, fleet, floor))
        other.rest()
        stage.relay.send(signal.SIGCONT)
        await _until_told(fleet, events)
        bench.say(f"latency: {case.name}: round {number + 1} of {bench.rounds}, ours")
        ours.append(await _round(case, fleet, events))
    return ours, floors


async def _round(case: Case, fleet: Fleet, subscriber: Subscriber) -> list[float]:
    """The latencies of one round. RuntimeError where events are missing: a time without them would say nothing."""
    await asyncio.sleep(SETTLE)
    subscriber.begin()
    await fleet.changes(range(1, min(WATCHED, case.agents) + 1), case.rate, case.seconds, subscriber.written)
    deadline = unix_now() + PATIENCE + case.commit_seconds * case.file
    while subscriber.waiting and unix_now() < deadline:
        await asyncio.sleep(0.02)
    if subscriber.waiting:
        raise RuntimeError(f"{case.name}: nothing came of {subscriber.waiting} changes within {PATIENCE:g} s")
    return subscriber.latencies


async def _until_told(fleet: Fleet, events: Subscriber) -> None:
    """Once an agent's change comes through: the baseline is over, and what was frozen has caught up."""
    number = fleet.agents
    events.begin()
    async with asyncio.timeout(120):
        while not events.latencies:
            await fleet.change(number, events.written)
            for _ in range(100):
                if events.latencies:
                    break
                await asyncio.sleep(0.05)
