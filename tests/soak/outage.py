"""NATS goes away for minutes while agents change: nothing is lost, collectors do not grow, and all is told soon after its return.

    make soak ARGS="outage --minutes 10 --agents 1000 --changes 10 --json"

Exit code 0 only if the checker finds nothing wrong, all was told within 30 s of the return, and no collector grew by a tenth.
"""

import argparse
import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client

from tests.manager.driver import unix_now
from tests.soak import reader, report
from tests.soak.play import Director, caught_up, judged, settle, until_baseline
from tests.soak.stage import Plan, Stage
from tests.world.activity import Activity, Rates

BEFORE: Final = 30.0  # seconds in which collectors come to their size
AFTER: Final = 30.0  # seconds in which all must have been told
LOOK: Final = 5.0  # seconds between two looks at memory
PATIENCE: Final = 300.0
GROWTH: Final = 1.1
SPOOL: Final = 256 << 20  # bytes: the product's own default


def options(parser: argparse.ArgumentParser) -> None:
    """What the command line may say."""
    parser.add_argument("--minutes", type=float, default=10.0, help="how long NATS is away (default 10)")
    parser.add_argument("--agents", type=int, default=1000, help="size of the fleet (default 1000)")
    parser.add_argument("--changes", type=float, default=10.0, help="changes a second (default 10)")
    parser.add_argument("--nodes", type=int, default=2, help="Wazuh managers (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="of the agents' chances (default 1)")


def plan(arguments: argparse.Namespace) -> Plan:
    """One relay on SQLite."""
    return Plan(arguments.seed, arguments.nodes, arguments.agents, 1, 1, "sqlite", SPOOL)


async def play(stage: Stage, arguments: argparse.Namespace, say: Callable[[str], None]) -> bool:
    """Whether the bars are met."""
    started = unix_now()
    async with stage.judge() as client:
        await until_baseline(client)
    baseline, activity = stage.world.now, Activity(stage.world, Rates(stop=arguments.changes / 2, start=arguments.changes / 2), 7)
    activity.begin(until=unix_now() + BEFORE + 60 * arguments.minutes + AFTER)
    await asyncio.sleep(BEFORE)
    memory = {name: [size] for name, size in _memory(stage).items()}
    await _away(stage, 60 * arguments.minutes, memory, say)
    async with stage.judge() as client:
        late = await _told(stage, client)
        for name, size in _memory(stage).items():
            memory[name].append(size)
        say(f"all that waited was told {late:.1f} s after NATS came back")
        await asyncio.sleep(max(0.0, AFTER - late))
        await settle(stage)
        stuck = await caught_up(client)
        result = await judged(stage, client, baseline, Director(stage), activity, unix_now() - started, stuck)
    for line in (*report.trouble(result, 5), *report.table(result)):
        say(line)
    grown = max(max(sizes) / sizes[0] for sizes in memory.values())
    numbers: dict[str, Any] = {name: result.numbers[name] for name in ("events", "lost", "duplicates", "false", "reordered", "unverified")}
    numbers |= {"caught_up_seconds": round(late, 1), "rss_mib": {name: [sizes[0], max(sizes), sizes[-1]] for name, sizes in memory.items()}}
    if arguments.json:
        say(json.dumps(numbers))
    return result.clean and late <= AFTER and grown <= GROWTH


async def _away(stage: Stage, seconds: float, memory: dict[str, list[float]], say: Callable[[str], None]) -> None:
    for server in stage.nats:
        await asyncio.to_thread(server.kill)
    end = unix_now() + seconds
    while unix_now() < end:
        await asyncio.sleep(min(LOOK, max(0.0, end - unix_now())))
        for name, size in _memory(stage).items():
            memory[name].append(size)
        waiting = {node: _waiting(stage.spool(node)) for node in stage.collectors}
        say(f"NATS is back in {max(0.0, end - unix_now()):.0f} s; waiting in spools: {waiting}, MiB: {_memory(stage)}")
    for server in stage.nats:
        await asyncio.to_thread(server.start)


async def _told(stage: Stage, client: Client) -> float:
    """Seconds from now until every spool was empty once, and then all of RAW decided and published once."""
    began, left = unix_now(), set(stage.collectors)
    async with asyncio.timeout(PATIENCE):
        while left:
            left = {node for node in left if _waiting(stage.spool(node))}
            await asyncio.sleep(0.05)
        target, position = await reader.last(client, "WAZUH_RAW"), 0
        while position < target:
            info = await client.jetstream().consumer_info("WAZUH_RAW", "relay")
            position = info.ack_floor.stream_seq if info.ack_floor is not None else 0
            await asyncio.sleep(0.05)
        decided = unix_now() - began
        while not await asyncio.to_thread(_published, stage.directory / "ledger.db", target):
            await asyncio.sleep(0.05)
    return max(decided, unix_now() - began)


def _waiting(spool: Path) -> int:
    return _count(spool, "SELECT count(*) FROM items")


def _published(ledger: Path, position: int) -> bool:
    """Whether nothing that was decided up to a position of RAW waits in the outbox."""
    return _count(ledger, f"SELECT count(*) FROM outbox WHERE position <= {position:d}") == 0


def _count(path: Path, sql: str) -> int:
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as database:
        return int(database.execute(sql).fetchone()[0])


def _memory(stage: Stage) -> dict[str, float]:
    """MiB resident of each collector."""
    return {name: _resident(service.pid) for name, service in stage.collectors.items()}


def _resident(pid: int) -> float:
    fields = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return next(round(int(words[1]) / 1024, 1) for words in fields if words[0] == "VmRSS:")
