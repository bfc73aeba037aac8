"""A real nats-server that runs the very files of deploy/nats, with a test's certificates, NKeys, ports and directories put in."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import nkeys
from nats.aio.client import Client

from tests.nats_server import NatsServer

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "nats"
ADMIN = "NKEY_ADMIN"
_NAMES = re.compile(r"^(NKEY_\w+):", re.MULTILINE)


@dataclass(frozen=True)
class Identities:
    """Each user's seed file, by the name that identities.conf.example gives him; ADMIN besides, whom the shipped files do not have."""

    seeds: Mapping[str, Path]
    publics: Mapping[str, str]


def make_identities(directory: Path) -> Identities:
    directory.mkdir(parents=True, exist_ok=True)
    seeds, publics = {}, {}
    for name in [*_NAMES.findall((DEPLOY / "identities.conf.example").read_text()), ADMIN]:
        seeds[name] = directory / f"{name}.nk"
        publics[name] = make_nkey(seeds[name])
    return Identities(seeds, publics)


def make_nkey(path: Path) -> str:
    """The public key of a new seed in `path`, made by the shipped script."""
    done = subprocess.run([sys.executable, str(DEPLOY / "make_nkey.py"), str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make_certificates(directory: Path, *names: str) -> Path:
    subprocess.run([str(DEPLOY / "make_test_certificates.sh"), str(directory), *names], check=True, env={"PATH": os.environ["PATH"]})
    return directory


def fill(directory: Path, identities: Identities, replaced: Mapping[str, str] | None = None) -> None:
    """The shipped files in `directory`, as an administrator would fill them in, with a user beside them who may do everything."""
    directory.mkdir(parents=True, exist_ok=True)
    values = "".join(f'{name}: "{public}"\n' for name, public in identities.publics.items())
    (directory / "identities.conf").write_text(values)
    changes = {
        '"/data"': f'"{directory}/data"',
        '"127.0.0.1:8222"': '"127.0.0.1:-1"',
        "    users: [\n": f"    users: [\n      {{ nkey: ${ADMIN} }}\n",
        **(replaced or {}),
        "/etc/nats/": f"{directory}/",
    }
    for name in ("nats-server.conf", "nats-cluster.conf", "accounts.conf"):
        text = (DEPLOY / name).read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        (directory / name).write_text(text)


class ShippedServer(NatsServer):
    """deploy/nats/nats-server.conf on a free port of 127.0.0.1. `replaced`: what else is put in."""

    def __init__(
        self,
        directory: Path,
        identities: Identities,
        config: str = "nats-server.conf",
        replaced: Mapping[str, str] | None = None,
        tls: Path | None = None,
    ) -> None:
        self.identities = identities
        self._name = config
        self._replaced = {"/etc/nats/tls": str(tls or make_certificates(directory / "tls")), **(replaced or {})}
        self.ca = Path(self._replaced["/etc/nats/tls"], "ca.crt")
        super().__init__(directory)

    @property
    def url(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    @property
    def _config(self) -> Path:
        return self._directory / self._name

    def _write_config(self) -> None:
        fill(self._directory, self.identities, {'"0.0.0.0:4222"': f'"127.0.0.1:{self.port}"'} | self._replaced)

    def environ(self, user: str) -> dict[str, str]:
        """What points one of our programs to this server as `user`."""
        return {
            "WAZUH_JETSTREAM__NATS__URL": self.url,
            "WAZUH_JETSTREAM__NATS__TLS_CA": str(self.ca),
            "WAZUH_JETSTREAM__NATS__CREDENTIALS_FILE": str(self.identities.seeds[user]),
            "WAZUH_JETSTREAM__NATS__RECONNECT_DELAY": "50ms",
        }

    @asynccontextmanager
    async def client(self, user: str, inbox: str, complaints: list[str] | None = None) -> AsyncIterator[Client]:
        """Plain nats-py as `user`; what the server complains of goes to `complaints`."""

        async def note(error: Exception) -> None:
            if complaints is not None:
                complaints.append(str(error))

        options: dict[str, Any] = {"nkeys_seed": str(self.identities.seeds[user]), "inbox_prefix": inbox, "error_cb": note}
        client = await nats.connect(self.url, tls=_trusting(self.ca), max_reconnect_attempts=3, **options)
        try:
            yield client
        finally:
            await client.close()


def _trusting(ca: Path) -> Any:
    import ssl

    return ssl.create_default_context(cafile=ca)


def public_of(seed: Path) -> str:
    found: bytes = nkeys.from_seed(bytearray(seed.read_bytes().strip())).public_key
    return found.decode()
