"""No secret leaves its file: planted ones are looked for wherever somebody could read."""

import asyncio
import base64
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest
from nats.aio.client import Client

from collector import __main__ as collector_command
from relay import __main__ as relay_command
from shared import sealing, wire
from tests.border.stage import ROOT, make_nkey, public_of
from tests.border.work import DEADLINE_S, START, decided
from tests.manager.driver import ManagerProcess
from tests.nats_server import NatsServer
from tests.relay.rig import Rig, page
from tests.world.writes import Columns, Insert, Keys, Write

pytestmark = pytest.mark.unmeasured

PASSWORD, TOKEN = "pl4nted-p4ssword-of-n4ts", "pl4nted-t0ken-of-n4ts"
POSTGRES = "pl4nted-p4ssword-of-p0stgres"
AGENT_KEY = "5ec7e7" * 10 + "abcd"
COLLECTOR_KEY, RELAY_KEY, ENCRYPTION_KEY = ("c0" + "1d" * 31, "7e" + "1a" * 31, "ec" + "2b" * 31)


@dataclass
class Planted:
    """Every secret, by a name for it, and the files that hold them."""

    directory: Path
    secrets: dict[str, str] = field(default_factory=dict)

    def file(self, name: str, secret: str, text: str | None = None) -> Path:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text or f"{secret}\n")
        self.secrets[name] = secret
        return path

    def found_in(self, data: bytes) -> list[str]:
        """Names of secrets that are in `data`, as they are, as bytes or in base64."""
        return [name for name, secret in self.secrets.items() if any(form in data for form in _forms(secret))]


def _forms(secret: str) -> Iterator[bytes]:
    raw = [secret.encode()]
    if all(digit in "0123456789abcdef" for digit in secret):
        raw.append(bytes.fromhex(secret))
    for one in raw:
        yield one
        yield base64.b64encode(one)[:-3]


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    made = Planted(tmp_path)
    made.file("collector.key", COLLECTOR_KEY)
    made.file("relay.key", RELAY_KEY)
    made.file("encryption.key", ENCRYPTION_KEY)
    made.file("nats.login", PASSWORD, f"collector:{PASSWORD}\n")
    made.file("nats.token", TOKEN)
    made.file("pgpass", POSTGRES, f"127.0.0.1:1:ledger:relay:{POSTGRES}\n")
    make_nkey(tmp_path / "relay.nk")
    made.secrets["relay.nk"] = (tmp_path / "relay.nk").read_text().strip()
    made.secrets["an agent's key"] = AGENT_KEY
    return made


def test_what_is_planted_would_be_found(planted: Planted) -> None:
    for name, secret in planted.secrets.items():
        assert name in planted.found_in(f"x{secret}y".encode())
    assert planted.found_in(b"z" + bytes.fromhex(RELAY_KEY)) == ["relay.key"]
    assert planted.found_in(base64.b64encode(TOKEN.encode())) == ["nats.token"]
    assert planted.found_in(b"nothing") == []


# Two services at work -------------------------------------------------------------------------------------------------


def row(number: int) -> Write:
    columns: Columns = {"id": number, "name": f"agent-{number}", "ip": "10.0.0.1", "node_name": "node01", "internal_key": AGENT_KEY}
    return Insert("node01", 0, columns | {"connection_status": "active", "last_keepalive": START, "date_add": START - 10})


def server_for(tmp_path: Path) -> NatsServer:
    users = f'{{ nkey: "{public_of(tmp_path / "relay.nk")}" }}, {{ user: "collector", password: "{PASSWORD}" }}'
    return NatsServer(tmp_path / "nats", f"authorization {{ users: [ {users}, {{ user: a, password: a }} ] }}\nno_auth_user: a")


def environments(planted: Planted, rig: Rig, home: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The collector's and the relay's."""
    at = planted.directory
    (rig.directory / "keyring" / "node01" / "current.key").write_text(COLLECTOR_KEY)
    common = rig.environ | {
        "WAZUH_JETSTREAM__MONITORING__LOG_LEVEL": "debug",
        "WAZUH_JETSTREAM__SECURITY__ENCRYPTION_KEY_PATH": str(at / "encryption.key"),
        "PATH": os.environ["PATH"],
        "PGPASSFILE": str(at / "pgpass"),
    }
    collector = common | {
        "WAZUH_JETSTREAM__WAZUH__HOME": str(home),
        "WAZUH_JETSTREAM__NATS__CREDENTIALS_FILE": str(at / "nats.login"),
        "WAZUH_JETSTREAM__SECURITY__SIGNING_KEY_PATH": str(at / "collector.key"),
        "WAZUH_JETSTREAM__COLLECTOR__SPOOL_PATH": str(at / "spool.db"),
    }
    relay = common | {
        "WAZUH_JETSTREAM__NATS__CREDENTIALS_FILE": str(at / "relay.nk"),
        "WAZUH_JETSTREAM__SECURITY__SIGNING_KEY_PATH": str(at / "relay.key"),
    }
    return collector, relay


@asynccontextmanager
async def program(name: str, environ: dict[str, str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", name, "run", env=environ, cwd=ROOT, stderr=out, stdout=out)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(DEADLINE_S):
                await process.wait()


async def port_of(log: Path) -> int:
    """Where the pages of a service are, once its log says so."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            for line in log.read_text().splitlines():
                if line.startswith("{") and (said := json.loads(line))["event"] == "health_listening":
                    return int(said["port"])
            await asyncio.sleep(0.05)


async def test_no_secret_is_in_anything_that_a_running_service_shows(tmp_path: Path, planted: Planted) -> None:
    """Logs at debug level, the process list, the environment, pages, RAW, EVENTS, spool, ledger, quarantine."""
    server = server_for(tmp_path)
    rig = Rig(tmp_path / "rig", server, "node01")
    seen: dict[str, bytes] = {}
    try:
        await rig.provision()
        manager = ManagerProcess(tmp_path / "m", commit_seconds=0.2)
        await manager.start([row(1), Keys("node01", 0, f"001 agent-1 any {AGENT_KEY}\n")])
        collector_env, relay_env = environments(planted, rig, manager.home)
        logs = [tmp_path / "collector.log", tmp_path / "relay.log"]
        async with program("relay", relay_env, logs[1]) as relay, program("collector", collector_env, logs[0]) as collector:
            await decided(rig, 1)
            async with rig.client() as client:
                await rig.send(client, "node01", b"refused", {})
                await quarantined(rig)
                seen |= await streams(rig, client)
            for process, log in ((collector, logs[0]), (relay, logs[1])):
                proc = Path(f"/proc/{process.pid}")
                seen |= {f"{log.name} {name}": (proc / name).read_bytes() for name in ("cmdline", "environ")}
                port = await port_of(log)
                seen |= {f"{log.name} {name}": (await plain_page(port, name)) for name in ("/metrics", "/readyz", "/healthz")}
        await manager.stop()
        seen |= {path.name: path.read_bytes() for path in (*logs, *tmp_path.glob("spool.db*"), *(tmp_path / "rig").glob("ledger.db*"))}
        for words in (("quarantine", "list"), ("quarantine", "show", "1", "--json"), ("agents", "--json"), ("check",), ("nodes", "list")):
            seen[" ".join(words)] = ran("relay", relay_env, *words)
    finally:
        server.kill()
    assert {name: planted.found_in(data) for name, data in seen.items() if planted.found_in(data)} == {}
    assert all(
        seen[name] for name in ("WAZUH_RAW", "unpacked", "spool.db", "ledger.db", "relay.log", "collector.log", "relay.log /metrics")
    )


async def plain_page(port: int, path: str) -> bytes:
    return (await page(port, path)).encode()


async def quarantined(rig: Rig) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not (book := rig.open_ledger()).shelf.kept(1):
            book.close()
            await asyncio.sleep(0.05)
        book.close()


async def streams(rig: Rig, client: Client) -> dict[str, bytes]:
    """What the streams hold, and what the raw snapshots unpack to."""
    raw = await rig.stored(client, "WAZUH_RAW")
    events = await rig.stored(client)
    parts = [wire.open_part(one.body) for one in raw if one.body != b"refused" and not one.subject.endswith("_tick")]
    payloads = [wire.unwrapped(part.data) for part in parts if isinstance(part, wire.Part) and part.total == 1]
    return {
        "WAZUH_RAW": b"".join(f"{one.subject}{one.headers}".encode() + one.body for one in raw),
        "unpacked": b"".join(payloads),
        "WAZUH_EVENTS": b"".join(f"{one.subject}{one.headers}".encode() + one.body for one in events),
    }


def ran(program: str, environ: dict[str, str], *words: str) -> bytes:
    done = subprocess.run([sys.executable, "-m", program, *words], env=environ, cwd=ROOT, capture_output=True)
    return done.stdout + done.stderr


# What is wrong --------------------------------------------------------------------------------------------------------

KEYS = (
    "SECURITY__SIGNING_KEY_PATH",
    "SECURITY__KEYRING_PATH",
    "NATS__CREDENTIALS_FILE",
    "NATS__TOKEN_FILE",
    "NATS__TLS_CA",
    "NATS__TLS_KEY",
)
FILES = ("relay.key", "nats.login", "nats.token", "relay.nk", "pgpass", "encryption.key")


@pytest.mark.parametrize("program", ["relay", "collector"])
def test_no_error_of_a_wrong_configuration_shows_a_secret(tmp_path: Path, planted: Planted, program: str) -> None:
    """Each secret in the place of each other one, and in the place of the whole configuration."""
    told = b""
    for name in FILES:
        for key in KEYS:
            environ = {
                "PATH": os.environ["PATH"],
                f"WAZUH_JETSTREAM__{key}": str(tmp_path / name),
                "WAZUH_JETSTREAM__NATS__URL": "nats://127.0.0.1:1",
            }
            if key == "NATS__TLS_KEY":
                environ["WAZUH_JETSTREAM__NATS__TLS_CERT"] = str(tmp_path / name)
            told += refused(program, environ)
        told += refused(program, {"PATH": os.environ["PATH"]}, "--config", str(tmp_path / name))
    assert told.count(b"\n") > len(FILES) * len(KEYS)
    assert planted.found_in(told) == []


def test_no_error_shows_a_secret_that_stands_in_the_configuration_itself(tmp_path: Path) -> None:
    planted = Planted(tmp_path, {"a": PASSWORD, "b": POSTGRES})
    told = b""
    for variable, value in (
        ("NATS__URL", f"nats://user:{PASSWORD}@h:4222"),
        ("RELAY__LEDGER_URL", f"postgresql+psycopg://relay:{POSTGRES}@h/ledger"),
    ):
        told += refused("relay", {"PATH": os.environ["PATH"], f"WAZUH_JETSTREAM__{variable}": value})
    assert told.count(b"configuration key") == 2
    assert planted.found_in(told) == []


def test_a_ledger_that_cannot_be_reached_shows_no_password(tmp_path: Path, planted: Planted) -> None:
    told = ran(
        "relay",
        {
            "PATH": os.environ["PATH"],
            "PGPASSFILE": str(tmp_path / "pgpass"),
            "WAZUH_JETSTREAM__RELAY__LEDGER_URL": "postgresql+psycopg://relay@127.0.0.1:1/ledger",
            "WAZUH_JETSTREAM__NATS__URL": "nats://127.0.0.1:1",
        },
        "agents",
    )
    assert b"ledger" in told
    assert planted.found_in(told) == []


def refused(program: str, environ: dict[str, str], *options: str) -> bytes:
    """What `main` prints, in this process: a hundred interpreters would take minutes."""
    out = io.StringIO()
    main = relay_command.main if program == "relay" else collector_command.main
    with (
        mock.patch.dict(os.environ, environ, clear=True),
        mock.patch("relay.session.CONNECT_S", 0.01),
        mock.patch("collector.check.NATS_TIMEOUT", 0.01),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        main(["check", *options])
    return out.getvalue().encode()


def test_a_signature_and_a_key_id_tell_nothing_of_the_key() -> None:
    signer = sealing.MessageSigner(sealing.Key(bytes.fromhex(RELAY_KEY)))
    assert RELAY_KEY not in repr(signer) + signer.kid + signer.sign_header("s", b"x", {}) + repr(sealing.Key(bytes.fromhex(RELAY_KEY)))
