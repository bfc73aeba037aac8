"""Drives simulated managers from asyncio: one process per node, a whole cluster played in real time.

    process = ManagerProcess(directory / "node01", node_type="master")
    await process.start()                       returns when queue/db/wdb answers
    at = await process.apply(writes)            Unix time at which the last of them is visible in the node's database
    await process.kill(); await process.restart()          kill -9, and the same home again

    async with Cluster(World(WorldConfig(nodes=cluster(2), start=unix_now()), seed=1), directory) as running:
        running.world.stop(7)                   commands of the world, at any time between two awaits
        await running.run_until(unix_now() + 10)           or: running.run_in_background(), and await running.caught_up()
        running.applied                         (Unix time, node, ids, columns) of every status change, as it became visible

World time is Unix time. Only rows whose connection_status really changed are in `applied`, with inserted rows and, as
columns {}, deleted ones. A world's node_down stops its process and node_up starts it again; `crash(node)` is kill -9 of
a node, after which its database is brought back to what the world says before its socket answers again.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.world.model import Columns, Delete, Insert, Keys, Node, Update, World, Write, as_json

_SCRIPT: Final = Path(__file__).with_name("node.py")
_ENDING: Final = 30.0  # seconds that an orderly end may take

Applied = tuple[float, str, tuple[int, ...], Columns]


class ManagerGone(ConnectionError):
    """The node's process ended, or never was, while something was asked of it."""


class ManagerRefused(ValueError):
    """The node could not play a write; the sentence is its own."""


def unix_now() -> float:
    """The time of this machine as Unix seconds: world time of a world that is played in real time."""
    return time.time_ns() / 1e9


class ManagerProcess:
    """One simulated manager. Everything it keeps is under `home`."""

    def __init__(
        self,
        home: Path,
        *,
        schema: str = "4.14",
        node_name: str = "node01",
        node_type: str = "master",
        cluster: str = "wazuh",
        commit_seconds: float = 61.0,
        disconnection_time: str = "15m",
    ) -> None:
        self.home = home
        self.node_name = node_name
        self._arguments = [
            *("--home", str(home), "--schema", schema, "--node-name", node_name, "--node-type", node_type, "--cluster", cluster),
            *("--commit-seconds", str(commit_seconds), "--disconnection-time", disconnection_time, "--manager-name", node_name),
        ]
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[float]] = {}
        self._ready: asyncio.Future[float] | None = None
        self._number = 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process id; ManagerGone where it does not run."""
        return self._alive().pid

    @property
    def socket(self) -> Path:
        return self.home / "queue/db/wdb"

    @property
    def database(self) -> Path:
        return self.home / "queue/db/global.db"

    async def start(self, first: Sequence[Write] | None = None) -> None:
        """Start it and wait until its socket answers. `first` is played before that."""
        arguments = self._arguments if first is None else [*self._arguments, "--wait"]
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(sys.executable, str(_SCRIPT), *arguments, stdin=pipe, stdout=pipe)
        self._ready = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(self._process, self._ready))
        if first is not None:
            await self.apply(first)
        await self._ready

    async def apply(self, writes: Iterable[Write], *, at_once: bool = False) -> float:
        """Play writes as one batch; the Unix time at which the last is visible. ManagerRefused names one that cannot be.
        `at_once`: nobody sees the table between two of them."""
        process = self._alive()
        assert process.stdin is not None
        self._number += 1
        done = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": self._number, "at_once": at_once, "writes": [as_json(write) for write in writes]}, separators=(",", ":"))
        try:
            process.stdin.write(line.encode() + b"\n")
            await process.stdin.drain()
        except ConnectionError:
            # The reader sees the end of the process and tells whoever waits.
            await asyncio.wait([done])
        return float(await asyncio.shield(done))  # whoever gives up waiting does not end the writing

    async def kill(self) -> None:
        """kill -9: what was not committed is lost, a spilled journal stays hot."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM: it commits and goes."""
        await self._end(signal.SIGTERM)

    async def restart(self, first: Sequence[Write] | None = None) -> None:
        """Start again on the same home; an orderly stop first where it still runs."""
        await self.stop()
        await self.start(first)

    def _alive(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            raise ManagerGone(f"The manager {self.node_name} does not run.")
        return self._process

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(number)
        assert self._reader is not None
        async with asyncio.timeout(_ENDING):
            await self._reader
            await process.wait()
        assert process.stdin is not None
        process.stdin.close()

    async def _read(self, process: asyncio.subprocess.Process, ready: asyncio.Future[float]) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            match json.loads(line):
                case {"ready": _, "at": at}:
                    ready.set_result(at)
                case {"applied": number, "at": at}:
                    self._waiting.pop(number).set_result(at)
                case {"error": number, "why": why}:
                    self._waiting.pop(number).set_exception(ManagerRefused(f"{self.node_name}: {why}"))
        for waiting in (ready, *self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(ManagerGone(f"The manager {self.node_name} ended."))
                waiting.exception()  # nobody may be waiting for it any more
        self._waiting.clear()


class Cluster:
    """All nodes of a world as processes, under `directory`/NODE."""

    def __init__(self, world: World, directory: Path, *, name: str = "wazuh", commit_seconds: float = 61.0, pace: float = 0.05) -> None:
        self.world = world
        self.applied: list[Applied] = []
        self._pace = pace
        self._status: dict[tuple[str, int], object] = {}
        silence = f"{max(1, round(world.config.sweep_period))}s"
        self.nodes = {
            node.name: ManagerProcess(
                directory / node.name,
                schema=node.schema,
                node_name=node.name,
                node_type=node.type,
                cluster=name,
                commit_seconds=commit_seconds,
                disconnection_time=silence,
            )
            for node in world.nodes.values()
        }
        self._turn = asyncio.Lock()
        self._background: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start every node that is up and play on it what the world wrote so far."""
        await asyncio.gather(*(self.nodes[node.name].start() for node in self.world.nodes.values() if node.up))
        await self.step(self.world.now)

    async def stop(self) -> None:
        """End the background task, then every process in order."""
        if self._background is not None:
            self._background.cancel()
            await asyncio.wait([self._background])
            background, self._background = self._background, None
            if not background.cancelled() and (error := background.exception()):
                await self._stop_all()
                raise error
        await self._stop_all()

    async def run_until(self, at: float) -> None:
        """Play the world in real time until Unix time `at`."""
        while unix_now() < at:
            await self.step(min(unix_now(), at))
            await asyncio.sleep(min(self._pace, max(0.0, at - unix_now())))
        await self.step(at)

    def run_in_background(self) -> None:
        """Play the world in real time until `stop`."""
        self._background = asyncio.create_task(self.run_until(float("inf")))

    async def caught_up(self) -> float:
        """Return once everything commanded before this call is visible in the databases; the Unix time of that."""
        await self.step(unix_now())
        return unix_now()

    async def step(self, to: float) -> None:
        """Advance the world to `to` (not back) and play its writes, each node's in order, the nodes at once."""
        async with self._turn:
            writes: dict[str, list[Write]] = {}
            for write in self.world.advance(max(to, self.world.now)):
                writes.setdefault(write.node, []).append(write)
            await asyncio.gather(*(self._follow(node, writes.get(node.name, [])) for node in self.world.nodes.values()))

    async def crash(self, node: str) -> None:
        """kill -9 of one node and its return with the database that the world says it has."""
        async with self._turn:
            process = self.nodes[node]
            await process.kill()
            await process.start(self._restored(self.world.nodes[node]))

    async def _stop_all(self) -> None:
        await asyncio.gather(*(process.stop() for process in self.nodes.values()))

    async def _follow(self, node: Node, writes: list[Write]) -> None:
        """Play the node's writes and let its process go or come as the world says."""
        process = self.nodes[node.name]
        if node.up and not process.running:
            await process.start()
        if writes and process.running:
            self._note(await process.apply(writes), writes)
        if not node.up and process.running:
            await process.stop()

    def _note(self, at: float, writes: list[Write]) -> None:
        for write in writes:
            match write:
                case Insert(node, _, row):
                    number = int(row["id"] or 0)
                    self._status[node, number] = row["connection_status"]
                    self.applied.append((at, node, (number,), row))
                case Delete(node, _, ids):
                    for number in ids:
                        self._status.pop((node, number), None)
                    self.applied.append((at, node, ids, {}))
                case Update(node, _, ids, columns) if "connection_status" in columns:
                    status = columns["connection_status"]
                    changed = tuple(number for number in ids if self._status.get((node, number), status) != status)
                    if changed:
                        self._status.update(((node, number), status) for number in changed)
                        self.applied.append((at, node, changed, columns))

    def _restored(self, node: Node) -> list[Write]:
        """Writes that make any table of this node the world's: it may hold a row that was written as its process was killed, of
        an agent that was removed since."""
        rows = self.world.table(node.name)
        ever = {fact.agent for fact in self.world.history if fact.agent}
        return [
            Delete(node.name, self.world.now, tuple({*ever, *rows})),
            *(Insert(node.name, self.world.now, row) for row in rows.values()),
            Keys(node.name, self.world.now, self.world.keys_text(node.name)),
        ]
