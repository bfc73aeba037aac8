"""A master and a worker on the bench, for tests of what is told besides a status; and what was told, read plainly."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from nats.aio.client import Client

from shared import models
from shared.models import AgentRow
from tests.relay.lab import key, row
from tests.relay.rig import DEADLINE_S, NodeVoice, Rig, Stored, told

LONG_AGO: Final = 100  # seconds: ten keepalives missed
AGENTS: Final = range(1, 7)


class Cast:
    """A master and a worker. Agents 1 to 6 are registered and on the master; what befalls 1 is the scene."""

    def __init__(self, rig: Rig, client: Client, boot: int = 1) -> None:
        self.rig, self.client = rig, client
        self.master, self.worker = (NodeVoice(rig, client, node, boot) for node in ("node01", "node02"))
        self.master.speaker.node_type, self.worker.speaker.node_type = "master", "worker"
        self.now = self.master.moment

    async def enter(self, last_keepalive: int = 0) -> None:
        rows = [on_master(number, "active", self.now - last_keepalive) for number in AGENTS]
        await self.worker.whole()
        self.worker.speaker.keys = {one.id: key(one) for one in rows}
        await self.rig.say(self.client, self.worker.snapshot("full"))
        await self.master.whole(*rows)

    async def enter_again(self, before: "Cast") -> None:
        """The same rows, from collectors that know of nothing sent before."""
        for voice, other in ((self.worker, before.worker), (self.master, before.master)):
            voice.speaker.rows, voice.speaker.keys, voice.speaker.skew = other.speaker.rows, other.speaker.keys, other.speaker.skew
            await self.rig.say(self.client, voice.snapshot("full"))

    async def quiet(self, voice: NodeVoice, *numbers: int) -> None:
        """A beat that names these as silent since they were heard of last."""
        listed = tuple((number, voice.speaker.rows[number].last_keepalive) for number in numbers)
        await self.rig.say(self.client, voice.snapshot("beat", quiet=listed))


def on_master(number: int, status: models.ConnectionStatus, keepalive: int, **more: Any) -> AgentRow:
    return row(number, status, keepalive, node="node01", **more)


def on_worker(number: int, keepalive: int) -> AgentRow:
    return row(number, "active", keepalive, node="unknown", added=0)


# What was told -------------------------------------------------------------------------------------------------------


async def until(rig: Rig, client: Client, enough: Callable[[list[Stored]], bool]) -> list[Stored]:
    """EVENTS, once it is enough."""
    async with asyncio.timeout(DEADLINE_S):
        while not enough(found := await rig.stored(client)):
            await asyncio.sleep(0.02)
    return found


def kinds(found: list[Stored]) -> list[str]:
    """Of each event, in order."""
    return [one.headers["Wazuh-Kind"] for one in found if one in told(found) or one.subject.endswith("manager_events")]
