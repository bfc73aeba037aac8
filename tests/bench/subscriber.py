"""A durable consumer as anybody could write it with nats-py, and what it measures: from a row's write to the event in its hands."""

import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from tests.manager.driver import unix_now

Take = Callable[[dict[str, Any]], tuple[int, str]]
"""(agent's number, connection_status) of a body."""

WRITTEN: Final = {"Active": "active", "Disconnected": "disconnected"}


def of_event(body: dict[str, Any]) -> tuple[int, str]:
    """Of an event with the seed's ten keys."""
    return int(body["agent_id"]), WRITTEN.get(body["current_status"], "")


def of_bare(body: dict[str, Any]) -> tuple[int, str]:
    """Of what `bare.py` says."""
    return int(body["agent_id"]), body["status"]


class Subscriber:
    """Reads `subject` of `stream`; the stream is made where `make` says so. Times in seconds."""

    def __init__(self, url: str, stream: str, subject: str, take: Take, *, make: bool = False) -> None:
        self._url, self._stream, self._subject, self._take, self._make = url, stream, subject, take, make
        self._written: dict[tuple[int, str], float] = {}
        self._early: dict[tuple[int, str], float] = {}
        self._client: Client | None = None
        self.latencies: list[float] = []

    async def __aenter__(self) -> Self:
        self._client = await nats.connect(self._url)
        js = self._client.jetstream()
        if self._make:
            await js.add_stream(StreamConfig(name=self._stream, subjects=[self._subject]))
        await js.subscribe(self._subject, durable=f"bench-{self._stream}", stream=self._stream, cb=self._receive, manual_ack=True)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._client is not None:
            await self._client.close()

    @property
    def waiting(self) -> int:
        """Changes that were written and of which nothing came."""
        return len(self._written)

    def written(self, number: int, status: str, at: float) -> None:
        """A change could be seen at Unix time `at`; its event may have been quicker than this word of it."""
        came = self._early.pop((number, status), None)
        if came is None:
            self._written[number, status] = at
        else:
            self.latencies.append(came - at)

    def begin(self) -> None:
        """Forget what was measured so far."""
        self.latencies, self._written, self._early = [], {}, {}

    async def _receive(self, message: Msg) -> None:
        now = unix_now()
        change = self._take(json.loads(message.data))
        at = self._written.pop(change, None)
        if at is None:
            self._early[change] = now
        else:
            self.latencies.append(now - at)
        await message.ack()
