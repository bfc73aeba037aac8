"""Puts the relay together, runs it, and ends it in order.

    RAW -> Cursor -> Mind (gate, fleet, decide, ledger) -> outbox -> Publisher -> EVENTS
                       |-> Heartbeats -> HEARTBEATS

At SIGTERM or SIGINT: no more is read, the message at hand is finished, the outbox is drained for at most DRAIN_S, all is
closed. What was not published by then is published at the next start.
"""

import asyncio
import logging
import os
import random
import secrets
import signal
import socket
import sys
from typing import Final

from shared import clock, config, health, jetstream, keywatch, logs, pages, subjects, telemetry, tracing
from shared.backoff import Backoff
from shared.guard import Guard, Signs, Words

from . import catchup, ledger
from .admit import Gate
from .assemble import Assembler
from .books import LEDGER, Books
from .checkpoints import Checkpoints
from .deliver import Cursor
from .fleet import Policy
from .gauges import Gauges
from .heartbeat import Heartbeats
from .keeper import Keeper
from .lead import Lead, cancelled, unless
from .lease import Superseded, Terms
from .loop import RAW, Loop, Ticker
from .mind import Mind
from .publish import EVENTS, Publisher
from .traces import Traces
from .trust import Trust
from .trust import trust as trust
from .upkeep import Upkeep

LOGGER: Final = logging.getLogger("relay.run")

DRAIN_S: Final = 10.0
STOP_S: Final = 5.0  # for the message at hand


def policy(settings: config.RelayConfig) -> Policy:
    """What the operator set, in milliseconds."""
    return Policy(
        reset_grace=round(settings.reset_grace * 1000),
        sync_jitter=round(settings.sync_jitter * 1000),
        baseline_timeout=round(settings.baseline_timeout * 1000),
        node_stale=round(settings.node_stale * 1000),
    )


def holder(name: str) -> str:
    """A name for the lease that no other process has: two relays of one name on one machine, and in containers, are two."""
    return f"{name}@{socket.gethostname()}:{os.getpid()}/{secrets.token_hex(3)}"


def run(settings: config.Config) -> int:
    """Run until told to stop; 0. Raises Stop where it cannot go on."""
    logs.configure("relay", settings.monitoring.log_level, settings.monitoring.log_format, sys.stderr)
    return asyncio.run(Relay(settings, trust(settings)).run())


class Relay:
    """One relay process."""

    def __init__(self, settings: config.Config, keys: Trust) -> None:
        self._settings = settings
        self._keys = keys
        self._prefix = settings.nats.subject_prefix
        self._clock = clock.SystemClock()
        self._metrics = telemetry.Telemetry("relay")
        self._readiness = health.Readiness("nats", "stream", "events", "ledger", "lease", "lag", keywatch.NAME)
        self._signs = Signs(self._readiness, self._metrics, LOGGER)
        self._holder = holder(settings.relay.name)
        self._traces = Traces(tracing.OFF, self._prefix, self._clock)
        self._raw = self._guard(RAW)
        self._ledger = self._guard(LEDGER)
        self._books = Books(self._ledger)
        self._connection = jetstream.Connection(settings.nats, settings.relay.name, self._on_state, role="relay")
        self._reader = jetstream.Puller(self._connection, subjects.raw_stream(self._prefix), settings.relay.consumer)
        self._stop = asyncio.Event()
        self._publisher: Publisher | None = None
        paths = (settings.security.signing_key_path, settings.security.keyring_path, settings.security.encryption_key_path)
        self._watch = keywatch.KeyWatch(paths, self._renew, Signs(self._readiness, self._metrics, LOGGER))

    def _guard(self, words: Words) -> Guard:
        return Guard(words, self._signs, self._clock, Backoff(jitter=random.random))

    def _renew(self) -> str:
        self._keys.renew(trust(self._settings))
        return self._keys.described()

    async def run(self) -> int:
        """Run until `stop` is called or a signal comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._watch.ask)
        watching = asyncio.create_task(self._watch.run(), name="watching keys")
        watching.add_done_callback(lambda _: self._stop.set())
        monitoring = self._settings.monitoring
        served = await pages.served(monitoring, self._signs, health.Pulse(self._clock), LOGGER)
        exported = tracing.begin("relay", self._holder, monitoring, self._metrics, self._clock, os.environ)
        self._traces = Traces(exported, self._prefix, self._clock)
        try:
            await self._connection.start()
            await self._with_ledger()
        finally:
            await cancelled(watching)
            await self._connection.close()
            await served.close()
            self._books.close()
            logs.log(LOGGER, "info", "stopped", "the relay ended")
            exported.close()
        if not watching.cancelled():
            watching.result()  # it ends unasked only by an error that nobody foresaw
        return 0

    def stop(self) -> None:
        """Ask it to end."""
        logs.log(LOGGER, "info", "stopping", "the relay was asked to end")
        self._stop.set()

    async def _with_ledger(self) -> None:
        terms = Terms(self._holder, self._settings.relay.lease_duration)
        book = await unless(self._stop, self._books.insist(ledger.Ledger.open, self._settings.relay.ledger_url, terms=terms))
        if book is None:
            return
        try:
            signs = (self._readiness, self._metrics)
            lead = Lead(book.lease, terms, self._ledger, lambda: self._connection.is_connected, *signs, self._stop)
            await lead.run(lambda: self._term(book))
        finally:
            await self._books.call(book.close)

    async def _term(self, book: ledger.Ledger) -> None:
        """Decide and publish, as the one that leads, until told to stop."""
        try:
            parts = await unless(self._stop, self._begun(book))
            if parts is not None:
                await self._together(*parts)
        finally:
            self._publisher = None
            await self._reader.drop()

    async def _begun(self, book: ledger.Ledger) -> tuple[Loop, Publisher, tuple[Heartbeats, Upkeep, Checkpoints]]:
        self._raw = self._guard(RAW)
        replay = await self._begin(book)
        if replay is not None:
            logs.log(LOGGER, "info", "catching_up", f"the ledger is made anew; RAW is decided again up to {replay.through}, muted")
        gate = Gate(self._prefix, self._keys.nodes, self._keys.signer, Assembler())
        mind = await self._books.insist(Mind, book, policy(self._settings.relay), gate, self._prefix, replay, self._metrics, self._clock)
        publisher = self._publisher = self._publishing(book)
        deciding = await self._deciding(book, mind, publisher)
        beating = Heartbeats(
            self._connection, self._books, mind, self._keys.signer, self._prefix,
            self._settings.relay.heartbeat_interval, self._metrics, self._clock,
        )  # fmt: skip
        logs.log(LOGGER, "info", "started", "the relay runs", prefix=self._prefix, nodes=len(self._keys.nodes), key=self._keys.signer.kid)
        retention = round(self._settings.relay.history_retention * 1000)
        gauges = Gauges(self._metrics, self._readiness)
        upkeep = Upkeep(self._books, book, mind, publisher, gauges, retention, self._metrics, self._clock)
        return deciding, publisher, (beating, upkeep, self._signing_heads(book))

    async def _begin(self, book: ledger.Ledger) -> catchup.Replay | None:
        return await self._raw.insist(lambda: catchup.begin(self._connection, self._books, book, self._prefix, self._keys.crypt))

    def _keeper(self, book: ledger.Ledger) -> Keeper:
        return Keeper(self._books, book, self._metrics, self._settings.relay.quarantine_max_bytes)

    def _publishing(self, book: ledger.Ledger) -> Publisher:
        return Publisher(
            self._connection, self._books, book, self._keeper(book), self._keys.signer,
            (subjects.events_stream(self._prefix), subjects.manager_events(self._prefix)),
            self._guard(EVENTS), self._settings.relay.batch_messages, self._metrics, self._clock, self._traces, self._keys.crypt,
        )  # fmt: skip

    async def _deciding(self, book: ledger.Ledger, mind: Mind, publisher: Publisher) -> Loop:
        settings, raw = self._settings.relay, subjects.raw_stream(self._prefix)
        position = await self._books.insist(book.position)
        cursor = Cursor(self._connection, self._reader, (raw, settings.consumer), position, self._metrics)
        ticker = Ticker(self._connection, self._prefix, settings.name, self._keys.signer, self._clock)
        return Loop(
            cursor, self._books, self._keeper(book), mind, ticker, self._raw, settings.tick_interval, publisher.decided,
            self._metrics, self._readiness, self._clock, self._traces,
        )  # fmt: skip

    async def _together(self, deciding: Loop, publisher: Publisher, beside: tuple[Heartbeats, Upkeep, Checkpoints]) -> None:
        """Run all until told to stop or one of them fails; then drain, and raise what failed."""
        halt = asyncio.Event()
        loop = asyncio.create_task(deciding.run(halt), name="deciding")
        publishing = asyncio.create_task(publisher.run(), name="publishing")
        others = {asyncio.create_task(one.run(), name=type(one).__name__.lower()) for one in beside}
        tasks = {loop, publishing, *others, asyncio.create_task(self._stop.wait(), name="waiting")}
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not any(isinstance(task.exception(), Superseded) for task in ended):
                halt.set()
                await asyncio.wait({loop}, timeout=STOP_S)
                publisher.finish()
                await asyncio.wait({publishing}, timeout=DRAIN_S)
        finally:
            await cancelled(*tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    def _signing_heads(self, book: ledger.Ledger) -> Checkpoints:
        return Checkpoints(
            self._connection, self._books, book, self._keys.signer, self._prefix,
            self._settings.relay.checkpoint_interval, self._metrics, self._clock,
        )  # fmt: skip

    def _on_state(self, state: jetstream.State, detail: str) -> None:
        if state in ("nats_connected", "nats_lost"):
            connected = state == "nats_connected"
            self._readiness.set("nats", connected, detail)
            self._metrics.gauge("wazuh_jetstream_nats_connected", connected)
        if state == "nats_rebuilt":
            self._metrics.count("wazuh_jetstream_nats_rebuilds_total")
        if state == "nats_connected":
            self._raw.hurry()
            if self._publisher is not None:
                self._publisher.doubt()
        logs.log(LOGGER, "info" if state == "nats_connected" else "warning", state, detail)
