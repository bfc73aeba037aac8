"""Faults of processes: killed, stopped in the middle, restarted, ended exactly where it hurts most."""

import asyncio
import itertools
import math
import os
import signal
from abc import ABC
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final, get_args

from shared.crashpoints import CrashPoint
from tests.manager.driver import ManagerGone, unix_now
from tests.soak.fault import Fault, Missed, collectors, databases, hidden, killed, node_of, relays, servers, service_of
from tests.soak.processes import Service
from tests.soak.stage import Stage

POINTS: Final[tuple[CrashPoint, ...]] = get_args(CrashPoint)
_READY_WAIT: Final = 5.0  # seconds in which a relay that has been started stands by, or leads
_CRASH_WAIT: Final = 12.0  # seconds in which a process comes past its crash point, or is killed where it is


class _Kill(Fault, ABC):
    weight = 2.0

    async def play(self, stage: Stage) -> None:
        begin, service = unix_now(), service_of(stage, self.target)
        await service.kill()
        killed(stage, service.kind)
        await asyncio.sleep(self.seconds)
        await service.start()
        hidden(stage, self.target, begin)


class KillCollector(_Kill):
    name = "kill-collector"
    help = "kill -9 of a collector, back within two seconds"
    targets = staticmethod(collectors)


class KillRelay(_Kill):
    name = "kill-relay"
    help = "kill -9 of a relay, back within two seconds"
    targets = staticmethod(relays)


class KillNats(Fault):
    name = "kill-nats"
    help = "kill -9 of a nats-server, back on its store within six seconds"
    weight = 2.0
    lasts = (0.0, 6.0)
    targets = staticmethod(servers)

    async def play(self, stage: Stage) -> None:
        server = stage.nats[int(self.target.rpartition("-")[2]) - 1]
        await asyncio.to_thread(server.kill)
        killed(stage, "nats-server")
        await asyncio.sleep(self.seconds)
        await asyncio.to_thread(server.start)


class KillWazuhDb(Fault):
    name = "kill-wazuh-db"
    help = "kill -9 of a manager's wazuh-db, back within three seconds with what the agents are"
    weight = 2.0
    lasts = (0.0, 3.0)
    as_left: ClassVar[float] = 0.0
    emptied: ClassVar[bool] = False
    targets = staticmethod(databases)

    async def play(self, stage: Stage) -> None:
        begin, node = unix_now(), node_of(self.target)
        await stage.managers.kill(node)
        killed(stage, "wazuh-db")
        if not self.as_left:
            await asyncio.sleep(self.seconds)
        await stage.managers.bring_back(node, as_left=self.as_left and self.seconds, emptied=self.emptied)
        hidden(stage, self.target, begin)


class KillPostgresql(Fault):
    name = "kill-postgresql"
    help = "PostgreSQL ends at once, with every session, and is back within four seconds (--ledger postgresql)"
    lasts = (0.0, 4.0)

    @staticmethod
    def targets(stage: Stage) -> Sequence[str]:
        return ["postgresql"] if stage.plan.ledger == "postgresql" else []

    async def play(self, stage: Stage) -> None:
        server = stage.ledger.server
        assert server is not None
        await asyncio.to_thread(server.kill)
        killed(stage, "postgresql")
        await asyncio.sleep(self.seconds)
        await asyncio.to_thread(server.start)


class HotJournal(KillWazuhDb):
    name = "hot-journal"
    help = "kill -9 of wazuh-db within its transaction: for some seconds it answers with the rows of its last commit"
    weight = 1.0
    lasts = (0.5, 3.0)
    as_left = 1.0


class EmptyDb(HotJournal):
    """An emptied table is a broken source until a second full agrees with client.keys (rule 6)."""

    name = "empty-db"
    help = "wazuh-db loses global.db: for some seconds it answers with an empty table"
    emptied = True

    async def play(self, stage: Stage) -> None:
        begin = unix_now()
        await super().play(stage)
        stage.facts.emptied.setdefault(node_of(self.target), []).append((begin, unix_now()))


class _Pause(Fault, ABC):
    lasts = (0.5, 8.0)

    async def play(self, stage: Stage) -> None:
        begin, service = unix_now(), service_of(stage, self.target)
        service.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            service.send(signal.SIGCONT)
        hidden(stage, self.target, begin)


class PauseCollector(_Pause):
    name = "pause-collector"
    help = "SIGSTOP of a collector for up to eight seconds"
    targets = staticmethod(collectors)


class PauseRelay(_Pause):
    name = "pause-relay"
    help = "SIGSTOP of a relay for up to eight seconds"
    targets = staticmethod(relays)


class PauseNats(Fault):
    name = "pause-nats"
    help = "SIGSTOP of a nats-server for up to eight seconds"
    lasts = (0.5, 8.0)
    targets = staticmethod(servers)

    async def play(self, stage: Stage) -> None:
        server = stage.nats[int(self.target.rpartition("-")[2]) - 1]
        server.pause()
        try:
            await asyncio.sleep(self.seconds)
        finally:
            server.resume()


class PauseWazuhDb(Fault):
    name = "pause-wazuh-db"
    help = "SIGSTOP of a manager's wazuh-db for up to six seconds: its socket takes requests and does not answer"
    lasts = (0.5, 6.0)
    targets = staticmethod(databases)

    async def play(self, stage: Stage) -> None:
        begin, process = unix_now(), stage.managers.nodes[node_of(self.target)]
        try:
            pid = process.pid
        except ManagerGone:  # the world has taken the whole manager away: nothing to pause
            return
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        hidden(stage, self.target, begin)


class Terminate(Fault):
    name = "restart"
    help = "SIGTERM of a collector or relay, and its start: an orderly restart"

    @staticmethod
    def targets(stage: Stage) -> Sequence[str]:
        return [*collectors(stage), *relays(stage)]

    async def play(self, stage: Stage) -> None:
        begin, service = unix_now(), service_of(stage, self.target)
        await service.stop()
        await asyncio.sleep(self.seconds)
        await service.start()
        hidden(stage, self.target, begin)


def _passing(stage: Stage, point: str, times: int) -> Iterator[str]:
    """The services that pass a crash point, in turn."""
    fitting = [service.name for service in stage.services if point.startswith(service.kind)]
    return (f"{name}@{point}" for name in itertools.islice(itertools.cycle(fitting), times))


class Crash(Fault):
    """`target` is SERVICE@POINT."""

    name = "crash"
    help = "a process kills itself exactly between transaction, publish, mark and ack: at each of the named crash points"
    weight = 6.0

    @staticmethod
    def targets(stage: Stage) -> Sequence[str]:
        """Each point as often as any other, however many services pass it."""
        most = math.lcm(len(stage.collectors), len(stage.relays))
        return [name for point in POINTS for name in _passing(stage, point, most)]

    @property
    def point(self) -> str:
        return self.target.partition("@")[2]

    @property
    def service(self) -> str:
        return self.target.partition("@")[0]

    def befalls(self, stage: Stage) -> frozenset[str]:
        """A relay comes to lead by way of the others: all of them are kept busy."""
        return frozenset(relays(stage) if self.point.startswith("relay") else [self.service])

    @property
    def counted_as(self) -> str:
        return f"crash {self.point}"

    async def play(self, stage: Stage) -> None:
        begin, service = unix_now(), service_of(stage, self.service)
        await service.kill()
        killed(stage, service.kind)
        await service.start(crash_at=f"{self.point}:{1 + int(self.seconds * 10) % 3}")
        hidden(stage, service.name, begin)
        await _let_lead(stage, service)
        passed = await service.crashed(_CRASH_WAIT)
        await service.kill()
        begin = unix_now()
        killed(stage, service.kind)
        await service.start()
        hidden(stage, service.name, begin)
        if not passed:
            raise Missed(f"{service.name} did not come past its crash point within {_CRASH_WAIT:g} s")


async def _let_lead(stage: Stage, service: Service) -> None:
    """Only the relay that leads passes a crash point: the others are restarted in order once this one stands by."""
    others = [relay for relay in stage.relays if relay is not service]
    if service not in stage.relays or not others:
        return
    await service.says("standing_by", _READY_WAIT)
    for other in others:
        await other.stop()
        await other.start()
