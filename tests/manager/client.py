"""A plain client of queue/db/wdb for tests: it asks whatever it is told to, also what breaks the other side."""

import asyncio
import json
import struct
from typing import Self

from tests.manager.driver import ManagerProcess


class Client:
    """One connection to queue/db/wdb."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, process: ManagerProcess) -> Self:
        return cls(*await asyncio.open_unix_connection(str(process.socket)))

    async def ask(self, request: str) -> str:
        await self.send(struct.pack("<I", len(request.encode())) + request.encode())
        async with asyncio.timeout(10):
            (length,) = struct.unpack("<I", await self._reader.readexactly(4))
            return (await self._reader.readexactly(length)).decode()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def closed(self) -> None:
        """Wait until the other side has hung up."""
        async with asyncio.timeout(10):
            assert await self._reader.read() == b""

    async def rows(self, sql: str) -> list[dict[str, object]]:
        answer = await self.ask(f"global sql {sql}")
        assert answer.startswith("ok "), answer
        found: list[dict[str, object]] = json.loads(answer[3:])
        return found

    def close(self) -> None:
        self._writer.close()
