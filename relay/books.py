"""One thread for all that touches the ledger or the fleet, so that neither needs a lock and the event loop never waits.

`call` runs a function there; `insist` runs it again, behind the ledger's breaker, while it raises what can pass by itself.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from shared.guard import Guard, Words

LEDGER: Final = Words(
    "ledger", "ledger_lost", "the ledger does not answer, it is tried again", "ledger_back", "the ledger answers again"
)  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")


class Books:
    """The thread; `guard` is the ledger's."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result; calls are run one after the other, in order."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, functools.partial(function, *args, **kwargs))

    async def insist(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result, however long it takes; anything but a Transient is raised."""
        return await self._guard.insist(functools.partial(self.call, function, *args, **kwargs))

    def close(self) -> None:
        """Let the thread end after what it does now."""
        self._executor.shutdown(wait=True)
