"""The demo's stage: a NATS server, a simulated Wazuh cluster, its collectors and the relay, all real processes on 127.0.0.1.

    async with Stage(directory, agents=20, seed=1) as stage:
        stage.world.stop(3)          commands of the world; see tests/world/model.py

Leaving it, by whatever way, ends every process that it started. Their logs stay in the directory.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.manager.driver import Cluster, unix_now
from tests.nats_server import NatsServer
from tests.world.config import WorldConfig
from tests.world.model import World
from tests.world.pace import PACE

GRACE: Final = 4.0  # seconds; 60 in a real cluster
ORDERLY_END: Final = 15.0  # seconds that a service may take to stop


class Service:
    """One `wazuh-collector run` or `wazuh-relay run`."""

    def __init__(self, command: str, config: Path, log: Path) -> None:
        self.command, self.config, self.log = command, config, log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; its output goes to `log`."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(Path(sys.executable).with_name(self.command)),
                *("run", "--config", str(self.config)),
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo alone, which then ends this in order
            )

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else None

    async def stop(self) -> int | None:
        """SIGTERM and its exit code; SIGKILL where that is not heard."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(process.wait(), ORDERLY_END)
        except TimeoutError:
            process.kill()
            return await process.wait()


class Stage:
    """Everything that runs. `agents` are registered before anybody looks; a `crowd` beside them is connected and stays so."""

    def __init__(self, directory: Path, *, agents: int, crowd: int = 0, seed: int, pace: WorldConfig = PACE) -> None:
        self.directory = directory
        self.key = secrets.token_hex(32)
        self.world = World(replace(pace, start=unix_now()), seed)
        self.agents = [self.world.register() for _ in range(agents)]
        self.crowd = self.world.populate(crowd)
        self.cluster = Cluster(self.world, directory / "managers")
        self.collectors: dict[str, Service] = {}
        self.nats: NatsServer | None = None
        self.relay: Service | None = None

    @property
    def url(self) -> str:
        """Where NATS listens."""
        assert self.nats is not None
        return self.nats.url

    async def __aenter__(self) -> Self:
        try:
            await self._raise()
        except BaseException:
            await self._strike()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._strike()

    async def _raise(self) -> None:
        self.nats = await asyncio.to_thread(NatsServer, self.directory / "nats")
        await self.cluster.start()
        self.cluster.run_in_background()
        relay = self._relay_config()
        await self._once("wazuh-relay", "provision", "--config", str(relay))
        self.relay = Service("wazuh-relay", relay, self.directory / "relay.log")

    async def open(self) -> None:
        """Start the services; the audience should sit by now."""
        assert self.relay is not None
        await self.relay.start()
        for node in self.cluster.nodes:
            self.collectors[node] = Service("wazuh-collector", self._collector_config(node), self.directory / f"collector-{node}.log")
            await self.collectors[node].start()

    async def _strike(self) -> None:
        await asyncio.gather(*(service.stop() for service in self.collectors.values()))
        if self.relay is not None:
            await self.relay.stop()
        await self.cluster.stop()
        if self.nats is not None:
            self.nats.kill()

    def trouble(self) -> str:
        """The last lines of each service's log, for whoever must find out why."""
        logs = sorted(self.directory.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{chr(10).join(log.read_text(errors='replace').splitlines()[-12:])}" for log in logs)

    async def _once(self, command: str, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name(command)), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{command} {arguments[0]} failed: {said.decode(errors='replace')}")

    # Configuration files -------------------------------------------------------------------------------------------

    def _relay_config(self) -> Path:
        return self._config(
            "relay",
            {
                "nats": self._nats(),
                "security": {"signing_key_path": str(self._key("events.key", self.key)), "keyring_path": str(self.directory / "keyring")},
                "monitoring": {"metrics_port": 0},
                "relay": {
                    "ledger_url": f"sqlite:///{self.directory}/ledger.db",
                    "reset_grace": GRACE,
                    "sync_jitter": 3,
                    "node_stale": 6,
                    "baseline_timeout": 15,
                    "heartbeat_interval": 2,
                },
            },
        )

    def _collector_config(self, node: str) -> Path:
        key = self.directory / "keyring" / node / "current.key"
        return self._config(
            f"collector-{node}",
            {
                "wazuh": {"home": str(self.cluster.nodes[node].home), "poll_interval": "1s"},
                "nats": self._nats(),
                "security": {"signing_key_path": str(key)},
                "monitoring": {"metrics_port": 0},
                "collector": {"spool_path": str(self.directory / f"spool-{node}.db"), "full_interval": "10s"},
            },
        )

    def _nats(self) -> dict[str, Any]:
        for node in self.cluster.nodes:
            self._key(f"keyring/{node}/current.key", secrets.token_hex(32))
        return {"url": self.url, "max_reconnects": 100, "reconnect_delay": "100ms"}

    def _config(self, name: str, tree: dict[str, Any]) -> Path:
        path = self.directory / f"{name}.yaml"
        path.write_text(json.dumps(tree, indent=2))  # JSON is YAML
        return path

    def _key(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text + "\n")
        return path
