"""Faults between the services and NATS: links, credentials, consumers, the server's disk."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

import nats
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig

from tests.manager.driver import unix_now
from tests.soak.fault import Fault, Missed
from tests.soak.stage import STORE, Stage

_BALLAST: Final = 900_000  # bytes of one message that fills the server's disk
_STREAM: Final = "BALLAST"
_ATTEMPTS: Final = 20


# Links --------------------------------------------------------------------------------------------------------------


def _linked(stage: Stage) -> list[str]:
    return [f"link-{name}" for name in stage.links]


class CutLink(Fault):
    name = "cut-link"
    help = "a service's connection to NATS is reset and refused for up to ten seconds"
    lasts = (0.2, 10.0)
    targets = staticmethod(_linked)

    async def play(self, stage: Stage) -> None:
        for link in stage.links[self.target.removeprefix("link-")]:
            link.cut()
        await asyncio.sleep(self.seconds)
        for link in stage.links[self.target.removeprefix("link-")]:
            link.heal()


class HalfOpen(Fault):
    name = "half-open"
    help = "a service's connection to NATS stays open and carries nothing for up to forty seconds, longer than pings wait"
    weight = 0.5
    lasts = (2.0, 40.0)
    targets = staticmethod(_linked)

    async def play(self, stage: Stage) -> None:
        for link in stage.links[self.target.removeprefix("link-")]:
            link.freeze()
        await asyncio.sleep(self.seconds)
        for link in stage.links[self.target.removeprefix("link-")]:
            link.heal()


class DropPubAck(Fault):
    name = "drop-puback"
    help = "exactly one PubAck never arrives at a service: what was published is stored, and it does not know"
    weight = 2.0
    lasts = (4.0, 8.0)
    targets = staticmethod(_linked)

    async def play(self, stage: Stage) -> None:
        links = stage.links[self.target.removeprefix("link-")]
        before = sum(link.dropped for link in links)
        for link in links:
            link.drop_next_puback()
        end = unix_now() + self.seconds
        while sum(link.dropped for link in links) == before and unix_now() < end:
            await asyncio.sleep(0.05)
        for link in links:
            link.spare_pubacks()
        if sum(link.dropped for link in links) == before:
            raise Missed(f"nothing was published over {self.target} within {self.seconds:g} s")


# NATS ---------------------------------------------------------------------------------------------------------------


class Password(Fault):
    name = "password"
    help = "the services' password is rotated: nats-server reloads its configuration first, their file follows up to two seconds later"

    @staticmethod
    def targets(stage: Stage) -> Sequence[str]:
        return ["nats"]

    async def play(self, stage: Stage) -> None:
        stage.password = secrets.token_hex(16)
        for number, server in enumerate(stage.nats):
            await asyncio.to_thread(server.reload, stage.nats_config(number))
        await asyncio.sleep(self.seconds)
        stage.write_password()


class ConsumerDeleted(Fault):
    name = "consumer-deleted"
    help = "somebody deletes the relay's durable consumer; provision makes it again up to two seconds later"
    targets = staticmethod(Password.targets)

    async def play(self, stage: Stage) -> None:
        try:
            async with stage.judge() as client:
                await client.jetstream().delete_consumer("WAZUH_RAW", "relay")
            await asyncio.sleep(self.seconds)
        finally:
            await stage.provision()  # an answer that did not come may still have been obeyed


class ConsumerReset(Fault):
    name = "consumer-reset"
    help = "somebody resets the relay's durable consumer to an arbitrary place in RAW"
    targets = staticmethod(Password.targets)

    async def play(self, stage: Stage) -> None:
        async with stage.judge() as client:
            last = (await client.jetstream().stream_info("WAZUH_RAW")).state.last_seq
            place = max(1, int(last * self.seconds / self.lasts[1]))
            await client.request("$JS.API.CONSUMER.RESET.WAZUH_RAW.relay", b'{"seq": %d}' % place, timeout=5)


class ServerDiskFull(Fault):
    name = "server-disk-full"
    help = "another stream fills nats-server's disk for some seconds: every publish is refused"
    weight = 0.5
    lasts = (2.0, 6.0)
    targets = staticmethod(Password.targets)

    async def play(self, stage: Stage) -> None:
        async with stage.judge() as client:
            stream = client.jetstream()
            await stream.add_stream(
                StreamConfig(name=_STREAM, subjects=["ballast"], storage=StorageType.FILE, num_replicas=len(stage.nats))
            )
            try:
                for _ in range(2 * STORE // _BALLAST):
                    try:
                        await stream.publish("ballast", bytes(_BALLAST), timeout=5)
                    except nats.js.errors.APIError:
                        break
                await asyncio.sleep(self.seconds)
            finally:
                await _delete_ballast(stream)


async def _delete_ballast(stream: JetStreamContext) -> None:
    """However ill the server is: it stays full until this is done."""
    for attempt in range(_ATTEMPTS):
        try:
            await stream.delete_stream(_STREAM)
        except (nats.errors.Error, TimeoutError):
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(1.0)
        else:
            return
