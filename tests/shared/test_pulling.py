"""Reading from a real consumer: in order, at once, in whole batches, and never in silence when it cannot go on."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from shared import jetstream
from shared.jetstream import Connection, Puller
from tests.nats_server import NatsServer
from tests.shared.jetstream_lab import WAIT_S, batch, config_of, connected, make_consumer, make_stream, publish, read


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connected(config_of(nats_server)) as (connection, _):
        yield connection


async def test_a_delivery_tells_its_places_and_the_stream_s_time(connection: Connection) -> None:
    await make_stream(connection)
    await make_consumer(connection)
    before = time.time_ns() // 1_000_000
    await connection.publish("s.x", b"1", {"A": "b"}, WAIT_S)
    await publish(connection, b"2")
    one, two = await read(Puller(connection, "S", "c"), 2)
    assert (one.subject, one.headers, one.data, one.stream_seq, one.consumer_seq) == ("s.x", {"A": "b"}, b"1", 1, 1)
    assert (two.headers, two.stream_seq, two.consumer_seq, two.num_pending) == ({}, 2, 2, 0)
    assert before <= one.time_ms <= two.time_ms <= time.time_ns() // 1_000_000
    last = await connection.last_message("S")
    assert last is not None
    assert last.time_ms == two.time_ms


async def test_a_waiting_read_returns_when_something_comes(connection: Connection) -> None:
    await make_stream(connection)
    await make_consumer(connection)
    puller = Puller(connection, "S", "c")
    waiting = asyncio.create_task(puller.next(10, 3600))
    async with asyncio.timeout(WAIT_S):
        for body in (b"1", b"2"):
            await publish(connection, body)
            assert [one.data for one in await waiting] == [body]
            waiting = asyncio.create_task(puller.next(10, 3600))
        await publish(connection, b"3")
        await waiting


async def test_nothing_until_the_expiry_is_an_empty_list(connection: Connection) -> None:
    await make_stream(connection)
    await make_consumer(connection)
    puller = Puller(connection, "S", "c")
    assert await puller.next(10, 0.05) == []
    assert await puller.next(10, 0.05) == []
    await publish(connection, b"1")
    assert len(await puller.next(10, WAIT_S)) == 1


async def test_a_backlog_comes_in_whole_batches_and_in_order(connection: Connection) -> None:
    await make_stream(connection)
    await connection.publish_batch(batch(1000), WAIT_S)
    await make_consumer(connection, max_ack_pending=10_000)
    puller = Puller(connection, "S", "c")
    parts = [await puller.next(400, WAIT_S) for _ in range(3)]
    assert [len(part) for part in parts] == [400, 400, 200]
    assert [one.stream_seq for part in parts for one in part] == list(range(1, 1001))


async def test_a_consumer_that_allows_one_unacked_message_does_not_stall_the_read(connection: Connection) -> None:
    await make_stream(connection)
    await make_consumer(connection, max_ack_pending=1)
    await publish(connection, b"1", b"2")
    puller = Puller(connection, "S", "c")
    async with asyncio.timeout(WAIT_S):
        for body in (b"1", b"2"):
            (one,) = await puller.next(10, 3600)
            assert one.data == body
            await puller.ack_all(one)


async def test_large_messages_are_read_in_bounded_pulls(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.pulling.MAX_PULL_BYTES", 1000)
    await make_stream(connection)
    await make_consumer(connection)
    await publish(connection, *(bytes([n]) * 400 for n in range(5)))
    puller = Puller(connection, "S", "c")
    found: list[jetstream.Delivered] = []
    while len(found) < 5:
        part = await puller.next(10, WAIT_S)
        assert 1 <= len(part) <= 2
        found += part
    assert [one.data[0] for one in found] == list(range(5))


async def test_a_message_above_the_bound_is_an_error_and_no_busy_loop(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.pulling.MAX_PULL_BYTES", 100)
    await make_stream(connection)
    await make_consumer(connection)
    await publish(connection, bytes(400))
    with pytest.raises(jetstream.Refused):
        await Puller(connection, "S", "c").next(10, WAIT_S)


@pytest.mark.parametrize("gone", ["CONSUMER.DELETE.S.c", "STREAM.DELETE.S"])
async def test_a_consumer_or_stream_that_is_deleted_ends_a_waiting_read(connection: Connection, gone: str) -> None:
    await make_stream(connection)
    await make_consumer(connection)
    puller = Puller(connection, "S", "c")
    assert await puller.next(10, 0.02) == []
    waiting = asyncio.create_task(puller.next(10, 3600))
    info = None
    async with asyncio.timeout(WAIT_S):
        while not info or not info["num_waiting"]:
            info = await connection.api("CONSUMER.INFO.S.c")
        await connection.api(gone)
        with pytest.raises(jetstream.NotStored):
            await waiting
        with pytest.raises(jetstream.NotStored):
            await puller.next(10, 3600)


async def test_a_read_ends_when_the_connection_breaks_and_works_again_afterwards(nats_server: NatsServer) -> None:
    async with connected(config_of(nats_server)) as (connection, states):
        await make_stream(connection)
        await make_consumer(connection)
        await publish(connection, b"1", b"2")
        puller = Puller(connection, "S", "c")
        assert len(await read(puller, 2)) == 2
        waiting = asyncio.create_task(puller.next(10, 3600))
        await asyncio.sleep(0)
        nats_server.kill()
        with pytest.raises(jetstream.Unreachable):
            await waiting
        nats_server.start()
        await states.reach("nats_connected", times=2)
        await connection.reset_consumer("S", "c", 1)
        assert [one.data for one in await read(puller, 2)] == [b"1", b"2"]


async def test_a_reset_consumer_delivers_again_from_there_in_order_and_nothing_read_ahead_survives(connection: Connection) -> None:
    await make_stream(connection)
    await make_consumer(connection)
    await publish(connection, *(b"%d" % n for n in range(1, 6)))
    puller = Puller(connection, "S", "c")
    first = await read(puller, 3, batch=3)
    await puller.ack_all(first[-1])
    waiting = await read(puller, 2, batch=100)  # the pull stays open for 98 more
    assert [one.stream_seq for one in waiting] == [4, 5]
    await connection.reset_consumer("S", "c", 2)
    await publish(connection, b"6")
    again = await read(puller, 5)
    assert [(one.stream_seq, one.consumer_seq) for one in again] == [(2, 1), (3, 2), (4, 3), (5, 4), (6, 5)]


HOSTILE = [
    (b"s.x", b"X"),
    (b"s.x", b"NATS/1.0"),
    (b"s.x", b"NATS/1.0 503 \xff\r\n\r\n"),
    (b"s.x", b"NATS/1.0 503\r\n\r\n"),
    (b"s.x", b"NATS/1.0\r\nStatus: 503\r\n\r\n"),
    (b"s.x", b"NATS/1.0\r\nStatus: 408\r\nDescription: Request Timeout\r\n\r\n"),
    (b"s.x", b"NATS/1.0\r\nA: \xff\r\n\r\n"),
    (b"s.\xff", b"NATS/1.0\r\n\r\n"),
]


async def store_raw(server: NatsServer, subject: bytes, headers: bytes) -> None:
    """Store an empty message as no proper client would write it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await reader.readline()
    size = b"%d" % len(headers)
    writer.write(b'CONNECT {"headers":true}\r\nHPUB ' + subject + b" " + size + b" " + size + b"\r\n" + headers + b"\r\nPING\r\n")
    while await reader.readline() != b"PONG\r\n":
        pass
    writer.close()
    await writer.wait_closed()


async def test_no_message_that_the_server_stores_can_stop_the_reading(nats_server: NatsServer) -> None:
    """nats-py 2.16 ends its reading at a header block or subject that it cannot decode; a forged status must not end a pull."""
    async with connected(config_of(nats_server)) as (connection, states):
        await make_stream(connection)
        await make_consumer(connection)
        for subject, headers in HOSTILE:
            await store_raw(nats_server, subject, headers)
            assert await connection.last_message("S") is not None
        await publish(connection, b"last")
        found = await read(Puller(connection, "S", "c"), len(HOSTILE) + 1)
        assert [one.stream_seq for one in found] == list(range(1, len(HOSTILE) + 2))
        assert found[-1].data == b"last"
        assert [state for state, _ in states.told] == ["nats_connected"]


async def test_a_consumer_that_stops_answering_is_an_error(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.pulling._GRACE_S", 0.02)
    await make_stream(connection)
    await make_consumer(connection)
    puller = Puller(connection, "S", "c")
    with monkeypatch.context() as lost:
        lost.setattr(puller, "_end", lambda status, description: None)  # the server's word that the pull ended
        assert await puller.next(10, 0.02) == []
        puller._pull_ends -= 3600
        with pytest.raises(jetstream.Unreachable, match="does not answer"):
            await puller.next(10, WAIT_S)
    await publish(connection, b"1")
    assert len(await read(puller, 1)) == 1


async def test_a_reader_that_was_busy_for_long_goes_on(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a pull that came while nobody looked is no silence."""
    await make_stream(connection)
    await make_consumer(connection)
    puller = Puller(connection, "S", "c")
    assert await puller.next(10, 0.02) == []
    puller._pull_ends -= 3600
    await publish(connection, b"1")
    assert len(await read(puller, 1)) == 1


async def test_an_ack_or_a_read_without_a_connection_is_unreachable(nats_server: NatsServer) -> None:
    async with connected(config_of(nats_server)) as (connection, states):
        await make_stream(connection)
        await make_consumer(connection)
        await publish(connection, b"1")
        puller = Puller(connection, "S", "c")
        (one,) = await puller.next(1, WAIT_S)
        nats_server.kill()
        await states.reach("nats_lost")
        with pytest.raises(jetstream.Unreachable):
            await puller.ack_all(one)
        for _ in range(2):
            with pytest.raises(jetstream.Unreachable):
                await puller.next(1, 0.05)


async def test_a_reset_leaves_the_readers_of_other_consumers_alone(connection: Connection) -> None:
    await make_stream(connection)
    await make_consumer(connection, "c")
    await make_consumer(connection, "d")
    await publish(connection, b"1", b"2")
    other = Puller(connection, "S", "d")
    assert len(await read(other, 1, batch=1)) == 1
    await connection.reset_consumer("S", "c", 1)
    assert [one.stream_seq for one in await read(other, 1)] == [2]


async def test_an_ack_counts_for_everything_before_it(connection: Connection) -> None:
    await make_stream(connection)
    await make_consumer(connection)
    await publish(connection, b"1", b"2", b"3")
    puller = Puller(connection, "S", "c")
    _one, two, _three = await read(puller, 3, batch=3)
    await puller.ack_all(two)
    async with asyncio.timeout(WAIT_S):
        while (info := await connection.api("CONSUMER.INFO.S.c"))["ack_floor"]["stream_seq"] != 2:
            pass
    assert info["num_ack_pending"] == 1


async def test_the_last_message_of_an_empty_stream_is_none_and_of_none_an_error(connection: Connection) -> None:
    await make_stream(connection)
    assert await connection.last_message("S") is None
    with pytest.raises(jetstream.NotStored):
        await connection.last_message("NONE")


async def test_a_reset_of_no_consumer_is_an_error(connection: Connection) -> None:
    await make_stream(connection)
    with pytest.raises(jetstream.NotStored):
        await connection.reset_consumer("S", "c", 1)


@pytest.mark.parametrize("count", [0, 3])
async def test_a_consumer_can_be_reset_to_what_comes_next(connection: Connection, count: int) -> None:
    await make_stream(connection)
    await make_consumer(connection)
    await publish(connection, *[b"old"] * count)
    await connection.reset_consumer("S", "c", count + 1)
    await publish(connection, b"new")
    assert [one.data for one in await Puller(connection, "S", "c").next(10, WAIT_S)] == [b"new"]


async def test_a_consumer_can_be_reset_before_the_first_message_that_is_left(connection: Connection) -> None:
    await make_stream(connection, max_msgs=1)
    await make_consumer(connection)
    await publish(connection, b"1", b"2", b"3")
    await connection.reset_consumer("S", "c", 1)
    assert [one.stream_seq for one in await Puller(connection, "S", "c").next(10, WAIT_S)] == [3]


async def test_two_processes_read_their_own_replies(nats_server: NatsServer) -> None:
    async with connected(config_of(nats_server), "a") as (a, _), connected(config_of(nats_server), "b.*") as (b, _):
        await make_stream(a)
        acks = await asyncio.gather(*(one.publish("s.x", b"", {}, WAIT_S) for one in (a, b) * 20))
        assert sorted(ack.seq for ack in acks) == list(range(1, 41))
