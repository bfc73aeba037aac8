"""The relay runs with no right that it does not need: this list is what a NATS administrator grants."""

import json
from pathlib import Path

from tests.nats_server import NatsServer
from tests.relay.rig import NodeVoice, Rig, changes, running, whole

RELAY_MAY_PUBLISH = [
    "wazuh.agent.*.*",
    "wazuh.security.agent_events",
    "wazuh.security.manager_events",
    "wazuh.manager.*.heartbeat",
    "wazuh.raw._tick",
    "wazuh.raw._control",
    "$JS.API.STREAM.INFO.WAZUH_RAW",
    "$JS.API.STREAM.INFO.WAZUH_EVENTS",
    "$JS.API.STREAM.MSG.GET.WAZUH_RAW",
    "$JS.API.STREAM.MSG.GET.WAZUH_EVENTS",
    "$JS.API.CONSUMER.INFO.WAZUH_RAW.relay",
    "$JS.API.CONSUMER.MSG.NEXT.WAZUH_RAW.relay",
    "$JS.API.CONSUMER.RESET.WAZUH_RAW.relay",
    "$JS.ACK.WAZUH_RAW.relay.>",
    "$JS.ACK.*.*.WAZUH_RAW.relay.>",
]
TO_REBUILD_A_LEDGER = [
    "$JS.API.CONSUMER.CREATE.WAZUH_EVENTS.*",
    "$JS.API.CONSUMER.DELETE.WAZUH_EVENTS.*",
    "$JS.API.CONSUMER.MSG.NEXT.WAZUH_EVENTS.*",
]
MAY_SUBSCRIBE = ["_INBOX_relay.>"]


async def test_the_rights_of_the_list_are_enough(tmp_path: Path) -> None:
    """Also to begin anew with a lost ledger; and a denied subject would be told as a violation."""
    rights = {"publish": RELAY_MAY_PUBLISH + TO_REBUILD_A_LEDGER, "subscribe": MAY_SUBSCRIBE}
    users = [{"user": "relay", "password": "right", "permissions": rights}, {"user": "admin", "password": "all"}]
    server = NatsServer(tmp_path / "nats", f"authorization: {json.dumps({'users': users})}\nno_auth_user: admin")
    try:
        rig = Rig(tmp_path, server, "node01")
        await rig.provision()
        (tmp_path / "relay.login").touch(mode=0o600)
        (tmp_path / "relay.login").write_text("relay:right\n")
        rig.environ["WAZUH_JETSTREAM__NATS__CREDENTIALS_FILE"] = str(tmp_path / "relay.login")
        async with rig.client() as client:
            beats = await client.subscribe("wazuh.manager.*.heartbeat")
            voice = NodeVoice(rig, client)
            await voice.full(2)
            async with running(rig):
                await voice.stop(1)
                await rig.until(client, 1)
                await beats.next_msg(20)
            rig.forget_ledger()
            await voice.stop(2)
            async with running(rig):
                found = await rig.until(client, 2)
                await rig.ticked(client)
    finally:
        server.kill()
    assert changes(found) == [("001", "Active", "Disconnected"), ("002", "Active", "Disconnected")]
    whole(found, rig.secret)
    assert "violation" not in server.log.lower()
