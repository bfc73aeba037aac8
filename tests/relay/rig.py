"""A relay on a bench with a real nats-server: hand-made signed snapshots go into RAW, what stands in EVENTS is read plainly.

What reads EVENTS here knows nothing of this project: nats-py, hmac and json.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.js import api

from relay import ledger, provision, run, session
from shared import config, sealing, wire
from shared.clock import SystemClock
from shared.errors import ConfigError, Unreachable
from shared.models import AgentRow
from tests.nats_server import NatsServer
from tests.relay.lab import Speaker, key, row

DEADLINE_S = 20.0
PREFIX = "wazuh"
CLOCK = SystemClock()


@dataclass(frozen=True)
class Stored:
    """One message as it stands in a stream."""

    seq: int
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]

    @property
    def event_id(self) -> str:
        return str(self.fields["event_id"])


class Rig:
    """Keys, configuration and a publisher of raw messages for nodes; `nodes` are in the keyring."""

    def __init__(self, directory: Path, server: NatsServer, *nodes: str) -> None:
        self.directory = directory
        self.server = server
        self.secret = _key_file(directory / "relay.key")
        self.node_keys = {node: _key_file(directory / "keyring" / node / "current.key") for node in nodes}
        self.environ = {
            "WAZUH_JETSTREAM__NATS__URL": server.url,
            "WAZUH_JETSTREAM__NATS__RECONNECT_DELAY": "50ms",
            "WAZUH_JETSTREAM__SECURITY__SIGNING_KEY_PATH": str(directory / "relay.key"),
            "WAZUH_JETSTREAM__SECURITY__KEYRING_PATH": str(directory / "keyring"),
            "WAZUH_JETSTREAM__MONITORING__METRICS_PORT": "0",
            "WAZUH_JETSTREAM__RELAY__LEDGER_URL": f"sqlite:///{directory}/ledger.db",
            "WAZUH_JETSTREAM__RELAY__TICK_INTERVAL": "100ms",
            "WAZUH_JETSTREAM__RELAY__HEARTBEAT_INTERVAL": "100ms",
            "WAZUH_JETSTREAM__RELAY__RESET_GRACE": "0s",
        }

    @property
    def settings(self) -> config.Config:
        return config.load(None, self.environ)

    def forget_ledger(self) -> None:
        for path in self.directory.glob("ledger.db*"):
            path.unlink()

    def save_ledger(self) -> None:
        """Copy the ledger of a relay that ended."""
        shutil.copy(self.directory / "ledger.db", self.directory / "copy.db")

    def put_back_ledger(self) -> None:
        self.forget_ledger()
        shutil.copy(self.directory / "copy.db", self.directory / "ledger.db")

    async def provision(self) -> list[str]:
        async with session.connected(self.settings, "provision") as connection:
            return await provision.provision(connection, self.settings)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Plain nats-py."""
        client = await nats.connect(self.server.url, reconnect_time_wait=0.05, max_reconnect_attempts=-1)
        try:
            yield client
        finally:
            await client.close()

    # Saying -------------------------------------------------------------------------------------------------------

    async def say(self, client: Client, snapshot: wire.Snapshot, *, part_bytes: int = wire.PART_BYTES) -> None:
        """Publish a snapshot as its collector would."""
        payload = wire.encode(snapshot)
        for body in wire.split(payload, snapshot.node, snapshot.boot, snapshot.seq, snapshot.taken_at, part_bytes):
            await self.send(client, snapshot.node, body)

    async def send(self, client: Client, node: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Publish any bytes on a node's subject, signed with its key unless `headers` say otherwise."""
        subject = f"{PREFIX}.raw.{node}"
        if headers is None:
            signer = sealing.MessageSigner(sealing.Key(self.node_keys[node]))
            headers = {sealing.SIGNATURE_HEADER: signer.sign_header(subject, body, {})}
        await client.jetstream().publish(subject, body, headers=dict(headers), timeout=DEADLINE_S)

    # Reading ------------------------------------------------------------------------------------------------------

    async def stored(self, client: Client, stream: str = "WAZUH_EVENTS") -> list[Stored]:
        """All that a stream holds."""
        js = client.jetstream()
        state = (await js.stream_info(stream)).state
        if state.messages == 0:
            return []
        subscription = await js.subscribe(
            ">" if stream == "WAZUH_EVENTS" else "", stream=stream, config=api.ConsumerConfig(ack_policy=api.AckPolicy.NONE)
        )
        found: list[Stored] = []
        while not found or found[-1].seq < state.last_seq:
            message = await subscription.next_msg(timeout=DEADLINE_S)
            found.append(Stored(message.metadata.sequence.stream, message.subject, dict(message.headers or {}), message.data))
        await subscription.unsubscribe()
        return found

    async def until_decided(self, events: int) -> None:
        """Once the ledger's history has so many events."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(Unreachable, ConfigError), contextlib.closing(self.open_ledger()) as book:
                    if len(book.history(None, events)) >= events:
                        return
                await asyncio.sleep(0.02)

    def open_ledger(self) -> ledger.Ledger:
        """The ledger, read-only, also while a relay runs."""
        return ledger.Ledger.open(self.settings.relay.ledger_url, read_only=True)

    async def ticked(self, client: Client) -> None:
        """Once a tick stands in RAW."""
        async with asyncio.timeout(DEADLINE_S):
            while (await client.jetstream().stream_info("WAZUH_RAW", subjects_filter="wazuh.raw._tick")).state.subjects is None:
                await asyncio.sleep(0.02)

    async def until(self, client: Client, statuses: int) -> list[Stored]:
        """EVENTS, once it holds so many `.status` messages and the batch after them."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = await self.stored(client)
                if len(changes(found)) >= statuses and found and found[-1].subject.endswith("agent_events"):
                    return found
                await asyncio.sleep(0.02)


def changes(found: list[Stored]) -> list[tuple[str, str, str]]:
    """(agent, previous, current) of each event, in the stream's order."""
    events = [one.fields for one in found if one.subject.endswith(".status")]
    return [(event["agent_id"], event["previous_status"], event["current_status"]) for event in events]


def told(found: list[Stored]) -> list[Stored]:
    """Each event of an agent once: a change under `.status`, what changes no status under its own kind."""
    asides = (".moved", ".overdue", ".overdue_cleared", ".version_refused", ".removed_but_connected")
    return [one for one in found if one.subject.endswith((".status", *asides))]


def signed(fields: Mapping[str, Any], secret: bytes) -> bool:
    """What a subscriber does who has nothing but the standard library."""
    unsigned = {name: value for name, value in fields.items() if name != "signature"}
    canonical = json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hmac.compare_digest(hmac.new(secret, canonical, hashlib.sha256).hexdigest(), fields["signature"])


def _key_file(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = secrets.token_bytes(32)
    path.touch(mode=0o600)
    path.write_text(secret.hex())
    return secret


# A relay ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[run.Relay]:
    """A relay in this process, ended in order."""
    relay = run.Relay(rig.settings, run.trust(rig.settings))
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        relay.stop()
        async with asyncio.timeout(DEADLINE_S):
            assert await task == 0


async def spawn(
    rig: Rig, environ: Mapping[str, str] | None = None, command: Sequence[str] = ("-m", "relay", "run")
) -> asyncio.subprocess.Process:
    """The real command as a process."""
    return await asyncio.create_subprocess_exec(
        sys.executable, *command,
        env={**rig.environ, **(environ or {}), "PATH": ""},
        cwd=Path(__file__).parents[2],
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


def whole(found: list[Stored], secret: bytes) -> None:
    """The laws that EVENTS always obeys: in the outbox's order without a hole, no event twice, all signed, batches complete."""
    assert [one.headers["Wazuh-Outbox-Sequence"] for one in found] == [str(number) for number in range(1, len(found) + 1)]
    ids = [one.headers["Nats-Msg-Id"] for one in found]
    assert len(ids) == len(set(ids))
    events = [one.fields for one in told(found)]
    assert all(signed(event, secret) for event in events)
    assert [event for one in found if one.subject.endswith("agent_events") for event in one.fields["events"]] == events


async def ended(process: asyncio.subprocess.Process, number: signal.Signals | None = None) -> tuple[int, str]:
    """Its exit code and what it wrote, after a signal."""
    if number is not None:
        process.send_signal(number)
    async with asyncio.timeout(DEADLINE_S):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


# A node -------------------------------------------------------------------------------------------------------------


class NodeVoice:
    """A standalone node's collector that speaks in real time, about agents that it lets come and go."""

    def __init__(self, rig: Rig, client: Client, node: str = "node01", boot: int = 1) -> None:
        self.rig = rig
        self.client = client
        self.speaker = Speaker(node, "standalone", boot=boot)
        self.moment = CLOCK.now_ms() // 1000

    async def full(self, count: int) -> None:
        """So many active agents."""
        await self.whole(*(row(number, "active", self.moment, node=self.speaker.node) for number in range(1, count + 1)))

    async def whole(self, *rows: AgentRow) -> None:
        """These rows and no other."""
        self.speaker.rows = {one.id: one for one in rows}
        self.speaker.keys = {one.id: key(one) for one in rows}
        await self.rig.say(self.client, self.snapshot("full"))

    async def stop(self, *numbers: int) -> None:
        """These agents say goodbye."""
        self.moment += 1
        await self._delta("disconnected", numbers, code=3, dt=self.moment)

    async def back(self, *numbers: int) -> None:
        """These agents are there again."""
        self.moment += 1
        await self._delta("active", numbers, code=0, dt=0)

    async def _delta(self, status: Any, numbers: tuple[int, ...], **facts: Any) -> None:
        before = self.moment - 1 if status == "disconnected" else self.moment
        rows = [row(number, status, before, node=self.speaker.node, **facts) for number in numbers]
        await self.changed(*rows)

    async def changed(self, *rows: AgentRow) -> None:
        self.speaker.rows |= {one.id: one for one in rows}
        await self.rig.say(self.client, self.snapshot("delta", rows=rows))

    def snapshot(self, kind: wire.Kind, **changes: object) -> wire.Snapshot:
        return self.speaker.snapshot(kind, CLOCK.now_ms() // 1000, **changes)


async def page(port: int, path: str) -> str:
    """What a page answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer
