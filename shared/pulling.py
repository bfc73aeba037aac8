"""Reading from a durable pull consumer: one pull is outstanding at a time, and what it brings late waits for the next call.

Rules (nats-server 2.15, measured)
 * `next` returns as soon as something is there and all that is coming now has come (the delivery says how many are
   pending), so that a backlog is read in whole batches and a single message at once.
 * Each puller has a subscription of its own: dropping it takes the interest from the pull that is under way, so that
   nothing is delivered to nobody after a reset.
 * A broken connection, a consumer or stream that is gone, and a pull that gets no answer are errors. After an error the
   consumer may deliver out of order: reset it to the position that is known.
"""

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Final

from nats.aio.msg import Msg

from . import jsapi
from .errors import Unreachable, WazuhJetstreamError
from .jsapi import Delivered, NotStored, Refused
from .logs import printable

if TYPE_CHECKING:
    from .jetstream import Connection, Inbox

MAX_PULL_BYTES: Final = 32 << 20  # of one pull: bounds what waits in memory
_LINGER_S: Final = 0.2  # how long a first message waits for those that come with it: only where some are pending
_GRACE_S: Final = 3.0  # after a pull's end, for the server's word that it ended
_SHORTEST_S: Final = 0.005  # a pull for less is not worth sending

_EXPIRED: Final = ("404", "408")
_GONE: Final = ("Consumer Deleted", "Stream Deleted")


class Puller:
    """Reads one consumer, with one caller at a time."""

    def __init__(self, connection: "Connection", stream: str, consumer: str) -> None:
        self.stream = stream
        self.consumer = consumer
        self._connection = connection
        self._inbox: Inbox | None = None
        self._buffer: list[Delivered] = []
        self._failure: WazuhJetstreamError | None = None
        self._wanted = 0  # messages that the outstanding pull may still bring
        self._pull_bytes = 0
        self._pull_ends = 0.0
        self._some = asyncio.Event()  # a message, the end of the pull, or a failure
        self._whole = asyncio.Event()  # nothing more is coming now
        connection.pullers.append(self)

    async def next(self, batch: int, expires_s: float) -> list[Delivered]:
        """Up to `batch` messages in the stream's order; [] where none came within `expires_s` seconds.

        Raises NotStored where the consumer or stream is gone, Unreachable where the connection broke or nobody answers.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + expires_s
        while not self._buffer and deadline - loop.time() > _SHORTEST_S:
            await self._check()
            if self._wanted and loop.time() > self._pull_ends:
                await self._hear_the_end()
            if self._wanted == 0:
                await self._pull(batch, deadline)
            await _until(self._some, deadline)
        await self._check()
        if self._buffer and len(self._buffer) < batch:
            await _until(self._whole, min(deadline, loop.time() + _LINGER_S))
            await self._check()
        return self._take(batch)

    async def ack_all(self, message: Delivered) -> None:
        """Ack this message and all before it. Raises Unreachable; a lost ack is only a cursor that lags."""
        await self._connection.send(message.reply, b"+ACK")

    async def drop(self) -> None:
        """Forget what was read ahead and the pull under way."""
        inbox, self._inbox = self._inbox, None
        self._buffer, self._failure, self._wanted = [], None, 0
        self._some.clear()
        self._whole.clear()
        if inbox is not None:
            await inbox.close()

    async def _check(self) -> None:
        failure = self._failure
        if failure is not None:
            await self.drop()
            raise failure

    async def _hear_the_end(self) -> None:
        """Wait for the server's word on a pull whose time is over: it may be in the socket still."""
        await _until(self._some, asyncio.get_running_loop().time() + _GRACE_S)
        if not self._some.is_set():
            self._fail(Unreachable(f"consumer {self.consumer} of {self.stream} does not answer"))
            await self._check()

    async def _pull(self, batch: int, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        if self._inbox is None:
            self._inbox = await self._connection.open_inbox(self._receive, deadline)
        self._some.clear()
        self._whole.clear()
        self._wanted, self._pull_bytes, self._pull_ends = batch, 0, deadline
        request = {"batch": batch, "expires": int((deadline - loop.time()) * 1e9), "max_bytes": MAX_PULL_BYTES}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.consumer}"
        await self._connection.send(subject, json.dumps(request).encode(), self._inbox.subject)

    def _take(self, batch: int) -> list[Delivered]:
        taken, self._buffer = self._buffer[:batch], self._buffer[batch:]
        if not self._buffer and self._wanted:
            self._some.clear()
            self._whole.clear()
        return taken

    def _receive(self, message: Msg | None) -> None:
        if message is None:
            self._fail(Unreachable("the connection to NATS broke; what was delivered is delivered again after a reset"))
            return
        delivered = jsapi.delivered(message.subject, message.reply, message.headers, message.data)
        if delivered is not None:  # whatever its headers pretend
            self._add(delivered)
        elif message.headers and jsapi.STATUS_HEADER in message.headers:
            self._end(message.headers[jsapi.STATUS_HEADER], printable(message.headers.get("Description", "").strip()))

    def _add(self, delivered: Delivered) -> None:
        self._buffer.append(delivered)
        self._pull_bytes += len(delivered.data)
        self._wanted = max(0, self._wanted - 1)
        self._some.set()
        if self._wanted == 0 or delivered.num_pending == 0:
            self._whole.set()

    def _end(self, status: str, description: str) -> None:
        if status == jsapi.NO_RESPONDERS or description in _GONE:
            self._fail(NotStored(f"consumer {self.consumer} of {self.stream} is not there, or has no leader now"))
        elif "MaxBytes" in description and self._pull_bytes == 0:
            self._fail(Refused(f"a message of {self.stream} is above {MAX_PULL_BYTES} bytes; delete it or lower max_payload"))
        elif status not in _EXPIRED and "MaxBytes" not in description and description != "Batch Completed":
            self._fail(Unreachable(f"consumer {self.consumer} of {self.stream} ended a pull: {description} ({status})"))
        self._wanted = 0
        self._some.set()
        self._whole.set()

    def _fail(self, failure: WazuhJetstreamError) -> None:
        self._failure = failure
        self._buffer = []
        self._some.set()
        self._whole.set()


async def _until(event: asyncio.Event, deadline: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            await event.wait()
