"""client.keys: who is registered on this manager, earlier than its database says.

Rules, those of OS_ReadKeys (wazuh/wazuh src/os_crypto/shared/keys.c)
 * A line is `ID NAME IP KEY`, fields parted by single spaces; one that begins with `#` or a space is skipped.
 * A second field that begins with `!` or `#` marks a removed agent; nothing after it is checked.
 * A line without one of its fields, or of 2048 bytes and more, is no entry: it is counted.
 * An id is decimal, up to 8 digits (src/addagent/validate.c), and never 0, the manager's own; of two live lines with one
   id the first counts.
 * The key is dropped while parsing. It is in no value, no error and no log.

`parse` is pure; `KeysFile` reads.
"""

import errno
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Final

import msgpack

from shared.models import KeyEntry, KeysState

from . import files

MAX_LINE: Final = 2047  # bytes: fgets() with OS_BUFFER_SIZE 2048
MAX_FIELD: Final = 256  # characters of a name or an address; Wazuh allows 128
MAX_BYTES: Final = 256 << 20  # about two million lines
_MAX_ID_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class Keys:
    """The entries of client.keys, in its order, one per id."""

    entries: tuple[KeyEntry, ...]
    bad_lines: int


def parse(text: bytes) -> Keys:
    """The entries in the text of a client.keys."""
    entries: dict[int, KeyEntry] = {}
    bad = 0
    for line in _lines(text):
        entry = _entry(line)
        known = entries.get(entry.id) if entry else None
        if entry is None or (known and (entry.removed or not known.removed)):
            bad += 1
        else:
            entries[entry.id] = entry
    return Keys(tuple(entries.values()), bad)


def _lines(text: bytes) -> Iterable[bytes]:
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return (line for line in lines if not line.startswith((b"#", b" ")))


def _entry(line: bytes) -> KeyEntry | None:
    if len(line) > MAX_LINE:
        return None
    number, name, *rest = (*line.partition(b"\0")[0].split(b" ", 3), b"")
    if not number.isdigit() or len(number) > _MAX_ID_DIGITS or not int(number):
        return None
    if name.startswith((b"!", b"#")):
        return _checked(KeyEntry(int(number), _text(name[1:]), _text(rest[0]) if rest else "", removed=True))
    if len(rest) < 3 or not name or not rest[0]:
        return None
    return _checked(KeyEntry(int(number), _text(name), _text(rest[0]), removed=False))


def _text(field: bytes) -> str:
    return field.decode("utf-8", "replace")


def _checked(entry: KeyEntry) -> KeyEntry | None:
    return entry if len(entry.name) <= MAX_FIELD and len(entry.ip) <= MAX_FIELD else None


class KeysFile:
    """The file, read when it has changed. Wazuh replaces it by rename, so that its inode tells as well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)  # it is looked at all the time: what a Path does first costs as much as the look
        self._seen: tuple[int, int, int] | None = None
        self._digest = b""  # of the text that was read last
        self._packed: bytes = msgpack.packb(())  # its entries, which are asked for once a minute: a tenth of what they are as values
        self.state: KeysState = "unread"
        self.error = ""
        """One sentence where `state` is missing or denied."""

    def stirred(self) -> bool:
        """Whether it is not as it was read, or there again. One that may not be read shows only when that is tried."""
        try:
            stamp = self._stamp()
        except OSError:
            return self.state == "ok"
        return stamp != self._seen if self.state == "ok" else self.state == "missing"

    def doubt(self) -> None:
        """Read it again at the next time, whatever its time and size say."""
        self._seen = None

    def all(self) -> tuple[KeyEntry, ...]:
        """The entries as they were read last."""
        # As `_make` does, which is the half of it again.
        return tuple(map(tuple.__new__, repeat(KeyEntry), msgpack.unpackb(self._packed)))

    def read_if_changed(self) -> Keys | None:
        """The entries, or None where they are as they were or cannot be read: `state` says which."""
        try:
            if self.state == "ok" and self._stamp() == self._seen:
                return None
            return self._read()
        except OSError as error:
            self._lost(error)
            return None

    def _stamp(self) -> tuple[int, int, int]:
        return _stamp(os.stat(self._name))  # noqa: PTH116

    def _read(self) -> Keys | None:
        descriptor = files.open_regular(self._path)
        try:
            before = _stamp(os.fstat(descriptor))
            text = files.read(descriptor, MAX_BYTES)
            # A copy across devices is written in place (src/shared/file_op.c, OS_MoveFile): what grew while we read is read again.
            self._seen = before if _stamp(os.fstat(descriptor)) == before else None
        finally:
            os.close(descriptor)
        was, self.state, self.error = self.state, "ok", ""
        digest = hashlib.blake2b(text, digest_size=16).digest()
        if was == "ok" and digest == self._digest:
            return None
        keys = parse(text)
        self._digest, self._packed = digest, msgpack.packb(keys.entries)
        return keys

    def _lost(self, error: OSError) -> None:
        self._seen = None
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            self.state = "missing"
            self.error = f"{self._path} does not exist; set wazuh.home to where Wazuh is installed"
        elif isinstance(error, PermissionError):
            self.state = "denied"
            self.error = f"{self._path} may not be read by this user; run the collector in the group wazuh (5.0: wazuh-manager)"
        else:
            self.state = "denied"
            self.error = f"{self._path} cannot be read ({error.strerror})"


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size
