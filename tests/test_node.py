"""The consumer in Node.js, which knows nothing of this project but docs/keys.md: it verifies the vectors and a live stream."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from relay import keys, rotate
from shared import keygen
from tests.conftest import IN_CI
from tests.nats_server import NatsServer
from tests.relay.rig import DEADLINE_S, NodeVoice, Rig, running
from tests.relay.test_reload import until

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples" / "node"


@pytest.fixture(scope="session")
def node() -> str:
    """The interpreter; a run that must be complete fails without it."""
    found = shutil.which("node") or shutil.which("nodejs")
    if found is None:
        message = "Node.js is not installed; on Debian: apt-get install nodejs"
        if IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    return found


async def said(node: str, script: str, *arguments: str, code: int = 0) -> str:
    """What a script prints on either channel."""
    process = await asyncio.create_subprocess_exec(
        node, str(EXAMPLES / script), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == code, out.decode()
    return out.decode()


async def test_the_vectors_verify_in_another_language(node: str) -> None:
    assert ", 0 failed" in await said(node, "vectors.mjs", str(ROOT / "tests" / "vectors"))


async def test_vectors_of_something_else_do_not(node: str, tmp_path: Path) -> None:
    """So what it says means something."""
    for path in (ROOT / "tests" / "vectors").iterdir():
        text = path.read_text()
        (tmp_path / path.name).write_text(text.replace("wazuh.agent.001.status", "wazuh.agent.002.status"))
    assert "FAILED: an event with every kind of character, ed25519" in await said(node, "vectors.mjs", str(tmp_path), code=1)


@pytest.fixture
async def rig(tmp_path: Path, nats_server: NatsServer) -> Rig:
    made = Rig(tmp_path, nats_server, "node01")
    made.environ["WAZUH_JETSTREAM__SECURITY__ENCRYPTION_KEY_PATH"] = str(tmp_path / "encryption.key")
    keygen.create(tmp_path / "encryption.key", keygen.secret_text("aes-256-gcm"))
    await made.provision()
    return made


async def lived(rig: Rig, client: Client) -> None:
    """Four events: signed by HMAC, encrypted too, then by a pair beside it, then by the pair alone."""
    voice = NodeVoice(rig, client)
    await voice.full(2)
    for number in range(4):
        if number == 1:
            rig.environ["WAZUH_JETSTREAM__SECURITY__ENCRYPT_MESSAGES"] = "true"
        for _ in range((0, 0, 2, 1)[number]):
            rotate.rotate(rig.settings.security, "signing", "ed25519", 0, at_once=True)
        async with running(rig):
            await (voice.stop(1) if number % 2 == 0 else voice.back(1))
            await until(rig, client, number + 1)


async def consumed(node: str, rig: Rig, count: int, *arguments: str) -> list[dict[str, Any]]:
    path = rig.directory / "keys.json"
    with open(os.devnull, "w") as nowhere:
        keys.export(rig.settings, path, nowhere, nowhere, with_secrets=True)
    told = await said(node, "consume.mjs", "--server", rig.server.url, "--keys", str(path), "--limit", str(count), *arguments)
    return [json.loads(line) for line in told.splitlines()]


async def test_a_live_stream_is_verified_in_another_language(node: str, rig: Rig) -> None:
    async with rig.client() as client:
        await lived(rig, client)
        headers = {"Wazuh-Kind": "connected"}
        await client.jetstream().publish("wazuh.agent.001.status", b'{"agent_id":"001"}', headers=headers)
        told = await consumed(node, rig, 5)
        assert [one["verified"] for one in told] == [True] * 4 + [False], told
        assert [one["event"]["current_status"] for one in told[:4]] == ["Disconnected", "Active"] * 2
        assert told[4]["why"] == "unsigned"
        await client.jetstream().publish("wazuh.agent.001.status", b"one more")
        (more,) = await consumed(node, rig, 1)  # the durable consumer goes on where it was
        assert (more["verified"], more["why"]) == (False, "unsigned")
        written = sum("Wazuh-Signature" in one.headers for one in await rig.stored(client))  # the rest came last
        all_of_it = await consumed(node, rig, written, "--consumer", "whole", "--subject", "wazuh.>")
        heartbeats = await consumed(node, rig, 3, "--stream", "WAZUH_HEARTBEATS", "--subject", "wazuh.manager.*.heartbeat")
    assert all(one["verified"] for one in all_of_it + heartbeats)
    assert {one["kind"] for one in all_of_it} == {"connected", "disconnected", "batch"}
    assert {one["kind"] for one in heartbeats} == {"heartbeat"}


async def test_without_a_secret_it_says_what_it_cannot_read(node: str, rig: Rig) -> None:
    async with rig.client() as client:
        await lived(rig, client)
    path = rig.directory / "public.json"
    with open(os.devnull, "w") as nowhere:
        keys.export(rig.settings, path, nowhere, nowhere, with_secrets=False)
    lines = await said(node, "consume.mjs", "--server", rig.server.url, "--keys", str(path), "--limit", "4")
    whys = [json.loads(line)["why"] for line in lines.splitlines()]
    assert "under another key" in whys[0]
    assert all("encrypted under key" in why for why in whys[2:])


async def test_a_server_that_refuses_or_is_away_ends_it_with_the_reason(node: str, rig: Rig) -> None:
    keys_file = rig.directory / "keys.json"
    keys_file.write_text('{"format":"wazuh-jetstream keys","version":1,"keys":[]}')
    common = ("--keys", str(keys_file), "--limit", "1")
    assert "stream not found" in await said(node, "consume.mjs", "--server", rig.server.url, "--stream", "NONE", *common, code=1)
    await asyncio.to_thread(rig.server.restart, 'authorization: {user: "a", password: "b"}')
    assert "Authorization Violation" in await said(node, "consume.mjs", "--server", rig.server.url, *common, code=1)
    (rig.directory / "login").write_text("a:b\n")
    credentials = ("--credentials", str(rig.directory / "login"), "--stream", "NONE")
    assert "stream not found" in await said(node, "consume.mjs", "--server", rig.server.url, *credentials, *common, code=1)
    rig.server.kill()
    assert "ECONNREFUSED" in await said(node, "consume.mjs", "--server", rig.server.url, *common, code=1)


async def test_over_tls_only_the_server_that_was_meant_is_spoken_to(node: str, rig: Rig) -> None:
    cert, key = rig.directory / "cert.pem", rig.directory / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*made, *names], check=True, capture_output=True)
    await asyncio.to_thread(rig.server.restart, f'tls {{ cert_file: "{cert}", key_file: "{key}" }}')
    keys_file = rig.directory / "keys.json"
    keys_file.write_text('{"format":"wazuh-jetstream keys","version":1,"keys":[]}')
    common = ("--keys", str(keys_file), "--stream", "NONE")
    here, there = rig.server.url.replace("nats:", "tls:"), f"tls://localhost:{rig.server.port}"
    assert "stream not found" in await said(node, "consume.mjs", "--server", here, "--ca", str(cert), *common, code=1)
    assert "does not match certificate" in await said(node, "consume.mjs", "--server", there, "--ca", str(cert), *common, code=1)
    assert "self-signed certificate" in await said(node, "consume.mjs", "--server", here, *common, code=1)
    assert "the server asks for TLS" in await said(node, "consume.mjs", "--server", rig.server.url, *common, code=1)
