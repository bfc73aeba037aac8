"""Files that hold a secret: who else may read one.

Rules
 * A secret is for its owner alone: mode 600 or less.
 * A file of root's may be readable by its group as well: so Kubernetes mounts a secret for a pod that does not run as root
   (`fsGroup`, `defaultMode: 0440`), and so a file in /etc is handed to one service (`chown root:SERVICE`, mode 640).
   Everybody else, and writing by a group, never.
"""

import os
import stat
from pathlib import Path
from typing import Final

from .errors import ConfigError

MAX_BYTES: Final = 64 * 1024  # a .creds file has about 1 KiB


def exposed(found: os.stat_result) -> bool:
    """Whether somebody may read or write the file who must not."""
    forbidden = stat.S_IRWXO | stat.S_IWGRP
    return bool(found.st_mode & (forbidden if found.st_uid == 0 else forbidden | stat.S_IRWXG))


def read(path: Path, key: str) -> str:
    """The text that the file of a configuration key holds, stripped. Raises ConfigError: absent, no file, no text, exposed."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe is refused, never waited for
            found = os.fstat(file.fileno())
            raw = file.read(MAX_BYTES + 1) if stat.S_ISREG(found.st_mode) else b""
        _guard(found, path, key)
        text = raw.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key} {path} cannot be read ({getattr(error, 'strerror', None) or 'it is no text'})") from None
    if not text or len(raw) > MAX_BYTES:
        raise ConfigError(f"{key} {path} holds nothing that it should: it is empty, no file, or above {MAX_BYTES} bytes")
    return text


def check(path: Path, key: str) -> None:
    """For a file that a library reads itself. Raises ConfigError where it is absent or exposed."""
    try:
        _guard(path.stat(), path, key)
    except OSError as error:
        raise ConfigError(f"{key} {path} cannot be read ({error.strerror})") from error


def _guard(found: os.stat_result, path: Path, key: str) -> None:
    if stat.S_ISREG(found.st_mode) and exposed(found):
        raise ConfigError(f"{key} {path} can be read by others (mode {stat.S_IMODE(found.st_mode):o}); run: chmod 600 {path}")
