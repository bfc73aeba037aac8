"""Keys change under a relay that runs: nothing is unverifiable, unreadable or lost, and nobody starts anything again.

What reads EVENTS here holds the keys as they are in the files at the end, or as a consumer took them over in between.
"""

import asyncio
import contextlib
import io
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client

from relay import consumerkeys, keys, reading, rotate, run, seal, tail, trust
from relay.encryption import EncryptionHandler
from relay.rotate import Own
from relay.trust import Reading
from shared import ed25519, keygen, keyring
from shared.errors import Stop
from tests.nats_server import NatsServer
from tests.relay.rig import DEADLINE_S, NodeVoice, Rig, Stored, ended, page, running, spawn

pytestmark = pytest.mark.unmeasured


@pytest.fixture
async def rig(tmp_path: Path, nats_server: NatsServer) -> Rig:
    made = Rig(tmp_path, nats_server, "node01")
    made.environ["WAZUH_JETSTREAM__SECURITY__ENCRYPTION_KEY_PATH"] = str(tmp_path / "encryption.key")
    made.environ["WAZUH_JETSTREAM__SECURITY__ENCRYPT_MESSAGES"] = "true"
    keygen.create(tmp_path / "encryption.key", keygen.secret_text("aes-256-gcm"))
    await made.provision()
    return made


class Port:
    """The pages of a relay that runs as a process."""

    def __init__(self, number: int, process: asyncio.subprocess.Process) -> None:
        self.number, self.process = number, process
        self.said = ""  # in its log, once it has ended

    async def reloaded(self, outcome: str) -> None:
        """Ask for the keys to be read again, and wait until they were."""
        before = await self._count(outcome)
        self.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(DEADLINE_S):
            while await self._count(outcome) == before:
                await asyncio.sleep(0.01)

    async def _count(self, outcome: str) -> float:
        name = f'wazuh_jetstream_keyring_reloads_total{{outcome="{outcome}"}} '
        lines = (await page(self.number, "/metrics")).splitlines()
        return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


@asynccontextmanager
async def process(rig: Rig) -> AsyncIterator[Port]:
    """The real command, which never ends before it is told to."""
    relay = await spawn(rig)
    assert relay.stderr is not None
    first = await relay.stderr.readline()
    rest, port = asyncio.create_task(relay.stderr.read()), Port(json.loads(first)["port"], relay)
    try:
        yield port
    finally:
        relay.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            assert await relay.wait() == 0
            port.said = (await rest).decode()


async def until(rig: Rig, client: Client, statuses: int) -> list[Stored]:
    """EVENTS, once it holds so many changes, whatever can be read of them, and the last batch."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = await rig.stored(client)
            if sum(one.subject.endswith(".status") for one in found) >= statuses and found and found[-1].subject.endswith("agent_events"):
                return found
            await asyncio.sleep(0.02)


def unverified(found: list[Stored], held: Reading) -> list[str]:
    told = [(one.seq, seal.verify(one.subject, one.body, one.headers, held.verifier, held.crypt)) for one in found]
    return [f"{number}: {verdict.why}" for number, verdict in told if not verdict.ok]


def changes(found: list[Stored], held: Reading) -> list[tuple[str, str]]:
    opened = [json.loads(seal.opened(one.subject, one.body, one.headers, held.crypt)) for one in found if ".status" in one.subject]
    return [(event["agent_id"], event["current_status"]) for event in opened]


def consumer(rig: Rig, name: str) -> Reading:
    with open(os.devnull, "w") as nowhere:
        keys.export(rig.settings, rig.directory / name, nowhere, nowhere, with_secrets=True)
    return consumerkeys.reading(rig.directory / name)


async def test_every_key_is_changed_under_a_relay_that_runs(rig: Rig) -> None:
    """Both of the relay's keys, twice around, from HMAC to Ed25519; after each step an event that all consumers verify."""
    uses: tuple[Own, ...] = ("signing", "encryption")
    async with rig.client() as client, process(rig) as relay:
        voice = NodeVoice(rig, client)
        await voice.full(2)
        await until(rig, client, 0)
        number, behind = 0, consumer(rig, "0.json")
        for step in range(1, 7):
            for use in uses:
                rotate.rotate(rig.settings.security, use, "ed25519" if use == "signing" else None, 0, at_once=True)
                await relay.reloaded("used")
                await (voice.stop(1) if number % 2 == 0 else voice.back(1))
                number += 1
                found = await until(rig, client, number)
                assert unverified(found, consumer(rig, f"{step}{use}.json")) == []
            assert unverified(found, behind) == []
            behind = consumer(rig, f"{step}.json")
        heartbeats = await rig.stored(client, "WAZUH_HEARTBEATS")
    signers = {one.headers["Wazuh-Signature"].split(";")[1] for one in found}
    encrypters = {one.headers["Wazuh-Encryption"] for one in found}
    assert (len(signers), len(encrypters)) == (3, 3)
    assert changes(found, behind) == [("001", "Disconnected"), ("001", "Active")] * 6
    assert unverified(heartbeats, behind) == []
    assert not any("Wazuh-Encryption" in one.headers for one in heartbeats)


async def test_a_node_s_key_is_changed_with_both_valid(rig: Rig) -> None:
    """From HMAC to a pair of which the relay holds the public half: next is there, the node switches, the old one goes."""
    place = rig.directory / "keyring" / "node01"
    async with rig.client() as client, process(rig) as relay:
        voice = NodeVoice(rig, client)
        await voice.full(2)
        await until(rig, client, 0)
        made = keygen.signing_key(rig.directory / "node.key", "ed25519")
        assert made.public is not None
        made.public.rename(place / "next.pub")
        await relay.reloaded("used")
        await voice.stop(1)
        await until(rig, client, 1)
        rig.signing["node01"] = keyring.read_key(made.path)
        await voice.back(1)
        await until(rig, client, 2)
        (place / "current.key").unlink()
        await relay.reloaded("used")
        await voice.stop(1)
        found = await until(rig, client, 3)
        del rig.signing["node01"]  # whoever still has the old key is refused
        await voice.back(1)
        rig.signing["node01"] = keyring.read_key(made.path)
        await voice.stop(2)
        found = await until(rig, client, 4)
    assert changes(found, trust.reading(rig.settings)) == [
        ("001", "Disconnected"), ("001", "Active"), ("001", "Disconnected"), ("002", "Disconnected"),
    ]  # fmt: skip
    with contextlib.closing(rig.open_ledger()) as book:
        assert [one.reason for one in book.shelf.kept(10)] == ["bad_signature"]


BREAKS: dict[str, Callable[[Path], object]] = {
    "a signing key that others can read": lambda directory: (directory / "relay.key").chmod(0o644),
    "half a signing key": lambda directory: (directory / "relay.key").write_text("ab"),
    "no signing key": lambda directory: (directory / "relay.key").unlink(),
    "half an encryption key": lambda directory: (directory / "encryption.key").write_text("ab"),
    "a broken key of a node": lambda directory: (directory / "keyring" / "node01" / "next.key").write_text("ab"),
    "no keyring": lambda directory: (directory / "keyring").rename(directory / "elsewhere"),
}


@pytest.mark.parametrize("what", BREAKS)
async def test_files_that_cannot_be_used_change_nothing_and_lose_nothing(rig: Rig, what: str) -> None:
    before = trust.reading(rig.settings)
    secrets = [path.read_text().strip() for path in rig.directory.rglob("*.key")]
    async with rig.client() as client, process(rig) as relay:
        voice = NodeVoice(rig, client)
        await voice.full(2)
        await until(rig, client, 0)
        BREAKS[what](rig.directory)
        await relay.reloaded("refused")
        await voice.stop(1)
        found = await until(rig, client, 1)
        ready, metrics = await page(relay.number, "/readyz"), await page(relay.number, "/metrics")
        seen = "".join(Path(f"/proc/{relay.process.pid}/{name}").read_text() for name in ("cmdline", "environ"))
    assert unverified(found, before) == []
    seen += ready + metrics + relay.said + "".join(f"{one.headers}{one.body!r}" for one in found)
    assert '"keyring_refused"' in seen
    assert not [secret for secret in secrets if secret[:16] in seen]
    assert ready.startswith("HTTP/1.1 503")
    assert '"keyring":{"ok":false' in ready
    assert "wazuh_jetstream_keyring_up 0.0" in metrics


async def test_a_lost_ledger_is_made_anew_from_events_that_are_encrypted_under_two_keys(rig: Rig) -> None:
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        async with running(rig):
            await voice.stop(1)
            await until(rig, client, 1)
        for _ in range(2):
            rotate.rotate(rig.settings.security, "encryption", None, 0, at_once=True)
        async with running(rig):
            await voice.stop(3)
            before = await until(rig, client, 2)
        rig.forget_ledger()
        await voice.stop(2)
        await voice.back(1)
        async with running(rig):
            found = await until(rig, client, 4)
    held = trust.reading(rig.settings)
    assert found[: len(before)] == before
    assert unverified(found, held) == []
    assert len({one.headers["Wazuh-Encryption"] for one in found}) == 2
    assert changes(found, held) == [("001", "Disconnected"), ("003", "Disconnected"), ("002", "Disconnected"), ("001", "Active")]


async def test_a_ledger_lost_in_the_middle_of_an_inputs_encrypted_messages_publishes_the_rest(rig: Rig) -> None:
    rig.environ["WAZUH_JETSTREAM__RELAY__BATCH_MESSAGES"] = "2"
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(5)
        await voice.stop(1, 2, 3, 4, 5)
        relay = await spawn(rig, {"WAZUH_JETSTREAM_CRASH_AT": "relay.after_publish:4"})
        assert (await ended(relay))[0] == -signal.SIGKILL
        assert 0 < sum(one.subject.endswith(".status") for one in await rig.stored(client)) < 5
        rig.forget_ledger()
        async with running(rig):
            found = await until(rig, client, 5)
    held = trust.reading(rig.settings)
    assert unverified(found, held) == []
    assert changes(found, held) == [(f"00{number}", "Disconnected") for number in range(1, 6)]


async def test_what_was_told_and_cannot_be_read_back_stops_a_relay_that_has_lost_its_ledger(rig: Rig) -> None:
    """It would tell it twice."""
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        async with running(rig):
            await voice.stop(1)
            before = await until(rig, client, 1)
        rig.forget_ledger()
        (rig.directory / "encryption.key").unlink()
        keygen.create(rig.directory / "encryption.key", keygen.secret_text("aes-256-gcm"))
        with pytest.raises(Stop, match=r"cannot be read back.*put that key into the keyring's directory _encryption"):
            async with asyncio.timeout(DEADLINE_S):
                await run.Relay(rig.settings, trust.trust(rig.settings)).run()
        assert await rig.stored(client) == before


def test_what_no_relay_can_have_encrypted_is_passed_over_as_any_other_garbage(rig: Rig) -> None:
    crypt = trust.trust(rig.settings).crypt
    for given in (f"aes-256-gcm;{crypt.kid}", "rot13", ""):
        assert reading.opened_body("s", b"x" * 60, {"Wazuh-Encryption": given}, crypt) == b"x" * 60


async def test_a_relay_whose_watch_over_its_keys_dies_ends_with_the_reason(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a relay would go on with old keys for ever."""

    def unforeseen(_: object) -> trust.Trust:
        raise RuntimeError("unforeseen")

    relay = run.Relay(rig.settings, trust.trust(rig.settings))
    monkeypatch.setattr(run, "trust", unforeseen)
    with pytest.raises(RuntimeError, match="unforeseen"):
        async with asyncio.timeout(DEADLINE_S):
            await relay.run()


@pytest.mark.parametrize("as_json", [True, False])
async def test_tail_shows_what_was_encrypted_and_says_where_it_cannot(rig: Rig, as_json: bool) -> None:
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        async with running(rig):
            await voice.stop(1)
            await until(rig, client, 1)
    wanted, out = tail.Wanted(from_start=True, limit=1), io.StringIO()
    await tail.tail(rig.settings, trust.reading(rig.settings), wanted, out, 0, as_json=as_json)
    assert "agent-1" in out.getvalue()
    assert ('"verified":true' if as_json else "  verified  ") in out.getvalue()
    public, out = consumer(rig, "keys.json"), io.StringIO()
    without = Reading(public.verifier, EncryptionHandler(None, (), os.urandom))
    await tail.tail(rig.settings, without, wanted, out, 0, as_json=as_json)
    assert "it is encrypted under key" in out.getvalue()
    assert "agent-1" not in out.getvalue()


async def test_a_relay_signs_with_a_pair_from_its_start(rig: Rig) -> None:
    (rig.directory / "relay.key").unlink()
    keygen.signing_key(rig.directory / "relay.key", "ed25519")
    async with rig.client() as client:
        voice = NodeVoice(rig, client)
        await voice.full(3)
        async with running(rig):
            await voice.stop(1)
            found = await until(rig, client, 1)
            await rig.ticked(client)
    assert unverified(found, consumer(rig, "keys.json")) == []
    assert all(one.headers["Wazuh-Signature"].startswith(ed25519.ALGORITHM) for one in found)
    with contextlib.closing(rig.open_ledger()) as book:
        assert book.shelf.kept(10) == []  # its own ticks among them
