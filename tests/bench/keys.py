"""The keys and the certificate of a measurement, made in its own directory."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared import ed25519, sealing
from tests.manager.driver import unix_now
from tests.relay.rig import Rig

CURRENT = "current"  # key of a node in the keyring


def hmac(rig: Rig) -> sealing.SigningKey:
    """The relay's key, as the rig has it, and so have the nodes."""
    return sealing.Key(rig.secret)


def pairs(rig: Rig) -> sealing.SigningKey:
    """Ed25519 for the relay and for every node, whose private half is beside the keyring; the relay's key."""
    for node in rig.node_keys:
        place = rig.directory / "keyring" / node
        (place / f"{CURRENT}.key").unlink()
        rig.signing[node] = made = _pair(rig.directory / f"{node}.key")
        (place / f"{CURRENT}.pub").write_bytes(made.public.pem())
    return _pair(rig.directory / "relay.key")


def of_node(rig: Rig, node: str) -> Path:
    """The file that a node signs with."""
    return rig.directory / f"{node}.key" if node in rig.signing else rig.directory / "keyring" / node / f"{CURRENT}.key"


def _pair(path: Path) -> ed25519.PrivateKey:
    made = ed25519.PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(made.pem())
    return made


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, which is its own authority, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.fromtimestamp(unix_now(), UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    alone = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=2)).add_extension(alone, critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    paths = directory / "tls.pem", directory / "tls.key"
    paths[0].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    paths[1].touch(mode=0o600)
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return paths
