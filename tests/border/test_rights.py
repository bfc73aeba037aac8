"""The users of deploy/nats: each role can do its whole work, and nothing of what stands in the table below."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from nats.aio.client import Client

from relay import provision, session
from shared import config
from tests.border.stage import ADMIN, Identities, ShippedServer, make_identities
from tests.border.work import work

pytestmark = pytest.mark.unmeasured

DEADLINE_S = 10.0
INBOXES = {
    "NKEY_PROVISIONER": "_INBOX_provisioner",
    "NKEY_RELAY": "_INBOX_relay",
    "NKEY_SIEM": "_INBOX_siem",
    "NKEY_WATCHER": "_INBOX_watcher",
    "NKEY_COLLECTOR_NODE01": "_INBOX_collector-node01",
    "NKEY_COLLECTOR_WORKER1": "_INBOX_collector-worker1",
    ADMIN: "_INBOX_admin",
}


@dataclass(frozen=True)
class Denial:
    """What a user may not do: a request on `subject`, or, where `listens`, a subscription to it."""

    user: str
    what: str
    subject: str
    body: object = b""
    listens: bool = False

    @property
    def payload(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


API = "$JS.API"
ANY_MESSAGE = {"last_by_subj": ">"}


def _reader(stream: str) -> dict[str, object]:
    return {"stream_name": stream, "config": {"name": "spy", "durable_name": "spy", "ack_policy": "none"}}


def _changed(stream: str) -> dict[str, object]:
    made = provision.streams(config.NatsConfig())[stream]
    return {"name": stream, **made, "max_age": provision.DAY}


COLLECTOR, RELAY, SIEM, WATCHER, PROVISIONER = "NKEY_COLLECTOR_NODE01", "NKEY_RELAY", "NKEY_SIEM", "NKEY_WATCHER", "NKEY_PROVISIONER"

DENIALS = [
    Denial(COLLECTOR, "forge an event", "wazuh.agent.001.status", b"{}"),
    Denial(COLLECTOR, "forge a batch of events", "wazuh.security.agent_events", b"{}"),
    Denial(COLLECTOR, "forge an event of a manager", "wazuh.security.manager_events", b"{}"),
    Denial(COLLECTOR, "forge a heartbeat of its own manager", "wazuh.manager.node01.heartbeat", b"{}"),
    Denial(COLLECTOR, "speak as another node", "wazuh.raw.worker1", b"x"),
    Denial(COLLECTOR, "tick for the relay", "wazuh.raw._tick", b"x"),
    Denial(COLLECTOR, "ask something of the relay", "wazuh.raw._control", b"x"),
    Denial(COLLECTOR, "read raw snapshots with a consumer of its own", f"{API}.CONSUMER.CREATE.WAZUH_RAW.spy", _reader("WAZUH_RAW")),
    Denial(COLLECTOR, "read one raw message", f"{API}.STREAM.MSG.GET.WAZUH_RAW", ANY_MESSAGE),
    Denial(COLLECTOR, "read one raw message directly", f"{API}.DIRECT.GET.WAZUH_RAW", ANY_MESSAGE),
    Denial(COLLECTOR, "take the relay's messages", f"{API}.CONSUMER.MSG.NEXT.WAZUH_RAW.relay", {"batch": 1, "no_wait": True}),
    Denial(COLLECTOR, "set the relay's consumer back", f"{API}.CONSUMER.RESET.WAZUH_RAW.relay", {"seq": 1}),
    Denial(COLLECTOR, "read events with a consumer of its own", f"{API}.CONSUMER.CREATE.WAZUH_EVENTS.spy", _reader("WAZUH_EVENTS")),
    Denial(COLLECTOR, "hear raw snapshots as they pass", "wazuh.raw.*", listens=True),
    Denial(COLLECTOR, "hear events as they pass", "wazuh.agent.*.status", listens=True),
    Denial(COLLECTOR, "hear everything", ">", listens=True),
    Denial(COLLECTOR, "hear the answers to another collector", "_INBOX_collector-worker1.>", listens=True),
    Denial(COLLECTOR, "hear the answers to the relay", "_INBOX_relay.*", listens=True),
    Denial(COLLECTOR, "answer the relay in JetStream's place", "_INBOX_relay.x", b"{}"),
    Denial(COLLECTOR, "purge the raw stream", f"{API}.STREAM.PURGE.WAZUH_RAW", {}),
    Denial(COLLECTOR, "delete the raw stream", f"{API}.STREAM.DELETE.WAZUH_RAW"),
    Denial(RELAY, "speak as a node", "wazuh.raw.node01", b"x"),
    Denial(RELAY, "change the stream of events", f"{API}.STREAM.UPDATE.WAZUH_EVENTS", _changed("WAZUH_EVENTS")),
    Denial(RELAY, "delete the stream of events", f"{API}.STREAM.DELETE.WAZUH_EVENTS"),
    Denial(RELAY, "delete an event", f"{API}.STREAM.MSG.DELETE.WAZUH_EVENTS", {"seq": 1}),
    Denial(RELAY, "purge the raw stream", f"{API}.STREAM.PURGE.WAZUH_RAW", {}),
    Denial(RELAY, "delete its own consumer", f"{API}.CONSUMER.DELETE.WAZUH_RAW.relay"),
    Denial(RELAY, "take a SIEM's messages", f"{API}.CONSUMER.MSG.NEXT.WAZUH_EVENTS.siem", {"batch": 1, "no_wait": True}),
    Denial(RELAY, "delete a SIEM's consumer", f"{API}.CONSUMER.DELETE.WAZUH_EVENTS.siem"),
    Denial(RELAY, "hear the answers to a SIEM", "_INBOX_siem.>", listens=True),
    Denial(SIEM, "forge an event", "wazuh.agent.001.status", b"{}"),
    Denial(SIEM, "ask something of the relay", "wazuh.raw._control", b"x"),
    Denial(SIEM, "read raw snapshots", f"{API}.CONSUMER.CREATE.WAZUH_RAW.spy", _reader("WAZUH_RAW")),
    Denial(SIEM, "read one raw message directly", f"{API}.DIRECT.GET.WAZUH_RAW", ANY_MESSAGE),
    Denial(SIEM, "make another consumer", f"{API}.CONSUMER.CREATE.WAZUH_EVENTS.spy", _reader("WAZUH_EVENTS")),
    Denial(SIEM, "set the relay's consumer back", f"{API}.CONSUMER.RESET.WAZUH_RAW.relay", {"seq": 1}),
    Denial(SIEM, "pause the relay's consumer", f"{API}.CONSUMER.PAUSE.WAZUH_RAW.relay", {"pause_until": "2000-01-01T00:00:00Z"}),
    Denial(SIEM, "hear the answers to the relay", "_INBOX_relay.>", listens=True),
    Denial(SIEM, "delete an event", f"{API}.STREAM.MSG.DELETE.WAZUH_EVENTS", {"seq": 1}),
    Denial(WATCHER, "forge a checkpoint", "wazuh.security.checkpoints", b"{}"),
    Denial(WATCHER, "read raw snapshots", f"{API}.CONSUMER.CREATE.WAZUH_RAW.spy", _reader("WAZUH_RAW")),
    Denial(WATCHER, "take a SIEM's messages", f"{API}.CONSUMER.MSG.NEXT.WAZUH_EVENTS.siem", {"batch": 1, "no_wait": True}),
    Denial(WATCHER, "delete a SIEM's consumer", f"{API}.CONSUMER.DELETE.WAZUH_EVENTS.siem"),
    Denial(WATCHER, "change a SIEM's consumer", f"{API}.CONSUMER.CREATE.WAZUH_EVENTS.siem", _reader("WAZUH_EVENTS")),
    Denial(WATCHER, "delete the stream of heartbeats", f"{API}.STREAM.DELETE.WAZUH_HEARTBEATS"),
    Denial(PROVISIONER, "forge an event", "wazuh.agent.001.status", b"{}"),
    Denial(PROVISIONER, "read raw snapshots", f"{API}.STREAM.MSG.GET.WAZUH_RAW", ANY_MESSAGE),
    Denial(PROVISIONER, "take the relay's messages", f"{API}.CONSUMER.MSG.NEXT.WAZUH_RAW.relay", {"batch": 1, "no_wait": True}),
    Denial(PROVISIONER, "delete a stream", f"{API}.STREAM.DELETE.WAZUH_RAW"),
    Denial(PROVISIONER, "copy the stream of events away", f"{API}.STREAM.SNAPSHOT.WAZUH_EVENTS", {"deliver_subject": "x.y"}),
]


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return make_identities(tmp_path_factory.mktemp("identities"))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory, identities: Identities) -> Iterator[ShippedServer]:
    """The shipped server, for all tests of this module: each brings it into order first."""
    server = ShippedServer(tmp_path_factory.mktemp("nats"), identities)
    yield server
    server.kill()


@asynccontextmanager
async def user(server: ShippedServer, name: str, complaints: list[str] | None = None) -> AsyncIterator[Client]:
    async with server.client(name, INBOXES[name], complaints) as client:
        yield client


async def in_order(server: ShippedServer, admin: Client) -> None:
    """All streams and consumers as they are made, and a message in each."""
    settings = config.load(None, server.environ(PROVISIONER))
    async with session.connected(settings, "provision") as connection:
        await provision.provision(connection, settings, ["siem"])
    checkpoints = {"name": "WAZUH_CHECKPOINTS", "subjects": ["wazuh.security.checkpoints"], "retention": "limits", "storage": "file"}
    await admin.request(f"{API}.STREAM.CREATE.WAZUH_CHECKPOINTS", json.dumps(checkpoints).encode(), timeout=DEADLINE_S)
    for subject in ("wazuh.raw.node01", "wazuh.agent.001.status", "wazuh.manager.node01.heartbeat"):
        await admin.jetstream().publish(subject, b"x")


async def _allowed(client: Client, denial: Denial, complaints: list[str]) -> bool:
    """Whether the server let it happen: an answer came, or a message was heard."""
    if denial.listens:
        await client.subscribe(denial.subject)
        for _ in range(3):  # a refusal comes before the pong, or on a busy machine soon after it
            await client.flush()
        return not complaints
    answers = await client.subscribe(inbox := client.new_inbox())
    await client.publish(denial.subject, denial.payload, reply=inbox)
    await answers.next_msg(DEADLINE_S)  # a message, an answer, or that nobody is there to answer
    return not complaints


async def _tried(server: ShippedServer, name: str, denial: Denial) -> tuple[bool, list[str]]:
    complaints: list[str] = []
    async with user(server, name, complaints) as client:
        attempt = asyncio.ensure_future(_allowed(client, denial, complaints))
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not attempt.done() and not complaints:
                    await asyncio.sleep(0.005)
            return attempt.done() and attempt.result(), complaints
        finally:
            attempt.cancel()


def test_the_table_is_of_every_role() -> None:
    assert len(DENIALS) >= 20
    assert len({(denial.user, denial.what) for denial in DENIALS}) == len(DENIALS)


@pytest.mark.parametrize("denial", DENIALS, ids=lambda denial: f"{denial.user.removeprefix('NKEY_').lower()} may not {denial.what}")
async def test_what_a_role_may_not_do(shipped: ShippedServer, denial: Denial) -> None:
    """The server refuses it by permission; a user with all rights does the very same, so the test can fail."""
    async with user(shipped, ADMIN) as admin:
        await in_order(shipped, admin)
    done, complaints = await _tried(shipped, denial.user, denial)
    assert not done
    kind = "subscription" if denial.listens else "publish"
    assert f'permissions violation for {kind} to "{denial.subject.lower()}"' in complaints[0].lower()
    done, complaints = await _tried(shipped, ADMIN, denial)
    assert (done, complaints) == (True, [])


async def test_every_role_can_do_its_work(tmp_path: Path, identities: Identities) -> None:
    """Provision, a collector, a relay that also begins anew with a lost ledger, `tail`, `check` and a SIEM: nothing is refused."""
    server = ShippedServer(tmp_path / "nats", identities)
    try:
        told = await work(tmp_path, server)
    finally:
        server.kill()
    assert told.events >= 2
    assert "violation" not in server.log.lower()
