"""A world's managers as processes of which each may freeze, die or lose its database, and none waits for another.

`tests.manager.driver.Cluster` plays each step on all nodes before the next one; here every node follows at its own pace,
what was written while it was frozen comes when it thaws, and what was written while it was dead is in the table that it is
given back. `stood` remembers what each node's database held, and from when to when: what a source could see.
"""

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.manager.driver import Cluster, ManagerGone, unix_now
from tests.world.model import Delete, Insert, Update, World, Write

FOREVER: Final = float("inf")


@dataclass(slots=True)
class Stood:
    """A status that a row had in a node's database, surely so between two Unix times; None: no row."""

    status: str | None
    begin: float
    end: float = FOREVER


class Managers(Cluster):
    """The nodes. `held` are those whose process a fault keeps away."""

    def __init__(self, world: World, directory: Path, *, commit_seconds: float) -> None:
        super().__init__(world, directory, commit_seconds=commit_seconds)
        self.stood: defaultdict[tuple[str, int], list[Stood]] = defaultdict(list)
        self.held: set[str] = set()
        self._queues: dict[str, list[Write]] = {name: [] for name in self.nodes}
        self._wake = {name: asyncio.Event() for name in self.nodes}
        self._stale: set[str] = set()  # whose database is not what the world says
        self._turns = {name: asyncio.Lock() for name in self.nodes}
        self._followers: list[asyncio.Task[None]] = []
        self._ending = False

    async def start(self) -> None:
        """Start every node and play on it what the world wrote so far; from then on each follows."""
        await asyncio.gather(*(process.start() for process in self.nodes.values()))
        await self.step(self.world.now)
        await asyncio.gather(*(self._catch_up(name) for name in self.nodes))
        self._followers = [asyncio.create_task(self._keep_up(name)) for name in self.nodes]

    async def stop(self) -> None:
        """Let every node come to the end of what it is at, then end all processes."""
        self._ending = True
        for event in self._wake.values():
            event.set()
        if self._followers:
            await asyncio.wait(self._followers)
        await super().stop()
        for task in self._followers:
            task.result()

    async def step(self, to: float) -> None:
        """Advance the world to `to` (not back) and hand each node what is written on it."""
        for write in self.world.advance(max(to, self.world.now)):
            self._queues[write.node].append(write)
        for event in self._wake.values():
            event.set()

    # What faults do -------------------------------------------------------------------------------------------------

    async def kill(self, node: str) -> None:
        """kill -9, until `bring_back`."""
        self.held.add(node)
        async with self._turns[node]:
            await self.nodes[node].kill()
            self._stale.add(node)  # now: who had the turn may just have given the table back

    async def bring_back(self, node: str, *, as_left: float = 0.0, emptied: bool = False) -> None:
        """Start a killed node with the table that the world says it has; before that, for `as_left` seconds, it answers with
        what the dead process left on the disk, or with an empty database where that was `emptied`."""
        async with self._turns[node]:
            process = self.nodes[node]
            if emptied:
                for path in process.database.parent.glob("global.db*"):
                    path.unlink()
            if as_left and self.world.nodes[node].up:
                await process.start()
                await asyncio.sleep(as_left)
        self.held.discard(node)
        await self._catch_up(node)

    # Following ------------------------------------------------------------------------------------------------------

    async def _keep_up(self, node: str) -> None:
        while not self._ending:
            self._wake[node].clear()
            await self._catch_up(node)
            await self._wake[node].wait()

    async def _catch_up(self, node: str) -> None:
        """Play what waits, and let the process go or come as the world says."""
        async with self._turns[node]:
            if node in self.held:
                return
            process, place = self.nodes[node], self.world.nodes[node]
            with contextlib.suppress(ManagerGone):  # killed meanwhile: it is given all of its table when it is back
                if place.up and (not process.running or node in self._stale):
                    await self._restore(node)
                writes, self._queues[node] = self._queues[node], []
                if writes and process.running:
                    began = unix_now()
                    self._remember(node, writes, began, await process.apply(writes))
                if not place.up and process.running:
                    await process.stop()
                    self._stale.add(node)

    async def _restore(self, node: str) -> None:
        process = self.nodes[node]
        writes, self._queues[node] = self._restored(self.world.nodes[node]), []
        began = unix_now()
        at = await process.apply(writes, at_once=True) if process.running else await self._started(node, writes)
        self._stale.discard(node)
        self._remember(node, [write for write in writes if not isinstance(write, Delete)], began, at)
        self._forget(node, {int(write.row["id"] or 0) for write in writes if isinstance(write, Insert)}, began)

    async def _started(self, node: str, writes: list[Write]) -> float:
        await self.nodes[node].start(writes)
        return unix_now()

    def _remember(self, node: str, writes: list[Write], began: float, at: float) -> None:
        self._note(at, writes)
        for write in writes:
            match write:
                case Insert(_, _, row):
                    self._now(node, int(row["id"] or 0), str(row["connection_status"]), began, at)
                case Update(_, _, ids, columns) if "connection_status" in columns:
                    for number in ids:
                        self._now(node, number, str(columns["connection_status"]), began, at)
                case Delete(_, _, ids):
                    for number in ids:
                        self._now(node, number, None, began, at)

    def _now(self, node: str, number: int, status: str | None, began: float, at: float) -> None:
        """`began`: until then it surely was as before; `at`: from then on it surely is so."""
        before = self.stood[node, number]
        if before and before[-1].status == status:
            return
        if before:
            before[-1].end = began
        before.append(Stood(status, at))

    def _forget(self, node: str, there: set[int], at: float) -> None:
        for place, number in list(self.stood):
            if place == node and number not in there:
                self._now(node, number, None, at, at)
