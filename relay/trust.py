"""Whose word counts, and what opens what is told: the relay's own keys and the nodes'.

security.signing_key_path               what the relay signs with, the primary key
security.encryption_key_path            what it encrypts under
keyring/_relay/                         its other signing keys: all of them verify
  next.key                                will be the primary one (`wazuh-relay keys rotate`)
  previous.key                            was the primary one, and still signs headers beside it
  retired-KID.pub  retired-KID.key        signed what is in the streams
keyring/_encryption/                    its other keys to decrypt with: next.key, previous.key, retired-KID.key
keyring/NODE/                           a manager's (shared.keyring)
"""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from shared import config, keyring, sealing

from .encryption import EncryptionHandler, Secret

RELAY: Final = "_relay"
ENCRYPTION: Final = "_encryption"
NEXT: Final = "next.key"
PREVIOUS: Final = "previous.key"
RETIRED: Final = "retired-"

Use = Literal["signing", "encryption", "node"]
State = Literal["current", "next", "previous", "retired", "accepted"]

PLACES: Final[dict[Use, str]] = {"signing": RELAY, "encryption": ENCRYPTION}
"""Where in the keyring the relay's own keys are, but for the current ones."""


@dataclass(frozen=True, slots=True)
class Held:
    """A key and where it is. `node`: whose it is, of a node's key."""

    use: Use
    state: State
    key: sealing.VerifyingKey | Secret
    path: Path
    node: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader of EVENTS needs."""

    verifier: sealing.Verifier
    crypt: EncryptionHandler


@dataclass(frozen=True, slots=True)
class Trust:
    """What `run` needs; renewed in place, so that whoever holds a part of it goes on with the new keys."""

    signer: sealing.MessageSigner
    nodes: keyring.Keyring
    crypt: EncryptionHandler

    def described(self) -> str:
        """Key ids, in a few words."""
        encrypting = "" if self.crypt.kid is None else f", {self.crypt.kid} encrypts"
        return f"{self.signer.kid} signs{encrypting}, {len(self.nodes)} nodes"

    def renew(self, other: "Trust") -> None:
        """Take over another one's keys. Safe while another thread verifies: each node's keys change in one step."""
        self.signer.renew(other.signer)
        self.crypt.renew(other.crypt)
        self.nodes.update(other.nodes)
        for gone in self.nodes.keys() - other.nodes.keys():
            del self.nodes[gone]


def trust(settings: config.Config) -> Trust:
    """The keys to run with. Raises ConfigError."""
    made, security = signer(settings), settings.security
    nodes = keyring.read_keyring(config.require(security.keyring_path, "security.keyring_path"))
    if security.encrypt_messages:
        config.require(security.encryption_key_path, "security.encryption_key_path")
    return Trust(made, nodes, _crypt(security, encrypts=security.encrypt_messages))


def signer(settings: config.Config) -> sealing.MessageSigner:
    """Signs as the relay does. Raises ConfigError."""
    primary = keyring.read_key(config.require(settings.security.signing_key_path, "security.signing_key_path"))
    others = [(one.state, one.key) for one in own(settings.security, "signing") if not isinstance(one.key, Secret)]
    beside = [key for state, key in others if state == "previous" and sealing.signs(key)]
    return sealing.MessageSigner(primary, [key for _, key in others], beside)


def reading(settings: config.Config) -> Reading:
    """The keys to read EVENTS with; public ones are enough. Raises ConfigError where there is none."""
    security = settings.security
    keys = [one.key for one in own(security, "signing") if not isinstance(one.key, Secret)]
    if not keys:
        config.require(security.signing_key_path, "security.signing_key_path")
    return Reading(sealing.Verifier(keys), _crypt(security, encrypts=False))


def _crypt(settings: config.SecurityConfig, *, encrypts: bool) -> EncryptionHandler:
    keys = [(one.state, one.key) for one in own(settings, "encryption") if isinstance(one.key, Secret)]
    current = next((key for state, key in keys if state == "current"), None)
    return EncryptionHandler(current if encrypts else None, [key for _, key in keys], secrets.token_bytes)


# What is held -------------------------------------------------------------------------------------------------------


def own(settings: config.SecurityConfig, use: Literal["signing", "encryption"]) -> list[Held]:
    """The relay's own keys for a use, the current one first. Raises ConfigError."""
    return [Held(use, state, _read(path, use), path) for state, path in files(settings, use)]


def of_nodes(settings: config.SecurityConfig) -> list[Held]:
    """The nodes' keys. Raises ConfigError."""
    if settings.keyring_path is None:
        return []
    return [
        Held("node", "accepted", keyring.read_any(path), path, node) for node, path in keyring.node_files(settings.keyring_path)
    ]  # fmt: skip


def files(settings: config.SecurityConfig, use: Literal["signing", "encryption"]) -> list[tuple[State, Path]]:
    """Where the relay's own keys for a use are. Raises ConfigError."""
    current = settings.signing_key_path if use == "signing" else _encryption_key_path(settings)
    found: list[tuple[State, Path]] = [] if current is None else [("current", current)]
    if settings.keyring_path is not None:
        found += [(_state(path), path) for path in keyring.key_files(settings.keyring_path / PLACES[use])]
    return found


def _encryption_key_path(settings: config.SecurityConfig) -> Path | None:
    """None where nothing is encrypted and no such file is there: it may be named for later."""
    path = settings.encryption_key_path
    return path if path is None or settings.encrypt_messages or path.exists() else None


def _state(path: Path) -> State:
    if path.name in (NEXT, PREVIOUS):
        return "next" if path.name == NEXT else "previous"
    return "retired" if path.name.startswith(RETIRED) else "accepted"


def _read(path: Path, use: Use) -> sealing.VerifyingKey | Secret:
    return Secret(keyring.read_secret(path)) if use == "encryption" else keyring.read_any(path)
