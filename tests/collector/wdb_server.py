"""A small wazuh-db for tests: the real framing over a real unix socket, and SQLite behind it.

It answers `global sql` as the daemon does: numbers pass through a double and are printed as cJSON prints them, a NULL is left
out of its object, and an answer is cut at 65,536 bytes. `behave` bends one answer after another.
"""

import json
import socket
import sqlite3
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from collector import rows
from tests.collector import schemas

Behaviour = Callable[[socket.socket, str, bytes], None]
"""Gets the connection, the request and the answer the daemon would have given; sends what it likes."""

TIMEOUT = 0.2  # seconds in which a test's client wants its answer
MAX = 65_536


def frame(payload: bytes) -> bytes:
    return struct.pack("<I", len(payload)) + payload


class WdbServer:
    """Serves `database` (a path, or ":memory:") at `path` until it is closed."""

    def __init__(self, path: Path, database: str | Path = ":memory:") -> None:
        self.path = path
        self.db = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
        self.db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        self.requests: list[str] = []
        self.connections = 0
        self.answered: Callable[[str], None] = lambda _: None
        """Called with each request, when its answer is made and not sent yet: what is written there is not in it."""
        self._lock = threading.Lock()
        self._bent: list[Behaviour | None] = []
        self._open: list[socket.socket] = []
        self._closed = threading.Event()
        self._listen()

    def _listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def behave(self, *behaviours: Behaviour | None) -> None:
        """What the next answers become, in order; None: as they are."""
        self._bent.extend(behaviours)

    def execute(self, sql: str, *values: object) -> None:
        """Write as the daemon would: the next request sees it."""
        with self._lock:
            self.db.execute(sql, values)

    def many(self, sql: str, values: Sequence[Sequence[object]]) -> None:
        with self._lock:
            self.db.executemany(sql, values)

    def restart(self) -> None:
        """Every connection breaks; new ones find the same table."""
        self._hang_up()
        self.path.unlink()
        self._listen()

    def _hang_up(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()
        self._open.clear()

    def __enter__(self) -> "WdbServer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        self._hang_up()
        with self._lock:
            self.db.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while header := _exactly(connection, 4):
                (length,) = struct.unpack("<I", header)
                assert length <= MAX, "this would kill a worker thread of the daemon"
                request = _exactly(connection, length).decode()
                self.requests.append(request)
                answer = self.answer(request)
                self.answered(request)
                bent = self._bent.pop(0) if self._bent else None
                if bent:
                    bent(connection, request, answer)
                else:
                    connection.sendall(frame(answer))
        except OSError:
            return

    def answer(self, request: str) -> bytes:
        if not request.startswith("global sql "):
            return f"err Invalid DB query syntax, near '{request}'".encode()
        try:
            with self._lock:
                cursor = self.db.execute(request.removeprefix("global sql "))
                names = [column[0] for column in cursor.description or ()]
                rows = cursor.fetchall()
        except sqlite3.Error as error:
            return f"err Cannot execute Global database query; {error}".encode()
        objects = ",".join(_object(names, row) for row in rows)
        return f"ok [{objects}]".encode("utf-8", "surrogateescape")[:MAX]


def _object(names: Sequence[str], row: Sequence[object]) -> str:
    return "{" + ",".join(f'"{name}":{_value(value)}' for name, value in zip(names, row, strict=True) if value is not None) + "}"


def _value(value: object) -> str:
    if isinstance(value, int | float):
        number = float(value)
        short = f"{number:.15g}"
        return short if float(short) == number else f"{number:.17g}"
    return json.dumps(value.decode("latin-1") if isinstance(value, bytes) else value, ensure_ascii=False)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            return b""
        parts += part
    return parts


def close_mid_frame(connection: socket.socket, _: str, answer: bytes) -> None:
    """A behaviour: hangs up before the end of an answer."""
    connection.sendall(frame(answer)[:-3])
    connection.shutdown(socket.SHUT_RDWR)


def fill(server: WdbServer, count: int) -> None:
    server.many(schemas.INSERT, [schemas.agent(number) for number in range(1, count + 1)])


def ids(reading: rows.Reading | None) -> list[int]:
    assert reading is not None
    return [row.id for row in reading.rows]


def selects(server: WdbServer) -> list[str]:
    return [request.removeprefix("global sql ") for request in server.requests]
