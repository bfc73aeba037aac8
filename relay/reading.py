"""Reads a stream through a consumer of its own that the server forgets by itself.

Used where EVENTS is read: to rebuild a ledger, and by `wazuh-relay tail`.
"""

import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from shared import jetstream, jsapi
from shared.errors import Quarantine, Stop, Transient, Unreachable

from . import encryption, seal, trust

BATCH: Final = 1000
WAIT_S: Final = 5.0
FORGET_NS: Final = 60_000_000_000


@asynccontextmanager
async def opened(connection: jetstream.Connection, stream: str, config: Mapping[str, Any]) -> AsyncIterator[tuple[jetstream.Puller, int]]:
    """A puller on a new consumer of `stream` and how many messages wait for it; `config` as in JetStream's API.

    Raises as `Connection.api`.
    """
    name = f"relay-{secrets.token_hex(8)}"
    wanted = {"name": name, "ack_policy": "none", "mem_storage": True, "num_replicas": 1, "inactive_threshold": FORGET_NS, **config}
    made = await connection.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": wanted})
    puller = jetstream.Puller(connection, stream, name)
    try:
        yield puller, int(made["num_pending"])
    finally:
        await puller.drop()
        connection.pullers.remove(puller)
        with contextlib.suppress(Transient):  # the server forgets it by itself
            await connection.api(f"CONSUMER.DELETE.{stream}.{name}")


async def through(
    connection: jetstream.Connection, stream: str, last: int, config: Mapping[str, Any], crypt: encryption.EncryptionHandler | None = None
) -> AsyncIterator[jsapi.Delivered]:
    """The messages up to stream sequence `last`, as `config` selects them; opened by `crypt`, None: as they were sent.

    Raises as `opened_body`.
    """
    async with contextlib.aclosing(batches(connection, stream, last, config)) as found:
        async for batch in found:
            for message in batch:
                yield message if crypt is None else _opened(message, crypt)


async def batches(
    connection: jetstream.Connection, stream: str, last: int, config: Mapping[str, Any]
) -> AsyncGenerator[list[jsapi.Delivered], None]:
    """The same, as they come, as they were sent; none is empty."""
    async with opened(connection, stream, config) as (puller, pending):
        while pending:
            delivered = await puller.next(BATCH, WAIT_S)
            if not delivered:
                raise Unreachable(f"stream {stream} was to deliver {pending} more messages and does not")
            wanted = delivered if delivered[-1].stream_seq <= last else [one for one in delivered if one.stream_seq <= last]
            if wanted:
                yield wanted
            if len(wanted) < len(delivered):
                return
            pending = delivered[-1].num_pending


def _opened(message: jsapi.Delivered, crypt: encryption.EncryptionHandler) -> jsapi.Delivered:
    return replace(message, data=opened_body(message.subject, message.data, message.headers, crypt))


def opened_body(subject: str, body: bytes, headers: Mapping[str, str], crypt: encryption.EncryptionHandler | None) -> bytes:
    """The body of a message of EVENTS, decrypted if it is encrypted; as it came where no relay can have written it.

    Raises Stop where its key is not here: without it, what was told would not be known.
    """
    try:
        return seal.opened(subject, body, headers, crypt)
    except Quarantine as refusal:
        if refusal.reason != "unknown_key":
            return body
        raise Stop(
            f"a message on {subject} cannot be read back: {refusal}; put that key into the keyring's directory {trust.ENCRYPTION},"
            " or name it as security.encryption_key_path"
        ) from refusal
