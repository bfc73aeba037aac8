"""The whole work of every role against a shipped server: real processes, each as its own user."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from nats.js import api

from shared.errors import ConfigError, Unreachable
from tests.border.stage import ROOT, ShippedServer
from tests.collector.process import CollectorProcess
from tests.manager.driver import ManagerProcess
from tests.relay.rig import Rig, ended, running
from tests.world.writes import Columns, Insert, Keys, Update, Write

DEADLINE_S = 30.0
START = 1_795_400_000


@dataclass(frozen=True)
class Told:
    """What the consumer heard."""

    events: int


def row(number: int) -> Write:
    columns: Columns = {"id": number, "name": f"agent-{number}", "ip": "10.0.0.1", "node_name": "node01"}
    return Insert("node01", 0, columns | {"connection_status": "active", "last_keepalive": START, "date_add": START - 10})


def keys(*numbers: int) -> Write:
    return Keys("node01", 0, "".join(f"{number:03d} agent-{number} any {number:064x}\n" for number in numbers))


def stopped(number: int) -> Write:
    columns: Columns = {"connection_status": "disconnected", "disconnection_time": START + number, "status_code": 3}
    return Update("node01", 0, (number,), columns)


async def work(directory: Path, server: ShippedServer) -> Told:
    """Everything that README tells a user to do, with the users of deploy/nats."""
    rig = Rig(directory, server, "node01")
    as_relay = rig.environ | server.environ("NKEY_RELAY")
    await command(rig.environ | server.environ("NKEY_PROVISIONER"), "provision", "--consumer", "siem")
    rig.environ = as_relay
    async with manager(directory) as wazuh, collector(directory, rig, server, wazuh) as watching:
        async with running(rig):
            await decided(rig, 2)
            await wazuh.apply([stopped(1)])
            events = await siem(server, 1)
        rig.forget_ledger()  # the relay reads EVENTS, and has RAW again from its beginning
        async with running(rig):
            await wazuh.apply([stopped(2)])
            events += await siem(server, 1)
            await command(as_relay, "check")
            await command(as_relay, "nodes", "list")
            await command(as_relay, "tail", "--from-start", "--limit", "2")
            watcher = as_relay | server.environ("NKEY_WATCHER") | {"WAZUH_JETSTREAM__NATS__INBOX_PREFIX": "_INBOX_watcher"}
            await command(watcher, "tail", "--from-start", "--limit", "2")
            await asked(as_relay)
        assert await watching.terminate() == 0
    return Told(events)


@contextlib.asynccontextmanager
async def manager(directory: Path) -> AsyncIterator[ManagerProcess]:
    made = ManagerProcess(directory / "m", commit_seconds=0.2)
    await made.start([row(1), row(2), keys(1, 2)])
    try:
        yield made
    finally:
        await made.stop()


@contextlib.asynccontextmanager
async def collector(directory: Path, rig: Rig, server: ShippedServer, wazuh: ManagerProcess) -> AsyncIterator[CollectorProcess]:
    names = {name.removeprefix("WAZUH_JETSTREAM__").lower(): value for name, value in server.environ("NKEY_COLLECTOR_NODE01").items()}
    names.pop("nats__url")
    made = CollectorProcess(directory, wazuh.home, server.url, **names)
    (rig.directory / "keyring" / "node01" / "current.key").write_text("6b" * 32)
    await made.start()
    try:
        yield made
    finally:
        await made.kill()


async def decided(rig: Rig, agents: int) -> None:
    """Until the ledger knows so many agents."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(ConfigError, Unreachable), contextlib.closing(rig.open_ledger()) as book:
                if len(list(book.agents())) >= agents:
                    return
            await asyncio.sleep(0.05)


async def siem(server: ShippedServer, events: int) -> int:
    """A consumer that is bound to its durable consumer reads and acks so many."""
    async with server.client("NKEY_SIEM", "_INBOX_siem") as client:
        subscription = await client.jetstream().pull_subscribe_bind("siem", "WAZUH_EVENTS")
        assert (await subscription.consumer_info()).config.ack_policy == api.AckPolicy.EXPLICIT
        found = await subscription.fetch(events, timeout=DEADLINE_S)
        for message in found:
            await message.ack_sync()
    return len(found)


async def asked(environ: dict[str, str]) -> None:
    """An operator's request goes through RAW to the relay; it refuses to forget the only node, which is heard."""
    code, errors = await command(environ, "nodes", "forget", "node01", code=1)
    assert "it is heard" in errors, (code, errors)


async def command(environ: dict[str, str], *words: str, code: int = 0) -> tuple[int, str]:
    """One command of `wazuh-relay` as a process, which ends with `code`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", *words,
        env={**environ, "PATH": os.environ["PATH"]}, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    found, errors = await ended(process)
    assert found == code, (words, found, errors)
    return found, errors
