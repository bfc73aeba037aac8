"""The connection to NATS as the services see it: publish, ask JetStream's API, open an inbox. Its life is in `shared.link`.

Rules (nats-py 2.16, measured)
 * Nothing is published while the connection is away: what nats-py would buffer may be stored long after we gave it up.
 * A broken connection fails every open request at once, as Timeout: what was published may be stored. Publish again with
   the same Nats-Msg-Id.
 * No request takes longer than it was given, also where the socket takes nothing any more: nats-py swallows a cancellation
   while it waits there.
 * The server counts headers into max_payload and closes the connection above it; too large is refused here.
 * Each role has its own inbox prefix, `_INBOX_<role>`, so that permissions can keep replies apart.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from . import jsapi
from .errors import Unreachable
from .jsapi import (
    Delivered,
    DuplicateInBatch,
    Message,
    NotStored,
    PubAck,
    Refused,
    StoredMessage,
    StreamFull,
    Timeout,
    TooLarge,
    WrongLastSequence,
)
from .link import Handler, Link, State
from .login import SecureClient
from .logs import printable
from .pulling import Puller

if TYPE_CHECKING:
    from .config import NatsConfig

__all__ = [
    "Connection",
    "Delivered",
    "DuplicateInBatch",
    "Message",
    "NotStored",
    "PubAck",
    "Puller",
    "Refused",
    "State",
    "StoredMessage",
    "StreamFull",
    "Timeout",
    "TooLarge",
    "Unreachable",
    "WrongLastSequence",
]

API_TIMEOUT_S: Final = 5.0
_PAYLOAD_RESERVE: Final = 4096  # bytes below max_payload that stay free for the protocol line and headers of the server
_NO_MESSAGE: Final = 10037
_TOGETHER: Final = 100  # messages of a batch in one write: some 100 KB


class Inbox:
    """A subject on which replies arrive until it is closed."""

    def __init__(self, subject: str, subscription: Subscription, handlers: dict[str, Handler]) -> None:
        self.subject = subject
        self._subscription = subscription
        self._handlers = handlers

    async def close(self) -> None:
        """End it, so that the server no longer delivers to it."""
        self._handlers.pop(self.subject, None)
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._subscription.unsubscribe()


class Connection(Link):
    """One process' connection. `on_state(state, detail)` is called on each change; `detail` is printable and holds no secret."""

    def __init__(
        self,
        config: "NatsConfig",
        name: str,
        on_state: Callable[[State, str], None],
        jitter: Callable[[], float] = random.random,
        role: str | None = None,
    ) -> None:
        super().__init__(config, name, on_state, jitter, role)
        self.pullers: list[Puller] = []

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str], timeout: float) -> PubAck:  # noqa: ASYNC109
        """Publish one message and wait for the stream's ack, `timeout` seconds in all.

        Raises Unreachable (nothing was sent), Timeout (may be stored), TooLarge, or a kind of Refused (not stored).
        """
        return await self._publish([Message(subject, body, headers)], timeout)

    async def publish_batch(self, messages: Sequence[Message], timeout: float, expected_last: int | None = None) -> PubAck:  # noqa: ASYNC109
        """Publish 1 to 1000 messages as one atomic batch (ADR-50): all are stored in order, or none is.

        `expected_last`: the stream's last sequence must be this, else WrongLastSequence. Raises as `publish`, and
        DuplicateInBatch where the stream knows any Nats-Msg-Id of the batch already.
        """
        return await self._publish(_batch(messages, self._nuid.next().decode(), expected_last), timeout)

    async def _publish(self, messages: Sequence[Message], timeout: float) -> PubAck:  # noqa: ASYNC109
        deadline = asyncio.get_running_loop().time() + timeout
        client = await self._client_by(deadline)
        for message in messages:
            self._check_size(client, message)
        if len(messages) > 1:
            await self._send_first(client, messages[:-1], deadline)
        last = messages[-1]
        what = f"a message on {last.subject}" if len(messages) == 1 else f"{len(messages)} messages, the last on {last.subject}"
        answer = await self._ask(client, last.subject, last.body, last.all_headers, deadline, what)
        return jsapi.puback(answer.data, answer.headers, what)

    async def _send_first(self, client: SecureClient, messages: Sequence[Message], deadline: float) -> None:
        """All of a batch but its last message, which commits it: until then nothing is stored."""
        try:
            async with asyncio.timeout_at(deadline):
                for start in range(0, len(messages), _TOGETHER):
                    if client is not self._client or not client.is_connected:
                        raise Unreachable("the connection to NATS broke inside a batch; nothing of it is stored")
                    await _write_all(client, messages[start : start + _TOGETHER])
        except TimeoutError:
            raise Unreachable("NATS takes no data: a batch could not be sent in time; nothing of it is stored") from None

    async def api(self, subject: str, payload: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A request to JetStream's API: `subject` with or without `$JS.API.`; the reply's JSON.

        Raises Unreachable, Timeout, or a kind of Refused: NotStored where the stream, the consumer or JetStream is not there.
        """
        verb = subject.removeprefix("$JS.API.")
        deadline = asyncio.get_running_loop().time() + API_TIMEOUT_S
        client = await self._client_by(deadline)
        body = b"" if payload is None else json.dumps(payload).encode()
        answer = await self._ask(client, f"$JS.API.{verb}", body, {}, deadline, verb)
        return jsapi.reply(answer.data, answer.headers, verb)

    async def stream_info(self, stream: str) -> dict[str, Any]:
        """STREAM.INFO: config, state and cluster of a stream. Raises as `api`."""
        return await self.api(f"STREAM.INFO.{stream}")

    async def last_message(self, stream: str) -> StoredMessage | None:
        """The last message of a stream, read from its leader; None where it is empty. Raises as `api`."""
        verb = f"STREAM.MSG.GET.{stream}"
        try:
            return jsapi.stored(await self.api(verb, {"last_by_subj": ">"}), verb)
        except Refused as refused:
            if refused.code == _NO_MESSAGE:
                return None
            raise

    async def reset_consumer(self, stream: str, consumer: str, seq: int) -> None:
        """Let a consumer deliver again from stream sequence `seq` on, in order, as if it were new. Raises as `api`.

        What this connection's Pullers of that consumer hold is dropped. nats-server 2.15 leaves the reset of a consumer
        that does not exist unanswered, so its existence is asked first.
        """
        for puller in self.pullers:
            if (puller.stream, puller.consumer) == (stream, consumer):
                await puller.drop()
        await self.api(f"CONSUMER.INFO.{stream}.{consumer}")
        await self.api(f"CONSUMER.RESET.{stream}.{consumer}", {"seq": seq})

    async def send(self, subject: str, body: bytes, reply: str = "") -> None:
        """Write one message without waiting for anything. Raises Unreachable where there is no connection now."""
        if self._client is None or not self.is_connected:
            raise Unreachable(f"no connection to NATS at {self._config.url}")
        await _write(self._client, subject, body, reply)

    async def open_inbox(self, handler: Handler, deadline: float) -> Inbox:
        """A subscription of its own under this process' prefix; `handler` gets its messages, and None when they end.

        `deadline` as the loop's time. Raises Unreachable.
        """
        client = await self._client_by(deadline)
        subject = f"{self._inbox_prefix}.{self._nuid.next().decode()}"
        self._handlers[subject] = handler

        async def receive(message: Msg) -> None:
            if subject in self._handlers:  # a delivery keeps the subject of its stream
                handler(message)

        with _sending(subject):
            return Inbox(subject, await client.subscribe(subject, cb=receive), self._handlers)

    async def _client_by(self, deadline: float) -> SecureClient:
        if self._client is not None and self.is_connected:  # then nothing needs a timer
            return self._client
        try:
            async with asyncio.timeout_at(deadline):
                return await self.client()
        except TimeoutError:
            raise Unreachable(f"no connection to NATS at {self._config.url}") from None

    def _check_size(self, client: SecureClient, message: Message) -> None:
        limit, count = client.max_payload - _PAYLOAD_RESERVE, len(message.headers) + len(message.shared)
        if len(message.body) + 4 * (_characters(message.headers) + _characters(message.shared) + count) <= limit:
            return  # a character has at most four bytes
        headers = sum(len(name) + len(value.encode()) + 4 for name, value in message.all_headers.items())
        if len(message.body) + headers > limit:
            size = len(message.body) + headers
            raise TooLarge(f"a message of {size} bytes on {message.subject} is above {limit}; raise the server's max_payload")

    async def _ask(self, client: SecureClient, subject: str, body: bytes, headers: Mapping[str, str], deadline: float, what: str) -> Msg:
        answer: asyncio.Future[Msg | None] = asyncio.get_running_loop().create_future()
        inbox = f"{self._inbox}.{self._nuid.next().decode()}"
        self._handlers[inbox] = lambda message: None if answer.done() else answer.set_result(message)
        try:
            async with asyncio.timeout_at(deadline):
                await _write(client, subject, body, inbox, dict(headers) or None)
                message = await answer
        except TimeoutError:
            raise Timeout(f"no answer from NATS to {what}; is this user permitted to ask for it?") from None
        finally:
            self._handlers.pop(inbox, None)
        if message is None:
            raise Timeout(f"the connection to NATS broke before the answer to {what}")
        return message


def _characters(headers: Mapping[str, str]) -> int:
    return sum(map(len, headers)) + sum(map(len, headers.values()))


async def _write_all(client: SecureClient, messages: Sequence[Message]) -> None:
    """As `_write`, several at once."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    with _sending(messages[0].subject):
        await client.publish_all(messages)
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


async def _write(client: SecureClient, subject: str, body: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
    """Publish; a cancellation, which nats-py swallows while it waits for the socket, is raised."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    with _sending(subject):
        await client.publish(subject, body, reply=reply, headers=headers)
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


@contextlib.contextmanager
def _sending(subject: str) -> Iterator[None]:
    """What nats-py raises while the connection goes away, as Unreachable; a bad subject or header stays an error of ours."""
    try:
        yield
    except (nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError, nats.errors.OutboundBufferLimitError, OSError) as error:
        raise Unreachable(f"a message on {subject} could not be sent ({printable(str(error))})") from error


def _batch(messages: Sequence[Message], batch_id: str, expected_last: int | None) -> list[Message]:
    """The messages with the headers of ADR-50."""
    last = len(messages)
    first = {} if expected_last is None else {"Nats-Expected-Last-Sequence": str(expected_last)}
    return [
        Message(
            message.subject,
            message.body,
            {
                **message.headers,
                "Nats-Batch-Id": batch_id,
                "Nats-Batch-Sequence": str(number),
                **(first if number == 1 else {}),
                **({"Nats-Batch-Commit": "1"} if number == last else {}),
            },
            message.shared,
        )
        for number, message in enumerate(messages, start=1)
    ]
