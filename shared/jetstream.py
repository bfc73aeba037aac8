"""The connection to NATS: the one module that owns it, rebuilds it for ever, and speaks JetStream over it.

Rules (nats-py 2.16, measured)
 * Any -ERR from the server closes a client for good; so do `max_reconnects` failed attempts. A closed client is replaced
   by a fresh one, with backoff and jitter, until `close()`.
 * Nothing is published while the connection is away: what nats-py would buffer may be stored long after we gave it up.
 * A broken connection fails every open request at once, as Timeout: what was published may be stored. Publish again with
   the same Nats-Msg-Id.
 * The server counts headers into max_payload and closes the connection above it; too large is refused here.
 * Each process has its own inbox prefix, `_INBOX_<name>`, so that permissions can keep replies apart.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.nuid import NUID

from . import jsapi, login, subjects
from .backoff import Backoff
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
from .logs import printable

if TYPE_CHECKING:
    from .config import NatsConfig
from .pulling import Puller

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

State = Literal["nats_connected", "nats_lost", "nats_rebuilt", "nats_error"]
"""What `on_state` is told, in the words of `shared.catalogue.LogEvent`."""

API_TIMEOUT_S: Final = 5.0
_PAYLOAD_RESERVE: Final = 4096  # bytes below max_payload that stay free for the protocol line and headers of the server
_PENDING_BYTES: Final = 1 << 20  # above it a publish waits for the socket
_PING_INTERVAL_S: Final = 10
_MAX_PINGS: Final = 2
_CONNECT_TIMEOUT_S: Final = 2
_WATCH_S: Final = 1.0  # how soon a client that died without a word is noticed
_STUCK_S: Final = 10.0  # beyond all its attempts, after which a client that is not connected is given up
_CLOSE_S: Final = 2.0
_CANCEL_S: Final = 0.5
_MOST_COMPLAINTS: Final = 20  # told between two connections
_NO_MESSAGE: Final = 10037

Handler = Callable[[Msg | None], None]
"""What takes a reply; None says that the connection is lost and no reply comes."""


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


class Connection:
    """One process' connection. `on_state(state, detail)` is called on each change; `detail` is printable and holds no secret."""

    def __init__(
        self, config: "NatsConfig", name: str, on_state: Callable[[State, str], None], jitter: Callable[[], float] = random.random
    ) -> None:
        self._config = config
        self._name = name
        self._on_state = on_state
        self._backoff = Backoff(jitter=jitter)
        self._nuid = NUID()
        self.pullers: list[Puller] = []
        self._client: Client | None = None
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._handlers: dict[str, Handler] = {}
        self._inbox = ""
        self._complaints: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    # Life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect, and go on for ever. Raises ConfigError where credentials or certificates cannot be used."""
        login.options(self._config)
        self._task = asyncio.create_task(self._live(), name="nats connection")

    async def close(self) -> None:
        """End within about _CLOSE_S seconds, whatever state the server is in; what was written before is flushed."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()  # again and again: nats-py swallows a cancellation while it flushes
            await asyncio.wait([task], timeout=_CANCEL_S)
        self._lose()

    @property
    def is_connected(self) -> bool:
        """Whether a message could be sent now."""
        return self._connected.is_set() and self._client is not None and self._client.is_connected

    async def client(self) -> Client:
        """A client that is connected now; waits for one."""
        while True:
            await self._connected.wait()
            if self._client is not None and self._client.is_connected:
                return self._client
            await asyncio.sleep(_WATCH_S / 10)  # nats-py has not told yet that it is gone

    async def _live(self) -> None:
        while True:
            client = login.SecureClient()
            client.tls_wanted = login.wants_tls(self._config)
            try:
                if await self._connect(client):
                    await self._watch(client)
                    self._on_state("nats_rebuilt", "the client was closed for good; a fresh one takes its place")
            finally:
                self._lose()
                await _close(client)
            await asyncio.sleep(self._backoff.next())

    async def _connect(self, client: login.SecureClient) -> bool:
        self._closed.clear()
        self._inbox = f"_INBOX_{subjects.escape(self._name)}.{self._nuid.next().decode()}"
        try:
            await client.connect(**self._options(), **login.options(self._config))
            await client.subscribe(f"{self._inbox}.*", cb=self._dispatch)
        except nats.errors.NoServersError:
            return False  # each attempt's own error was told
        except Exception as error:  # noqa: BLE001  nats-py lets anything through; it is told, and a fresh client tries again
            await self._note(error)
            return False
        self._client = client
        await self._resume()
        return True

    def _options(self) -> dict[str, Any]:
        return {
            "servers": [url.strip() for url in self._config.url.split(",")],
            "name": self._name,
            "inbox_prefix": f"_INBOX_{subjects.escape(self._name)}",
            "error_cb": self._note,
            "disconnected_cb": self._pause,
            "reconnected_cb": self._resume,
            "closed_cb": self._end,
            "max_reconnect_attempts": self._config.max_reconnects,
            "reconnect_time_wait": self._config.reconnect_delay,
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "ping_interval": _PING_INTERVAL_S,
            "max_outstanding_pings": _MAX_PINGS,
            "pending_size": _PENDING_BYTES,
        }

    async def _watch(self, client: Client) -> None:
        """Until the client is closed, or stuck: it does not always say so."""
        loop = asyncio.get_running_loop()
        alive = loop.time()
        patience = self._config.max_reconnects * (self._config.reconnect_delay + 2 * _CONNECT_TIMEOUT_S) + _STUCK_S
        while not (client.is_closed or self._closed.is_set()) and loop.time() < alive + patience:
            if client.is_connected:
                alive = loop.time()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), _WATCH_S)

    async def _resume(self) -> None:
        self._backoff.reset()
        self._complaints.clear()
        self._connected.set()
        url = self._client.connected_url if self._client else None
        self._on_state("nats_connected", f"connected to {printable(url.netloc if url else 'NATS')}")

    async def _pause(self) -> None:
        self._lose()

    async def _end(self) -> None:
        self._closed.set()

    async def _note(self, error: Exception) -> None:
        """Tell a complaint once in a while without a connection, however often it comes."""
        text = printable(str(error) or type(error).__name__)[:300]
        if text not in self._complaints and len(self._complaints) < _MOST_COMPLAINTS:
            self._complaints.add(text)
            self._on_state("nats_error", text)

    def _lose(self) -> None:
        if self._connected.is_set():
            self._connected.clear()
            if self._task is not None:  # else it is we who end it
                self._on_state("nats_lost", "the connection to NATS is lost")
        handlers = list(self._handlers.values())
        self._handlers.clear()
        for handler in handlers:
            handler(None)

    async def _dispatch(self, message: Msg) -> None:
        handler = self._handlers.get(message.subject)
        if handler is not None:
            handler(message)

    # Requests -----------------------------------------------------------------------------------------------------

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
        for message in messages[:-1]:
            if client is not self._client or not client.is_connected:
                raise Unreachable("the connection to NATS broke inside a batch; nothing of it is stored")
            with _sending(message.subject):
                await client.publish(message.subject, message.body, headers=dict(message.headers))
        last = messages[-1]
        what = f"a message on {last.subject}" if len(messages) == 1 else f"{len(messages)} messages, the last on {last.subject}"
        answer = await self._ask(client, last.subject, last.body, last.headers, deadline, what)
        return jsapi.puback(answer.data, answer.headers, what)

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
        with _sending(subject):
            await self._client.publish(subject, body, reply=reply)

    async def open_inbox(self, handler: Handler, deadline: float) -> Inbox:
        """A subscription of its own under this process' prefix; `handler` gets its messages, and None when they end.

        `deadline` as the loop's time. Raises Unreachable.
        """
        client = await self._client_by(deadline)
        subject = f"_INBOX_{subjects.escape(self._name)}.{self._nuid.next().decode()}"
        self._handlers[subject] = handler

        async def receive(message: Msg) -> None:
            if subject in self._handlers:  # a delivery keeps the subject of its stream
                handler(message)

        with _sending(subject):
            return Inbox(subject, await client.subscribe(subject, cb=receive), self._handlers)

    async def _client_by(self, deadline: float) -> Client:
        try:
            async with asyncio.timeout_at(deadline):
                return await self.client()
        except TimeoutError:
            raise Unreachable(f"no connection to NATS at {self._config.url}") from None

    def _check_size(self, client: Client, message: Message) -> None:
        headers = sum(len(name) + len(value.encode()) + 4 for name, value in message.headers.items())
        limit = client.max_payload - _PAYLOAD_RESERVE
        if len(message.body) + headers > limit:
            size = len(message.body) + headers
            raise TooLarge(f"a message of {size} bytes on {message.subject} is above {limit}; raise the server's max_payload")

    async def _ask(self, client: Client, subject: str, body: bytes, headers: Mapping[str, str], deadline: float, what: str) -> Msg:
        answer: asyncio.Future[Msg | None] = asyncio.get_running_loop().create_future()
        inbox = f"{self._inbox}.{self._nuid.next().decode()}"
        self._handlers[inbox] = lambda message: None if answer.done() else answer.set_result(message)
        try:
            async with asyncio.timeout_at(deadline):
                with _sending(subject):
                    await client.publish(subject, body, reply=inbox, headers=dict(headers) or None)
                message = await answer
        except TimeoutError:
            raise Timeout(f"no answer from NATS to {what}; is this user permitted to ask for it?") from None
        finally:
            self._handlers.pop(inbox, None)
        if message is None:
            raise Timeout(f"the connection to NATS broke before the answer to {what}")
        return message


async def _close(client: login.SecureClient) -> None:
    try:
        if not client.is_closed and client._flush_queue is not None:  # noqa: SLF001  else nobody connected it: nats-py asserts on that
            with contextlib.suppress(TimeoutError, OSError, nats.errors.Error):
                await asyncio.wait_for(client.close(), _CLOSE_S)
    finally:
        client.hang_up()


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
        )
        for number, message in enumerate(messages, start=1)
    ]
