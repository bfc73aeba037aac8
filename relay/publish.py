"""Publishes the outbox: one atomic batch in flight, in the outbox's order, each message once.

Rules
 * A batch says which sequence the stream must end at (`Nats-Expected-Last-Sequence`), so that a stale writer is refused
   by the stream itself.
 * On any doubt (the start, a timeout, a lost connection, a refusal) the last message of EVENTS is read from the stream's
   leader: its outbox sequence says what was sent, its own sequence is the next expectation. Nothing else is believed.
 * The messages of one event go in one batch.
 * A message that can never be stored, or that the stream knows already, is left out alone, and another one that says so stands
   under its sequence and in its place in the chain; the rest goes on. The first is kept in the quarantine.
 * Whoever finds messages in EVENTS that it did not write stops: two relays with two ledgers contradict each other.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Final

from shared import clock, crashpoints, jetstream, jsapi, logs, sealing, telemetry
from shared.errors import Stop, Transient
from shared.guard import Guard, Words

from . import chain, encryption, events, ledger, seal
from .books import Books
from .events import Message
from .keeper import Keeper
from .stored import Outgoing
from .traces import Traces

LOGGER: Final = logging.getLogger("relay.publish")

EVENTS: Final = Words("events", "outbox_stalled", "events wait in the outbox", "event_published", "events are published again")
TIMEOUT: Final = 10.0  # seconds for one batch; nats-server gives an open batch up after as many
BATCH_BYTES: Final = 4 * 1024 * 1024
HEADER_BYTES: Final = 1024  # of one sealed message, generously
WINDOW: Final = 8_000  # messages read from the ledger at once: several MB
CHUNK: Final = 50  # messages sealed without a pause: about a millisecond


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages that go together, as they are in the outbox and as they are sent."""

    outgoing: list[Outgoing]
    sealed: list[jsapi.Message]
    took: tuple[float, float]  # when sealing began and ended, monotonic s


class Publisher:
    """One outbox's way to EVENTS. `wake` is called by whoever put something into the outbox. `where`: the stream, and the subject
    on which it tells what it left out."""

    def __init__(
        self,
        connection: jetstream.Connection,
        books: Books,
        book: ledger.Ledger,
        keeper: Keeper,
        signer: sealing.MessageSigner,
        where: tuple[str, str],
        guard: Guard,
        batch_messages: int,
        metrics: telemetry.Telemetry,
        watch: clock.Clock,
        traces: Traces,
        crypt: encryption.EncryptionHandler | None = None,
    ) -> None:
        self._connection = connection
        self._books = books
        self._ledger = book
        self._keeper = keeper
        self._sealer = seal.Sealer(signer, crypt)
        self._stream, self._aside = where
        self._guard = guard
        self._batch_messages = max(batch_messages, max(map(len, events.TOKENS.values())))
        self._metrics = metrics
        self._clock = watch
        self._traces = traces
        self._wake = asyncio.Event()
        self._finishing = False
        self._queue: deque[Outgoing] = deque()
        self._ready: Batch | None = None  # the first messages of the queue, sealed
        self._expected: int | None = None  # the stream's last sequence; None: to be found out
        self._recovered = False  # and nothing was published since
        self._instead: dict[int, Message] = {}  # what stands for a message that was left out, by its sequence
        self._singly = 0  # messages that are to be published one by one
        self._done = 0  # the outbox sequence up to which all is published or left out
        self._marking: asyncio.Task[None] | None = None  # tells the ledger so
        self._decided: deque[tuple[int, int, int]] = deque()  # (RAW position, when it came, when it was seen): for the latency
        self._began_at = watch.now_ms()

    def wake(self) -> None:
        """The outbox has something."""
        self._wake.set()

    def decided(self, position: int, now: int, seen_at: int) -> None:
        """Messages were decided from a RAW position: publish them. When it came, and when what it says was seen, in Unix ms."""
        self._decided.append((position, now, seen_at))
        self._wake.set()

    @property
    def waiting_since(self) -> int:
        """Since when (Unix ms) what waits first has waited; what an earlier process left waits since this one began."""
        return self._decided[0][1] if self._decided else self._began_at

    def doubt(self) -> None:
        """The connection was lost and is back: what the stream holds is to be read again, now."""
        self._expected = None
        self._guard.hurry()

    def finish(self) -> None:
        """Return from `run` once the outbox is empty."""
        self._finishing = True
        self._wake.set()

    async def run(self) -> None:
        """Publish until `finish`. Raises Stop where somebody else writes to the stream, Superseded where another relay leads."""
        try:
            await self._run()
        finally:
            if self._marking is not None:
                self._marking.cancel()
                await asyncio.gather(self._marking, return_exceptions=True)  # what it raised was raised before

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._guard.wait()
                idle = not await self._step()
            except Transient as error:
                self._failed(error)
                continue
            self._guard.succeeded(sequence=self._done)
            if not idle or self._wake.is_set():
                continue
            if self._finishing:
                return
            await self._wake.wait()

    async def _step(self) -> bool:
        """Publish one batch while the next is made ready; False where there is nothing to publish."""
        if self._expected is None:
            await self._recover()
        batch, self._ready = self._ready or await self._prepare(self._done), None
        if self._expected is None:  # the connection was lost meanwhile
            return True
        if not batch.outgoing:
            await self._marked()
            return False
        if batch.outgoing[0].sequence != self._done + 1:
            raise AssertionError("the outbox is published without a gap")
        following = asyncio.create_task(self._prepare(batch.outgoing[-1].sequence))
        try:
            published = await self._publish(batch)
        except asyncio.CancelledError:
            following.cancel()
            raise
        finally:
            ready = await following
        self._ready = ready if published and ready.outgoing else None
        return True

    async def _prepare(self, after: int) -> Batch:
        """The batch behind an outbox sequence, sealed; a little at a time, so that what is under way goes on."""
        most = 1 if self._singly else self._batch_messages
        if not self._queue or self._queue[-1].sequence < after + most:
            await self._fill(self._queue[-1].sequence if self._queue else self._done)
        began, sealed = self._clock.monotonic(), list[jsapi.Message]()
        outgoing = cut(dropwhile(lambda out: out.sequence <= after, self._queue), most)
        for number, out in enumerate(outgoing, start=1):
            message = self._instead.get(out.sequence, out.message)
            sealed.append(self._sealer.seal(message, out.sequence, out.position, chain.headers(out.link)))
            if number % CHUNK == 0:
                await asyncio.sleep(0)
        return Batch(outgoing, sealed, (began, self._clock.monotonic()))

    async def _fill(self, known: int) -> None:
        found = await self._books.insist(self._ledger.outbox, WINDOW, known)
        if len(found) == WINDOW:  # the last event's other message may stand behind the window
            last = found[-1].message.body
            while found[-1].message.body == last:
                found.pop()
        known = self._queue[-1].sequence if self._queue else self._done
        self._queue.extend(out for out in found if out.sequence > known)

    async def _publish(self, batch: Batch) -> bool:
        """Whether what was published, or left out, is as it was meant to be; else the next batch is made anew."""
        crashpoints.here("relay.before_publish")
        began = self._clock.monotonic()
        try:
            ack = await self._connection.publish_batch(batch.sealed, TIMEOUT, self._expected)
        except jsapi.DuplicateInBatch:
            if len(batch.outgoing) > 1 or not self._recovered:
                self._singly = len(batch.outgoing)
                raise
            return self._leave_out(batch.outgoing[0], "duplicate", "the stream holds its Nats-Msg-Id already")
        except jsapi.TooLarge as refusal:
            if len(batch.outgoing) > 1:
                self._singly = len(batch.outgoing)
                return False
            if batch.outgoing[0].sequence not in self._instead:
                await self._keeper.leave_out(batch.outgoing[0], refusal, self._clock.now_ms())
            return self._leave_out(batch.outgoing[0], refusal.reason, str(refusal))
        else:
            crashpoints.here("relay.after_publish")
            self._traces.published(batch.outgoing, batch.took, began)
            self._sent(batch.outgoing, ack)
        return True

    def _sent(self, batch: Sequence[Outgoing], ack: jsapi.PubAck) -> None:
        self._expected, self._recovered = ack.seq, False
        self._taken(batch)
        self._metrics.count("wazuh_jetstream_relay_publish_batches_total", outcome="acked")
        self._metrics.count("wazuh_jetstream_relay_published_messages_total", len(batch))
        self._measure(batch[-1].position)

    def _taken(self, batch: Sequence[Outgoing]) -> None:
        """These messages are done with; the ledger is told while the next ones are under way."""
        self._done = batch[-1].sequence
        self._singly = max(0, self._singly - len(batch))
        while self._queue and self._queue[0].sequence <= self._done:
            self._queue.popleft()
        if self._marking is not None and self._marking.done():
            self._marking.result()
            self._marking = None
        if self._marking is None:
            self._marking = asyncio.create_task(self._mark())

    async def _mark(self) -> None:
        marked = 0
        while marked < self._done:
            marked = self._done
            await self._books.insist(self._ledger.mark_sent, marked)
            crashpoints.here("relay.after_mark")
            self._metrics.gauge("wazuh_jetstream_relay_outbox_sequence", marked)

    async def _marked(self) -> None:
        """Once the ledger knows of all that is done with. Raises what telling it raised."""
        if self._marking is not None:
            await self._marking
            self._marking = None

    def _measure(self, position: int) -> None:
        now = self._clock.now_ms()
        while self._decided and self._decided[0][0] <= position:
            _, came_at, seen_at = self._decided.popleft()
            self._metrics.observe("wazuh_jetstream_relay_latency_seconds", max(0, now - came_at) / 1000)
            self._metrics.observe("wazuh_jetstream_relay_end_to_end_seconds", max(0, now - seen_at) / 1000)

    def _leave_out(self, out: Outgoing, reason: str, sentence: str) -> bool:
        """Have another message stand for one, or, where that is refused too, leave a hole; whether the rest is as it was meant to be."""
        holed = out.sequence in self._instead
        if holed:
            self._taken([out])
        else:
            self._instead = {out.sequence: instead(out, reason, self._aside)}
            self._metrics.count("wazuh_jetstream_relay_publish_batches_total", outcome=reason)
        text = f"message {out.message.message_id} was not published{', nor is what should stand for it' if holed else ''}: {sentence}"
        logs.log(LOGGER, "error", "message_dropped", text, subject=out.message.subject, sequence=out.sequence, reason=reason)
        return holed

    def _failed(self, error: Transient) -> None:
        self._expected = None
        self._metrics.count("wazuh_jetstream_relay_publish_retries_total")
        self._metrics.count("wazuh_jetstream_relay_publish_batches_total", outcome="failed")
        self._guard.failed(error)

    # Recovery -------------------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        await self._marked()
        # The end of the stream is asked for first: if its message is gone since (deleted by hand), the end still holds,
        # and a batch of ours that is stored only now moves it, so that the next one is refused and not doubled.
        end = int((await self._connection.stream_info(self._stream))["state"]["last_seq"])
        last = await self._connection.last_message(self._stream)
        if last is not None:
            end = max(end, last.seq)
            await self._check_ours(last)
        self._queue.clear()
        self._ready = None
        self._done = await self._books.insist(self._ledger.sent_through)
        self._expected, self._recovered = end, True

    async def _check_ours(self, last: jsapi.StoredMessage) -> None:
        sequence = seal.outbox_sequence(last.headers)
        if sequence is None:
            raise Stop(stale_writer(self._stream, last))
        known = await self._books.insist(self._ledger.confirm_sent, sequence, seal.message_id(last.headers))
        if known is None:
            raise Stop(stale_writer(self._stream, last))
        if sequence > known:
            self._metrics.gauge("wazuh_jetstream_relay_outbox_sequence", sequence)
            logs.log(LOGGER, "info", "recovered", f"the stream holds all up to outbox sequence {sequence}", sequence=sequence, sent=known)


def cut(queue: Iterable[Outgoing], most: int) -> list[Outgoing]:
    """The first messages that go together: at most `most` and BATCH_BYTES, never between the messages of one event."""
    size, batch = 0, list[Outgoing]()
    for out in queue:
        size += len(out.message.body) + HEADER_BYTES
        if len(batch) == most or (batch and size > BATCH_BYTES):
            return batch[: _seam(batch, out)]
        batch.append(out)
    return batch


def _seam(batch: Sequence[Outgoing], following: Outgoing) -> int:
    """Where to cut so that what follows does not belong to what is sent; one event alone is sent as it comes."""
    end = len(batch)
    while end and batch[end - 1].message.body == following.message.body:
        end -= 1
    return end or len(batch)


def instead(out: Outgoing, reason: str, subject: str) -> Message:
    """What stands for a message that the stream does not take; it goes on with that one's digest."""
    left = out.message
    told = events.left_out(subject, left, out.sequence, reason)
    if not out.link.chain:
        return told
    return told._replace(headers={**told.headers, events.H_DIGEST: chain.digest_of(left, out.sequence, out.position, out.link)})


def stale_writer(stream: str, last: jsapi.StoredMessage) -> str:
    """What to say to somebody who runs two relays."""
    return (
        f"message {last.seq} of stream {stream} on {last.subject} is not of this relay's ledger; stop the other relay that writes there,"
        " or move the ledger away and it is made anew from RAW and EVENTS"
    )
