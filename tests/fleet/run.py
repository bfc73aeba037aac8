"""A simulated Wazuh cluster as one process of docker-compose.yml: node01 (the master) and worker1, each in a home of its own.

    python3 tests/fleet/run.py [--homes /managers] [--agents 20] [--crowd 0] [--keepalive 1] [--events 0.3] [--seed 1]

Its agents start by themselves and live on, `--events` of them a second being stopped, started, moved or killed; with
`--events 0` they are registered and wait for commands. A crowd is connected from the beginning and only keeps alive.
Commands come by `control.py`, over the socket `/tmp/fleet.sock`: one JSON line each, answered by one.
Standard library only, and no product code.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fleet.answer import Answers
from tests.fleet.control import SOCKET
from tests.manager.driver import Cluster, unix_now
from tests.world.activity import Activity, Rates
from tests.world.model import World
from tests.world.pace import PACE


def main() -> int:
    """0 when it is told to end."""
    options = _options()
    os.umask(0o027)  # as Wazuh's own files: its group reads, others see nothing
    asyncio.run(_play(options))
    return 0


async def _play(options: argparse.Namespace) -> None:
    world = World(replace(PACE, start=unix_now(), notify_period=options.keepalive), options.seed)
    agents = [world.register() for _ in range(options.agents)]
    crowd = world.populate(options.crowd)
    _clear(options.homes, list(world.nodes))
    async with Cluster(world, options.homes, commit_seconds=options.commit_seconds) as cluster:
        cluster.run_in_background()
        if options.events:
            _let_live(world, agents, options.events, options.seed)
        server = await asyncio.start_unix_server(Answers(cluster, agents, crowd).serve, SOCKET)
        print(f"{len(agents)} agents and a crowd of {len(crowd)} on {', '.join(world.nodes)}", flush=True)
        async with server:
            await _asked_to_stop()


def _let_live(world: World, agents: list[int], events: float, seed: int) -> None:
    for turn, agent in enumerate(agents):
        world.start(agent, list(world.nodes)[turn % len(world.nodes)])
    Activity(world, Rates(start=0.45 * events, stop=0.25 * events, die=0.1 * events, move=0.2 * events), seed).begin()


def _clear(homes: Path, nodes: list[str]) -> None:
    """A world begins with empty managers: what an earlier one left in a volume is not of this fleet."""
    for home in (homes / node for node in nodes):
        for folder in ("etc", "queue"):
            shutil.rmtree(home / folder, ignore_errors=True)


async def _asked_to_stop() -> None:
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    await asked.wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A simulated Wazuh cluster of a master and a worker.")
    parser.add_argument("--homes", type=Path, default=Path("/managers"), help="directory of the managers' homes")
    parser.add_argument("--agents", type=int, default=20, help="agents that events happen to")
    parser.add_argument("--crowd", type=int, default=0, help="agents beside them that only keep alive")
    parser.add_argument("--keepalive", type=float, default=1.0, help="seconds between two keepalives of an agent")
    parser.add_argument("--events", type=float, default=0.3, help="what happens to agents by itself, a second; 0: nothing")
    parser.add_argument("--commit-seconds", type=float, default=61.0, help="as wazuh_db.commit_time_max + 1")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
