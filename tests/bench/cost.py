"""cost: what a collector takes of its host, with TLS, signatures, metrics, health and spool, without OTLP; fleets write real keepalives.

The share of wazuh-db's time is the count of looks and reads times what they cost the real daemon, not the simulator's own time. Of a
daemon of 4.14 one question was measured; a probe is taken for the share of that which it is here, of the same rows. The collector may look
as often as it would there: its budget is as many times larger as the simulator is slower (`probing`).
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tests.bench import probing, usage
from tests.bench.figures import Bar, Figure
from tests.bench.fleet import Fleet
from tests.bench.parts import Bench
from tests.bench.stage import Bare, Stage, script
from tests.collector.process import CollectorProcess

NAME: Final = "cost"
HELP: Final = "memory and CPU of a collector, and its share of wazuh-db's time, by size of the fleet"

CASES: Final[tuple[tuple[int, str, tuple[float | None, float | None]], ...]] = (
    (1_000, "HMAC", (50.0, 1.0)),
    (10_000, "HMAC", (50.0, 3.0)),
    (10_000, "Ed25519", (None, 3.0)),
    (50_000, "HMAC", (None, None)),
)
"""Agents, what the collector signs with, and bars: MiB resident, per cent of a core."""

WINDOW: Final = 60.0  # seconds of one round: a full snapshot is in each
BARE_WINDOW: Final = 15.0
SETTLE: Final = 12.0  # seconds: the first full, the pace and the rhythm are found by then
BUDGET: Final = 1.0  # per cent: collector.source_budget

ROW_S: Final = 0.15 / 20_000
"""Seconds per row of a whole read on the real daemon: 20,000 rows of 5 columns in 0.15 s."""


@dataclass(frozen=True, slots=True)
class Look:
    """A process at one moment."""

    at: float  # monotonic seconds
    cpu: float  # seconds so far
    memory: float  # MiB
    probes: float = 0
    fulls: float = 0


async def measure(bench: Bench) -> AsyncIterator[Figure]:
    """Memory, CPU, and the share of wazuh-db's time."""
    for agents, signature, bars in ((300, "HMAC", (None, None)),) if bench.quick else CASES:
        what = f"{agents:,} agents{'' if signature == 'HMAC' else f', {signature}'}"
        directory = bench.place(f"cost-{agents}-{signature}")
        bench.say(f"cost: {what}: starting")
        async with Fleet(directory, agents) as fleet, Stage(directory, tls=True, signature=signature) as stage:
            cost = probing.measured(directory / "probing.db", agents)
            budget = await asyncio.to_thread(cost.budget, fleet.manager.socket, BUDGET / 100)
            settings = {"wazuh__source": "socket", "collector__source_budget": f"{budget:.4f}"}
            collector = await stage.start_collector(fleet.manager.home, settings)
            authority = () if stage.authority is None else ("--authority", str(stage.authority))
            idle = await stage.start(*script("idle.py"), "--url", stage.url, *authority)
            looks, floors = await _rounds(bench, what, collector, idle.pid)
            rate = _probes(looks)
            where = ("--socket", str(fleet.manager.socket), "--sql", cost.sql, "--looks", f"{max(1.0, rate):.3f}")
            bare = await _bare_rounds(bench, what, await stage.start_bare("bare_collector.py", *where))
            for figure in _figures(agents, what, bars, (looks, floors, bare), cost.real_probe):
                yield figure


async def _rounds(bench: Bench, what: str, collector: CollectorProcess, idle: int) -> tuple[list[Look], list[Look]]:
    """Of collector and idle process, before the first round and after each."""
    window = 1.0 if bench.quick else WINDOW
    await asyncio.sleep(1.0 if bench.quick else SETTLE)
    looks, floors = [await _look(collector)], [_plain(idle)]
    for number in range(bench.rounds):
        bench.say(f"cost: {what}: round {number + 1} of {bench.rounds}, {window:g} s")
        await asyncio.sleep(window)
        looks.append(await _look(collector))
        floors.append(_plain(idle))
    return looks, floors


async def _bare_rounds(bench: Bench, what: str, bare: Bare) -> tuple[float, ...]:
    """CPU of bare looks, in per cent of a core."""
    window = 1.0 if bench.quick else BARE_WINDOW
    bare.go()
    shares = []
    for number in range(bench.rounds):
        bench.say(f"cost: {what}: bare looks, round {number + 1} of {bench.rounds}, {window:g} s")
        before, began = _plain(bare.pid), time.monotonic()
        await asyncio.sleep(window)
        shares.append(100 * (_plain(bare.pid).cpu - before.cpu) / (time.monotonic() - began))
    bare.rest()
    return tuple(shares)


def _figures(
    agents: int,
    what: str,
    bars: tuple[float | None, float | None],
    measured: tuple[list[Look], list[Look], tuple[float, ...]],
    probe: float,
) -> Iterator[Figure]:
    looks, floors, bare = measured
    yield Figure(
        NAME, f"memory, {what}", "MiB", tuple(one.memory for one in looks[1:]), tuple(one.memory for one in floors[1:]),
        "idle asyncio + nats-py", _at_most(bars[0]), plot=("collector's memory, MiB", _line(what, "resident"), agents),
    )  # fmt: skip
    shares = tuple(100 * (b.cpu - a.cpu) / (b.at - a.at) for a, b in pairwise(looks))
    yield Figure(
        NAME, f"CPU, {what}", "% of a core", shares, bare, "as many bare looks: a question, its answer, no more", _at_most(bars[1]),
        plot=("CPU, % of a core", _line(what, "collector"), agents),
    )  # fmt: skip
    yield Figure(
        NAME, f"share of wazuh-db's time, {what}", "%",
        tuple(100 * _busy(a, b, agents, probe) / (b.at - a.at) for a, b in pairwise(looks)), (), "",
        note=f"{_probes(looks):.1f} probes a second of {probe * 1000:.1f} ms, beside them the periodic fulls;"
        f" the budget of looking is {BUDGET:g} %",
        plot=("CPU, % of a core", _line(what, "share of wazuh-db's time"), agents),
    )  # fmt: skip


def _probes(looks: list[Look]) -> float:
    """A second."""
    return (looks[-1].probes - looks[0].probes) / (looks[-1].at - looks[0].at)


def _line(what: str, name: str) -> str:
    """A line of a chart: each signature has its own."""
    _, _, signature = what.partition("agents, ")
    return f"{name}, {signature}" if signature else name


def _at_most(limit: float | None) -> Bar | None:
    return None if limit is None else Bar("at most", limit)


def _busy(before: Look, after: Look, agents: int, probe: float) -> float:
    """Seconds that the real daemon would have worked for us."""
    return (after.probes - before.probes) * probe + (after.fulls - before.fulls) * agents * ROW_S


async def _look(collector: CollectorProcess) -> Look:
    _, page = await collector.get("/metrics")
    probes = _value(page, "wazuh_jetstream_collector_probes_total")
    fulls = _value(page, 'wazuh_jetstream_collector_reads_total{kind="full"}')
    return Look(time.monotonic(), usage.cpu_seconds(collector.pid), usage.memory(collector.pid).now, probes, fulls)


def _plain(pid: int) -> Look:
    return Look(time.monotonic(), usage.cpu_seconds(pid), usage.memory(pid).now)


def _value(page: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0
