"""The life of one process' client: it is connected, watched, given up, and replaced by a fresh one, for ever.

Rules (nats-py 2.16, measured)
 * Any -ERR from the server closes a client for good; so do `max_reconnects` failed attempts. A closed client is replaced
   by a fresh one, with backoff and jitter, until `close()`. Credentials are read again for each.
 * A link that is half open is given up after about _PING_INTERVAL_S * _MAX_PINGS. nats-py alone would hang there: its pings
   wait behind what cannot be sent, and so does its closing of the socket.
 * A broken connection ends every request that waits for a reply, at once.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

import nats.errors
from nats.aio.msg import Msg
from nats.nuid import NUID

from . import login, subjects
from .backoff import Backoff
from .logs import printable

if TYPE_CHECKING:
    from .config import NatsConfig

State = Literal["nats_connected", "nats_lost", "nats_rebuilt", "nats_error"]
"""What `on_state` is told, in the words of `shared.catalogue.LogEvent`."""

_PENDING_BYTES: Final = 1 << 20  # above it a publish waits for the socket
_PING_INTERVAL_S: Final = 10.0
_MAX_PINGS: Final = 2
_CONNECT_TIMEOUT_S: Final = 2
_WATCH_S: Final = 1.0  # how soon a client that died without a word is noticed
_STUCK_S: Final = 10.0  # beyond all its attempts, after which a client that is not connected is given up
_CLOSE_S: Final = 2.0
_CANCEL_S: Final = 0.5
_MOST_COMPLAINTS: Final = 20  # told between two connections

Handler = Callable[[Msg | None], None]
"""What takes a reply; None says that the connection is lost and no reply comes."""


class Link:
    """A connected client, now or soon. `on_state(state, detail)` is called on each change.

    `role` names the inbox, `_INBOX_{role}`, unless nats.inbox_prefix does: who has the same rights shares it. By default `name`.
    """

    def __init__(
        self,
        config: "NatsConfig",
        name: str,
        on_state: Callable[[State, str], None],
        jitter: Callable[[], float] = random.random,
        role: str | None = None,
    ) -> None:
        self._config = config
        self._name = name
        self._inbox_prefix = config.inbox_prefix or f"_INBOX_{subjects.escape(role or name)}"
        self._on_state = on_state
        self._backoff = Backoff(jitter=jitter)
        self._nuid = NUID()
        self._client: login.SecureClient | None = None
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._ending = False  # a cancellation may be swallowed by nats-py, and whoever closes may be cancelled himself
        self._handlers: dict[str, Handler] = {}
        self._inbox = ""
        self._complaints: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    # Life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect, and go on for ever. Raises ConfigError where credentials or certificates cannot be used."""
        login.options(self._config)
        self._ending = False
        self._task = asyncio.create_task(self._live(), name="nats connection")

    async def close(self) -> None:
        """End within about _CLOSE_S seconds, whatever state the server is in; what was written before is flushed."""
        self._ending = True
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()  # again and again: nats-py swallows a cancellation while it flushes
            await asyncio.wait([task], timeout=_CANCEL_S)
        self._lose()

    @property
    def is_connected(self) -> bool:
        """Whether a message could be sent now."""
        return self._connected.is_set() and self._client is not None and self._client.is_connected

    async def client(self) -> login.SecureClient:
        """A client that is connected now; waits for one."""
        while True:
            await self._connected.wait()
            if self._client is not None and self._client.is_connected:
                return self._client
            await asyncio.sleep(_WATCH_S / 10)  # nats-py has not told yet that it is gone

    async def _live(self) -> None:
        while not self._ending:
            client = login.SecureClient()
            client.tls_wanted = login.wants_tls(self._config)
            try:
                if await self._connect(client):
                    await self._watch(client)
                    why = printable(str(client.last_error or "it was stuck"))[:300]  # nats-py tells nobody why it closes
                    self._on_state("nats_rebuilt", f"the client was closed for good ({why}); a fresh one takes its place")
            finally:
                self._lose()
                await _close(client)
            await asyncio.sleep(self._backoff.next())

    async def _connect(self, client: login.SecureClient) -> bool:
        self._closed.clear()
        self._inbox = f"{self._inbox_prefix}.{self._nuid.next().decode()}"
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
            "inbox_prefix": self._inbox_prefix,
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

    async def _watch(self, client: login.SecureClient) -> None:
        """Until the client is closed, or stuck: it does not always say so."""
        loop = asyncio.get_running_loop()
        alive = heard = loop.time()
        patience = self._config.max_reconnects * (self._config.reconnect_delay + 2 * _CONNECT_TIMEOUT_S) + _STUCK_S
        while not (client.is_closed or self._closed.is_set()) and loop.time() < alive + patience:
            if client.is_connected:
                alive = loop.time()
            if not client.is_connected or client.all_answered:
                heard = loop.time()
            elif loop.time() > heard + (_MAX_PINGS + 1) * _PING_INTERVAL_S:
                client.cut()  # its own pings may wait behind what cannot be sent
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


async def _close(client: login.SecureClient) -> None:
    try:
        if not client.is_closed and client._flush_queue is not None:  # noqa: SLF001  else nobody connected it: nats-py asserts on that
            with contextlib.suppress(TimeoutError, OSError, nats.errors.Error):
                await asyncio.wait_for(client.close(), _CLOSE_S)
    finally:
        client.hang_up()
