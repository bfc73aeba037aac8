"""What a relay that leads does beside its work: gauges every few seconds, and what is too old leaves the ledger every hour."""

import asyncio
from typing import Final

from shared import clock, telemetry

from . import ledger
from .books import Books
from .gauges import OF_THE_LEADER, Gauges
from .mind import Mind
from .publish import Publisher

GAUGES_S: Final = 5.0
COUNT_EVERY: Final = 12  # rounds of GAUGES_S: a minute; the quarantine is counted by reading it
PRUNE_EVERY: Final = 720  # rounds: an hour


class Upkeep:
    """Of one term. `retention` in ms."""

    def __init__(
        self, books: Books, book: ledger.Ledger, mind: Mind, publisher: Publisher, gauges: Gauges, retention: int,
        metrics: telemetry.Telemetry, watch: clock.Clock,
    ) -> None:  # fmt: skip
        self._books, self._ledger, self._mind, self._publisher, self._gauges = books, book, mind, publisher, gauges
        self._retention, self._metrics, self._clock = retention, metrics, watch

    async def run(self) -> None:
        """Until it is cancelled."""
        rounds = 0
        try:
            while True:
                await self._show(count=rounds % COUNT_EVERY == 0)
                if rounds % PRUNE_EVERY == 0:
                    pruned = await self._books.insist(self._ledger.prune, self._clock.now_ms(), self._retention, self._retention)
                    rounds -= bool(pruned.history or pruned.quarantine)
                rounds += 1
                await asyncio.sleep(GAUGES_S)
        finally:
            self._metrics.clear(*OF_THE_LEADER)

    async def _show(self, *, count: bool) -> None:
        now = self._clock.now_ms()
        await self._books.call(self._show_fleet, now)
        waiting = await self._books.insist(self._ledger.outbox_depth)
        since = self._publisher.waiting_since
        self._metrics.gauge("wazuh_jetstream_relay_outbox_depth", waiting)
        self._metrics.gauge("wazuh_jetstream_relay_outbox_oldest_age_seconds", max(0, now - since) / 1000 if waiting else 0)
        if count:
            held, size = await self._books.insist(self._ledger.shelf.held)
            self._metrics.gauge("wazuh_jetstream_relay_quarantine_depth", held)
            self._metrics.gauge("wazuh_jetstream_relay_quarantine_bytes", size)

    def _show_fleet(self, now: int) -> None:
        self._gauges.show(self._mind.fleet, now)
