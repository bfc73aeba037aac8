"""The soak's stage: nats-servers, simulated managers, collectors, relays and the links between them, all on 127.0.0.1.

Every service reaches every nats-server through a link of its own that a fault can cut. Leaving the stage, by whatever way,
ends every process that it started; logs and databases stay in its directory.
"""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import nats
import nats.errors
from nats.aio.client import Client

from shared import clock, config
from tests.manager.driver import unix_now
from tests.nats_server import NatsServer
from tests.soak import ledgers
from tests.soak.managers import Managers
from tests.soak.processes import ROOT, Service
from tests.soak.proxy import Link
from tests.soak.raw import Offsets, Span
from tests.world.model import World, WorldConfig, cluster

GRACE: Final = 5.0  # relay.reset_grace in seconds; 60 in a real cluster
JITTER: Final = 3.0  # relay.sync_jitter; 30
STALE: Final = 6.0  # relay.node_stale; 30
COMMIT: Final = 3.0  # seconds; 61 in a real wazuh-db, and as there much shorter than a sweep
FULL: Final = 10.0  # collector.full_interval; 60
STORE: Final = 192 << 20  # bytes of each nats-server's disk
STREAM: Final = 64 << 20  # bytes of RAW and of EVENTS: RAW must hold all of a run, or the checker says so
CHECKPOINTS: Final = 8 << 20  # bytes of that stream; the server sets all three aside from its disk
USER: Final = "soak"
JUDGE: Final = "judge"

PACE: Final = WorldConfig(
    sweep_period=8.0,
    notify_period=2.0,
    sync_period=2.0,
    integrity_period=1.5,
    database_delay=(0.05, 0.2),
    reconnect_delay=(0.5, 2.0),
    move_delay=(0.3, 1.0),
)
"""A fleet that keeps alive every two seconds and is swept every eight."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for."""

    seed: int
    nodes: int
    agents: int
    relays: int
    cluster: int
    ledger: str
    spool_bytes: int = 1 << 20  # the least there may be, so that it can overflow
    encrypted: bool = False


@dataclass(slots=True)
class Facts:
    """What faults wrote down, for the checker: spans by node, in Unix seconds."""

    blind: dict[str, list[Span]] = field(default_factory=dict)
    clocks: dict[str, list[Span]] = field(default_factory=dict)  # when its clock was off
    unsure: dict[str, list[Span]] = field(default_factory=dict)  # when what it says is not believed
    emptied: dict[str, list[Span]] = field(default_factory=dict)  # when its table was
    given_up: dict[str, list[Span]] = field(default_factory=dict)  # when its spool could not keep all
    offsets: Offsets = field(default_factory=Offsets)
    kills: dict[str, int] = field(default_factory=dict)  # by kind of process
    happened: list[tuple[float, float, str]] = field(default_factory=list)  # begin, end, what


class Stage:
    """Everything that runs."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.directory, self.plan = directory, plan
        self.secret = secrets.token_bytes(32)
        self.world = World(replace(PACE, nodes=cluster(plan.nodes - 1), start=unix_now()), plan.seed)
        for number in self.world.populate(plan.agents)[::4]:  # else an agent that falls is back before anybody had to notice
            self.world.stop(number)
        self.managers = Managers(self.world, directory / "managers", commit_seconds=COMMIT)
        self.nats: list[NatsServer] = []
        self.links: dict[str, list[Link]] = {}
        self.collectors: dict[str, Service] = {}
        self.relays: list[Service] = []
        self.facts = Facts()
        self.password = secrets.token_hex(16)
        self._judge = secrets.token_hex(16)
        self.ledger: ledgers.Kind = ledgers.LEDGERS[plan.ledger](directory)
        self._ports = _free_ports(plan.cluster) if plan.cluster > 1 else []

    @property
    def services(self) -> list[Service]:
        return [*self.collectors.values(), *self.relays]

    @property
    def judge_urls(self) -> list[str]:
        """Where the checker connects: straight to the servers, as a user of its own."""
        return [f"nats://{JUDGE}:{self._judge}@127.0.0.1:{server.port}" for server in self.nats]

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
        self.directory.mkdir(parents=True, exist_ok=True)
        self.write_password()
        for number in range(self.plan.cluster):
            directory = self.directory / f"nats-{number + 1}"
            self.nats.append(await asyncio.to_thread(NatsServer, directory, self.nats_config(number)))
        await self.managers.start()
        self.managers.run_in_background()
        for node in self.managers.nodes:
            self._key(f"keyring/{node}/current.key", secrets.token_hex(32))
        self._key("events.key", self.secret.hex())
        self._key("encryption.key", secrets.token_hex(32))
        url = await asyncio.to_thread(self.ledger.start)
        await self.provision()
        for number in range(self.plan.relays):
            self.relays.append(await self._relay(f"relay{number + 1}", url))
        for node in self.managers.nodes:
            self.collectors[node] = await self._collector(node)
        await asyncio.gather(*(service.start() for service in self.services))

    async def _strike(self) -> None:
        """From the last started to the first; what fails on the way keeps nothing else from ending."""
        links = [link for several in self.links.values() for link in several]
        for service in self.services:
            service.limit_files(-1)
        for link in links:
            link.heal()
        async with contextlib.AsyncExitStack() as last_to_first:
            last_to_first.push_async_callback(asyncio.to_thread, self.ledger.stop)
            for server in self.nats:
                last_to_first.push_async_callback(asyncio.to_thread, server.kill)
            for link in links:
                last_to_first.push_async_callback(link.close)
            last_to_first.push_async_callback(self.managers.stop)
            await asyncio.gather(*(service.stop() for service in self.services))

    @asynccontextmanager
    async def judge(self) -> AsyncIterator[Client]:
        """A plain nats-py client with every right, straight to the servers."""
        client = await nats.connect(self.judge_urls, error_cb=_quiet, max_reconnect_attempts=60, reconnect_time_wait=0.25)
        try:
            yield client
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):  # the server may be away as we go
                await client.close()

    def tails(self) -> str:
        """The last lines of each service, for whoever must find out why."""
        return "\n".join(f"--- {service.name}\n{service.tail(6)}" for service in self.services)

    # For faults -----------------------------------------------------------------------------------------------------

    async def provision(self) -> None:
        """`wazuh-relay provision`, straight to the servers; again and again while a cluster has no leader yet."""
        urls = ",".join(f"nats://127.0.0.1:{server.port}" for server in self.nats)
        config = self._write("provision", {"nats": self._nats(urls)})
        for _ in range(30):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "relay", "provision", "--config", str(config)),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            said, _ = await process.communicate()
            if process.returncode == 0:
                return
            await asyncio.sleep(1.0)
        raise RuntimeError(f"wazuh-relay provision failed: {said.decode(errors='replace')}")

    def nats_config(self, number: int) -> str:
        """What stands in a server's configuration beside the usual: users, the size of its disk, its cluster."""
        users = [{"user": USER, "password": self.password}, {"user": JUDGE, "password": self._judge}]
        store = {"store_dir": str(self.directory / f"nats-{number + 1}/jetstream"), "sync_interval": "always", "max_file_store": STORE}
        text = f"jetstream: {json.dumps(store)}\nauthorization: {json.dumps({'users': users})}\n"
        if not self._ports:
            return text
        routes = [f"nats://127.0.0.1:{port}" for port in self._ports]
        where = {"name": "soak", "listen": f"127.0.0.1:{self._ports[number]}", "routes": routes, "no_advertise": True}
        return f"{text}server_name: nats{number + 1}\ncluster: {json.dumps(where)}\n"

    def write_password(self) -> None:
        """Let the services' credentials file hold the password of the servers' configuration."""
        path = self.directory / "nats.login"
        path.touch(mode=0o600)
        path.write_text(f"{USER}:{self.password}\n")

    @property
    def security(self) -> config.SecurityConfig:
        """Where the relays' keys are."""
        return config.SecurityConfig(
            signing_key_path=self.directory / "events.key",
            keyring_path=self.directory / "keyring",
            encrypt_messages=self.plan.encrypted,
            encryption_key_path=self.directory / "encryption.key",
        )

    @property
    def secrets(self) -> list[bytes]:
        """Of all keys that a relay ever signed with."""
        return self._ever("events.key", "_relay")

    @property
    def ciphers(self) -> list[bytes]:
        """Of all keys that a relay ever encrypted under."""
        return self._ever("encryption.key", "_encryption")

    def _ever(self, current: str, others: str) -> list[bytes]:
        paths = (self.directory / current, *(self.directory / "keyring" / others).glob("*.key"))
        return [bytes.fromhex(path.read_text()) for path in paths]

    def clock_file(self, node: str) -> Path:
        """Where a collector's clock is set off (shared.clock)."""
        return self.directory / f"clock-{node}"

    def spool(self, node: str) -> Path:
        """Where a collector keeps what waits."""
        return self.directory / f"spool-{node}.db"

    # Services -------------------------------------------------------------------------------------------------------

    async def _relay(self, name: str, ledger_url: str) -> Service:
        relay = {
            "ledger_url": ledger_url,
            "name": name,
            "reset_grace": GRACE,
            "sync_jitter": JITTER,
            "node_stale": STALE,
            "baseline_timeout": 20,
            "heartbeat_interval": 2,
        }
        security = self.security.model_dump(mode="json")
        tree = {"nats": self._nats(await self._linked(name)), "security": security, "monitoring": {"metrics_port": 0}, "relay": relay}
        return self._service(name, "relay", tree, {})

    async def _collector(self, node: str) -> Service:
        name = f"collector-{node}"
        tree = {
            "wazuh": {"home": str(self.managers.nodes[node].home), "poll_interval": "1s"},
            "nats": self._nats(await self._linked(name)),
            "security": {"signing_key_path": str(self.directory / "keyring" / node / "current.key")},
            "monitoring": {"metrics_port": 0},
            "collector": {"spool_path": str(self.spool(node)), "full_interval": FULL, "spool_max_bytes": self.plan.spool_bytes},
        }
        return self._service(name, "collector", tree, {clock.ENVIRONMENT: str(self.clock_file(node))})

    def _service(self, name: str, kind: str, tree: dict[str, Any], environment: dict[str, str]) -> Service:
        config = self._write(name, tree)
        return Service(name, kind, ("-m", kind, "run", "--config", str(config)), environment, self.directory / f"{name}.log")

    async def _linked(self, name: str) -> str:
        self.links[name] = [await Link.open(server.port) for server in self.nats]
        return ",".join(f"nats://127.0.0.1:{link.port}" for link in self.links[name])

    def _nats(self, url: str) -> dict[str, Any]:
        return {
            "url": url,
            "credentials_file": str(self.directory / "nats.login"),
            "max_reconnects": 20,
            "reconnect_delay": "200ms",
            "replicas": self.plan.cluster,
            "raw_max_bytes": STREAM,
            "events_max_bytes": STREAM,
            "checkpoints_max_bytes": CHECKPOINTS,
        }

    def _write(self, name: str, tree: dict[str, Any]) -> Path:
        path = self.directory / f"{name}.yaml"
        path.write_text(json.dumps(tree, indent=2))  # JSON is YAML
        return path

    def _key(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")


async def _quiet(_: Exception) -> None:
    """nats-py would log what it meets while servers are away."""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return [int(port) for port in ports]
