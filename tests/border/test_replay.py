"""What was said once cannot be said again, nor by somebody else: each kind of replay against a running relay."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client

from relay import control
from relay.stored import Quarantined
from shared import sealing, wire
from tests.nats_server import NatsServer
from tests.relay.rig import CLOCK, DEADLINE_S, PREFIX, NodeVoice, Rig, Stored, changes, running, whole

STATUS = [("001", "Active", "Disconnected")]


@pytest.fixture
def rig(tmp_path: Path, nats_server: NatsServer) -> Rig:
    return Rig(tmp_path, nats_server, "node01", "node02")


@asynccontextmanager
async def living(rig: Rig) -> AsyncIterator[tuple[Client, NodeVoice]]:
    """A relay that knows two agents of node01, of which the first was stopped."""
    await rig.provision()
    async with rig.client() as client, running(rig):
        voice = NodeVoice(rig, client)
        await voice.full(2)
        await voice.stop(1)
        await rig.until(client, 1)
        yield client, voice


async def again(client: Client, message: Stored, subject: str | None = None, headers: dict[str, str] | None = None) -> int:
    """The same message once more, from somebody who may publish there; where it stands in RAW."""
    kept = {name: value for name, value in (headers or message.headers).items() if not name.startswith("Nats-")}
    return (await client.jetstream().publish(subject or message.subject, message.body, headers=kept)).seq


async def refused(rig: Rig, position: int) -> Quarantined:
    """What the relay kept aside of RAW's message at `position`."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.closing(rig.open_ledger()) as book:
                found = [one for one in book.shelf.kept(10) if one.position == position]
            if found:
                return found[0]
            await asyncio.sleep(0.02)


async def passed(rig: Rig, position: int) -> None:
    """Once the relay has decided RAW up to `position`."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.closing(rig.open_ledger()) as book:
                if book.position() >= position:
                    return
            await asyncio.sleep(0.02)


async def manager_events(rig: Rig, client: Client, kind: str) -> list[Stored]:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = [one for one in await rig.stored(client) if one.headers["Wazuh-Kind"] == kind]
            if found:
                return found
            await asyncio.sleep(0.02)


async def raw(rig: Rig, client: Client) -> list[Stored]:
    """What the nodes said."""
    return [one for one in await rig.stored(client, "WAZUH_RAW") if not one.subject.endswith(("_tick", "_control"))]


async def test_an_old_snapshot_that_is_sent_again_brings_nobody_back(rig: Rig) -> None:
    """The agent was active in it; the relay has heard a newer one, and drops it."""
    async with living(rig) as (client, voice):
        first, *_ = await raw(rig, client)
        await passed(rig, await again(client, first))
        await voice.stop(2)
        found = await rig.until(client, 2)
    assert changes(found) == [*STATUS, ("002", "Active", "Disconnected")]
    whole(found, rig.secret)


async def test_a_snapshot_that_somebody_publishes_again_under_another_node_is_refused(rig: Rig) -> None:
    """The signature covers the subject."""
    async with living(rig) as (client, _):
        first, *_ = await raw(rig, client)
        position = await again(client, first, subject="wazuh.raw.node02")
        assert (await refused(rig, position)).reason == "bad_signature"


async def test_a_node_cannot_speak_with_its_own_key_as_another(rig: Rig) -> None:
    """On the other's subject its key does not count, and on its own it may not name the other."""
    async with living(rig) as (client, _):
        other = NodeVoice(rig, client, "node02").snapshot("full")
        (body,) = wire.split(wire.encode(other), other.node, other.boot, other.seq, other.taken_at)
        for subject, why in (("wazuh.raw.node02", "bad_signature"), ("wazuh.raw.node01", "wrong_node")):
            signer = sealing.MessageSigner(sealing.Key(rig.node_keys["node01"]))
            headers = {sealing.SIGNATURE_HEADER: signer.sign_header(subject, body, {})}
            position = (await client.jetstream().publish(subject, body, headers=headers)).seq
            assert (await refused(rig, position)).reason == why


@pytest.mark.parametrize(
    "strip", [lambda _: {}, lambda headers: {"Wazuh-Signature": headers["Wazuh-Signature"].replace("a", "b", 1) + "0"}]
)
async def test_a_snapshot_without_its_signature_is_refused(rig: Rig, strip: Callable[[dict[str, str]], dict[str, str]]) -> None:
    async with living(rig) as (client, _):
        first, *_ = await raw(rig, client)
        wrong = strip(first.headers) or {"X": "y"}
        assert (await refused(rig, await again(client, first, headers=wrong))).reason in ("unsigned", "bad_signature")


async def test_a_snapshot_of_the_future_is_reported_and_brings_no_false_event(rig: Rig) -> None:
    """Its node's clock is off: that is told, and reckoned with; nobody's status changes for it."""
    async with living(rig) as (client, voice):
        later = voice.snapshot("full", taken_at=CLOCK.now_ms() + 3_600_000, as_of=CLOCK.now_ms() + 3_600_000)
        await rig.say(client, later)
        (told,) = await manager_events(rig, client, "clock_off")
        assert (told.fields["manager_node"], told.fields["details"]["behind_seconds"] < -3500) == ("node01", True)
        found = await rig.stored(client)
    assert changes(found) == STATUS


async def test_a_second_collector_of_one_node_is_refused_and_reported(rig: Rig) -> None:
    """A copied host, or who stole a node's key and its spool: the older start count is refused, with all that it says."""
    async with living(rig) as (client, voice):
        newer = NodeVoice(rig, client, boot=2)
        newer.moment = voice.moment
        await newer.whole(*voice.speaker.rows.values())
        await voice.back(1)  # the one with the older count goes on
        (told,) = await manager_events(rig, client, "duplicate_collector")
        assert told.fields["details"] == {"boot": 1, "newest_boot": 2}
        found = await rig.stored(client)
    assert changes(found) == STATUS


async def test_a_request_of_an_operator_cannot_be_said_again(rig: Rig) -> None:
    """Its id is signed, and the stream takes an id once for as long as the request is young enough to count."""
    async with living(rig) as (client, _):
        subject, body = f"{PREFIX}.raw._control", control.encode(control.Forget("node09", force=True), CLOCK.now_ms())
        signer = sealing.MessageSigner(sealing.Key(rig.secret))
        headers = {control.MESSAGE_ID: "control:7", sealing.SIGNATURE_HEADER: control.signature(signer, subject, body, "control:7")}
        js = client.jetstream()
        first = await js.publish(subject, body, headers=headers)
        assert (await refused(rig, first.seq)).reason == "unknown_node"  # it was genuine, and there is no such node
        repeated = await js.publish(subject, body, headers=headers)
        assert (repeated.seq, repeated.duplicate) == (first.seq, True)
        for changed in ({**headers, control.MESSAGE_ID: "control:8"}, {sealing.SIGNATURE_HEADER: headers[sealing.SIGNATURE_HEADER]}):
            position = (await js.publish(subject, body, headers=changed)).seq
            assert (await refused(rig, position)).reason == "bad_signature"
        window = (await js.stream_info("WAZUH_RAW")).config.duplicate_window
    assert window is not None
    assert window * 1000 >= control.MAX_AGE


async def test_an_old_request_is_refused_whoever_sends_it(rig: Rig) -> None:
    async with living(rig) as (client, _):
        subject, body = (
            f"{PREFIX}.raw._control",
            control.encode(control.Forget("node01", force=True), CLOCK.now_ms() - control.MAX_AGE - 1000),
        )
        signer = sealing.MessageSigner(sealing.Key(rig.secret))
        headers = {control.MESSAGE_ID: "control:7", sealing.SIGNATURE_HEADER: control.signature(signer, subject, body, "control:7")}
        position = (await client.jetstream().publish(subject, body, headers=headers)).seq
        assert (await refused(rig, position)).reason == "stale"


async def test_a_forged_tick_is_refused(rig: Rig) -> None:
    """A tick moves the relay's time: it is the relay's own."""
    async with living(rig) as (client, _):
        body = wire.encode_tick(wire.Tick("relay", CLOCK.now_ms()))
        signer = sealing.MessageSigner(sealing.Key(rig.node_keys["node01"]))
        headers = {sealing.SIGNATURE_HEADER: signer.sign_header("wazuh.raw._tick", body, {})}
        position = (await client.jetstream().publish("wazuh.raw._tick", body, headers=headers)).seq
        assert (await refused(rig, position)).reason == "bad_signature"
