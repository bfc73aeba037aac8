"""A manager, its collector and the relay, all real processes, for tests of what they show of themselves."""

import asyncio
import json
import signal
from pathlib import Path

from nats.aio.client import Client

from shared.clock import SystemClock
from tests.collector.process import CollectorProcess
from tests.manager.driver import ManagerProcess
from tests.nats_server import NatsServer
from tests.relay.rig import Rig, Stored, ended, spawn
from tests.world.writes import Columns, Insert, Keys, Update, Write

NOW = SystemClock().now_ms() // 1000


def row(number: int) -> Write:
    name: Columns = {"id": number, "name": f"agent-{number}", "ip": "10.0.0.1", "node_name": "node01"}
    return Insert("node01", 0, name | {"connection_status": "active", "last_keepalive": NOW, "date_add": NOW - 10})


def keys(*numbers: int) -> Write:
    return Keys("node01", 0, "".join(f"{number:03d} agent-{number} any {number:064x}\n" for number in numbers))


def goodbye(number: int) -> Write:
    return Update("node01", 0, (number,), {"connection_status": "disconnected", "disconnection_time": NOW + 1, "status_code": 3})


class Cluster:
    """A manager, its collector and the relay, all real processes."""

    def __init__(self, directory: Path, server: NatsServer) -> None:
        self.rig = Rig(directory, server, "node01")
        self.manager = ManagerProcess(directory / "m")
        keys = {"security__signing_key_path": str(directory / "keyring" / "node01" / "current.key")}
        self.collector = CollectorProcess(directory, self.manager.home, server.url, **keys)
        self.relay: asyncio.subprocess.Process | None = None
        self.port = 0  # of the relay's pages

    async def start(self, **environ: str) -> None:
        await self.rig.provision()
        await self.manager.start([row(1), row(2), keys(1, 2)])
        self.relay = await spawn(self.rig, environ)
        assert self.relay.stderr is not None
        self.port = int(json.loads(await self.relay.stderr.readline())["port"])
        await self.collector.start(("-m", "collector", "run"), "started", **environ)

    async def stop(self) -> str:
        """End both services in order; the relay's log."""
        assert self.relay is not None
        assert await self.collector.terminate() == 0
        code, log = await ended(self.relay, signal.SIGTERM)
        assert code == 0, log
        return log

    async def told(self, client: Client, number: int) -> list[Stored]:
        """EVENTS, once this agent's goodbye stands there."""
        await self.rig.until(client, 0)  # the baseline
        await self.manager.apply([goodbye(number)])
        return await self.rig.until(client, 1)

    async def kill(self) -> None:
        """End whatever still runs."""
        await self.collector.kill()
        if self.relay is not None and self.relay.returncode is None:
            self.relay.kill()
            await self.relay.wait()
        await self.manager.stop()
