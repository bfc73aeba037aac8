"""Puts aside what cannot be accepted or published: counted, told in one sentence, kept with its reason, and within bounds."""

import logging
from typing import Final

from shared import logs, telemetry, trace
from shared.errors import Quarantine

from . import admit, control, events, ledger
from .books import Books
from .stored import Outgoing

LOGGER: Final = logging.getLogger("relay.keeper")


class Keeper:
    """One ledger's quarantine. `most`: the bytes that it may hold."""

    def __init__(self, books: Books, book: ledger.Ledger, metrics: telemetry.Telemetry, most: int) -> None:
        self._books, self._ledger, self._metrics, self._most = books, book, metrics, most

    async def refuse(self, raw: admit.Raw, refusal: Quarantine) -> None:
        """Be done with a raw message that cannot be accepted."""
        self._metrics.count("wazuh_jetstream_relay_messages_total", outcome="quarantined")
        self._metrics.count("wazuh_jetstream_relay_quarantined_total", reason=refusal.reason)
        found = trace.parse(raw.headers.get(trace.HEADER))
        logs.log(
            LOGGER, "warning", "message_quarantined", str(refusal), position=raw.position, subject=raw.subject, reason=refusal.reason,
            trace_id=found.trace_id if found else None,
        )  # fmt: skip
        await self._books.insist(
            self._ledger.quarantine, raw.position, raw.now, raw.subject, refusal.reason, str(refusal), raw.headers, raw.body
        )
        await self._bound()

    async def leave_out(self, out: Outgoing, refusal: Quarantine, now: int) -> None:
        """Keep an event that no stream takes. `now` in Unix ms."""
        self._metrics.count("wazuh_jetstream_relay_quarantined_total", reason=refusal.reason)
        message = out.message
        headers = {**message.headers, events.H_MESSAGE_ID: message.message_id, events.H_OUTBOX: str(out.sequence)}
        await self._books.insist(
            self._ledger.shelf.keep_event, out.position, now, message.subject, refusal.reason, str(refusal), headers, message.body
        )
        await self._bound()

    async def take_out(self, request: control.Retry | control.Drop) -> None:
        """Let go of a message, as an operator asked."""
        await self._books.insist(self._ledger.shelf.drop, request.position, request.subject)

    async def done(self, position: int) -> None:
        """A raw message needs no decision."""
        await self._books.insist(self._ledger.skip, position)

    async def _bound(self) -> None:
        went = await self._books.insist(self._ledger.shelf.bound, self._most)
        if went:
            self._metrics.count("wazuh_jetstream_relay_quarantine_overflow_total", went)
            text = f"the quarantine is above relay.quarantine_max_bytes ({self._most}); its {went} oldest messages gave way"
            logs.log(LOGGER, "warning", "quarantine_full", text, went=went)
