"""Makes what docker-compose.yml's services keep secret, once, each service's in a volume of its own. Run again it changes nothing.

    /out/nats        the servers' configuration (copied from deploy/nats), certificates, and the users' public keys
    /out/postgres    the database's password
    /out/relay       signing key, keyring, NKeys of relay and provisioner, pgpass
    /out/subscriber  the relay's signing key (HMAC: who verifies holds it) and the NKey of a watcher
    /out/wazuh-master, /out/wazuh-worker    the managers' configurations, with their cluster's key
    /out/prometheus  the token that opens the services' pages
    /out/node01, /out/worker1    each collector's signing key and NKey

It runs as root, without a network, to give each file to the user that reads it. For a real installation make keys on the hosts
that keep them: see docs/install.md.
"""

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import nkeys

OUT: Final = Path("/out")
NATS: Final = Path("/deploy/nats")
COMPOSE: Final = Path("/deploy/compose")
SERVICE: Final = 10001  # the images' user, and the one that nats-server is run as
NODES: Final = ("node01", "worker1")
SERVERS: Final = ("nats-1", "nats-2", "nats-3")
DATA: Final = (*SERVERS, "spool-node01", "spool-worker1", "prometheus")
"""Volumes that only their service writes."""


def main() -> int:
    """0."""
    for name in DATA:
        _give(OUT / "data" / name, SERVICE, 0o700)
    if (OUT / "done" / "done").exists():
        print("Everything is there.")
        return 0
    _services(secrets.token_hex(32), {node: secrets.token_hex(32) for node in NODES})
    _monitoring(secrets.token_urlsafe(24))
    _postgres(secrets.token_urlsafe(24))
    _nats()
    _wazuh(secrets.token_hex(16))
    for directory in ("relay", "subscriber", *NODES, "nats", "prometheus"):
        _give_all(OUT / directory)
    (OUT / "done" / "done").touch()
    print("Keys, passwords and certificates are made.")
    return 0


def _services(events_key: str, node_keys: dict[str, str]) -> None:
    for place in ("relay", "subscriber"):
        _write(OUT / place / "signing.key", events_key)
    for node, key in node_keys.items():
        _write(OUT / node / "signing.key", key)
        _write(OUT / "relay" / "keyring" / node / "current.key", key)


def _monitoring(token: str) -> None:
    """What Prometheus shows to the services that it reads."""
    for place in ("relay", *NODES, "prometheus"):
        _write(OUT / place / "monitoring.token", token)


def _postgres(password: str) -> None:
    _write(OUT / "postgres" / "password", password)
    _write(OUT / "relay" / "pgpass", f"postgres:5432:*:relay:{password}")


def _wazuh(key: str) -> None:
    """Configurations of the real managers of the profile `wazuh`, which share a cluster key; their containers start as root."""
    text = (COMPOSE / "ossec.conf").read_text()
    for place, node, kind in (("wazuh-master", "node01", "master"), ("wazuh-worker", "worker1", "worker")):
        filled = text.replace("{node}", node).replace("{type}", kind).replace("{key}", key)
        _write(OUT / place / "etc" / "ossec.conf", filled)


def _nats() -> None:
    """The servers' directory /etc/nats: configuration, certificates, and who is who."""
    for path in NATS.glob("*.conf"):
        shutil.copy(path, OUT / "nats" / path.name)
    subprocess.run(["sh", NATS / "make_test_certificates.sh", OUT / "nats" / "tls", *SERVERS, "localhost", "127.0.0.1"], check=True)
    owners = {
        "NKEY_PROVISIONER": "relay/provisioner.nk",
        "NKEY_RELAY": "relay/nats.nk",
        "NKEY_SIEM": "subscriber/siem.nk",
        "NKEY_WATCHER": "subscriber/nats.nk",
        **{f"NKEY_COLLECTOR_{node.upper()}": f"{node}/nats.nk" for node in NODES},
    }
    lines = [f'{name}: "{_nkey(OUT / path)}"' for name, path in owners.items()]
    _write(OUT / "nats" / "identities.conf", "\n".join(lines))
    for directory in ("relay", "subscriber", *NODES):
        shutil.copy(OUT / "nats" / "tls" / "ca.crt", OUT / directory / "ca.crt")


def _nkey(path: Path) -> str:
    """Make an NKey: its seed into the file, its public key returned."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    _write(path, seed.decode())
    return str(nkeys.from_seed(bytearray(seed)).public_key.decode())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    path.chmod(0o600)


def _give_all(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        _give(path, SERVICE, 0o700 if path.is_dir() else 0o600)


def _give(path: Path, owner: int, mode: int) -> None:
    os.chown(path, owner, owner)
    path.chmod(mode)


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
