"""Faults on a manager's machine: a spool that is full, a disk that is full, a clock that is set back."""

import asyncio
import contextlib
import random
import string
from collections.abc import Sequence
from typing import Final

from tests.manager.driver import ManagerGone, unix_now
from tests.soak.fault import Fault, Missed, collectors, hidden, node_of, service_of
from tests.soak.stage import Stage
from tests.world.model import Columns, Delete, Insert, Update

_BALLAST: Final = range(900_000, 900_060)  # ids; too few of all rows to be taken for a table that lost its agents (rule 6)
_TEXT: Final = 250  # characters: the longest that a collector accepts are 256


class SpoolFull(Fault):
    """What fills it are rows in no client.keys, and so no agents, whose names and addresses are long and change all the time."""

    name = "spool-full"
    help = "a worker's collector has no NATS and more news than collector.spool_max_bytes: its spool overflows"
    weight = 0.5
    lasts = (25.0, 30.0)

    @staticmethod
    def targets(stage: Stage) -> Sequence[str]:
        return [service.name for node, service in stage.collectors.items() if node != stage.world.master.name]

    async def play(self, stage: Stage) -> None:
        node, begin, service = node_of(self.target), unix_now(), service_of(stage, self.target)
        for link in stage.links[self.target]:
            link.cut()
        enough = asyncio.Event()
        filling = asyncio.create_task(_fill(stage, node, enough))
        overflowed = False
        try:
            overflowed = await service.says("spool_full", self.seconds)
        finally:
            enough.set()
            await asyncio.wait({filling})
            stage.facts.given_up.setdefault(node, []).append((begin, unix_now()))
            for link in stage.links[self.target]:
                link.heal()
        filling.result()
        hidden(stage, self.target, begin)
        if not overflowed:
            raise Missed(f"the spool of {self.target} was not full within {self.seconds:g} s")


async def _fill(stage: Stage, node: str, enough: asyncio.Event) -> None:
    """Until `enough`; asked, not cancelled: a driver whose request is cancelled does not find its way back."""
    process, chance = stage.managers.nodes[node], random.Random(number_of(node))
    try:
        await process.apply([Delete(node, 0.0, tuple(_BALLAST)), *(Insert(node, 0.0, _row(number, chance)) for number in _BALLAST)])
        turn = 0
        while not enough.is_set():
            turn += 1
            texts = ({**_row(number, chance), "disconnection_time": turn} for number in _BALLAST)
            await process.apply([Update(node, 0.0, (number,), columns) for number, columns in zip(_BALLAST, texts, strict=True)])
            await asyncio.sleep(0.1)
    except ManagerGone:
        return
    finally:
        with contextlib.suppress(ManagerGone):
            await process.apply([Delete(node, 0.0, tuple(_BALLAST))])


def _row(number: int, chance: random.Random) -> Columns:
    return {"id": number, "name": _text(chance), "ip": _text(chance), "date_add": 0}


def _text(chance: random.Random) -> str:
    """What does not compress."""
    return "".join(chance.choices(string.ascii_letters + string.digits, k=_TEXT))


def number_of(node: str) -> int:
    """A seed for a node."""
    return sum(node.encode())


class SpoolDiskFull(Fault):
    name = "spool-disk-full"
    help = "a collector's disk takes no more bytes for some seconds: no file of its may grow (RLIMIT_FSIZE)"
    lasts = (1.0, 6.0)
    targets = staticmethod(collectors)

    async def play(self, stage: Stage) -> None:
        begin, service = unix_now(), service_of(stage, self.target)
        service.limit_files(4096)
        await asyncio.sleep(self.seconds)
        service.limit_files(-1)
        stage.facts.given_up.setdefault(node_of(self.target), []).append((begin, unix_now()))
        hidden(stage, self.target, begin)


class ClockBack(Fault):
    """Right again in small steps, as ntpd does it: one stride forward over a whole sweep would make Wazuh itself call agents silent."""

    name = "clock-back"
    help = "the wall clock of a manager's machine is set back by up to twelve seconds at once, and goes right again second by second"
    lasts = (2.0, 12.0)
    targets = staticmethod(collectors)

    async def play(self, stage: Stage) -> None:
        node, begin, behind = node_of(self.target), unix_now(), self.seconds
        try:
            while behind > 0:
                self._set(stage, node, -behind)
                await asyncio.sleep(1.0)
                behind -= 0.0 if unix_now() < begin + self.seconds else 1.0
        finally:
            self._set(stage, node, 0.0)
        over = unix_now() + self.seconds
        stage.facts.clocks.setdefault(node, []).append((begin, over))
        stage.facts.unsure.setdefault(node, []).append((begin, over))

    def _set(self, stage: Stage, node: str, seconds: float) -> None:
        exact = round(seconds * 1000) / 1000
        file = stage.clock_file(node)
        beside = file.with_suffix(".new")
        beside.write_text(str(round(seconds * 1000)))
        beside.replace(file)
        if stage.world.nodes[node].skew != exact:
            stage.world.set_clock(node, exact)
            stage.facts.offsets.put(node, unix_now(), exact)
