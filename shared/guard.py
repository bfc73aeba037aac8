"""A dependency that may be away: asked through a breaker, and seen. Its state is a metric and a check of /readyz, and its loss
and its return are one log line each.

`wait` and `insist` belong to the event loop; all else to any one thread.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from . import logs
from .backoff import Backoff
from .breaker import Breaker, State
from .catalogue import LogEvent
from .clock import Clock
from .errors import Transient, WazuhJetstreamError
from .health import Readiness
from .telemetry import Telemetry

T = TypeVar("T")

LEVELS: Final[dict[State, int]] = {"closed": 0, "half-open": 1, "open": 2}
"""The metric `wazuh_jetstream_breaker_state`."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a dependency is called, and what is logged of it. `lost` begins a sentence that the error ends."""

    name: str
    lost_event: LogEvent
    lost: str
    back_event: LogEvent
    back: str


@dataclass(frozen=True, slots=True)
class Signs:
    """Where a service shows how it is."""

    readiness: Readiness
    metrics: Telemetry
    logger: logging.Logger


class Guard:
    """One dependency. Every attempt to use it is told: `failed` or `succeeded`."""

    def __init__(self, words: Words, signs: Signs, clock: Clock, backoff: Backoff) -> None:
        self._words, self._signs, self._clock = words, signs, clock
        self._breaker = Breaker(backoff)
        self._turned = asyncio.Event()
        self._shown: tuple[State, str] | None = None
        self._kind = ""

    @property
    def broken(self) -> bool:
        """Whether the last attempt failed."""
        return self._breaker.state != "closed"

    def delay(self) -> float:
        """Seconds to wait before the next attempt; 0: make it now."""
        seconds = self._breaker.delay(self._clock.monotonic())
        if self.broken:
            self._show()
        return seconds

    def patience(self) -> float:
        """Seconds for which it is left alone."""
        return self._breaker.patience(self._clock.monotonic())

    def failed(self, error: Transient, kind: str = "", **fields: object) -> None:
        """An attempt failed. Told in the log where the last one had not, or not in this `kind` of way."""
        known = self.broken and kind == self._kind
        self._breaker.failed(self._clock.monotonic(), str(error))
        self._kind = kind
        self._show()
        self._turned.set()
        if not known:
            logs.log(self._signs.logger, "warning", self._words.lost_event, f"{self._words.lost}: {error}", **fields)

    def succeeded(self, detail: str = "", **fields: object) -> None:
        """An attempt succeeded; `detail` is for the page of health."""
        was_broken = self.broken
        self._breaker.succeeded()
        self._show(detail)
        if was_broken:
            self._turned.set()
            logs.log(self._signs.logger, "info", self._words.back_event, self._words.back, **fields)

    def hurry(self) -> None:
        """What it failed for may be over: the next attempt may be made at once."""
        self._breaker.hurry()
        self._turned.set()

    async def wait(self) -> None:
        """Return when an attempt may be made: at once, unless the last one failed."""
        while (seconds := self.delay()) > 0:
            self._turned.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._turned.wait()

    async def insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What an attempt gives, however long it takes; anything but a Transient is raised."""
        while True:
            await self.wait()
            try:
                result = await attempt()
            except Transient as error:
                self.failed(error)
            except WazuhJetstreamError:
                self.succeeded()  # it was reached, and refused: nobody who waits needs to wait on
                raise
            else:
                self.succeeded()
                return result

    def _show(self, detail: str = "") -> None:
        state, why = self._breaker.state, self._breaker.why
        if (state, why or detail) != self._shown:
            self._shown = state, why or detail
            self._signs.readiness.set(self._words.name, state == "closed", f"{state}: {why or detail}" if why or detail else state)
            self._signs.metrics.gauge("wazuh_jetstream_breaker_state", LEVELS[state], dependency=self._words.name)
