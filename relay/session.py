"""A connection for one command: there within seconds, or an error in one sentence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from shared import config, jetstream
from shared.errors import Stop

CONNECT_S: Final = 5.0


@asynccontextmanager
async def connected(settings: config.Config, command: str) -> AsyncIterator[jetstream.Connection]:
    """A live connection, named like `command`, with the inbox of the relay; `provision` has rights and an inbox of its own.

    Raises Stop where NATS does not answer.
    """
    complaints: list[str] = []

    def note(state: jetstream.State, detail: str) -> None:
        if state == "nats_error":
            complaints.append(detail)

    name = f"{settings.relay.name}-{command}" if command else settings.relay.name
    connection = jetstream.Connection(settings.nats, name, note, role="provisioner" if command == "provision" else "relay")
    await connection.start()
    try:
        await _wait(connection, settings.nats.url, complaints)
        yield connection
    finally:
        await connection.close()


async def _wait(connection: jetstream.Connection, url: str, complaints: list[str]) -> None:
    try:
        async with asyncio.timeout(CONNECT_S):
            await connection.client()
    except TimeoutError:
        reason = complaints[-1] if complaints else f"no answer within {CONNECT_S:g} s"
        raise Stop(f"no connection to NATS at {url} ({reason}); see whether the server runs, nats.url and nats.credentials_file") from None
