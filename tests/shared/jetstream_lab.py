"""What the tests of the connection share: a connection that tells its states, streams, consumers and messages."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from shared import jetstream
from shared.config import NatsConfig
from shared.jetstream import Connection, Message, Puller
from tests.nats_server import NatsServer

WAIT_S = 10.0


class States:
    """What a connection told, and a way to wait for it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def __call__(self, state: str, detail: str) -> None:
        self.told.append((state, detail))
        self._changed.set()

    async def reach(self, state: str, times: int = 1) -> str:
        """The detail of the state's `times`-th occurrence."""
        async with asyncio.timeout(WAIT_S):
            while True:
                found = [detail for one, detail in self.told if one == state]
                if len(found) >= times:
                    return found[times - 1]
                self._changed.clear()
                await self._changed.wait()


def config_of(server: NatsServer, **more: object) -> NatsConfig:
    return NatsConfig.model_validate({"url": server.url, "reconnect_delay": 0.02, "max_reconnects": 3, **more})


@contextlib.asynccontextmanager
async def connected(config: NatsConfig, name: str = "test") -> AsyncIterator[tuple[Connection, States]]:
    states = States()
    connection = Connection(config, name, states, jitter=lambda: 0.1)
    await connection.start()
    try:
        yield connection, states
    finally:
        await connection.close()


async def make_stream(connection: Connection, name: str = "S", **more: object) -> None:
    config = {"name": name, "subjects": [f"{name.lower()}.>"], "storage": "file", "allow_atomic": True, **more}
    await connection.api(f"STREAM.CREATE.{name}", config)


async def make_consumer(connection: Connection, name: str = "c", **more: object) -> None:
    config = {"durable_name": name, "name": name, "ack_policy": "all", "deliver_policy": "all", **more}
    await connection.api(f"CONSUMER.CREATE.S.{name}", {"stream_name": "S", "config": config})


async def publish(connection: Connection, *bodies: bytes) -> None:
    for body in bodies:
        await connection.publish("s.x", body, {}, WAIT_S)


async def read(puller: Puller, count: int, batch: int = 1000) -> list[jetstream.Delivered]:
    found: list[jetstream.Delivered] = []
    while len(found) < count:
        found += await puller.next(batch, WAIT_S)
    return found


def batch(count: int, first: int = 0) -> list[Message]:
    return [Message("s.x", b"%d" % n, {"Nats-Msg-Id": f"id{n}"}) for n in range(first, first + count)]
