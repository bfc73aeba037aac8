"""Delivers RAW in order, each message once: the durable consumer is only a cursor, the ledger's position is the truth.

Rules
 * At the start, after an error and after any delivery out of order the consumer is RESET to the position known + 1.
 * What was delivered before is acked and dropped.
 * A hole is asked for again, once. If the stream itself no longer has those messages (its limits), reading goes on behind
   them, counted and logged. If it has them, somebody else reads from this consumer.
 * A consumer that was deleted is not made again here, for want of the right to: that is told, and once it is there reading
   goes on behind the position.
 * Acks come after the ledger's transaction. Never a nak: it makes the server deliver out of order.
"""

import logging
from typing import Final, Protocol

from shared import catalogue, jetstream, jsapi, logs, telemetry
from shared.errors import Stop, Unreachable

LOGGER: Final = logging.getLogger("relay.deliver")

BATCH: Final = 500  # messages in one pull


class Reader(Protocol):
    """What `shared.jetstream.Puller` does."""

    async def next(self, batch: int, expires_s: float) -> list[jsapi.Delivered]:
        """Messages as they come."""

    async def ack_all(self, message: jsapi.Delivered) -> None:
        """Ack this message and all before it."""


class Cursor:
    """Reads RAW from the message after `position`. One caller at a time."""

    def __init__(
        self, connection: jetstream.Connection, reader: Reader, names: tuple[str, str], position: int, metrics: telemetry.Telemetry
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._stream, self._consumer = names
        self._metrics = metrics
        self._last = position  # the last one delivered in order
        self._hole: int | None = None  # what came instead of the next one
        self._in_order = False

    async def next(self, expires_s: float) -> list[jsapi.Delivered]:
        """The next messages in the stream's order; [] where none came.

        Raises the kinds of Transient that a Puller does, Stop where the stream ends before what was read of it.
        """
        while True:
            if not self._in_order:
                await self._reset()
            try:
                delivered = await self._reader.next(BATCH, expires_s)
            except BaseException:
                self._in_order = False
                raise
            taken = await self._ordered(delivered)
            if taken or not delivered:
                return taken

    async def ack(self, message: jsapi.Delivered) -> None:
        """Tell the consumer that the ledger has all up to this message. A lost ack costs nothing: see the first rule."""
        try:
            await self._reader.ack_all(message)
        except Unreachable:
            self._in_order = False

    async def _reset(self) -> None:
        state = (await self._connection.stream_info(self._stream))["state"]
        check_end(self._stream, int(state["last_seq"]), self._last)
        try:
            await self._connection.reset_consumer(self._stream, self._consumer, self._last + 1)
        except jsapi.NotStored as error:
            raise jsapi.NotStored(
                f"consumer {self._consumer} of {self._stream} is not there ({error}); the relay may not make it: run wazuh-relay provision,"
                " and reading goes on where it was"
            ) from error
        self._metrics.count("wazuh_jetstream_relay_consumer_resets_total")
        self._in_order = True

    async def _ordered(self, delivered: list[jsapi.Delivered]) -> list[jsapi.Delivered]:
        taken: list[jsapi.Delivered] = []
        for message in delivered:
            if message.stream_seq <= self._last:
                continue
            if message.stream_seq > self._last + 1 and not await self._lost(message.stream_seq):
                break
            self._hole = None
            self._last = message.stream_seq
            taken.append(message)
        if delivered and not taken and self._in_order:
            await self.ack(delivered[-1])
        return taken

    async def _lost(self, came: int) -> bool:
        """Whether nothing between the last message and the one that came is in the stream any more."""
        first, self._in_order = self._last + 1, False
        if self._hole != came:
            self._hole = came
            self._log("warning", "consumer_reset", f"message {came} came instead of {first}; the consumer is set back")
            return False
        stored = jsapi.stored(await self._connection.api(f"STREAM.MSG.GET.{self._stream}", {"seq": first, "next_by_subj": ">"}), "")
        if stored.seq != came:
            raise Unreachable(
                f"message {stored.seq} of {self._stream} went to somebody else; does another relay read from consumer {self._consumer}?"
            )
        self._in_order = True
        self._metrics.count("wazuh_jetstream_relay_raw_lost_total", came - first)
        self._log("error", "raw_lost", f"the stream has lost messages {first} to {came - 1} before they were read; raise its limits")
        return True

    def _log(self, level: logs.Level, event: catalogue.LogEvent, sentence: str) -> None:
        logs.log(LOGGER, level, event, sentence, stream=self._stream, consumer=self._consumer)


def check_end(stream: str, last: int, position: int) -> None:
    """Raise Stop where a stream ends before what was read of it: then every new message would be taken for an old one."""
    if last < position:
        raise Stop(
            f"stream {stream} ends at {last} and was read up to {position} before: it was made anew or lost its end;"
            " move the ledger away and it is made anew from RAW and EVENTS"
        )
