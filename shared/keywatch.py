"""Key files that change while the service runs: read again when asked (SIGHUP) and when one of them was changed.

Rules
 * What cannot be used changes nothing: the keys that were read before stay in use, the log says why once, /readyz and
   `wazuh_jetstream_keyring_up` show it until the files are good again. So a file that is half copied does no harm.
 * Looking is one stat for each file, every LOOK_S: inotify would miss what a network file system or a mounted secret does.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from . import logs
from .errors import ConfigError
from .guard import Signs

NAME: Final = "keyring"
"""Its check of /readyz."""

LOOK_S: Final = 5.0

Seen = tuple[tuple[str, int, int, int, int], ...]


class KeyWatch:
    """`load` reads the files, takes what they hold into use, and says in a few words what that is; it raises ConfigError."""

    def __init__(self, paths: Sequence[Path | None], load: Callable[[], str], signs: Signs, *, every: float = LOOK_S) -> None:
        self._paths = [path for path in paths if path is not None]
        self._load, self._signs, self._every = load, signs, every
        self._asked = asyncio.Event()
        self._seen: Seen = ()  # the first look reads them once more: they may have changed since the start
        self._looked = False
        self._refused = ""

    def ask(self) -> None:
        """Read them again, whether or not they changed."""
        self._seen = ()
        self._asked.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._asked.clear()
            self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._asked.wait()

    def look(self) -> None:
        """Read the files again if one of them changed."""
        found = seen(self._paths)
        if found == self._seen:
            return
        again, self._seen = self._looked, found  # as it was before reading: what changes meanwhile is seen next time
        self._looked = True
        try:
            told = self._load()
        except ConfigError as error:
            self._refuse(str(error))
            return
        self._signs.metrics.count("wazuh_jetstream_keyring_reloads_total", outcome="used")
        if again:
            logs.log(self._signs.logger, "info", "keyring_reloaded", f"the key files were read again: {told}")
        self._tell(told, "")

    def _refuse(self, why: str) -> None:
        self._signs.metrics.count("wazuh_jetstream_keyring_reloads_total", outcome="refused")
        if why != self._refused:
            logs.log(self._signs.logger, "error", "keyring_refused", f"the keys in use stay in use: {why}")
        self._tell("", why)

    def _tell(self, told: str, refused: str) -> None:
        self._refused = refused
        self._signs.readiness.set(NAME, not refused, refused or told)
        self._signs.metrics.gauge("wazuh_jetstream_keyring_up", not refused)


def seen(paths: Sequence[Path]) -> Seen:
    """What tells a change of these files, and of all below the directories among them."""
    return tuple(_mark(path) for root in paths for path in (str(root), *_below(root)))


def _below(root: Path) -> Iterator[str]:
    """A keyring is two levels deep; what is a link is followed."""
    yield from sorted(str(path) for pattern in ("*", "*/*") for path in root.glob(pattern))


def _mark(path: str) -> tuple[str, int, int, int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError as error:
        return path, 0, 0, 0, error.errno or 0
    return path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
