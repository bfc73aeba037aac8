"""`keys generate`: makes a key file that only its owner can read, and overwrites none.

HMAC-SHA256 and AES-256-GCM need nothing but the system's random source; Ed25519 needs the package cryptography.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from . import cli, keyring, sealing
from .errors import ConfigError, Stop

ED25519: Final = "ed25519"
SIGNING: Final = (sealing.HMAC_SHA256, ED25519)


class NotMade(Stop):
    """There is a file of this name."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Made:
    """A key file. `public`: the file of the public half, of an Ed25519 key."""

    path: Path
    algorithm: str
    kid: str
    public: Path | None = None


def signing_key(path: Path, algorithm: str) -> Made:
    """Make a key to sign with. Raises NotMade, ConfigError."""
    text, beside = secret_text(algorithm), path.with_suffix(".pub")
    if algorithm == ED25519 and (beside == path or beside.exists()):
        raise NotMade(f"{beside} is there already, where the public half belongs; name another file, or move it away")
    create(path, text)
    kid = keyring.read_key(path).kid
    if algorithm != ED25519:
        return Made(path, algorithm, kid)
    create(beside, keyring.public_half(path), 0o644)
    return Made(path, algorithm, kid, beside)


def secret_text(algorithm: str) -> bytes:
    """A new key as its file holds it: hex digits, or PEM of Ed25519. Raises ConfigError where that cannot be made here."""
    if algorithm != ED25519:
        return secrets.token_hex(sealing.KEY_BYTES).encode() + b"\n"
    try:
        from . import ed25519
    except ImportError as error:
        raise ConfigError("an Ed25519 key needs the package cryptography; run: pip install 'wazuh-jetstream[ed25519]'") from error
    return ed25519.PrivateKey.generate().pem()


def create(path: Path, text: bytes, mode: int = 0o600) -> None:
    """Write a file that was not there, whole and on disk. Raises NotMade, ConfigError."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise NotMade(f"{path} is there already, and no key is overwritten; name another file, or move it away") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); make its directory, owned by the user of the service") from error


def put(path: Path, text: bytes, like: Path | None = None, mode: int = 0o600) -> None:
    """Write a file whole or not at all, over another one if there is one; owned like `like`. Raises ConfigError."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        create(fresh, text, mode)
        own_like(fresh, like or path.parent)
        fresh.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); see whose directory {path.parent} is") from error
    finally:
        fresh.unlink(missing_ok=True)


def own_like(path: Path, like: Path) -> None:
    """Let the service read what root has made."""
    if os.geteuid() == 0:
        found = like.stat()
        os.chown(path, found.st_uid, found.st_gid)


def _sync(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def show(made: Made, out: TextIO, *, as_json: bool) -> None:
    """Say what was made, never the key."""
    if as_json:
        public = None if made.public is None else str(made.public)
        cli.print_json({"path": str(made.path), "algorithm": made.algorithm, "kid": made.kid, "public_path": public}, out)
        return
    out.write(f"{made.path}: {made.algorithm} key {made.kid}\n")
    if made.public is not None:
        out.write(f"{made.public}: its public half, which may be given to everybody\n")
