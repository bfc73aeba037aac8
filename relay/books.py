"""One thread for all that touches the ledger or the fleet, so that neither needs a lock and the event loop never waits.

`call` runs a function there; `insist` runs it again, with backoff, while it raises what can pass by itself.
"""

import asyncio
import functools
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from shared import health, logs
from shared.backoff import Backoff
from shared.errors import Transient

LOGGER: Final = logging.getLogger("relay.books")

P = ParamSpec("P")
T = TypeVar("T")


class Books:
    """The thread; `readiness` is told whether the ledger answers."""

    def __init__(self, readiness: health.Readiness) -> None:
        self._readiness = readiness
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._failing = False

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result; calls are run one after the other, in order."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, functools.partial(function, *args, **kwargs))

    async def insist(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result, however long it takes; anything but a Transient is raised."""
        backoff = Backoff(jitter=random.random)
        while True:
            try:
                result = await self.call(function, *args, **kwargs)
            except Transient as error:
                self._report(error)
                await asyncio.sleep(backoff.next())
            else:
                self._report(None)
                return result

    def _report(self, error: Transient | None) -> None:
        self._readiness.set("ledger", error is None, "" if error is None else str(error))
        if error is not None and not self._failing:
            logs.log(LOGGER, "error", "ledger_lost", f"the ledger does not answer, it is tried again: {error}")
        if error is None and self._failing:
            logs.log(LOGGER, "info", "ledger_back", "the ledger answers again")
        self._failing = error is not None

    def close(self) -> None:
        """Let the thread end after what it does now."""
        self._executor.shutdown(wait=True)
