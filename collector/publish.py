"""The publisher: takes what the outbox gives, one snapshot at a time and in order, and lets go of it on the stream's ack.

Rules
 * Nothing is dropped but what the server will never take: that is logged and counted, and a gap's full stands for it.
 * No answer is not a refusal: the snapshot may be stored. It is sent again under the same Nats-Msg-Ids.
 * The parts of one snapshot are one atomic batch. A batch of which the stream knows an id was stored whole.
 * What to send is asked anew before each attempt: what passes through memory may have been replaced meanwhile.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from shared import crashpoints, logs, sealing, subjects, trace, wire
from shared.clock import Clock
from shared.errors import Quarantine, Transient
from shared.guard import Guard, Words
from shared.jetstream import DuplicateInBatch, Message, PubAck
from shared.telemetry import Telemetry

from .outbox import Outbox
from .spool import Item
from .traces import Traces

_logger = logging.getLogger("collector.publish")

RAW: Final = Words("raw", "publish_failed", "snapshots wait, NATS takes none", "publish_resumed", "NATS takes snapshots again")
ACK_TIMEOUT_S: Final = 5.0
_ENVELOPE_BYTES: Final = 8192  # of max_payload that stay free for a part's envelope and headers
_SMALLEST_PART: Final = 1024  # bytes: a server that takes less refuses the snapshot, and says so
_HASTE_S: Final = 0.25  # between attempts while the process is ending


class Server(Protocol):
    """What a connected client knows of its server."""

    @property
    def max_payload(self) -> int:
        """Bytes of body and headers that the server takes in one message."""


class Bus(Protocol):
    """The part of `shared.jetstream.Connection` that is needed here."""

    async def client(self) -> Server:
        """Waits for a live connection."""

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str], timeout: float) -> PubAck:  # noqa: ASYNC109
        """One message."""

    async def publish_batch(self, messages: Sequence[Message], timeout: float) -> PubAck:  # noqa: ASYNC109
        """Several messages, all or none."""


class Publisher:
    """Lives on the event loop's thread."""

    def __init__(
        self,
        outbox: Outbox,
        bus: Bus,
        signer: sealing.MessageSigner,
        prefix: str,
        node: str,
        news: asyncio.Event,
        clock: Clock,
        guard: Guard,
        telemetry: Telemetry,
        traces: Traces,
    ) -> None:
        """`news` is set whenever the outbox may have something to send; `guard` is RAW's."""
        self._outbox, self._bus, self._signer, self._node = outbox, bus, signer, node
        self._subject = subjects.raw(prefix, node)
        self._news, self._clock, self._guard, self._telemetry = news, clock, guard, telemetry
        self._traces = traces
        self._began = ((0, 0), 0.0)  # which item is being sent, and since when (monotonic s)
        self._published_at = 0  # Unix ms
        self._draining = asyncio.Event()
        telemetry.live("wazuh_jetstream_collector_last_published_timestamp_seconds", lambda: self._published_at / 1000)

    def drain(self) -> None:
        """Let `run` return as soon as nothing waits any more."""
        self._draining.set()
        self._news.set()

    async def run(self) -> None:
        """Publish for ever, or until everything is sent after `drain`."""
        while True:
            self._news.clear()
            try:
                if await self._send_next():
                    continue
            except Transient as error:
                self._telemetry.count("wazuh_jetstream_collector_publish_retries_total")
                self._guard.failed(error, waiting=self._outbox.depth())
                await self._pause()
                continue
            if self._draining.is_set():
                return
            await self._news.wait()

    async def _send_next(self) -> bool:
        """Whether there was anything. Raises Transient."""
        if self._outbox.next() is None:
            return False
        server = await self._bus.client()
        item = self._outbox.next()
        if item is None:
            return False
        if self._began[0] != item.order:
            self._began = item.order, self._clock.monotonic()
        try:
            await self._publish(item, min(wire.PART_BYTES, server.max_payload - _ENVELOPE_BYTES))
        except Quarantine as error:
            root, text = self._traces.published(item, self._began[1], str(error)), f"{error}; a full snapshot will stand for it"
            logs.log(_logger, "error", "snapshot_refused", text, kind=item.kind, boot=item.boot, seq=item.seq, trace_id=root.trace_id)
            self._outbox.refused(item)
            return True
        crashpoints.here("collector.after_publish")
        self._guard.succeeded(waiting=self._outbox.depth())
        self._told(item)
        self._outbox.sent(item)
        crashpoints.here("collector.after_forget")
        return True

    async def _publish(self, item: Item, part_bytes: int) -> None:
        messages = self._messages(item, part_bytes)
        try:
            if len(messages) == 1:
                only = messages[0]
                await self._bus.publish(only.subject, only.body, only.headers, ACK_TIMEOUT_S)
            else:
                await self._bus.publish_batch(messages, ACK_TIMEOUT_S)
        except DuplicateInBatch:
            return

    def _messages(self, item: Item, part_bytes: int) -> list[Message]:
        bodies = wire.split(item.payload, self._node, item.boot, item.seq, self._clock.now_ms(), max(part_bytes, _SMALLEST_PART))
        return [Message(self._subject, body, self._headers(item, number, body)) for number, body in enumerate(bodies, 1)]

    def _headers(self, item: Item, number: int, body: bytes) -> dict[str, str]:
        return {
            "Nats-Msg-Id": wire.message_id(self._node, item.boot, item.seq, number),
            sealing.SIGNATURE_HEADER: self._signer.sign_header(self._subject, body, {}),
            trace.HEADER: self._traces.header(item),
        }

    def _told(self, item: Item) -> None:
        self._telemetry.count("wazuh_jetstream_collector_snapshots_published_total")
        self._published_at = self._clock.now_ms()
        root, text = self._traces.published(item, self._began[1]), f"{item.kind} {item.seq} is in NATS"
        logs.log(_logger, "debug", "snapshot_published", text, kind=item.kind, boot=item.boot, seq=item.seq, trace_id=root.trace_id)

    async def _pause(self) -> None:
        """Until the next attempt may be made, or soon where the process is ending."""
        while (seconds := self._guard.delay()) > 0:
            if self._draining.is_set():
                await asyncio.sleep(min(seconds, _HASTE_S))
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), seconds)
