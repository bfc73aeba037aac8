"""The demo's audience: a subscriber with a durable JetStream consumer, as anybody could write it.

It knows the seed document, the HMAC key and nats-py, and nothing else of the product: what it verifies, a consumer can.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import nats
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DeliverPolicy

from tests.manager.driver import unix_now

STREAM: Final = "WAZUH_EVENTS"
NOTICES: Final = ("moved", "overdue", "overdue_cleared", "version_refused", "removed_but_connected", "manager_events")
"""The last tokens of what changes no agent's status."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One message as it came into the audience's hands, at Unix time `at`."""

    at: float
    subject: str
    body: dict[str, Any]
    headers: dict[str, str]
    verified: bool


class Audience:
    """Reads every event from the beginning of the stream, in order, once.

    `consumer`: a durable one that was made for it; without, it makes its own. `login`: what nats.connect takes besides.
    """

    def __init__(self, url: str, key: str, consumer: str | None = None, login: Mapping[str, Any] | None = None) -> None:
        self._url, self._key, self._consumer, self._login = url, key, consumer, login or {}
        self.seen: list[Seen] = []
        self.batches: list[Seen] = []
        self._client: Client | None = None
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self._places: set[int] = set()  # in the stream

    async def __aenter__(self) -> Self:
        self._client = await nats.connect(
            self._url.split(","), max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_offline, **self._login
        )
        stream = self._client.jetstream()
        if self._consumer is None:
            await stream.add_consumer(STREAM, ConsumerConfig(durable_name="audience", deliver_policy=DeliverPolicy.ALL))
        self._subscription = await stream.pull_subscribe_bind(self._consumer or "audience", STREAM)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._client is not None:
            await self._client.close()

    @property
    def events(self) -> list[Seen]:
        """The changes of status, one message each."""
        return [one for one in self.seen if one.subject.endswith(".status")]

    @property
    def notices(self) -> list[Seen]:
        """What else is told of agents and of managers, one message each."""
        return [one for one in self.seen if one.subject.rpartition(".")[2] in NOTICES]

    @property
    def told(self) -> list[Seen]:
        """Both, as they came."""
        return [one for one in self.seen if one.subject.endswith(".status") or one.subject.rpartition(".")[2] in NOTICES]

    async def until(self, enough: Callable[[], object], deadline: float) -> bool:
        """Wait until `enough()` is true or Unix time `deadline`; whether it became true."""
        async with self._news:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait_for(lambda: bool(enough())), max(0.0, deadline - unix_now()))
        return bool(enough())

    async def _read(self) -> None:
        while True:
            try:
                messages = await self._subscription.fetch(100, timeout=1)
            except (nats.errors.Error, TimeoutError):  # nothing came, or NATS is away: ask again
                await asyncio.sleep(0.05)
                continue
            for message in messages:
                if message.metadata.sequence.stream not in self._places:  # whose ack was not heard comes again
                    self._places.add(message.metadata.sequence.stream)
                    self._take(message.subject, message.data, dict(message.headers or {}))
                with contextlib.suppress(nats.errors.Error):
                    await message.ack()
            async with self._news:
                self._news.notify_all()

    def _take(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        body = json.loads(data)
        if subject == "wazuh.security.agent_events":
            self.batches.append(Seen(unix_now(), subject, body, headers, all(map(self._verified, body["events"]))))
            return
        self.seen.append(Seen(unix_now(), subject, body, headers, self._verified(body)))

    def _verified(self, body: dict[str, Any]) -> bool:
        unsigned = {name: value for name, value in body.items() if name != "signature"}
        canonical = json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        signature = hmac.new(bytes.fromhex(self._key), canonical, hashlib.sha256).hexdigest()
        return hmac.compare_digest(signature, str(body["signature"]))


async def _offline(_: Exception) -> None:
    """NATS goes away in one of the scenes; the client reconnects by itself."""
