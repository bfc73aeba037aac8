"""The whole relay between a real RAW and a real EVENTS."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from relay import catchup, decide, events
from relay.decided import Decision
from relay.fleet import Fleet, Folded, Heard, Input
from shared import sealing, wire
from tests.nats_server import NatsServer
from tests.relay.rig import NodeVoice, Rig, changes, ended, page, running, signed, spawn, whole

pytestmark = pytest.mark.unmeasured


@pytest.fixture
async def rig(tmp_path: Path, nats_server: NatsServer) -> Rig:
    made = Rig(tmp_path, nats_server, "node01", "node02")
    await made.provision()
    return made


async def test_a_change_becomes_one_signed_event_that_hmac_and_json_verify(rig: Rig) -> None:
    async with rig.client() as client, running(rig):
        voice = NodeVoice(rig, client)
        await voice.full(3)
        await voice.stop(2)
        found = await rig.until(client, 1)
    assert [(one.subject) for one in found] == [
        "wazuh.security.agent_events",
        "wazuh.agent.002.status",
        "wazuh.agent.002.disconnected",
        "wazuh.security.agent_events",
    ]
    status, kind, batch = found[1], found[2], found[3]
    assert set(status.fields) == {
        "agent_id", "agent_name", "previous_status", "current_status", "ip_address",
        "last_keepalive", "manager_node", "timestamp", "event_id", "signature",
    }  # fmt: skip
    assert status.body == kind.body
    assert changes(found) == [("002", "Active", "Disconnected")]
    assert signed(status.fields, rig.secret)
    assert batch.fields["events"] == [status.fields]
    assert [one.headers["Wazuh-Outbox-Sequence"] for one in found] == ["1", "2", "3", "4"]
    whole(found, rig.secret)


async def test_a_restart_in_the_middle_loses_and_doubles_nothing(rig: Rig) -> None:
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        async with running(rig):
            await voice.stop(1)
            await rig.until(client, 1)
        await voice.stop(2)
        await voice.back(1)
        async with running(rig):
            found = await rig.until(client, 3)
    assert changes(found) == [("001", "Active", "Disconnected"), ("002", "Active", "Disconnected"), ("001", "Disconnected", "Active")]
    whole(found, rig.secret)


async def test_a_lost_ledger_is_rebuilt_without_an_event_twice_or_lost(rig: Rig) -> None:
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        async with running(rig):
            await voice.stop(1)
            before = await rig.until(client, 1)
        rig.forget_ledger()
        await voice.stop(2)
        await voice.back(1)
        async with running(rig):
            found = await rig.until(client, 3)
    assert changes(found) == [("001", "Active", "Disconnected"), ("002", "Active", "Disconnected"), ("001", "Disconnected", "Active")]
    assert found[: len(before)] == before
    whole(found, rig.secret)
    last = found[-2].fields
    agent = voice.speaker.rows[1]
    assert last["event_id"] == events.event_id(
        "lab", (1, agent.name, agent.date_add), "connected", ("Disconnected", "Active"), voice.moment, 0, before[1].event_id
    )


async def test_a_ledger_lost_after_the_baseline_says_the_baseline_once(rig: Rig) -> None:
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        async with running(rig):
            await rig.until(client, 0)
        rig.forget_ledger()
        await voice.stop(2)
        async with running(rig):
            found = await rig.until(client, 1)
    assert changes(found) == [("002", "Active", "Disconnected")]
    whole(found, rig.secret)


@pytest.mark.parametrize(("step", "many"), [(2000, 500), (1, 0)])
async def test_a_ledger_lost_in_the_middle_of_an_inputs_messages_publishes_the_rest(
    rig: Rig, step: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup, "STEP", step)
    monkeypatch.setattr(catchup, "MANY", many)
    rig.environ["WAZUH_JETSTREAM__RELAY__BATCH_MESSAGES"] = "2"
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(5)
        await voice.stop(3)
        await voice.back(3)
        await voice.stop(1, 2, 3, 4, 5)
        relay = await spawn(rig, {"WAZUH_JETSTREAM_CRASH_AT": "relay.after_publish:8"})
        assert (await ended(relay))[0] == -signal.SIGKILL
        assert len(changes(await rig.stored(client))) == 5  # of seven
        rig.forget_ledger()
        async with running(rig):
            found = await rig.until(client, 7)
    assert [agent for agent, *_ in changes(found)] == ["003", "003", "001", "002", "003", "004", "005"]
    whole(found, rig.secret)


async def test_a_ledger_put_back_from_a_copy_decides_the_same_again(rig: Rig) -> None:
    """So does one that lost its last transactions in a power failure."""
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        async with running(rig):
            await voice.stop(1)
            await rig.until(client, 1)
        rig.save_ledger()
        async with running(rig):
            await voice.stop(2)
            await voice.back(1)
            await rig.until(client, 3)
        rig.put_back_ledger()
        await voice.stop(3)
        async with running(rig):
            found = await rig.until(client, 4)
    assert [(agent, now) for agent, _, now in changes(found)] == [
        ("001", "Disconnected"), ("002", "Disconnected"), ("001", "Active"), ("003", "Disconnected"),
    ]  # fmt: skip
    whole(found, rig.secret)


async def test_a_copy_that_is_older_than_raw_reaches_is_refused(rig: Rig) -> None:
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        async with running(rig):
            await voice.stop(1)
            await rig.until(client, 1)
        rig.save_ledger()
        async with running(rig):
            await voice.stop(2)
            await rig.until(client, 2)
        rig.put_back_ledger()
        await client.jetstream().purge_stream("WAZUH_RAW")
        code, errors = await ended(await spawn(rig))
    assert code == 70
    assert "move the ledger away and it is made anew" in errors.splitlines()[-1]


async def test_a_lost_ledger_and_a_raw_that_begins_anew_publish_only_what_changed(rig: Rig) -> None:
    """After a restore of NATS from nothing but EVENTS: what the nodes say now is compared with what was published last."""
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        async with running(rig):
            await voice.stop(1)
            await voice.stop(2)
            await rig.until(client, 2)
        rig.forget_ledger()
        await client.jetstream().delete_stream("WAZUH_RAW")
        await rig.provision()
        again = NodeVoice(rig, client, boot=2)
        again.speaker.rows, again.speaker.keys = voice.speaker.rows, voice.speaker.keys
        async with running(rig):
            await rig.say(client, again.snapshot("full"))
            again.moment = voice.moment
            await again.back(2)
            found = await rig.until(client, 3)
    assert changes(found) == [("001", "Active", "Disconnected"), ("002", "Active", "Disconnected"), ("002", "Disconnected", "Active")]
    whole(found, rig.secret)


async def test_what_is_hostile_is_kept_aside_and_the_next_message_goes_on(rig: Rig) -> None:
    async with rig.client() as client, running(rig):
        voice = NodeVoice(rig, client)
        await voice.full(3)
        for node, body, headers in hostile(rig, voice):
            await rig.send(client, node, body, headers)
        await voice.stop(1)
        found = await rig.until(client, 1)
        with contextlib.closing(rig.open_ledger()) as book:
            kept = book.shelf.kept(100)
    assert changes(found) == [("001", "Active", "Disconnected")]
    assert [one.reason for one in reversed(kept)] == [
        "malformed", "newer_schema", "unsigned", "bad_signature", "oversized", "unknown_node", "wrong_node", "wrong_cluster", "incomplete",
        "incomplete",
    ]  # fmt: skip
    assert all(one.sentence and one.payload for one in kept[1:])


def hostile(rig: Rig, voice: NodeVoice) -> Iterator[tuple[str, bytes, dict[str, str] | None]]:
    """(node, body, headers or None for a right signature) of one message of each kind that must be refused."""
    said = replace(voice.snapshot("beat"), seq=1000)

    def one(of: wire.Snapshot, **envelope: object) -> bytes:
        fields = msgpack.unpackb(wire.split(wire.encode(of), of.node, of.boot, of.seq, of.taken_at)[0])
        return bytes(msgpack.packb(fields | envelope))

    stranger = sealing.MessageSigner(sealing.Key(b"s" * 32))
    yield "node01", b"not msgpack", None
    yield "node01", one(said, v=99), None
    yield "node01", one(said), {}
    yield "node01", one(said), {sealing.SIGNATURE_HEADER: stranger.sign_header("wazuh.raw.node01", one(said), {})}
    yield "node01", one(said, data=b"x" * (wire.PART_BYTES + 1)), None
    yield "node09", one(said), {sealing.SIGNATURE_HEADER: stranger.sign_header("wazuh.raw.node09", one(said), {})}
    yield "node02", one(said), None
    yield "node01", one(replace(said, cluster="other")), None
    yield "node01", one(said, part=2, parts=3), None
    yield "node01", one(said, part=1, parts=3), None  # and never the others


async def test_an_input_that_breaks_the_judge_is_kept_aside(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw costs one message, and nothing half-done of it stays."""
    real = decide.decide

    def breaking(fleet: Fleet, given: Input, folded: Folded, prefix: str) -> Decision:
        if isinstance(given, Heard) and given.snapshot.seq == 2:
            fleet.agents.clear()
            raise ZeroDivisionError
        return real(fleet, given, folded, prefix)

    monkeypatch.setattr(decide, "decide", breaking)
    async with rig.client() as client, running(rig):
        voice = NodeVoice(rig, client)
        await voice.full(3)
        await voice.stop(1)
        await voice.stop(2)
        found = await rig.until(client, 1)
        with contextlib.closing(rig.open_ledger()) as book:
            kept = book.shelf.kept(100)
    assert changes(found) == [("002", "Active", "Disconnected")]
    assert [one.reason for one in kept] == ["undecidable"]


CRASH_POINTS = ("before_record", "after_record", "after_ack", "before_publish", "after_publish", "after_mark")


@pytest.mark.parametrize("point", [f"relay.{name}:{count}" for name, count in zip(CRASH_POINTS, (2, 2, 1, 2, 2, 2), strict=True)])
async def test_a_relay_killed_at_a_crash_point_publishes_each_event_once(rig: Rig, point: str) -> None:
    rig.environ["WAZUH_JETSTREAM__RELAY__BATCH_MESSAGES"] = "2"
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        await voice.stop(1)
        await voice.stop(2)
        await voice.back(1)
        relay = await spawn(rig, {"WAZUH_JETSTREAM_CRASH_AT": point})
        assert (await ended(relay))[0] == -signal.SIGKILL
        async with running(rig):
            found = await rig.until(client, 3)
    assert changes(found) == [("001", "Active", "Disconnected"), ("002", "Active", "Disconnected"), ("001", "Disconnected", "Active")]
    whole(found, rig.secret)


async def test_nats_killed_in_between_is_waited_for(rig: Rig) -> None:
    async with rig.client() as client, running(rig):
        voice = NodeVoice(rig, client)
        await voice.full(3)
        await voice.stop(1)
        await rig.until(client, 1)
        rig.server.kill()
        await asyncio.to_thread(rig.server.start)
        await voice.stop(2)
        found = await rig.until(client, 2)
    assert changes(found) == [("001", "Active", "Disconnected"), ("002", "Active", "Disconnected")]
    whole(found, rig.secret)


async def test_sigterm_drains_the_outbox_and_ends_with_0(rig: Rig) -> None:
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(200)
        relay = await spawn(rig)
        await voice.stop(*range(1, 201))
        await rig.until_decided(200)
        code, errors = await ended(relay, signal.SIGTERM)
        found = await rig.stored(client)
    assert code == 0, errors
    assert len(changes(found)) == 200
    assert json.loads(errors.splitlines()[-1])["event"] == "stopped"
    whole(found, rig.secret)


async def test_heartbeats_tell_of_each_node_and_are_signed(rig: Rig) -> None:
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        subscription = await client.subscribe("wazuh.manager.*.heartbeat")
        async with running(rig):
            message = await subscription.next_msg(20)
            while json.loads(message.data)["agents"]["total"] == 0:  # the first one may come before the baseline
                message = await subscription.next_msg(20)
    beat = json.loads(message.data)
    assert message.subject == "wazuh.manager.node01.heartbeat"
    assert signed(beat, rig.secret)
    assert beat["status"] == "fresh"
    assert beat["agents"] == {"total": 3, "active": 3, "disconnected": 0, "pending": 0, "never_connected": 0, "overdue": 0}
    assert (beat["boot"], beat["seq"], beat["source"], beat["source_state"]) == (1, 1, "socket", "ok")


async def test_a_second_relay_with_its_own_ledger_is_told_to_stop(rig: Rig) -> None:
    """Two relays that both publish would contradict each other: who finds what it did not write ends."""
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        relay = await spawn(rig)
        await voice.stop(1)
        await rig.until(client, 1)
        await client.jetstream().publish("wazuh.agent.009.status", b"{}")
        await voice.stop(2)
        code, errors = await ended(relay)
    assert code == 70
    assert "is not of this relay's ledger; stop the other relay" in errors.splitlines()[-1]


async def test_streams_that_are_made_later_are_waited_for(tmp_path: Path, nats_server: NatsServer) -> None:
    rig = Rig(tmp_path, nats_server, "node01")
    async with rig.client() as client:
        relay = await spawn(rig)
        await logged(relay, "raw_unread")
        await rig.provision()
        voice = NodeVoice(rig, client)
        await voice.full(2)
        await voice.stop(1)
        found = await rig.until(client, 1)
        code, _ = await ended(relay, signal.SIGTERM)
    assert (code, changes(found)) == (0, [("001", "Active", "Disconnected")])


async def test_a_relay_that_waits_for_nats_ends_when_asked(rig: Rig) -> None:
    rig.server.kill()
    relay = await spawn(rig)
    await logged(relay, "nats_error")
    assert (await ended(relay, signal.SIGTERM))[0] == 0


async def test_events_that_no_relay_wrote_are_not_begun_upon(rig: Rig) -> None:
    async with rig.client() as client:
        await client.jetstream().publish("wazuh.agent.001.status", b"{}")
        code, errors = await ended(await spawn(rig))
    assert code == 70
    assert "stop the other relay that writes there" in errors.splitlines()[-1]


async def test_a_port_that_is_taken_is_an_error_in_one_line(rig: Rig) -> None:
    rig.environ["WAZUH_JETSTREAM__MONITORING__METRICS_PORT"] = str(rig.server.port)
    code, errors = await ended(await spawn(rig))
    assert code == 78
    assert "monitoring.metrics_port" in errors.splitlines()[-1]


async def logged(process: asyncio.subprocess.Process, event: str) -> None:
    """Once a process wrote a line of this kind."""
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while json.loads(await process.stderr.readline())["event"] != event:
            pass


async def test_readiness_and_metrics_tell_how_it_is(rig: Rig) -> None:
    async with rig.client() as client:
        relay = await spawn(rig)
        assert relay.stderr is not None
        port = json.loads(await relay.stderr.readline())["port"]
        voice = NodeVoice(rig, client)
        await voice.full(2)
        await voice.stop(1)
        await rig.until(client, 1)
        async with asyncio.timeout(20):
            while not (await page(port, "/readyz")).startswith("HTTP/1.1 200"):
                await asyncio.sleep(0.05)
        metrics = await page(port, "/metrics")
        await ended(relay, signal.SIGTERM)
    assert 'wazuh_jetstream_relay_events_total{kind="disconnected",reason="stopped"} 1.0' in metrics
    assert "wazuh_jetstream_relay_latency_seconds_count" in metrics
