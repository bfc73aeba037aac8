"""outage: 100,000 agents on ten managers drop at once; what the relay takes in memory for them; and its restart.

Each node has a row for every agent, as in a real cluster: a million rows. The drop is one delta of each node, and the master's copy of
what its workers said follows.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client

from relay.events import BATCH_EVENTS
from shared import models
from tests.bench import floors, usage
from tests.bench.figures import Bar, Figure
from tests.bench.parts import Bench
from tests.bench.relayed import ask, decided, state
from tests.bench.stage import Stage, run_script
from tests.bench.voices import Cluster, Mouth
from tests.manager.driver import unix_now

NAME: Final = "outage"
HELP: Final = "100,000 agents on ten managers drop at once; memory for them; restart with them"

NODES: Final = 10
SIZES: Final = (10_000, 100_000)
MEMORY: Final = {10_000: 128.0, 100_000: 256.0}  # MiB
DROP_S: Final = 20.0
RESTART_S: Final = 5.0
PATIENCE: Final = 600.0


@dataclass(slots=True)
class Measured:
    """One size of fleet, by round."""

    steady: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    drop: list[float] = field(default_factory=list)
    restart: list[float] = field(default_factory=list)
    bare_restart: list[float] = field(default_factory=list)


async def measure(bench: Bench) -> AsyncIterator[Figure]:
    """By size of the fleet."""
    for agents in (1_000,) if bench.quick else SIZES:
        measured = Measured()
        for number in range(bench.rounds):
            await _round(bench, agents, number, measured)
        largest, memory = agents == max(SIZES), MEMORY.get(agents)
        cluster = f"{agents:,} agents on {NODES} managers"
        yield Figure(
            NAME, f"memory, {cluster}", "MiB", tuple(measured.steady), (), "", None if memory is None else Bar("at most", memory),
            f"{agents * NODES:,} rows; at the peak of the drop {max(measured.peak):.0f} MiB",
            plot=("relay's memory, MiB", f"{NODES} managers", agents),
        )  # fmt: skip
        yield Figure(
            NAME, f"all drop at once, {cluster}: acked after", "s", tuple(measured.drop), (), "",
            Bar("at most", DROP_S) if largest else None,
            f"{agents / min(measured.drop):,.0f} events/s at best, from the first delta in RAW to the last event's ack",
        )  # fmt: skip
        yield Figure(
            NAME, f"restart, {cluster}: consuming after", "s", tuple(measured.restart), tuple(measured.bare_restart),
            "the imports, and the same ledger read and unpacked", Bar("at most", RESTART_S) if largest else None,
            "from the start of the process after SIGKILL to its first new ack in RAW",
        )  # fmt: skip


async def _round(bench: Bench, agents: int, number: int, measured: Measured) -> None:
    directory, cluster = bench.place(f"outage-{agents}-{number}"), Cluster(NODES, agents)
    say = f"outage: {agents:,} agents: round {number + 1} of {bench.rounds}"
    async with Stage(directory, *(voice.node for voice in cluster.voices)) as stage, stage.rig.client() as client:
        mouth = Mouth(stage.rig, client)
        bench.say(f"{say}: the fleet")
        await mouth.say(cluster.fulls())
        await stage.start_relay()
        await decided(client, PATIENCE, 1)
        await mouth.say([voice.beat() for voice in cluster.voices])  # as every five seconds: all of them can be heard
        await decided(client, PATIENCE, 1)
        measured.steady.append(usage.memory(stage.relay.pid).now)
        bench.say(f"{say}: the drop")
        measured.drop.append(await _drop(client, mouth, cluster))
        await decided(client, PATIENCE, 2 * agents)
        measured.peak.append(usage.memory(stage.relay.pid).peak)
        bench.say(f"{say}: the restart")
        await mouth.say([voice.beat() for voice in cluster.voices])
        await decided(client, PATIENCE, 2 * agents)
        await stage.relay.kill()
        measured.bare_restart.append(await _bare_restart(stage))
        measured.restart.append(await _restart(stage, client, mouth, cluster))


async def _drop(client: Client, mouth: Mouth, cluster: Cluster) -> float:
    everybody = range(1, cluster.agents + 1)
    deltas = [*cluster.stop(everybody, models.CODE_SILENT)]
    deltas.append(cluster.copied([n for n in everybody if cluster.home(n) is not cluster.voices[0]]))
    before = (await state(client, "WAZUH_EVENTS"))["messages"]
    batches = len(cluster.voices) * -(-cluster.agents // len(cluster.voices) // BATCH_EVENTS)
    messages = 2 * cluster.agents + batches

    async def told() -> bool:
        return bool((await state(client, "WAZUH_EVENTS"))["messages"] >= before + messages)

    began = unix_now()
    await mouth.say(deltas)
    await floors.until(told, PATIENCE, f"{messages} messages of the drop")
    return unix_now() - began


async def _bare_restart(stage: Stage) -> float:
    began = unix_now()
    await run_script("bare_restart.py", str(stage.directory / "ledger.db"))
    return unix_now() - began


async def _restart(stage: Stage, client: Client, mouth: Mouth, cluster: Cluster) -> float:
    before: int = (await state(client, "WAZUH_RAW"))["last_seq"]
    await mouth.say([cluster.voices[-1].beat()])
    began = unix_now()
    await stage.relay.start()

    async def consuming() -> bool:
        return await _ack_floor(client) > before

    await floors.until(consuming, PATIENCE, "the relay's return")
    return unix_now() - began


async def _ack_floor(client: Client) -> int:
    return int((await ask(client, "CONSUMER.INFO.WAZUH_RAW.relay"))["ack_floor"]["stream_seq"])
