"""`make compose-test`: docker-compose.yml brought up, the demo's scenes played against it, its parts killed, all taken down.

    make compose-test                             20 agents
    make compose-test ARGS="--crowd 1000"         beside a thousand agents that keep alive

A subscriber outside the containers' network verifies every event, and all are held against what the agents did. Then every secret of
the project is looked for in what its containers print, are told and hold in /proc. Exit code 0 only if everything was healthy within
90 s, nothing was lost, doubled, false or unverifiable, and no secret shows. The last line is one JSON object.
Where there is no Docker engine it fails: nothing is skipped in silence.
"""

import argparse
import asyncio
import functools
import json
import signal
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.containers.engine import NoEngine, Project, docker, require_engine
from tests.containers.leaks import leaks
from tests.containers.stage import ComposeStage, wait_ready
from tests.demo.audience import Audience
from tests.demo.run import BASELINE_PATIENCE, Played, explain, judge, play_tour, quantile
from tests.demo.scenes import PATIENCE, Tour
from tests.manager.driver import unix_now

HEALTHY_S: Final = 90.0
AWAY_S: Final = 3.0  # how long a killed part stays away
PROJECT: Final = "wazuh-jetstream-tier"


def say(line: str) -> None:
    """Progress."""
    print(line, flush=True)


def main() -> int:
    """0 if everything held."""
    options = _options()
    try:
        require_engine()
    except NoEngine as error:
        print(f"make compose-test: {error}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    project = Project(PROJECT, {"FLEET_EVENTS": "0", "FLEET_AGENTS": str(options.agents), "FLEET_CROWD": str(options.crowd)})
    try:
        return _run(project)
    finally:
        say("Taking everything down ...")
        project.compose("down", "--volumes", "--timeout", "20")


def _run(project: Project) -> int:
    project.compose("down", "--volumes")
    say("Building the images (minutes, the first time) ...")
    began = time.monotonic()
    project.compose("build")
    say(f"Built in {time.monotonic() - began:.0f} s. Bringing it up ...")
    began = time.monotonic()
    project.compose("up", "--detach", "--no-build")
    wait_ready(project, HEALTHY_S - (time.monotonic() - began))
    up = time.monotonic() - began
    say(f"Everything is healthy after {up:.1f} s.")
    with tempfile.TemporaryDirectory(prefix="wazuh-jetstream-tier-") as directory:
        return asyncio.run(_play(project, Path(directory), up))


async def _play(project: Project, directory: Path, up: float) -> int:
    stage = ComposeStage(project, directory)
    began = unix_now()
    login = {
        "nkeys_seed": str(directory / "siem.nk"),
        "inbox_prefix": "_INBOX_siem",
        "tls": ssl.create_default_context(cafile=str(directory / "ca.crt")),
    }
    async with Audience(stage.url, stage.key, "siem", login) as audience:
        if not await audience.until(lambda: audience.batches, unix_now() + BASELINE_PATIENCE):
            print(f"no baseline came; the services say:\n{stage.trouble()}", file=sys.stderr)
            return 1
        baseline = stage.world.now - 0.001
        tour = Tour(stage, audience)
        await play_tour(tour, [], say)
        await _kills(stage, audience, tour)
        await tour.settle()
        applied = stage.world.applied
        played = judge(stage.world.history, applied, audience, tour, baseline, unix_now() - began)
        if not played.clean():
            explain(played, stage.trouble())
        memory = _memory(stage)
        stage.world.close()
    sought, shown = leaks(project)
    say(
        "\n".join(shown) or f"None of {sought} secrets is in a log, an environment, a process list or what the engine tells of a container."
    )
    print(json.dumps(_figures(played, stage, up, memory) | {"secrets": sought, "leaks": len(shown)}))
    return 0 if played.clean() and sought and not shown else 1


async def _kills(stage: ComposeStage, audience: Audience, tour: Tour) -> None:
    """A nats-server, the relay that leads and a collector are killed, each while agents come and go."""
    for turn, service in enumerate(("nats-1", stage.leader(), "collector-worker1")):
        first, second = stage.agents[6 + 2 * turn], stage.agents[7 + 2 * turn]
        began, target = unix_now(), len(audience.events) + 2
        say(f"\n{service} is killed; agents {first:03d} and {second:03d} are stopped meanwhile.")
        container = stage.project.container(service)
        docker("kill", container)
        stage.world.stop(first)
        stage.world.stop(second)
        await asyncio.sleep(AWAY_S)
        docker("start", container)
        heard = await audience.until(functools.partial(_came, audience, target), unix_now() + 2 * PATIENCE)
        say(f"   {'both' if heard else 'NOT both'} told {unix_now() - began:.1f} s after the kill")
        tour.outages.append((began, unix_now()))
        wait_ready(stage.project, HEALTHY_S)


def _came(audience: Audience, target: int) -> bool:
    return len(audience.events) >= target


def _memory(stage: ComposeStage) -> dict[str, float]:
    """MiB that each of our services' memory has, by the engine."""
    found = {}
    for service in ("collector-node01", "collector-worker1", "relay-1", "relay-2"):
        told = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", stage.project.container(service))
        found[service] = _mib(told.split(" / ")[0])
    return found


def _mib(text: str) -> float:
    scale = {"GiB": 1024.0, "MiB": 1.0, "KiB": 1 / 1024, "B": 1 / 1024**2}
    unit = next(unit for unit in scale if text.endswith(unit))
    return round(float(text.removesuffix(unit)) * scale[unit], 1)


def _figures(played: Played, stage: ComposeStage, up: float, memory: dict[str, float]) -> dict[str, Any]:
    return {
        "healthy_s": round(up, 1),
        "events": len(played.events),
        "expected": played.expected,
        "lost": len(played.verdict.lost),
        "duplicates": played.duplicates,
        "false": len(played.verdict.false),
        "unverified": played.unverified,
        "latency_ms": {"p50": quantile(played.latencies, 0.50), "p99": quantile(played.latencies, 0.99)},
        "agents": len(stage.agents) + len(stage.crowd),
        "memory_mib": memory,
        "killed": ["nats-1", "relay", "collector-worker1"],
        "seconds": round(played.seconds, 1),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make compose-test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=20, help="agents of the scenes, 12 or more (default 20)")
    parser.add_argument("--crowd", type=int, default=0, help="agents beside them that only keep alive, each second (default 0)")
    options = parser.parse_args()
    if options.agents < 12:
        parser.error("--agents must be 12 or more: the scenes and the kills need that many")
    return options


if __name__ == "__main__":
    sys.exit(main())
