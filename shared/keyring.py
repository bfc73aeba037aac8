"""Key files and the keyring: a directory that says which node signs with which keys.

    keyring/
      node01/current.key       any file names ending in .key; several keys of one node are valid at once
      node01/next.key
      node02/current.key

A key file holds 64 hex digits (`openssl rand -hex 32`) and is readable by its owner alone, or by a group where root owns it.
Node directories are named by `shared.subjects.escape`, as in the node's subject; names that begin with a dot are left alone.
"""

import binascii
import os
import stat
from pathlib import Path
from typing import Final

from . import sealing, secretfile, subjects
from .errors import ConfigError

_MAX_KEY_FILE: Final = 4096  # bytes: a key is 64 hex digits and a newline

Keyring = dict[str, dict[str, sealing.Key]]
"""node name -> key id -> key."""


def read_key(path: Path) -> sealing.Key:
    """The key in a file. Raises ConfigError: absent, readable by others, or not a key."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe is refused, never waited for
            status = os.fstat(file.fileno())
            mode = status.st_mode
            text = file.read(_MAX_KEY_FILE).strip() if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ConfigError(
            f"key file {path} cannot be read ({error.strerror}); make one: (umask 077; openssl rand -hex 32 > {path})"
        ) from error
    if secretfile.exposed(status):
        raise ConfigError(f"key file {path} can be read by others (mode {stat.S_IMODE(mode):o}); run: chmod 600 {path}")
    try:
        secret = binascii.unhexlify(text)
    except ValueError:
        secret = b""
    if len(secret) != sealing.KEY_BYTES:
        raise ConfigError(f"key file {path} must hold {2 * sealing.KEY_BYTES} hex digits; make one: openssl rand -hex 32 > {path}")
    return sealing.Key(secret)


def read_keyring(directory: Path) -> Keyring:
    """Every node's keys. Raises ConfigError where the directory or a key cannot be used, or a node has no key."""
    try:
        nodes = sorted(entry for entry in directory.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise ConfigError(
            f"keyring {directory} cannot be read ({error.strerror}); it holds one directory per node with that node's .key files"
        ) from error
    keys: Keyring = {}
    for directory in nodes:
        name = _node_name(directory)
        if name in keys:
            raise ConfigError(f"keyring has node {name!a} twice; keep the directory {subjects.escape(name)}, move its keys together")
        keys[name] = _node_keys(directory)
    return keys


def _node_name(directory: Path) -> str:
    try:
        return subjects.unescape(directory.name)
    except ValueError:
        raise ConfigError(f"keyring directory {str(directory)!a} is not named like a node; rename or remove it") from None


def _node_keys(directory: Path) -> dict[str, sealing.Key]:
    keys = [read_key(path) for path in sorted(directory.glob("*.key"))]
    if not keys:
        raise ConfigError(f"keyring directory {directory} holds no .key file; copy the node's signing key there")
    return {key.kid: key for key in keys}
