"""wazuh-db's socket, `queue/db/wdb`: the whole truth at once, behind a door that also lets one write.

Rules of the socket (wazuh/wazuh src/wazuh_db/main.c, src/os_net/os_net.c, src/wazuh_db/wdb_parser.c)
 * A frame is a little-endian uint32 length and that many bytes, both ways; one request, one answer.
 * A length above 65,536 ends one of the daemon's eight worker threads for ever, and a client that stops in mid-frame blocks
   one: a request is small and leaves in one piece, and every answer is read to its end.
 * `ok <json>`, `due <json>` (there is more), `err <text>`. A NULL is left out of its JSON object. An answer is cut at
   65,536 bytes without a word: then it is asked for in smaller pages.

Rules of this program
 * Nothing but a SELECT, or one PRAGMA that reads, is ever sent.
 * A wait is bounded. After any fault the connection is closed, and the next request opens another.
"""

import json
import re
import socket
import struct
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from shared.clock import Clock
from shared.errors import SourceUnavailable

MAX_REQUEST: Final = 8192  # bytes
MAX_ANSWER: Final = 65_536  # bytes: OS_MAXSTR
_HEADER: Final = struct.Struct("<I")
_READS_ONLY: Final = re.compile(r"(select [ -:<-~]*|pragma user_version)\Z")  # printable ASCII without `;`


class Cut(SourceUnavailable):
    """An answer that did not fit into one frame."""


class Refused(SourceUnavailable):
    """wazuh-db answered `err`."""


class Answer(NamedTuple):
    """Rows as wazuh-db gave them."""

    rows: list[dict[str, object]]
    more: bool  # `due`: there are more behind the last one
    room: float  # share of the longest answer that this one took


class Wdb:
    """One connection to wazuh-db, opened when it is needed."""

    def __init__(self, path: Path, clock: Clock, timeout: float) -> None:
        self._path, self._clock, self._timeout = path, clock, timeout
        self._socket: socket.socket | None = None
        self._buffer = memoryview(bytearray(_HEADER.size + MAX_ANSWER))
        self.connections = 0
        """How many were opened so far: another one may lead to another daemon."""
        self.busy = 0.0
        """Seconds spent waiting for answers so far."""

    def select(self, sql: str) -> Answer:
        """The answer to a SELECT. Raises SourceUnavailable; ValueError for anything that is not one small statement that reads."""
        frame, started = _frame(sql), self._clock.monotonic()
        try:
            return _answer(self._exchange(frame, started), self._path)
        finally:
            self.busy += self._clock.monotonic() - started

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def last_id(self, answer: Answer, after: int) -> int:
        """Where the next page begins. Raises SourceUnavailable: the answer does not go on from `after`."""
        number = answer.rows[-1].get("i") if answer.rows else None
        if type(number) is not int or number <= after:
            raise _garbled(self._path, f"answered rows behind {after} that end with {number!a}")
        return number

    def _exchange(self, frame: bytes, started: float) -> str:
        """The payload of the answer. A connection that was closed while it was idle is opened again, once."""
        idle = self._socket is not None
        try:
            connection = self._socket or self._connect()
            connection.sendall(frame)
            return self._receive(connection, started + self._timeout)
        except SourceUnavailable:
            self.close()
            raise
        except TimeoutError as error:
            self.close()
            raise SourceUnavailable(
                "silent", f"wazuh-db did not answer at {self._path} within {self._timeout:g} s; see whether it is overloaded or stopped"
            ) from error
        except (OSError, EOFError) as error:
            self.close()
            if not idle:
                raise SourceUnavailable(
                    "silent", f"wazuh-db closed its socket {self._path} without an answer; see whether it is running and its ossec.log"
                ) from error
        return self._exchange(frame, started)

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise _unreachable(self._path, error) from error
        self.connections += 1
        self._socket = connection
        return connection

    def _receive(self, connection: socket.socket, deadline: float) -> str:
        have = connection.recv_into(self._buffer)  # nearly always all of it
        if not have:
            raise EOFError
        if (wanted := self._wanted(have)) > have:
            have, wanted = self._receive_drops(connection, have, wanted, deadline)
        if have > wanted:
            raise _garbled(self._path, "answered more than it was asked")
        return str(self._buffer[_HEADER.size : wanted], "utf-8", "replace")

    def _receive_drops(self, connection: socket.socket, have: int, wanted: int, deadline: float) -> tuple[int, int]:
        """The rest of an answer: (bytes had, bytes wanted)."""
        while have < wanted:
            connection.settimeout(max(deadline - self._clock.monotonic(), 0.001))  # the first drop had the whole time
            received = connection.recv_into(self._buffer[have:])
            if not received:
                raise _garbled(self._path, "closed it in the middle of an answer")
            have += received
            wanted = self._wanted(have)
        connection.settimeout(self._timeout)
        return have, wanted

    def _wanted(self, have: int) -> int:
        """Bytes of an answer of which so many are there."""
        if have < _HEADER.size:
            return _HEADER.size
        length: int = _HEADER.unpack_from(self._buffer)[0]
        if length > MAX_ANSWER:
            raise _garbled(self._path, f"announced an answer of {length} bytes")
        return _HEADER.size + length


@lru_cache(maxsize=8)  # the same few are asked again and again
def _frame(sql: str) -> bytes:
    """A request as it is sent. Raises ValueError for anything that is not one small statement that reads."""
    request = f"global sql {sql}".encode()
    if not _READS_ONLY.match(sql) or len(request) > MAX_REQUEST:
        raise ValueError(f"not a small statement that only reads: {sql[:80]}")
    return _HEADER.pack(len(request)) + request


def _answer(text: str, path: Path) -> Answer:
    word, _, rest = text.partition(" ")
    if word == "err":
        raise Refused("garbled", f"wazuh-db refused a request at {path} ({ascii(rest[:200])[1:-1]}); see its ossec.log")
    if word not in ("ok", "due"):
        raise _garbled(path, f"answered {text[:80]!a}")
    try:
        found, end = _decoder.raw_decode(rest)
    except (ValueError, RecursionError) as error:
        if len(text.encode()) >= MAX_ANSWER:
            raise Cut("garbled", f"wazuh-db cut an answer at {path} at {MAX_ANSWER} bytes") from error
        raise _garbled(path, f"answered JSON that ends or breaks in {rest[-40:]!a}") from error
    if end < len(rest) or not isinstance(found, list) or set(map(type, found)) - {dict}:
        raise _garbled(path, f"answered no list of rows but {rest[:80]!a}")
    return Answer(found, word == "due", len(text) / MAX_ANSWER)


_decoder: Final = json.JSONDecoder()


def _garbled(path: Path, what: str) -> SourceUnavailable:
    return SourceUnavailable("garbled", f"what listens at {path} {what}; see whether it is Wazuh's own wazuh-db")


def _unreachable(path: Path, error: OSError) -> SourceUnavailable:
    if isinstance(error, PermissionError):
        return SourceUnavailable(
            "denied", f"wazuh-db's socket {path} may not be used by this user; run the collector in the group wazuh (5.0: wazuh-manager)"
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SourceUnavailable(
            "missing", f"wazuh-db's socket {path} does not exist; start Wazuh, or set wazuh.home to where it is installed"
        )
    why = error.strerror or str(error)
    return SourceUnavailable("silent", f"nobody answers at wazuh-db's socket {path} ({why}); start Wazuh, or restart its manager")
