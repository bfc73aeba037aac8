"""seed: the seed's own plan and this program in turn, on the same manager: latency and CPU on the manager's host.

In turn, for each of its polls reads the whole table, and the simulated wazuh-db is a slow one that answers nobody else meanwhile. A round
of ours is as long as a collector's full_interval, so that in each is one full snapshot.

The kinder peer reads over wazuh-db's socket, as this program does. The seed's own words are the file, which Wazuh writes each 61 s.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from tests.bench import probing, seed_design, usage
from tests.bench.figures import Bar, Figure, quantile
from tests.bench.fleet import Fleet
from tests.bench.parts import Bench
from tests.bench.stage import Stage
from tests.bench.subscriber import Subscriber, of_event
from tests.demo.audience import STREAM
from tests.manager.driver import unix_now

NAME: Final = "seed"
HELP: Final = "the seed's plan (poll 5 s, read all, compare, publish one by one) as a peer: latency and CPU"

BUDGET: Final = 0.01  # of the real daemon's time, which is the default (`probing`)
FASTER: Final = 0.05  # of its p99: twenty times lower
LEAST_LOOKS: Final = 5.0  # a second: what waits for the next 0.2 s at most is told within 0.25 s, a twentieth of the seed's poll
LEAST_WINDOW: Final = 15.0
WATCHED: Final = 200
SETTLE: Final = 12.0
MS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Case:
    """A fleet, and how the peer reads it."""

    agents: int
    way: str  # socket, file
    seconds: float
    rate: float = 5.0
    judged: bool = True


CASES: Final = (Case(1_000, "socket", 60), Case(10_000, "socket", 60), Case(1_000, "file", 70, rate=2.0, judged=False))
QUICK: Final = (Case(300, "socket", 2, rate=20, judged=False),)


async def measure(bench: Bench) -> AsyncIterator[Figure]:
    """Both on one manager, round by round, so that neither has the better weather."""
    for case in QUICK if bench.quick else CASES:
        directory = bench.place(f"seed-{case.agents}-{case.way}")
        async with (
            Fleet(directory, case.agents) as fleet,
            Stage(directory) as stage,
            Subscriber(stage.url, STREAM, "wazuh.agent.*.status", of_event) as ours,
            Subscriber(stage.url, seed_design.STREAM, seed_design.SUBJECTS, of_event, make=True) as theirs,
        ):
            cost = probing.measured(directory / "probing.db", case.agents)
            budget = await asyncio.to_thread(cost.budget, fleet.manager.socket, BUDGET)
            theirs_share: tuple[float, ...] = ()
            async for figure in _figures(bench, case, fleet, stage, (ours, theirs), budget):
                theirs_share = figure.floor
                yield figure
            if case.way == "socket":
                yield await _least(bench, case, fleet, stage, cost.sql, theirs_share)


async def _figures(
    bench: Bench, case: Case, fleet: Fleet, stage: Stage, both: tuple[Subscriber, Subscriber], budget: float
) -> AsyncIterator[Figure]:
    await stage.start_relay()
    settings = {"wazuh__source": "socket", "collector__source_budget": f"{budget:.4f}"}
    collector = await stage.start_collector(fleet.manager.home, settings)
    where = ("--file", str(fleet.manager.database)) if case.way == "file" else ("--socket", str(fleet.manager.socket))
    peer = await stage.start_bare("seed_design.py", "--url", stage.url, *where)
    await asyncio.sleep(1 if bench.quick else SETTLE)
    latencies: tuple[list[float], list[float]] = ([], [])
    shares: tuple[list[float], list[float]] = ([], [])
    for number in range(1 if case.way == "file" else bench.rounds):
        say = f"seed: {case.agents:,} agents, {case.way}: round {number + 1}, {case.seconds:g} s and what is late"
        for i, pid in enumerate((collector.pid, peer.pid)):
            bench.say(f"{say}: {('ours', 'the seed')[i]}")
            if pid == peer.pid:
                peer.go()
                await asyncio.sleep(1 if bench.quick else SETTLE)
            began, before = unix_now(), usage.cpu_seconds(pid)
            await _round(case, fleet, both[i])
            shares[i].append(100 * (usage.cpu_seconds(pid) - before) / (unix_now() - began))
            latencies[i].append(MS * quantile(both[i].latencies, 0.99))
        peer.rest()
    name = f"{case.agents:,} agents, by the {case.way}"
    chart = ("latency, ms", "p99 of ours beside the seed's", case.agents) if case.way == "socket" else None
    yield Figure(
        NAME, f"p99, {name}", "ms", tuple(latencies[0]), tuple(latencies[1]), "the seed's plan",
        Bar("at most", FASTER, "ratio") if case.judged else None, plot=chart,
    )  # fmt: skip
    yield Figure(
        NAME, f"CPU on the manager, {name}", "% of a core", tuple(shares[0]), tuple(shares[1]), "the seed's plan",
        Bar("at most", 1.0, "ratio") if case.judged else None,
    )  # fmt: skip


async def _least(bench: Bench, case: Case, fleet: Fleet, stage: Stage, sql: str, theirs: tuple[float, ...]) -> Figure:
    """What forbids the bar, where something does: as few looks as make it twenty times as quick, and as many changes, bare."""
    where = ("--socket", str(fleet.manager.socket), "--sql", sql, "--looks", str(LEAST_LOOKS))
    what = ("--changes", str(case.rate), "--url", stage.url, "--spool", str(stage.directory / "least.db"))
    least, shares, window = await stage.start_bare("bare_collector.py", *where, *what), list[float](), 1.0 if bench.quick else LEAST_WINDOW
    least.go()
    for number in range(bench.rounds):
        bench.say(f"seed: {case.agents:,} agents: the least, round {number + 1}, {window:g} s")
        before, began = usage.cpu_seconds(least.pid), unix_now()
        await asyncio.sleep(window)
        shares.append(100 * (usage.cpu_seconds(least.pid) - before) / (unix_now() - began))
    return Figure(
        NAME, f"CPU of the least that is as quick, {case.agents:,} agents", "% of a core", tuple(shares), theirs, "the seed's plan",
        note=f"{LEAST_LOOKS:g} bare looks and {case.rate:g} changes a second, put on disk, signed, published; nothing is read or decided",
    )  # fmt: skip


async def _round(case: Case, fleet: Fleet, subscriber: Subscriber) -> None:
    subscriber.begin()
    await fleet.changes(range(1, WATCHED + 1), case.rate, case.seconds, subscriber.written)
    deadline = unix_now() + (80 if case.way == "file" else 20)
    while subscriber.waiting and unix_now() < deadline:
        await asyncio.sleep(0.05)
    if subscriber.waiting:
        raise RuntimeError(f"nothing came of {subscriber.waiting} changes")
