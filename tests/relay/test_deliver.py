"""Laws of the cursor: RAW comes in order, each message once, whatever the durable consumer does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client

from relay import session
from relay.deliver import Cursor
from shared import jetstream, jsapi
from shared.errors import Stop, Unreachable
from shared.telemetry import Telemetry
from tests.nats_server import NatsServer
from tests.relay.rig import Rig

RAW = ("WAZUH_RAW", "relay")
LOST = "wazuh_jetstream_relay_raw_lost_total"


@pytest.fixture
async def rig(tmp_path: Path, nats_server: NatsServer) -> Rig:
    made = Rig(tmp_path, nats_server, "node01")
    await made.provision()
    return made


@asynccontextmanager
async def bench(rig: Rig, messages: int) -> AsyncIterator[tuple[Client, jetstream.Connection]]:
    """RAW with so many messages, and a connection to read it."""
    async with rig.client() as client, session.connected(rig.settings, "test") as connection:
        await fill(rig, client, messages)
        yield client, connection


async def fill(rig: Rig, client: Client, messages: int) -> None:
    for _ in range(messages):
        await rig.send(client, "node01", b"x", {})


def cursor(connection: jetstream.Connection, position: int, metrics: Telemetry | None = None) -> Cursor:
    return Cursor(connection, jetstream.Puller(connection, *RAW), RAW, position, metrics or Telemetry("relay"))


async def read(of: Cursor, count: int) -> list[int]:
    """The sequences of so many messages, each pull acked."""
    found: list[int] = []
    while len(found) < count:
        delivered = await of.next(5)
        assert delivered
        found += [message.stream_seq for message in delivered]
        await of.ack(delivered[-1])
    return found


async def test_reading_begins_behind_the_position_whatever_was_acked(rig: Rig) -> None:
    async with bench(rig, 6) as (_, connection):
        assert await read(cursor(connection, 0), 6) == [1, 2, 3, 4, 5, 6]
        assert await read(cursor(connection, 2), 4) == [3, 4, 5, 6]
        assert await read(cursor(connection, 0), 6) == [1, 2, 3, 4, 5, 6]


async def test_nothing_new_is_an_empty_list(rig: Rig) -> None:
    async with bench(rig, 1) as (_, connection):
        assert await cursor(connection, 1).next(0.05) == []


async def test_what_somebody_else_took_is_asked_for_again(rig: Rig) -> None:
    async with bench(rig, 1) as (client, connection):
        ours = cursor(connection, 0)
        assert len(await ours.next(0.05)) == 1
        assert await ours.next(0.05) == []  # no pull of ours is under way any more
        thief = jetstream.Puller(connection, *RAW)
        await fill(rig, client, 2)
        assert [message.stream_seq for message in await thief.next(2, 5)] == [2, 3]
        await fill(rig, client, 2)
        assert await read(ours, 4) == [2, 3, 4, 5]


async def test_what_the_stream_lost_is_counted_and_reading_goes_on(rig: Rig) -> None:
    metrics = Telemetry("relay")
    async with bench(rig, 5) as (client, connection):
        await client.jetstream().purge_stream("WAZUH_RAW", seq=4)
        assert await read(cursor(connection, 0, metrics), 2) == [4, 5]
    assert f"{LOST} 3.0" in metrics.text().decode()


class Script:
    """A reader that gives what it is told to."""

    def __init__(self, *lists: list[int]) -> None:
        self._lists = list(lists)
        self.acked: list[int] = []

    async def next(self, batch: int, expires_s: float) -> list[jsapi.Delivered]:
        sequences = self._lists.pop(0) if self._lists else []
        return [jsapi.Delivered("wazuh.raw.node01", {}, b"x", sequence, sequence, 0, 0, "") for sequence in sequences]

    async def ack_all(self, message: jsapi.Delivered) -> None:
        self.acked.append(message.stream_seq)


async def test_what_came_before_is_acked_and_dropped(rig: Rig) -> None:
    async with bench(rig, 5) as (_, connection):
        reader = Script([1, 2], [1, 2], [2, 3])
        ours = Cursor(connection, reader, RAW, 0, Telemetry("relay"))
        assert [message.stream_seq for message in await ours.next(1)] == [1, 2]
        assert [message.stream_seq for message in await ours.next(1)] == [3]
        assert reader.acked == [2]


async def test_a_hole_that_the_stream_does_not_have_is_never_skipped(rig: Rig) -> None:
    """A consumer that keeps others' messages from us must not make us lose them."""
    async with bench(rig, 5) as (_, connection):
        ours = Cursor(connection, Script([1], [4], [4], [2]), RAW, 0, Telemetry("relay"))
        assert [message.stream_seq for message in await ours.next(1)] == [1]
        with pytest.raises(Unreachable, match="message 2 of WAZUH_RAW went to somebody else"):
            await ours.next(1)
        assert [message.stream_seq for message in await ours.next(1)] == [2]


async def test_a_consumer_that_is_gone_is_an_error_until_it_is_made_again(rig: Rig) -> None:
    async with bench(rig, 3) as (client, connection):
        ours = cursor(connection, 0)
        await read(ours, 3)
        await client.jetstream().delete_consumer(*RAW)
        with pytest.raises(jetstream.NotStored):
            await ours.next(0.2)
        with pytest.raises(jetstream.NotStored, match="run wazuh-relay provision, and reading goes on where it was"):
            await ours.next(0.2)
        await rig.provision()
        await fill(rig, client, 1)
        assert await read(ours, 1) == [4]


async def test_a_stream_that_ends_before_the_position_stops_the_relay(rig: Rig) -> None:
    """Made anew, its sequences begin at 1: every new message would be taken for an old one."""
    async with bench(rig, 2) as (_, connection):
        with pytest.raises(Stop, match="ends at 2 and was read up to 9"):
            await cursor(connection, 9).next(1)
