"""A link that can be cut: a TCP proxy between one client and one nats-server, in the test's own event loop.

    link = await Link.open(server_port)          link.port is where the client connects
    link.cut(); link.freeze(); link.heal()
    link.drop_next_puback()                      exactly one PubAck never arrives; all else does

It understands as much of the NATS protocol as it takes to drop one reply: lines, and the payloads of MSG and HMSG.
"""

import asyncio
import contextlib
import json
import re
from typing import Final, Self

_CHUNK: Final = 65536
_LINE: Final = b"\r\n"
_PAYLOAD: Final = re.compile(rb"^H?MSG .* (\d+)$")
_HEADERS: Final = re.compile(rb"^HMSG .* (\d+) \d+$")
_MOST_LINE: Final = 1 << 20  # bytes: INFO of a server is some KB


class Frames:
    """Cuts what a server sends into whole frames, whatever the pieces it comes in."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole now. ValueError for what is no NATS protocol."""
        self._held += data
        found = []
        while (end := self._end()) is not None:
            found.append(self._held[:end])
            self._held = self._held[end:]
        return found

    def _end(self) -> int | None:
        place = self._held.find(_LINE)
        if place < 0:
            if len(self._held) > _MOST_LINE:
                raise ValueError("a line of more than a megabyte is no NATS protocol")
            return None
        sized = _PAYLOAD.match(self._held[:place])
        end = place + 2 + (int(sized[1]) + 2 if sized else 0)
        return end if end <= len(self._held) else None


def is_puback(frame: bytes) -> bool:
    """Whether a frame is JetStream's word that something is stored: a reply whose JSON names the stream and a sequence, and is
    neither a refusal nor an answer of the API, which has a type."""
    line, _, rest = frame.partition(_LINE)
    if _PAYLOAD.match(line) is None or b"{" not in rest:
        return False
    headers = _HEADERS.match(line)
    try:
        fields = json.loads(rest[int(headers[1]) if headers else 0 : -2])
    except ValueError:
        return False
    return isinstance(fields, dict) and {"stream", "seq"} <= fields.keys() and not fields.keys() & {"type", "error"}


class Link:
    """One way from a client to a server. Whole until it is told otherwise."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_cut = False
        self._to_drop = 0
        self.dropped = 0
        self.port = 0

    @classmethod
    async def open(cls, target: int) -> Self:
        """Listen on a free port of 127.0.0.1 and pass everything to port `target` there."""
        link = cls(target)
        link._server = await asyncio.start_server(link._welcome, "127.0.0.1", 0)
        link.port = link._server.sockets[0].getsockname()[1]
        return link

    def cut(self) -> None:
        """Reset what is connected and refuse what comes, until `heal`."""
        self._is_cut = True
        self._hang_up()

    def freeze(self) -> None:
        """Half-open: connections stay and are taken, and no byte passes either way until `heal`."""
        self._flows.clear()

    def heal(self) -> None:
        """Whole again. What a frozen link held back passes now, as TCP would send it again."""
        self._is_cut = False
        self._flows.set()

    def drop_next_puback(self) -> None:
        """Swallow one PubAck, the next that comes."""
        self._to_drop += 1

    def spare_pubacks(self) -> None:
        """Swallow none any more, though asked to."""
        self._to_drop = 0

    async def close(self) -> None:
        """End everything."""
        self.cut()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _hang_up(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._join(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            return
        try:
            await self._flows.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # the server is away: the client sees a connection that ends, as through any proxy
            return
        self._writers.add(far_writer)
        ways = {asyncio.create_task(self._requests(reader, far_writer)), asyncio.create_task(self._replies(far_reader, writer))}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            far_writer.transport.abort()
            self._writers.discard(far_writer)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Frames()
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flows.wait()
                writer.write(b"".join(frame for frame in frames.feed(data) if not self._swallows(frame)))
                await writer.drain()

    def _swallows(self, frame: bytes) -> bool:
        if not self._to_drop or not is_puback(frame):
            return False
        self._to_drop -= 1
        self.dropped += 1
        return True
