"""`wazuh-collector run`: the reader thread, the publisher and the pages of health, put together and taken apart.

    reader thread:  source -> lookout -> watch -> outbox (spool, memory)
    event loop:                                   outbox -> publisher -> NATS        health pages

Rules
 * One thread reads from Wazuh, blocking: at this rate it costs half of what asyncio's streams do.
 * The end (SIGTERM, SIGINT) takes at most END_S: the reader stops, what waits is published as far as that goes, and what
   is not stays in the spool.
 * A spool that its disk refuses is tried again: pages of health say so meanwhile.
 * If the reader or the publisher ends unasked, the process ends with the reason: half a collector looks like a quiet one.
"""

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared import health, jetstream, keyring, keywatch, logs, memory, pages, sealing, subjects, tracing
from shared.backoff import Backoff
from shared.clock import Clock, SystemClock
from shared.errors import ConfigError, Stop
from shared.guard import Guard, Signs, Words
from shared.telemetry import Telemetry

from . import clientkeys, ossecconf, sources
from .cadence import Plan
from .compose import Composer, Identity
from .lookout import SOURCE, Finding, Lookout
from .outbox import Outbox
from .publish import RAW, Publisher
from .spool import Spool
from .traces import Traces
from .watch import Watch

if TYPE_CHECKING:  # see collector.lean
    from shared import config as configs

_logger = logging.getLogger("collector")

END_S: Final = 4.5
STUCK_S: Final = 15.0  # for which, beyond its waits, the reader may be busy with one look before it is called stuck
READER_END_S: Final = 1.0  # the reader may be waiting for an answer; then it is left behind
DRAIN_S: Final = 2.5
SPOOL: Final = Words("spool", "spool_failed", "the spool cannot be opened, it is tried again", "spool_back", "the spool is open")

NATS_LEVELS: Final[dict[jetstream.State, logs.Level]] = {
    "nats_connected": "info",
    "nats_lost": "warning",
    "nats_rebuilt": "warning",
    "nats_error": "warning",
}


def run(config: "configs.Config") -> int:
    """Run until SIGTERM or SIGINT; 0. Raises ConfigError before anything is read, Stop where a part of it died."""
    logs.configure("collector", config.monitoring.log_level, config.monitoring.log_format, sys.stderr)
    asyncio.run(_serve(config, _identity(config.wazuh), _signer(config.security), SystemClock()))
    return 0


def _identity(wazuh: "configs.WazuhConfig") -> Identity:
    node = ossecconf.read(wazuh.config_path)
    return Identity(node.cluster, wazuh.manager_node or node.node_name, node.node_name, node.node_type)


def _signer(security: "configs.SecurityConfig") -> sealing.MessageSigner:
    if security.signing_key_path is None:
        raise ConfigError("security.signing_key_path is not set; every snapshot is signed: name a file with this node's key")
    return sealing.MessageSigner(keyring.read_key(security.signing_key_path))


async def _serve(config: "configs.Config", identity: Identity, signer: sealing.MessageSigner, clock: Clock) -> None:
    """The pages of health; behind them the spool, as soon as its disk takes it; and all the rest."""
    asked, telemetry = _asked_to_stop(), Telemetry("collector")
    signs = Signs(health.Readiness("source", "nats", "raw", "spool", keywatch.NAME), telemetry, _logger)
    pulse = health.Pulse(clock)
    served = await pages.served(config.monitoring, signs, pulse, _logger)
    exported = tracing.begin("collector", identity.node, config.monitoring, telemetry, clock, os.environ)
    try:
        spool = await _opened(config.collector, identity.node, Guard(SPOOL, signs, clock, Backoff(jitter=random.random)), clock, asked)
        if spool is not None:
            service = _Service(config, identity, signer, spool, clock, signs, pulse, exported)
            await service.run(asked)
            if not service.reading:
                spool.close()  # else it is the reader's to the last moment, and the kernel gives it back
            logs.log(_logger, "info", "stopped", "stopped", waiting=spool.depth())
    finally:
        await served.close()
        exported.close()


async def _opened(collector: "configs.CollectorConfig", node: str, guard: Guard, clock: Clock, asked: asyncio.Future[None]) -> Spool | None:
    """The spool, however long its disk refuses it; None where the end is asked for first."""

    async def attempt() -> Spool:
        return Spool.open(collector.spool_path, collector.spool_max_bytes, clock.now_ms() // 1000, node)

    opening: asyncio.Future[Spool] = asyncio.create_task(guard.insist(attempt))
    await asyncio.wait((asked, opening), return_when=asyncio.FIRST_COMPLETED)
    if opening.done():
        return opening.result()
    opening.cancel()
    await asyncio.wait({opening})
    return None


@dataclass(slots=True)
class _Pages:
    """What /readyz and /metrics tell, kept up to date by both threads."""

    readiness: health.Readiness
    telemetry: Telemetry
    spool: Spool
    turns: Callable[[], None]  # the reader is told to be alive
    told: tuple[object, ...] = ()
    was_whole: bool = False

    def nats(self, state: jetstream.State, detail: str) -> None:
        """The connection's state changed."""
        logs.log(_logger, NATS_LEVELS[state], state, detail)
        if state == "nats_rebuilt":
            self.telemetry.count("wazuh_jetstream_nats_rebuilds_total")
        if state in ("nats_connected", "nats_lost"):
            self.telemetry.gauge("wazuh_jetstream_nats_connected", state == "nats_connected")
            self.readiness.set("nats", state == "nats_connected", detail)

    def finding(self, finding: Finding) -> None:
        """The reader has looked."""
        self.turns()
        if self.was_whole:
            memory.give_back()  # of a whole table, which is gone by now
        self.was_whole = finding.whole is not None
        waiting = self.spool.depth()
        told = (self.spool.gap, waiting)
        if told == self.told:
            return
        self.told = told
        self.readiness.set(
            "spool", not self.spool.gap, f"{waiting} snapshots wait" + (", and some were given up" if self.spool.gap else "")
        )


class _Service:
    """Everything that runs at once."""

    def __init__(
        self,
        config: "configs.Config",
        identity: Identity,
        signer: sealing.MessageSigner,
        spool: Spool,
        clock: Clock,
        signs: Signs,
        pulse: health.Pulse,
        exported: tracing.Tracing,
    ) -> None:
        self._config, self._identity, self._signer, self._spool, self._clock = config, identity, signer, spool, clock
        self._signs, self._telemetry, self._pulse = signs, signs.metrics, pulse
        self._pages = _Pages(signs.readiness, signs.metrics, spool, self._turns)
        self._traces = Traces(exported, subjects.raw(config.nats.subject_prefix, identity.node), clock)
        self._stop_reading = threading.Event()
        self.reading = False

    async def run(self, asked: asyncio.Future[None]) -> None:
        """Start all, wait for the end, end all."""
        connection = jetstream.Connection(self._config.nats, f"collector-{self._identity.node}", self._pages.nats)
        await connection.start()
        publisher, watch = self._parts(connection)
        reader = self._start_reader(watch)
        publishing = asyncio.create_task(publisher.run(), name="publisher")
        watching = self._watch_keys()
        self._log_start()
        gc.collect()
        gc.freeze()  # modules and tables live as long as the process: no collection needs to walk them again
        parts: tuple[asyncio.Future[None], ...] = (reader, publishing, watching)
        await asyncio.wait((asked, *parts), return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        try:
            async with asyncio.timeout(END_S):
                await self._end(reader, publisher, publishing, connection)
        except TimeoutError:
            logs.log(_logger, "warning", "stopping", "NATS did not close in time; the connection is dropped")
        for part in parts:
            _raise_reason(part)

    def _parts(self, connection: jetstream.Connection) -> tuple[Publisher, Watch]:
        config, clock, telemetry = self._config, self._clock, self._telemetry
        news, loop = asyncio.Event(), asyncio.get_running_loop()
        outbox = Outbox(self._spool, lambda: _call(loop, news.set))
        guard = self._guard(RAW, Backoff(jitter=random.random))
        publisher = Publisher(
            outbox, connection, self._signer, config.nats.subject_prefix, self._identity.node, news, clock, guard, telemetry, self._traces
        )
        telemetry.live("wazuh_jetstream_collector_spool_oldest_age_seconds", lambda: outbox.oldest_age(clock.now_ms()))
        telemetry.gauge("wazuh_jetstream_collector_source_budget_ratio", config.collector.source_budget)
        poll_interval = config.wazuh.poll_interval
        source = sources.open_source(config, clock, self._identity.node_name)
        lookout = Lookout(
            source,
            clientkeys.KeysFile(config.wazuh.client_keys_path),
            clock,
            self._guard(SOURCE, Backoff(highest=poll_interval, jitter=random.random)),
            telemetry,
            self._spool.period,
        )
        plan = Plan(clock.monotonic(), poll_interval, config.collector.full_interval)
        composer = Composer(self._identity, self._spool.boot)
        watch = Watch(source, lookout, composer, outbox, plan, clock, telemetry, poll_interval, self._pages.finding, self._traces)
        return publisher, watch

    def _turns(self) -> None:
        """The reader is back from a look; it is again after a wait, and a few answers that come late."""
        self._pulse.beat("reader", self._config.wazuh.poll_interval + 3 * self._config.collector.request_timeout + STUCK_S)

    def _guard(self, words: Words, backoff: Backoff) -> Guard:
        return Guard(words, self._signs, self._clock, backoff)

    def _start_reader(self, watch: Watch) -> asyncio.Future[None]:
        """The reader thread; the future tells its end, and why."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def tell(error: BaseException | None) -> None:
            self.reading = False
            self._pulse.ended("reader")
            if not ended.done():
                ended.set_result(None) if error is None else ended.set_exception(error)

        def body() -> None:
            try:
                watch.run(self._stop_reading)
            except BaseException as error:  # noqa: BLE001 -- handed over: the event loop ends the process with it
                _call(loop, tell, error)
            else:
                _call(loop, tell, None)

        self.reading = True
        self._turns()
        threading.Thread(target=body, name="reader", daemon=True).start()
        return ended

    def _watch_keys(self) -> asyncio.Task[None]:
        """Looks after the file of the signing key."""

        def load() -> str:
            self._signer.renew(_signer(self._config.security))
            return f"{self._signer.kid} signs"

        watch = keywatch.KeyWatch((self._config.security.signing_key_path,), load, self._signs)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, watch.ask)
        return asyncio.create_task(watch.run(), name="keys")

    def _log_start(self) -> None:
        who = self._identity
        text = f"watching node {who.node} of cluster {who.cluster}"
        logs.log(
            _logger,
            "info",
            "started",
            text,
            cluster=who.cluster,
            node=who.node,
            node_name=who.node_name,
            node_type=who.node_type,
            boot=self._spool.boot,
            waiting=self._spool.depth(),
        )

    async def _end(
        self,
        reader: asyncio.Future[None],
        publisher: Publisher,
        publishing: asyncio.Task[None],
        connection: jetstream.Connection,
    ) -> None:
        logs.log(_logger, "info", "stopping", "stopping: what waits is published as far as that goes", waiting=self._spool.depth())
        self._stop_reading.set()
        await asyncio.wait({reader}, timeout=READER_END_S)
        publisher.drain()
        await asyncio.wait({publishing}, timeout=DRAIN_S)
        publishing.cancel()
        await asyncio.wait({publishing})
        await connection.close()


def _asked_to_stop() -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[None] = loop.create_future()

    def ask() -> None:
        if not asked.done():
            asked.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # means "read the keys again", and never the end
    return asked


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    """From the reader's thread. A reader that was left behind meets a closed loop, which needs nothing from it any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


def _raise_reason(part: asyncio.Future[None]) -> None:
    error = part.exception() if part.done() and not part.cancelled() else None
    if error is not None:
        text = f"a part of the collector ended unasked ({type(error).__name__}: {error}); please report it with the log"
        logs.log(_logger, "error", "part_ended", text)
        raise Stop(text) from error
