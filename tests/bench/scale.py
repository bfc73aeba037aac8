"""scale: what one more agent costs the relay, from 10,000 to 1,000,000 on one manager: memory, time of a change, restart."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from tests.bench.figures import Bar, Figure
from tests.bench.parts import Bench
from tests.bench.stage import run_script

NAME: Final = "scale"
HELP: Final = "10,000 to 1,000,000 agents in the relay: memory an agent, time a change, restart"

SIZES: Final = (10_000, 100_000, 1_000_000)
GROWTH: Final = 1.5
"""A change of one agent must not cost more in a larger fleet; noise may."""
RESTART: Final = {100_000: Bar("at most", 5.0)}


async def measure(bench: Bench) -> AsyncIterator[Figure]:
    """By size of the fleet; a change's peer is the same change in the smallest fleet of the run."""
    smallest: tuple[float, ...] = ()
    for agents in (1_000,) if bench.quick else SIZES:
        directory = bench.place(f"scale-{agents}")
        bench.say(f"scale: {agents:,} agents: changes")
        changes = tuple((await _child(directory, agents))["change_ms"])
        restarts = []
        for number in range(1 if agents == max(SIZES) else bench.rounds):
            bench.say(f"scale: {agents:,} agents: restart {number + 1}")
            restarts.append(await _child(directory, agents, "restart"))
        yield Figure(
            NAME, f"memory an agent, {agents:,} agents", "bytes", tuple(one["mib"] * 2**20 / agents for one in restarts),
            plot=("relay: memory an agent, bytes", "1 manager", agents),
        )  # fmt: skip
        yield Figure(
            NAME, f"one change decided and recorded, {agents:,} agents", "ms", changes, smallest,
            "the smallest fleet's" if smallest else "", Bar("at most", GROWTH, "ratio") if smallest else None,
            plot=("relay: time of a change, ms", "decide and record", agents),
        )  # fmt: skip
        yield Figure(
            NAME, f"fleet restored, {agents:,} agents", "s", tuple(one["restore_s"] for one in restarts), (), "", RESTART.get(agents),
            plot=("relay: restart, s", "fleet restored", agents),
        )  # fmt: skip
        smallest = smallest or changes


async def _child(directory: Path, agents: int, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await run_script("scale_child.py", str(agents), f"sqlite:///{directory}/ledger.db", *more))
    return found
