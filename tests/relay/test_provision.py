"""Laws of provisioning: what is needed is made, what is there is left, what cannot be is said."""

from pathlib import Path

import pytest
from nats.js import api

from relay import provision
from shared.errors import Stop
from tests.nats_server import NatsServer
from tests.relay.rig import Rig


@pytest.fixture
def rig(tmp_path: Path, nats_server: NatsServer) -> Rig:
    return Rig(tmp_path, nats_server)


SUBJECTS = (
    "wazuh.raw.n1",
    "wazuh.raw._tick",
    "wazuh.agent.001.status",
    "wazuh.security.agent_events",
    "wazuh.security.manager_events",
    "wazuh.manager.n1.heartbeat",
    "wazuh.security.checkpoints",
)
STREAMS = ("WAZUH_RAW", "WAZUH_EVENTS", "WAZUH_HEARTBEATS", "WAZUH_CHECKPOINTS")
THINGS = (*(f"stream {name}" for name in STREAMS), "consumer relay on WAZUH_RAW")


async def test_everything_is_made_once(rig: Rig) -> None:
    assert await rig.provision() == [f"{thing}: created" for thing in THINGS]
    assert await rig.provision() == [f"{thing}: unchanged" for thing in THINGS]


async def test_a_changed_bound_is_brought_to_the_configuration(rig: Rig) -> None:
    await rig.provision()
    rig.environ["WAZUH_JETSTREAM__NATS__RAW_MAX_BYTES"] = "1GiB"
    assert await rig.provision() == [
        "stream WAZUH_RAW: updated (max_bytes 8589934592 -> 1073741824)",
        *(f"{thing}: unchanged" for thing in THINGS[1:]),
    ]


async def test_an_events_stream_can_neither_be_purged_nor_deleted_from(rig: Rig) -> None:
    await rig.provision()
    async with rig.client() as client:
        config = (await client.jetstream().stream_info("WAZUH_EVENTS")).config
    assert (config.deny_delete, config.deny_purge) == (True, True)


async def test_every_subject_of_an_event_has_its_stream(rig: Rig) -> None:
    await rig.provision()
    async with rig.client() as client:
        stored = [(await client.jetstream().publish(subject, b"")).stream for subject in SUBJECTS]
    assert stored == ["WAZUH_RAW"] * 2 + ["WAZUH_EVENTS"] * 3 + ["WAZUH_HEARTBEATS", "WAZUH_CHECKPOINTS"]


async def test_what_no_update_changes_is_said(rig: Rig) -> None:
    async with rig.client() as client:
        await client.jetstream().add_stream(api.StreamConfig("WAZUH_EVENTS", subjects=["wazuh.agent.*.*"]))
    with pytest.raises(Stop, match=r"stream WAZUH_EVENTS has deny_delete False and needs True, which no update changes"):
        await rig.provision()


async def test_subjects_that_another_stream_takes_are_said(rig: Rig) -> None:
    async with rig.client() as client:
        await client.jetstream().add_stream(api.StreamConfig("OTHER", subjects=["wazuh.raw.>"]))
    with pytest.raises(Stop, match=r"WAZUH_RAW could not be made: .*\(10065\); another stream takes these subjects"):
        await rig.provision()


async def test_more_replicas_than_servers_are_said(rig: Rig) -> None:
    rig.environ["WAZUH_JETSTREAM__NATS__REPLICAS"] = "3"
    with pytest.raises(Stop, match=r"the cluster has fewer servers: set nats\.replicas"):
        await rig.provision()


async def test_a_consumer_of_somebody_else_is_said(rig: Rig) -> None:
    await rig.provision()
    async with rig.client() as client:
        await client.jetstream().delete_consumer("WAZUH_RAW", "relay")
        await client.jetstream().add_consumer("WAZUH_RAW", api.ConsumerConfig(durable_name="relay", ack_policy=api.AckPolicy.EXPLICIT))
    with pytest.raises(Stop, match="consumer relay on WAZUH_RAW is another one's"):
        await rig.provision()


async def test_a_consumers_limit_is_brought_to_what_it_should_be(rig: Rig) -> None:
    await rig.provision()
    async with rig.client() as client:
        config = (await client.jetstream().consumer_info("WAZUH_RAW", "relay")).config
        await client.jetstream().add_consumer("WAZUH_RAW", api.ConsumerConfig(**{**config.__dict__, "max_ack_pending": 5}))
    assert (await rig.provision())[-1] == "consumer relay on WAZUH_RAW: updated (max_ack_pending 5 -> 100000)"


def test_what_the_server_leaves_out_is_false() -> None:
    assert provision.differences({"a": False, "b": 1}, {"b": 1}) == []
    assert provision.differences({"a": True}, {}) == [provision.Difference("a", None, True)]
