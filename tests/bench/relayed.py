"""relay: a real `wazuh-relay run` swallows a full RAW: rows in, signed events out, and memory at the end."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

from nats.aio.client import Client

from shared import wire
from tests.bench import floors, ledgers, usage
from tests.bench.figures import Bar, Figure
from tests.bench.parts import Bench
from tests.bench.stage import SIGNATURES, Stage
from tests.bench.voices import Cluster, Mouth
from tests.manager.driver import unix_now

NAME: Final = "relay"
HELP: Final = "a relay's sustained pace: raw rows a second in, signed events a second out, on SQLite and PostgreSQL"

AGENTS: Final = 10_000
CHANGED: Final = 250  # agents of one input
FULLS: Final = 20  # of one round that measures what comes in
PATIENCE: Final = 300.0
BARS: Final = {("SQLite", "HMAC"): 5_000.0}
MEMORY: Final = 128.0


async def measure(bench: Bench) -> AsyncIterator[Figure]:
    """Each ledger with each signature."""
    for kind in ledgers.KINDS[:1] if bench.quick else ledgers.KINDS:
        for signature in SIGNATURES:
            events, rows, memory = list[float](), list[float](), list[float]()
            for number in range(bench.rounds):
                bench.say(f"relay: {kind}, {signature}: round {number + 1} of {bench.rounds}")
                await _round(bench, f"{kind}-{signature}-{number}", kind, signature, events, rows, memory)
            limit = BARS.get((kind, signature))
            yield Figure(
                NAME, f"out, {signature}, {kind}", "events/s", tuple(events), (), "", None if limit is None else Bar("at least", limit),
                note="each is two signed messages and a place in a signed batch; all of it decided, recorded, sealed and acked",
            )  # fmt: skip
            yield Figure(
                NAME, f"in, {signature}, {kind}", "rows/s", tuple(rows), note="full snapshots of 10,000 agents in which nothing moved"
            )
            yield Figure(NAME, f"memory, 10,000 agents, {signature}, {kind}", "MiB", tuple(memory), (), "", Bar("at most", MEMORY))


async def _round(bench: Bench, name: str, kind: str, signature: str, events: list[float], rows: list[float], memory: list[float]) -> None:
    agents = 500 if bench.quick else AGENTS
    directory, cluster = bench.place(f"relay-{name}"), Cluster(1, agents)
    with ledgers.opened(kind, directory) as url:
        async with Stage(directory, "node01", ledger_url=url, signature=signature) as stage, stage.rig.client() as client:
            mouth = Mouth(stage.rig, client)
            await mouth.say(chain(cluster.fulls(), _changes(cluster, agents)))
            await stage.start_relay()
            await decided(client, PATIENCE, 4 * agents)
            events.append(await _pace(client, 2 * agents))
            memory.append(usage.memory(stage.relay.pid).peak)
            await stage.relay.stop()
            await mouth.say(cluster.voices[0].again() for _ in range(2 if bench.quick else FULLS))
            number = (2 if bench.quick else FULLS) * agents
            await stage.start_relay()
            began = unix_now()
            await decided(client, PATIENCE, 4 * agents)
            rows.append(number / (unix_now() - began))


def _changes(cluster: Cluster, agents: int) -> Iterator[wire.Snapshot]:
    """All stop, and all return."""
    for change in (cluster.stop, cluster.back):
        for start in range(1, agents + 1, CHANGED):
            yield from change(range(start, min(start + CHANGED, agents + 1)))
        cluster.moment += 1


async def decided(client: Client, seconds: float, messages: int) -> None:
    """Once the relay has decided all of RAW, and EVENTS holds so many messages."""

    async def all_of_it() -> bool:
        return await unread(client) == 0 and (await state(client, "WAZUH_EVENTS"))["messages"] >= messages

    await floors.until(all_of_it, seconds, f"the end of RAW and {messages} messages in EVENTS")


async def unread(client: Client) -> int:
    """Messages of RAW that the relay has not acked."""
    info = await ask(client, "CONSUMER.INFO.WAZUH_RAW.relay")
    return int(info["num_pending"]) + int(info["num_ack_pending"])


async def state(client: Client, stream: str) -> dict[str, Any]:
    """A stream's state."""
    found: dict[str, Any] = (await ask(client, f"STREAM.INFO.{stream}"))["state"]
    return found


async def ask(client: Client, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """JetStream's API."""
    answer = await client.request(f"$JS.API.{verb}", json.dumps(body).encode() if body else b"", timeout=30)
    found: dict[str, Any] = json.loads(answer.data)
    return found


async def _pace(client: Client, events: int) -> float:
    """Events a second from the baseline's batch to the last message, by the stream's own times."""
    found = await state(client, "WAZUH_EVENTS")
    span = _seconds(found["last_ts"]) - _seconds(found["first_ts"])
    return events / span


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time[:26].rstrip("Z")).replace(tzinfo=UTC).timestamp()
