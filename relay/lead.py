"""Leads and stands by in turns: of all relays on one ledger one decides, and the others wait for its lease (`relay.lease`).

    standing by --the lease is free--> leading --another relay has taken it--> standing by
                                          |--asked to end--> the lease is given back

A relay that stands by is connected and ready, and asks for the lease every POLL_S seconds. One that cannot reach NATS does not
ask, and one that leads and has not reached it for the lease's duration gives the lease to whoever can.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from shared import health, logs, telemetry
from shared.errors import Transient
from shared.guard import Guard

from .books import Books
from .lease import RENEW, Lease, Superseded, Terms

LOGGER: Final = logging.getLogger("relay.lead")

POLL_S: Final = 0.5
UNUSED: Final = ("stream", "events", "lag")
"""What /readyz does not ask of a relay that stands by."""

T = TypeVar("T")


class Lead:
    """One relay's turns. `guard` is the ledger's, `able` says whether NATS is reached."""

    def __init__(
        self,
        lease: Lease,
        terms: Terms,
        guard: Guard,
        able: Callable[[], bool],
        readiness: health.Readiness,
        metrics: telemetry.Telemetry,
        stop: asyncio.Event,
    ) -> None:
        self._lease = lease
        self._terms = terms
        self._guard = guard
        self._able = able
        self._books = Books(guard)  # a thread of its own: see `relay.lease`
        self._readiness = readiness
        self._metrics = metrics
        self._stop = stop

    async def run(self, term: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have a `term` led whenever the lease is ours, until one ends by itself or `stop` is set.

        Raises what a term raises; Superseded ends the term alone.
        """
        try:
            while await unless(self._stop, self._taken()):
                try:
                    await self._lead(term)
                except Superseded as error:
                    logs.log(LOGGER, "warning", "lease_lost", str(error))
                    await unless(self._stop, self._books.insist(self._lease.release))  # if nobody else has it
                else:
                    return
        finally:
            await self._give_back()

    async def _taken(self) -> bool:
        """True, once the lease is ours."""
        self._metrics.gauge("wazuh_jetstream_relay_leading", 0)
        self._metrics.gauge("wazuh_jetstream_relay_lease_epoch", 0)
        known: str | None = None
        while not (self._may() and await self._books.insist(self._lease.take)):
            holder = await self._books.insist(self._lease.holder)
            if holder != known:
                self._stand_by(holder)
            known = holder
            await asyncio.sleep(min(POLL_S, self._terms.duration / 10))
        return True

    def _stand_by(self, holder: str) -> None:
        sentence = f"standing by: {holder or 'nobody'} leads"
        for name in ("lease", *UNUSED):
            self._readiness.set(name, True, sentence)
        self._readiness.advise("tables", True, sentence)
        logs.log(LOGGER, "info", "standing_by", sentence, holder=holder)

    async def _lead(self, term: Callable[[], Coroutine[Any, Any, None]]) -> None:
        for name in UNUSED:
            self._readiness.set(name, False, "not checked yet")
        self._readiness.set("lease", True, f"leading in epoch {self._lease.epoch}")
        self._metrics.gauge("wazuh_jetstream_relay_leading", 1)
        self._metrics.gauge("wazuh_jetstream_relay_lease_epoch", self._lease.epoch)
        logs.log(LOGGER, "info", "lease_taken", "this relay leads", epoch=self._lease.epoch, holder=self._terms.holder)
        await together(term(), self._keep())

    async def _keep(self) -> None:
        period, cut_off = self._terms.duration * RENEW, 0.0
        while cut_off <= self._terms.duration:
            await asyncio.sleep(period)
            await self._books.insist(self._lease.renew)
            cut_off = 0.0 if self._may() else cut_off + period
        raise Superseded(f"NATS was out of reach for {cut_off:g} s: whoever reaches it may lead; this relay stands by")

    def _may(self) -> bool:
        """A relay that has nobody beside it leads whatever happens."""
        return self._lease.alone or self._able()

    async def _give_back(self) -> None:
        try:
            await self._books.call(self._lease.release)
        except Transient as error:  # it runs out
            self._guard.failed(error)
        self._books.close()


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends; the others are cancelled then. Raises what one of them raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancelled(*tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What comes of `work`; None, and it is cancelled, where `stop` is set before its end."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        await cancelled(task, stopped)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Once these tasks have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)  # what counts was or will be raised by whoever waits for it
