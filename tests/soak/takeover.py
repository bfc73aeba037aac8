"""How long events stand still when the relay that leads ends: two relays on one PostgreSQL, one ended again and again.

    make soak ARGS="takeover --rounds 20 --agents 1000 --json"

What is measured is seen from outside: the longest silence in EVENTS after the leader was ended, while agents change all the
time. Exit code 0 only if it is within the bars: 10 s (p99) after SIGKILL, 2 s after SIGTERM, and no message is lost or doubled.
"""

import argparse
import asyncio
import itertools
import json
import random
import signal
from collections.abc import Callable, Sequence
from typing import Any, Final

from nats.aio.client import Client

from tests.manager.driver import unix_now
from tests.soak import checker, reader
from tests.soak.play import until_baseline
from tests.soak.raw import Message
from tests.soak.stage import Plan, Stage
from tests.world.activity import Activity, Rates

CHANGES: Final = Rates(stop=10.0, start=10.0)  # a second
BARS: Final = {"SIGKILL": 10.0, "SIGTERM": 2.0}
PATIENCE: Final = 60.0
REST: Final = (2.0, 5.0)  # seconds between two ends: any phase of the lease


def options(parser: argparse.ArgumentParser) -> None:
    """What the command line may say."""
    parser.add_argument("--rounds", type=int, default=20, help="how often each way of ending is tried (default 20)")
    parser.add_argument("--agents", type=int, default=1000, help="size of the fleet (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the agents' chances and of the moments (default 1)")


def plan(arguments: argparse.Namespace) -> Plan:
    """Two relays on one PostgreSQL."""
    return Plan(arguments.seed, 2, arguments.agents, 2, 1, "postgresql")


async def play(stage: Stage, arguments: argparse.Namespace, say: Callable[[str], None]) -> bool:
    """Whether the bars are met."""
    rng, ended = random.Random(arguments.seed), list[tuple[str, float]]()
    async with stage.judge() as client:
        await until_baseline(client)
        Activity(stage.world, CHANGES, arguments.seed).begin()
        for number in (signal.SIGKILL, signal.SIGTERM) * arguments.rounds:
            await asyncio.sleep(rng.uniform(*REST))
            ended.append((number.name, unix_now()))
            await _end(stage, number)
            say(f"{number.name} {len(ended)} of {2 * arguments.rounds}: {await _holder(stage)} leads")
        await _published(client)
        told = await reader.whole(client, "WAZUH_EVENTS")
    return _judge(stage, told, ended, arguments, say)


async def _end(stage: Stage, number: signal.Signals) -> None:
    """End the relay that leads, start it again, and wait until one of the two leads."""
    while not (holder := await _holder(stage)):
        await asyncio.sleep(0.05)
    service = next(relay for relay in stage.relays if holder.startswith(f"{relay.name}@"))
    await (service.kill() if number == signal.SIGKILL else service.stop())
    await service.start()
    async with asyncio.timeout(PATIENCE):
        while await _holder(stage) in ("", holder):
            await asyncio.sleep(0.05)


async def _holder(stage: Stage) -> str:
    """The process whose lease holds, as it calls itself."""
    server = stage.ledger.server
    assert server is not None

    def ask() -> str:
        with server.connect("ledger1") as session:
            row = session.execute("SELECT holder FROM lease WHERE until > extract(epoch FROM clock_timestamp()) * 1000").fetchone()
        return "" if row is None else str(row[0])

    return await asyncio.to_thread(ask)


async def _published(client: Client) -> None:
    """Once something was published after now."""
    before = await reader.last(client, "WAZUH_EVENTS")
    async with asyncio.timeout(PATIENCE):
        while await reader.last(client, "WAZUH_EVENTS") <= before:
            await asyncio.sleep(0.05)


def _judge(
    stage: Stage, told: Sequence[Message], ended: Sequence[tuple[str, float]], arguments: argparse.Namespace, say: Callable[[str], None]
) -> bool:
    laws = checker.read(told, stage.secrets, {}, stage.ciphers)
    wrong = [*laws.lost, *laws.duplicates, *laws.reordered, *laws.unverified]
    for sentence in wrong[:5]:
        say(f"WRONG: {sentence}")
    found = silences([message.at for message in told], ended)
    numbers: dict[str, Any] = {name: spread(found[name]) for name in BARS}
    for name, bar in BARS.items():
        say(f"{name}: {len(found[name])} times, p50 {numbers[name]['p50']:.2f} s, p99 {numbers[name]['p99']:.2f} s (bar {bar:g} s)")
    numbers |= {"events": laws.events, "wrong": len(wrong)}
    if arguments.json:
        say(json.dumps(numbers))
    return not wrong and all(numbers[name]["p99"] <= bar for name, bar in BARS.items())


def silences(told: Sequence[float], ended: Sequence[tuple[str, float]]) -> dict[str, list[float]]:
    """By way of ending: the longest silence between that end and the last message before the next one."""
    found: dict[str, list[float]] = {name: [] for name in BARS}
    ends = [*(at for _, at in ended[1:]), float("inf")]
    for (name, at), until in zip(ended, ends, strict=True):
        moments = [at, *(moment for moment in told if at < moment <= until)]
        found[name].append(max((after - before for before, after in itertools.pairwise(moments)), default=float("inf")))
    return found


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p99 (of few, the greatest) and the greatest."""
    ordered = sorted(seconds)
    at = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
    return {name: round(value, 3) for name, value in at.items()}
