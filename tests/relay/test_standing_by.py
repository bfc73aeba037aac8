"""Two real relays on one PostgreSQL and one NATS: whatever befalls the one that leads, EVENTS holds each event once, in order."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from relay.lease import Superseded
from shared import jetstream, jsapi
from tests.nats_server import NatsServer
from tests.relay.rig import DEADLINE_S, NodeVoice, Rig, changes, page, spawn, whole
from tests.relay.test_publish import bench, message

pytestmark = pytest.mark.unmeasured


@pytest.fixture
async def rig(tmp_path: Path, nats_server: NatsServer, fresh_postgres: Callable[[], str]) -> Rig:
    made = Rig(tmp_path, nats_server, "node01")
    made.environ["WAZUH_JETSTREAM__RELAY__LEDGER_URL"] = fresh_postgres()
    made.environ["WAZUH_JETSTREAM__RELAY__LEASE_DURATION"] = "1s"
    await made.provision()
    return made


class Process:
    """A relay as a process, whose log is read as it comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self._more = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(json.loads(line))
            self._more.set()

    async def logged(self, event: str, times: int = 1) -> dict[str, Any]:
        """The line, once it wrote so many of this kind."""
        async with asyncio.timeout(DEADLINE_S):
            while len(found := [line for line in self.lines if line["event"] == event]) < times:
                self._more.clear()
                await self._more.wait()
        return found[times - 1]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self, number: signal.Signals) -> int:
        """Its exit code after a signal."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        async with asyncio.timeout(DEADLINE_S):
            await self.process.wait()
            await self._reading
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def two(rig: Rig) -> AsyncIterator[tuple[Process, Process]]:
    """One that leads, and one that stands by."""
    leading = Process(await spawn(rig, {"WAZUH_JETSTREAM__RELAY__NAME": "one"}))
    standing: Process | None = None
    try:
        await leading.logged("lease_taken")
        standing = Process(await spawn(rig, {"WAZUH_JETSTREAM__RELAY__NAME": "two"}))
        await standing.logged("standing_by")
        yield leading, standing
    finally:
        await leading.end(signal.SIGKILL)
        if standing is not None:
            await standing.end(signal.SIGKILL)


async def test_one_that_is_killed_is_followed_by_the_other(rig: Rig) -> None:
    async with rig.client() as client, two(rig) as (first, second):
        voice = NodeVoice(rig, client)
        await voice.full(3)
        await voice.stop(1)
        await rig.until(client, 1)
        await voice.stop(2)
        await first.end(signal.SIGKILL)
        await voice.back(1)
        assert (await second.logged("lease_taken"))["epoch"] > (await first.logged("lease_taken"))["epoch"]
        found = await rig.until(client, 3)
    assert changes(found) == [("001", "Active", "Disconnected"), ("002", "Active", "Disconnected"), ("001", "Disconnected", "Active")]
    whole(found, rig.secret)


async def test_one_that_froze_finds_itself_followed_and_stands_by(rig: Rig) -> None:
    async with rig.client() as client, two(rig) as (first, second):
        voice = NodeVoice(rig, client)
        await voice.full(50)
        await voice.stop(*range(1, 51))
        first.send(signal.SIGSTOP)
        await voice.back(1)
        await second.logged("lease_taken")
        await rig.until(client, 51)
        await voice.back(2)
        first.send(signal.SIGCONT)
        await first.logged("lease_lost")
        await first.logged("standing_by")
        await voice.back(3)
        await rig.until(client, 53)
        assert await second.end(signal.SIGTERM) == 0
        await first.logged("lease_taken", 2)
        await voice.back(4)
        found = await rig.until(client, 54)
    assert [agent for agent, _, now in changes(found) if now == "Active"] == ["001", "002", "003", "004"]
    whole(found, rig.secret)


async def test_one_that_stands_by_is_ready_and_follows_at_once_where_the_other_ends_in_order(rig: Rig) -> None:
    rig.environ["WAZUH_JETSTREAM__RELAY__LEASE_DURATION"] = "30s"
    async with rig.client() as client, two(rig) as (first, second):
        voice = NodeVoice(rig, client)
        await voice.full(2)
        await rig.until(client, 0)
        port = (await second.logged("health_listening"))["port"]
        ready, metrics = await page(port, "/readyz"), await page(port, "/metrics")
        assert ready.startswith("HTTP/1.1 200")
        assert '"lease":{"ok":true,"detail":"standing by: one@' in ready
        assert "wazuh_jetstream_relay_leading 0.0" in metrics
        assert await first.end(signal.SIGTERM) == 0
        await second.logged("lease_taken")
        await voice.stop(1)
        found = await rig.until(client, 1)
        assert "wazuh_jetstream_relay_leading 1.0" in await page(port, "/metrics")
    whole(found, rig.secret)


async def test_one_whose_ledger_is_away_ends_when_asked(rig: Rig) -> None:
    rig.environ["WAZUH_JETSTREAM__RELAY__LEDGER_URL"] = "postgresql://relay@/ledger?host=/nowhere"
    relay = Process(await spawn(rig))
    await relay.logged("ledger_lost")
    assert await relay.end(signal.SIGTERM) == 0


class Followed(jetstream.Connection):
    """Somebody else takes the lease and publishes, just before this one does."""

    follow: Callable[[], Awaitable[object]] | None = None

    async def publish_batch(self, messages: Sequence[jsapi.Message], timeout: float, expected_last: int | None = None) -> jsapi.PubAck:
        follow, Followed.follow = Followed.follow, None
        if follow is not None:
            await follow()
        return await super().publish_batch(messages, timeout, expected_last)


@pytest.mark.parametrize("known", [True, False])
async def test_a_publisher_that_was_followed_steps_back_instead_of_trying_again(rig: Rig, known: bool) -> None:
    """Whether the stream refuses what it holds already, or whatever does not follow upon its last message."""
    names = [f"m{number}" for number in range(8)]
    async with bench(rig, kind=Followed) as old, bench(rig) as new:
        assert old.ledger.lease.take()
        old.decided(*map(message, names))

        async def follow() -> None:
            assert new.ledger.lease.take()
            if not known:
                await old.client.jetstream().publish("wazuh.agent.009.status", b"", headers={"Wazuh-Outbox-Sequence": "0"})
            else:
                assert await new.drain() == names

        Followed.follow = follow
        with pytest.raises(Superseded):
            await old.drain()
        assert len(await rig.stored(old.client)) == (len(names) if known else 1)


class Road:
    """A way to a port on this machine that can be cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def cut(self) -> None:
        """Nothing passes any more."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while some := await reader.read(65536):
                writer.write(some)
        writer.close()


async def test_one_that_is_cut_off_from_nats_gives_way_to_one_that_is_not(rig: Rig) -> None:
    relay = None
    async with Road(rig.server.port) as road, rig.client() as client:
        behind = Process(await spawn(rig, {"WAZUH_JETSTREAM__NATS__URL": f"nats://127.0.0.1:{road.port}"}))
        try:
            await behind.logged("lease_taken")
            voice = NodeVoice(rig, client)
            await voice.full(2)
            await rig.until(client, 0)
            relay = Process(await spawn(rig))
            await relay.logged("standing_by")
            await road.cut()
            await voice.stop(1)
            assert "NATS was out of reach" in (await behind.logged("lease_lost"))["message"]
            await relay.logged("lease_taken")
            found = await rig.until(client, 1)
        finally:
            await behind.end(signal.SIGKILL)
            if relay is not None:
                await relay.end(signal.SIGKILL)
    whole(found, rig.secret)
