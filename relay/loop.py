"""The deciding loop: delivered -> admitted -> decided -> recorded in ONE transaction -> acked.

Rules
 * What cannot be accepted is quarantined with its position in one transaction, counted and told in one sentence; the next
   message goes on. Also what nobody foresaw: then the fleet goes back to what the ledger holds.
 * Where nothing came for a while, a tick is published to RAW: it comes back as an input that says so.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final

from shared import clock, crashpoints, health, jetstream, jsapi, logs, sealing, subjects, telemetry, wire
from shared.errors import Quarantine, Transient, WazuhJetstreamError
from shared.guard import Guard, Words

from . import admit, control, events
from .books import Books
from .decided import Decision
from .deliver import Cursor
from .fleet import Heard
from .gauges import OF_NODES
from .keeper import Keeper
from .mind import Mind, Step
from .traces import Traces

LOGGER: Final = logging.getLogger("relay.loop")

TICK_TIMEOUT: Final = 5.0  # seconds
RAW: Final = Words("stream", "raw_unread", "RAW cannot be read, it is tried again", "raw_back", "RAW can be read again")
BEHIND_S: Final = 30.0  # above it the relay is not ready: what it says is old


class Ticker:
    """Publishes ticks, signed with the relay's own key."""

    def __init__(self, connection: jetstream.Connection, prefix: str, name: str, signer: sealing.MessageSigner, watch: clock.Clock) -> None:
        self._connection = connection
        self._subject = subjects.tick(prefix)
        self._name = name
        self._signer = signer
        self._clock = watch

    async def tick(self) -> None:
        """Say that nothing came. Raises as `Connection.publish`."""
        now = self._clock.now_ms()
        body = wire.encode_tick(wire.Tick(self._name, now))
        headers = {
            "Nats-Msg-Id": f"tick:{self._name}:{now}",
            sealing.SIGNATURE_HEADER: self._signer.sign_header(self._subject, body, {}),
        }
        await self._connection.publish(self._subject, body, headers, TICK_TIMEOUT)


class Loop:
    """Decides until `stop` is set. `guard` is RAW's; `decided(position, now, seen_at)` is told of each input that made
    messages: when it came, and when what it says was seen, both in Unix ms by the stream's clock."""

    def __init__(
        self,
        cursor: Cursor,
        books: Books,
        keeper: Keeper,
        mind: Mind,
        ticker: Ticker,
        guard: Guard,
        tick_interval: float,
        decided: Callable[[int, int, int], None],
        metrics: telemetry.Telemetry,
        readiness: health.Readiness,
        watch: clock.Clock,
        traces: Traces,
    ) -> None:
        self._cursor = cursor
        self._books = books
        self._keeper = keeper
        self._mind = mind
        self._ticker = ticker
        self._guard = guard
        self._tick_interval = tick_interval
        self._decided = decided
        self._metrics = metrics
        self._readiness = readiness
        self._clock = watch
        self._traces = traces
        self._settled = mind.fleet.settled

    async def run(self, stop: asyncio.Event) -> None:
        """Decide until `stop` is set; what was recorded by then is acked. Raises Stop where the stream contradicts the ledger."""
        while not stop.is_set():
            try:
                delivered = await _unless(stop, self._read())
            except Transient as error:
                self._guard.failed(error)
            else:
                await self._take_all(delivered, stop)

    async def _read(self) -> list[jsapi.Delivered]:
        await self._guard.wait()
        delivered = await self._cursor.next(self._tick_interval)
        if not delivered:
            await self._ticker.tick()
        self._guard.succeeded()
        return delivered

    async def _take_all(self, delivered: list[jsapi.Delivered], stop: asyncio.Event) -> None:
        done: jsapi.Delivered | None = None
        for message in delivered:
            if stop.is_set():
                break
            await self._take(message)
            done = message
        if done is not None:
            self._tell_lag(done)
            await self._cursor.ack(done)
            crashpoints.here("relay.after_ack")

    async def _take(self, message: jsapi.Delivered) -> None:
        raw = admit.Raw(message.subject, message.headers, message.data, message.stream_seq, message.time_ms)
        if self._mind.replays and await self._books.insist(self._mind.cross, raw.position):
            logs.log(LOGGER, "info", "caught_up", "the ledger knows all that was published", position=raw.position)
        await self._take_in(raw)

    async def _take_in(self, raw: admit.Raw) -> None:
        began = self._clock.monotonic()
        try:
            step = await self._decide(raw)
            if step is not None:
                step = self._traces.carried(raw, step)
                await self._books.insist(self._mind.record, step)
                self._tell(step, self._traces.decided(raw, step, began, self._mind.fleet.nodes))
        except WazuhJetstreamError:
            raise
        except Exception:
            LOGGER.exception("raw message %d cannot be decided", raw.position, extra={"event": "message_quarantined"})
            sentence = f"raw message on {raw.subject!r} refused: the relay cannot decide it; report the traceback in its log"
            await self._keeper.refuse(raw, Quarantine("undecidable", sentence))
            await self._books.insist(self._mind.forget)

    async def _decide(self, raw: admit.Raw) -> Step | None:
        try:
            admitted = await self._books.call(self._mind.admit, raw)
        except Quarantine as refusal:
            await self._keeper.refuse(raw, refusal)
            return None
        if admitted.abandoned is not None:
            at = admit.Raw(raw.subject, {}, b"", admitted.abandoned.position, raw.now)
            await self._keeper.refuse(at, admitted.abandoned.refusal)
        if admitted.future:
            self._metrics.count("wazuh_jetstream_relay_future_snapshots_total")
        if admitted.request is not None:
            await self._answer(raw, admitted.request)
        return await self._books.call(self._mind.decide, admitted)

    async def _answer(self, raw: admit.Raw, request: control.Request) -> None:
        logs.log(LOGGER, "info", "request_done", f"an operator asked to {control.words(request)}", position=raw.position)
        if isinstance(request, control.Forget):
            for name in OF_NODES:
                self._metrics.forget(name, node=request.node)
            return
        await self._keeper.take_out(request)
        if isinstance(request, control.Drop):
            await self._keeper.done(raw.position)
        else:
            await self._take_in(admit.again(request, raw))

    # Telling --------------------------------------------------------------------------------------------------------

    def _tell(self, step: Step, trace_id: str) -> None:
        decision = step.decision
        outcome = step.outcome or decision.refused or "decided"
        self._metrics.count("wazuh_jetstream_relay_messages_total", outcome=outcome)
        self._metrics.count("wazuh_jetstream_relay_superseded_total", decision.superseded)
        if decision.settled and not self._settled:
            logs.log(LOGGER, "info", "baseline_done", "every node was heard: differences are events now", position=decision.position)
        self._settled = decision.settled
        if not step.muted:
            self._tell_events(decision, trace_id)
            if decision.messages:
                given = step.given
                waited = max(0, given.sent_at - given.snapshot.taken_at) if isinstance(given, Heard) else 0
                self._decided(decision.position, decision.now, decision.now - waited)

    def _tell_events(self, decision: Decision, trace_id: str) -> None:
        for event in decision.happened:
            self._metrics.count("wazuh_jetstream_relay_events_total", kind=event.kind, reason=event.reason)
        for told in decision.of_managers:
            self._metrics.count("wazuh_jetstream_relay_manager_events_total", kind=told.kind)
        if decision.happened or decision.of_managers:
            _log_events(decision, trace_id)

    def _tell_lag(self, done: jsapi.Delivered) -> None:
        behind = max(0, self._clock.now_ms() - done.time_ms) / 1000
        self._readiness.set("lag", behind <= BEHIND_S, f"the last message decided is {behind:.1f} s old")
        self._metrics.gauge("wazuh_jetstream_relay_raw_age_seconds", behind)
        self._metrics.gauge("wazuh_jetstream_relay_raw_position", done.stream_seq)
        self._metrics.gauge("wazuh_jetstream_relay_raw_lag", done.num_pending)


def _log_events(decision: Decision, trace_id: str) -> None:
    """One line for an input's events, and one for each of them where the log is to be that long."""
    told: list[events.Event | events.ManagerEvent] = [*decision.happened, *decision.of_managers]
    kinds = " ".join(f"{kind}={count}" for kind, count in Counter(event.kind for event in told).items())
    common = {"position": decision.position, "trace_id": trace_id}
    logs.log(LOGGER, "info", "events_decided", f"{len(told)} events: {kinds}", count=len(told), event_id=told[0].event_id, **common)
    if LOGGER.isEnabledFor(logging.DEBUG):
        for event in told:
            logs.log(LOGGER, "debug", "event_decided", event.kind, event_id=event.event_id, node=_node(event), **common)


def _node(event: events.Event | events.ManagerEvent) -> str:
    return event.node if isinstance(event, events.ManagerEvent) else event.manager_node


async def _unless(stop: asyncio.Event, reading: Coroutine[Any, Any, list[jsapi.Delivered]]) -> list[jsapi.Delivered]:
    """What is read, or nothing once `stop` is set."""
    task, stopped = asyncio.create_task(reading), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else []
    finally:
        for one in (task, stopped):
            one.cancel()
        await asyncio.wait({task, stopped})
