"""A simulated manager with a fleet on it: agents that keep alive in turn, and agents that stop and return when they are told to.

The manager is a real process (tests/manager); every keepalive and every change is a write in its SQLite database.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.manager.driver import ManagerProcess, unix_now
from tests.world.model import Columns, Insert, Keys, Update, Write

NODE: Final = "node01"
PERIOD: Final = 10.0  # seconds between two keepalives of an agent of Wazuh 4.x
TURN: Final = 0.05  # seconds between two writes of keepalives

Written = Callable[[int, str, float], None]
"""Is told of an agent's new connection_status and the Unix time at which it can be seen."""


class Fleet:
    """`agents` active agents on one manager. `commit_seconds`: how long wazuh-db holds a transaction."""

    def __init__(self, directory: Path, agents: int, commit_seconds: float = 61.0) -> None:
        self.manager = ManagerProcess(directory / "wazuh", commit_seconds=commit_seconds)
        self.agents = agents
        self._stopped: set[int] = set()
        self._turn: deque[int] = deque(range(1, agents + 1))
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.manager.start(self._registered())
        self._task(self._keep_alive())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.manager.stop()

    async def change(self, number: int, written: Written) -> None:
        """An agent says goodbye, or is back."""
        now = int(unix_now())
        if number in self._stopped:
            self._stopped.discard(number)
            status = "active"
            columns: Columns = {"connection_status": status, "disconnection_time": 0, "status_code": 0, "last_keepalive": now}
        else:
            self._stopped.add(number)
            status = "disconnected"
            columns = {"connection_status": status, "disconnection_time": now, "status_code": 3, "sync_status": "syncreq_status"}
        at = await self.manager.apply([Update(NODE, now, (number,), columns)])
        written(number, status, at)

    async def changes(self, ids: range, rate: float, seconds: float, written: Written) -> None:
        """So many changes a second, of these agents in turn, at moments that fall in step with nothing."""
        begin, count = unix_now(), max(1, round(rate * seconds))
        golden = 0.6180339887  # the fractional parts of its multiples are spread evenly
        for number in range(count):
            at = begin + (number + number * golden % 1) / rate
            await asyncio.sleep(max(0.0, at - unix_now()))
            self._task(self.change(ids[number % len(ids)], written))

    def _registered(self) -> list[Write]:
        now = int(unix_now())
        keys = "".join(f"{number:03d} agent-{number} any {number:064x}\n" for number in range(1, self.agents + 1))
        return [*(Insert(NODE, now, row(number, now - number % int(PERIOD))) for number in self._turn), Keys(NODE, now, keys)]

    async def _keep_alive(self) -> None:
        began, told = unix_now(), 0
        while True:
            due = int((unix_now() - began) / PERIOD * self.agents) - told
            ids = [self._next() for _ in range(due)]
            told += due
            living = tuple(number for number in ids if number not in self._stopped)
            if living:
                now = int(unix_now())
                await self.manager.apply([Update(NODE, now, living, {"last_keepalive": now, "sync_status": "syncreq_keepalive"})])
            await asyncio.sleep(TURN)

    def _next(self) -> int:
        self._turn.rotate(-1)
        return self._turn[-1]

    def _task(self, doing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def row(number: int, seen: int) -> dict[str, int | str | None]:
    """What remoted, modulesd and an agent leave of an agent of Linux in `agent`."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return {
        "id": number,
        "name": f"agent-{number}",
        "ip": address,
        "register_ip": "any",
        "internal_key": f"{number:064x}",
        "os_name": "Ubuntu",
        "os_version": "22.04.4 LTS",
        "os_platform": "ubuntu",
        "os_uname": f"Linux |agent-{number} |5.15.0-105-generic |#115-Ubuntu SMP |x86_64",
        "os_arch": "x86_64",
        "version": "Wazuh v4.14.7",
        "config_sum": "ab73af41699f13fdd81903b5f23d8d00",
        "merged_sum": "4a8724b20dee0124ff9656783c490c4e",
        "manager_host": NODE,
        "node_name": NODE,
        "date_add": seen - 1_000_000,
        "last_keepalive": seen,
        "sync_status": "synced",
        "connection_status": "active",
        "status_code": 0,
    }


async def ended(task: "asyncio.Task[None]") -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
