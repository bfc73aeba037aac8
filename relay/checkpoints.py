"""Signs how far the chain has come, for a stream that outlives the events: `wazuh.security.checkpoints`.

Rules
 * What is told is the head that EVENTS is known to hold, never what waits in the outbox.
 * One every interval while the head moves, and one as a relay begins to lead. A lost one is replaced by the next.
"""

import asyncio
import logging
from typing import Any, Final

from shared import clock, jetstream, logs, sealing, subjects, telemetry
from shared.errors import Quarantine, Transient

from . import events, ledger, seal
from .books import Books
from .chain import Head

LOGGER: Final = logging.getLogger("relay.checkpoints")

TIMEOUT: Final = 5.0  # seconds
RETRY_S: Final = 60.0


def fields(head: Head) -> dict[str, Any]:
    """A head as a body tells it."""
    return {"chain": head.chain, "sequence": head.sequence, "digest": head.digest}


def message(prefix: str, cluster: str, head: Head, now_ms: int) -> events.Message:
    """The checkpoint as a message to be sealed; `now_ms` is Unix ms."""
    identity, time = f"checkpoint:{head.chain}:{head.sequence}", events.utc(now_ms // 1000)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": identity,
        "ce-source": f"/wazuh-jetstream/{events.percent(cluster)}",
        "ce-type": "wazuh-jetstream.chain.checkpoint.v1",
        "ce-time": time,
        "ce-datacontenttype": "application/json",
        events.H_KIND: events.CHECKPOINT,
        events.H_CLUSTER: events.percent(cluster),
        events.H_SCHEMA: events.SCHEMA_VERSION,
    }
    return events.Message(subjects.checkpoints(prefix), identity, events.canonical({**fields(head), "timestamp": time}), headers)


class Checkpoints:
    """Publishes checkpoints, one every interval (s)."""

    def __init__(
        self,
        connection: jetstream.Connection,
        books: Books,
        book: ledger.Ledger,
        signer: sealing.MessageSigner,
        prefix: str,
        interval: float,
        metrics: telemetry.Telemetry,
        watch: clock.Clock,
    ) -> None:
        self._connection = connection
        self._books = books
        self._ledger = book
        self._signer = signer
        self._prefix = prefix
        self._interval = interval
        self._metrics = metrics
        self._clock = watch
        self._told: Head | None = None
        self._failing = False

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            done = await self.tell()
            await asyncio.sleep(self._interval if done else min(self._interval, RETRY_S))

    async def tell(self) -> bool:
        """One checkpoint, if the head has moved; whether all is told. A failure is counted, and written once."""
        head = await self._books.insist(self._ledger.head)
        if head is None or head == self._told:
            return head is not None
        cluster = await self._books.insist(self._cluster)
        sealed = seal.seal_apart(message(self._prefix, cluster, head, self._clock.now_ms()), self._signer)
        try:
            await self._connection.publish(*sealed, TIMEOUT)
        except (Transient, Quarantine) as error:
            self._failed(error)
            return False
        self._told, self._failing = head, False
        self._metrics.count("wazuh_jetstream_relay_checkpoints_total", outcome="acked")
        return True

    def _cluster(self) -> str:
        return next((node.cluster for node in self._ledger.nodes()), "")

    def _failed(self, error: Exception) -> None:
        self._metrics.count("wazuh_jetstream_relay_checkpoints_total", outcome="failed")
        if not self._failing:
            self._failing = True
            text = f"the head of the chain cannot be kept: {error}; see whether wazuh-relay provision has made the stream of checkpoints"
            logs.log(LOGGER, "warning", "checkpoint_failed", text)
