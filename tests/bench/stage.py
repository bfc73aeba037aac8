"""The processes of a measurement: nats-server, relay and collector as they are run, with the product's own defaults.

Leaving it ends every process that it started.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from shared import sealing
from tests.bench import keys
from tests.bench.fleet import NODE
from tests.collector.process import CollectorProcess
from tests.nats_server import NatsServer
from tests.relay.rig import Rig
from tests.soak.processes import Service

SIGNATURES: Final[dict[str, Callable[[Rig], sealing.SigningKey]]] = {"HMAC": keys.hmac, "Ed25519": keys.pairs}
"""How relay and nodes may sign -> what makes such keys; every figure of what is signed has each."""

_FOR_TESTS_ALONE: Final = ("TICK_INTERVAL", "HEARTBEAT_INTERVAL", "RESET_GRACE")


@dataclass(frozen=True, slots=True)
class Bare:
    """A floor's process, measured in turn with ours: it works between `go` and `rest`."""

    pid: int
    _write: Callable[[bytes], None]

    def go(self) -> None:
        """Let it work."""
        self._write(b"go\n")

    def rest(self) -> None:
        """Let it rest."""
        self._write(b"rest\n")


class Stage:
    """A nats-server with the product's streams; `nodes` are in the relay's keyring."""

    def __init__(self, directory: Path, *nodes: str, tls: bool = False, ledger_url: str = "", signature: str = "HMAC") -> None:
        self.directory = directory
        certificate = keys.certificate(directory) if tls else None
        self.nats = NatsServer(directory / "nats", "" if certificate is None else _block(*certificate))
        self.rig = Rig(directory, self.nats, *(nodes or (NODE,)))
        for name in _FOR_TESTS_ALONE:
            del self.rig.environ[f"WAZUH_JETSTREAM__RELAY__{name}"]
        self.signer = sealing.MessageSigner(SIGNATURES[signature](self.rig))
        self.url = self.nats.url if certificate is None else self.nats.url.replace("nats://", "tls://")
        self.authority = None if certificate is None else certificate[0]
        self.rig.environ["WAZUH_JETSTREAM__NATS__URL"] = self.url
        if certificate is not None:
            self.rig.environ["WAZUH_JETSTREAM__NATS__TLS_CA"] = str(certificate[0])
        if ledger_url:
            self.rig.environ["WAZUH_JETSTREAM__RELAY__LEDGER_URL"] = ledger_url
        self.relay = Service("relay", "relay", ("-m", "relay", "run"), self.rig.environ, directory / "relay.log")
        self._collectors: list[CollectorProcess] = []
        self._others: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        try:
            await self.rig.provision()
        except BaseException:
            self.nats.kill()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for other in self._others:
            with contextlib.suppress(ProcessLookupError):
                other.kill()
            await other.wait()
        for collector in self._collectors:
            await collector.kill()
        await self.relay.kill()
        await asyncio.to_thread(self.nats.kill)

    async def start_relay(self) -> None:
        """Returns when it says that it runs. RuntimeError where it does not."""
        saying = asyncio.create_task(self.relay.says("the relay runs", 60))
        await self.relay.start()
        if not await saying:
            raise RuntimeError(f"the relay did not start:\n{self.relay.tail()}")

    async def start_collector(self, home: Path, settings: Mapping[str, str] | None = None) -> CollectorProcess:
        """A collector of NODE, reading the manager at `home`, with its key from the relay's keyring."""
        directory = self.directory / f"collector-{len(self._collectors)}"
        directory.mkdir()
        own = {"wazuh__poll_interval": "5s", "security__signing_key_path": str(keys.of_node(self.rig, NODE)), **(settings or {})}
        if self.authority is not None:
            own["nats__tls_ca"] = str(self.authority)
        collector = CollectorProcess(directory, home, self.url, **own)
        self._collectors.append(collector)
        await collector.start()
        return collector

    async def start_bare(self, name: str, *arguments: str) -> Bare:
        """A script beside this module that says `ready`, and works while it is told to."""
        process = await self.start(*script(name), *arguments)
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdout.readline()
        return Bare(process.pid, process.stdin.write)

    async def start(self, *command: str) -> asyncio.subprocess.Process:
        """Any other process, with pipes for its input and output."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        self._others.append(process)
        return process


def script(name: str) -> tuple[str, ...]:
    """The command of a script beside this module."""
    return (sys.executable, str(Path(__file__).with_name(name)))


async def run_script(name: str, *arguments: str) -> bytes:
    """What such a script prints. RuntimeError where it fails."""
    process = await asyncio.create_subprocess_exec(*script(name), *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"{name} {' '.join(arguments)} ended with {process.returncode}")
    return said


def _block(certificate: Path, key: Path) -> str:
    return f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'
