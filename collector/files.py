"""Reading a file that somebody else writes.

A path may lead to anything: a pipe would block for ever, a device never ends. Only regular files are opened, never waited
for, and read to a limit.
"""

import errno
import os
import stat
from pathlib import Path


def open_regular(path: Path) -> int:
    """A descriptor for reading. Raises OSError (EINVAL: not a regular file)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def read(descriptor: int, limit: int) -> bytes:
    """What the file holds. Raises OSError (EFBIG): it holds more than `limit` bytes."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes")
    return content
