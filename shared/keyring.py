"""Key files and the keyring: a directory that says which node signs with which keys.

    keyring/
      node01/current.key       a secret: any file names ending in .key or .pub, several keys of one node are valid at once
      node01/next.key
      node02/current.pub       the public half of the key that node02 signs with
      _relay/ _encryption/     the relay's own (relay.trust): no node's directory begins with `_`

A file holds 64 hex digits (HMAC-SHA256; `openssl rand -hex 32`) or an Ed25519 key in PEM, private or public. What is secret is
readable by its owner alone, or by a group where root owns it; what is public is writable by its owner alone. Node directories are
named by `shared.subjects.escape`, as in the node's subject. Names that begin with a dot are left alone.
"""

import binascii
import os
import stat
from pathlib import Path
from typing import Final

from . import sealing, secretfile, subjects
from .errors import ConfigError

ALIKE: Final = (".key", ".pub")
_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_MAX_KEY_FILE: Final = 4096  # bytes: a secret is 64 hex digits and a newline, an Ed25519 key in PEM about 120 bytes
_PEM: Final = b"-----BEGIN "
_PEM_PUBLIC: Final = b"-----BEGIN PUBLIC KEY-----"

Keyring = dict[str, dict[str, sealing.VerifyingKey]]
"""node name -> key id -> key."""


# Files --------------------------------------------------------------------------------------------------------------


def read_key(path: Path) -> sealing.SigningKey:
    """The key in a file, which signs. Raises ConfigError: absent, readable by others, a public key, or no key."""
    key = read_any(path)
    if not sealing.signs(key):
        raise ConfigError(f"key file {path} holds a public key, which verifies and cannot sign; name the file of its private half")
    return key


def read_any(path: Path) -> sealing.VerifyingKey:
    """The key in a file, also one that only verifies. Raises ConfigError."""
    text = read_guarded(path)
    return _pem(text, path) if text.startswith(_PEM) else sealing.Key(secret_in(text, path))


def public_half(path: Path) -> bytes:
    """The PEM of the public half of the Ed25519 key in a file. Raises ConfigError."""
    from . import ed25519

    key = read_any(path)
    if not isinstance(key, ed25519.PrivateKey):
        raise ConfigError(f"key file {path} holds no private Ed25519 key")
    return key.public.pem()


def read_secret(path: Path) -> bytes:
    """The KEY_BYTES bytes in a file of hex digits. Raises ConfigError."""
    return secret_in(read_guarded(path), path)


def read_guarded(path: Path) -> bytes:
    """What a key file holds, stripped. Raises ConfigError: absent, or others can do with it what they must not."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe is refused, never waited for
            status = os.fstat(file.fileno())
            mode = status.st_mode
            text = file.read(_MAX_KEY_FILE).strip() if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ConfigError(
            f"key file {path} cannot be read ({error.strerror}); make one: (umask 077; openssl rand -hex 32 > {path})"
        ) from error
    if text.startswith(_PEM_PUBLIC):
        if mode & _WRITE:
            raise ConfigError(f"key file {path} can be written by others (mode {stat.S_IMODE(mode):o}); run: chmod 644 {path}")
    elif secretfile.exposed(status):
        raise ConfigError(f"key file {path} can be read by others (mode {stat.S_IMODE(mode):o}); run: chmod 600 {path}")
    return text


def secret_in(text: bytes, path: Path) -> bytes:
    """The secret that hex digits say. Raises ConfigError; the sentence never shows them."""
    try:
        secret = binascii.unhexlify(text)
    except ValueError:
        secret = b""
    if len(secret) != sealing.KEY_BYTES:
        raise ConfigError(f"key file {path} must hold {2 * sealing.KEY_BYTES} hex digits; make one: openssl rand -hex 32 > {path}")
    return secret


def _pem(text: bytes, path: Path) -> sealing.VerifyingKey:
    try:
        from . import ed25519  # not before it is needed: the collector's memory
    except ImportError as error:
        raise ConfigError(
            f"key file {path} holds an Ed25519 key, which needs the package cryptography; run: pip install 'wazuh-jetstream[ed25519]'"
        ) from error
    try:
        return ed25519.read(text)
    except ValueError:  # its words may quote the file
        raise ConfigError(
            f"key file {path} holds no Ed25519 key without a passphrase; make one: openssl genpkey -algorithm ed25519 -out {path}"
        ) from None


# The keyring --------------------------------------------------------------------------------------------------------


def read_keyring(directory: Path) -> Keyring:
    """Every node's keys. Raises ConfigError where the directory or a key cannot be used, or a node has no key."""
    keys: Keyring = {}
    for name, path in node_files(directory):
        key = _node_key(path)
        keys.setdefault(name, {})[key.kid] = key
    return keys


def node_files(directory: Path) -> list[tuple[str, Path]]:
    """(node, key file) of every node. Raises ConfigError."""
    found: dict[str, Path] = {}
    for place in _directories(directory):
        name = _node_name(place)
        if name in found:
            raise ConfigError(f"keyring has node {name!a} twice; keep the directory {subjects.escape(name)}, move its keys together")
        found[name] = place
    return [(name, path) for name, place in found.items() for path in _some(key_files(place), place)]


def key_files(directory: Path) -> list[Path]:
    """The key files in a directory, by name; none where it is not there. Raises ConfigError."""
    try:
        if directory.stat().st_mode & stat.S_IWOTH:
            raise ConfigError(f"directory {directory} can be written by everybody, who could put keys into it; run: chmod o-w {directory}")
        return sorted(path for path in directory.iterdir() if path.suffix in ALIKE and not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"directory {directory} cannot be read ({error.strerror}); it holds .key and .pub files") from error


def _directories(directory: Path) -> list[Path]:
    try:
        entries = sorted(entry for entry in directory.iterdir() if entry.is_dir())
    except OSError as error:
        raise ConfigError(
            f"keyring {directory} cannot be read ({error.strerror}); it holds one directory per node with that node's .key files"
        ) from error
    return [entry for entry in entries if not entry.name.startswith((".", "_"))]


def _node_name(directory: Path) -> str:
    try:
        return subjects.unescape(directory.name)
    except ValueError:
        raise ConfigError(f"keyring directory {str(directory)!a} is not named like a node; rename or remove it") from None


def _some(files: list[Path], directory: Path) -> list[Path]:
    if not files:
        raise ConfigError(f"keyring directory {directory} holds no .key or .pub file; copy the node's key there")
    return files


def _node_key(path: Path) -> sealing.VerifyingKey:
    key = read_any(path)
    if key.algorithm != sealing.HMAC_SHA256 and sealing.signs(key):
        public = path.with_suffix(".pub")
        raise ConfigError(
            f"key file {path} holds a node's private key, which nobody but the node may have; run: openssl pkey -in {path} -pubout"
            f" -out {public} && rm {path}"
        )
    return key
