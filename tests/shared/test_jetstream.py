"""The connection against a real nats-server: what is published is acked once, and no state of the server ends it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared import jetstream, link
from shared.config import NatsConfig
from shared.errors import ConfigError
from shared.jetstream import Connection, Puller
from tests.nats_server import NatsServer
from tests.shared.jetstream_lab import WAIT_S, States, batch, config_of, connected, make_consumer, make_stream, publish, read


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connected(config_of(nats_server)) as (connection, _):
        yield connection


# Publishing ---------------------------------------------------------------------------------------------------------


async def test_a_published_message_is_acked_with_its_place(connection: Connection) -> None:
    await make_stream(connection)
    assert await connection.publish("s.x", b"one", {"A": "b"}, WAIT_S) == jetstream.PubAck("S", 1, duplicate=False)
    stored = await connection.last_message("S")
    assert stored is not None
    assert (stored.subject, stored.headers, stored.data, stored.seq) == ("s.x", {"A": "b"}, b"one", 1)


async def test_the_same_message_id_is_stored_once(connection: Connection) -> None:
    await make_stream(connection)
    for duplicate in (False, True):
        ack = await connection.publish("s.x", b"one", {"Nats-Msg-Id": "1"}, WAIT_S)
        assert ack == jetstream.PubAck("S", 1, duplicate)


@pytest.mark.parametrize("count", [1, 500])
async def test_a_batch_is_stored_whole_and_in_order_behind_the_expected_sequence(connection: Connection, count: int) -> None:
    await make_stream(connection)
    await publish(connection, b"before")
    ack = await connection.publish_batch(batch(count), WAIT_S, expected_last=1)
    assert (ack.stream, ack.seq) == ("S", 1 + count)
    await make_consumer(connection)
    found = await read(Puller(connection, "S", "c"), 1 + count)
    assert [one.data for one in found] == [b"before", *(b"%d" % n for n in range(count))]


async def test_a_batch_behind_another_sequence_than_expected_is_refused_and_tells_the_last(connection: Connection) -> None:
    await make_stream(connection)
    await publish(connection, b"1", b"2")
    with pytest.raises(jetstream.WrongLastSequence) as refused:
        await connection.publish_batch(batch(3), WAIT_S, expected_last=1)
    assert (refused.value.code, refused.value.last) == (10071, 2)
    assert (await connection.stream_info("S"))["state"]["messages"] == 2


async def test_a_batch_with_a_known_id_is_refused_whole(connection: Connection) -> None:
    await make_stream(connection)
    await connection.publish_batch(batch(3), WAIT_S, expected_last=0)
    with pytest.raises(jetstream.DuplicateInBatch):
        await connection.publish_batch(batch(3, first=2), WAIT_S, expected_last=3)
    assert (await connection.stream_info("S"))["state"]["messages"] == 3


async def test_a_missing_stream_is_not_stored_until_it_appears(connection: Connection) -> None:
    with pytest.raises(jetstream.NotStored):
        await connection.publish("s.x", b"", {}, WAIT_S)
    with pytest.raises(jetstream.NotStored):
        await connection.publish_batch(batch(2), WAIT_S)
    with pytest.raises(jetstream.NotStored):
        await connection.stream_info("S")
    await make_stream(connection)
    assert (await connection.publish("s.x", b"", {}, WAIT_S)).seq == 1


async def test_a_full_stream_is_told(connection: Connection) -> None:
    await make_stream(connection, max_msgs=1, discard="new")
    await publish(connection, b"1")
    with pytest.raises(jetstream.StreamFull):
        await publish(connection, b"2")


async def test_a_stream_without_atomic_batches_refuses_with_its_code(connection: Connection) -> None:
    await make_stream(connection, allow_atomic=False)
    with pytest.raises(jetstream.Refused) as refused:
        await connection.publish_batch(batch(2), WAIT_S)
    assert refused.value.code == 10174


async def test_what_is_too_large_with_its_headers_is_refused_here_and_the_connection_stands(connection: Connection) -> None:
    await make_stream(connection)
    limit = (await connection.client()).max_payload
    with pytest.raises(jetstream.TooLarge):
        await connection.publish("s.x", bytes(limit - 8000), {"A": "x" * 8000}, WAIT_S)
    assert (await connection.publish("s.x", bytes(limit - 8000), {"A": "x"}, WAIT_S)).seq == 1


async def test_what_the_stream_finds_too_large_is_refused_for_good(connection: Connection) -> None:
    await make_stream(connection, max_msg_size=10)
    with pytest.raises(jetstream.TooLarge):
        await connection.publish("s.x", bytes(100), {}, WAIT_S)


async def test_an_answer_that_is_not_from_jetstream_is_unreachable(connection: Connection) -> None:
    client = await connection.client()

    async def answer(message: object) -> None:
        await client.publish(message.reply, b"\x00 not json")  # type: ignore[attr-defined]

    await client.subscribe("x.y", cb=answer)
    with pytest.raises(jetstream.Unreachable):
        await connection.publish("x.y", b"", {}, WAIT_S)


async def test_no_answer_is_a_timeout(connection: Connection) -> None:
    client = await connection.client()
    await client.subscribe("x.y")
    with pytest.raises(jetstream.Timeout):
        await connection.publish("x.y", b"", {}, 0.05)


# Life ---------------------------------------------------------------------------------------------------------------


async def test_the_same_connection_works_again_after_the_server_was_killed(nats_server: NatsServer) -> None:
    async with connected(config_of(nats_server)) as (connection, states):
        await make_stream(connection)
        await publish(connection, b"1")
        nats_server.kill()
        await states.reach("nats_lost")
        with pytest.raises(jetstream.Unreachable):
            await connection.publish("s.x", b"2", {}, 0.05)
        nats_server.start()
        assert (await connection.publish("s.x", b"2", {}, WAIT_S)).seq == 2


async def test_a_connection_outlives_more_failed_attempts_than_one_client_has(nats_server: NatsServer) -> None:
    async with connected(config_of(nats_server, max_reconnects=1)) as (connection, states):
        await make_stream(connection)
        nats_server.kill()
        await states.reach("nats_rebuilt")
        nats_server.start()
        await states.reach("nats_connected", times=2)
        await publish(connection, b"1")


async def test_a_server_that_is_not_there_yet_is_waited_for(nats_server: NatsServer) -> None:
    nats_server.kill()
    async with connected(config_of(nats_server, max_reconnects=1)) as (connection, states):
        await states.reach("nats_error")
        assert not connection.is_connected
        nats_server.start()
        await make_stream(connection)
        await publish(connection, b"1")


async def test_an_open_request_fails_at_once_when_the_connection_breaks(nats_server: NatsServer) -> None:
    async with connected(config_of(nats_server)) as (connection, _):
        client = await connection.client()
        asked = asyncio.Event()

        async def ask_nobody(_: object) -> None:
            asked.set()

        await client.subscribe("x.y", cb=ask_nobody)
        request = asyncio.create_task(connection.publish("x.y", b"", {}, 3600))
        async with asyncio.timeout(WAIT_S):
            await asked.wait()
            nats_server.kill()
            with pytest.raises(jetstream.Timeout):
                await request


async def test_a_client_that_the_server_closed_for_good_is_replaced(nats_server: NatsServer) -> None:
    async with connected(config_of(nats_server)) as (connection, states):
        await make_stream(connection)
        client = await connection.client()
        await client.publish("s.x", bytes(client.max_payload), headers={"A": "x"})
        await states.reach("nats_rebuilt")
        await publish(connection, b"1")
        assert await connection.client() is not client


def users(password: str) -> str:
    return f'authorization {{ users: [ {{ user: "u", password: "{password}" }} ] }}'


async def test_a_rotated_password_is_read_again(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", users("first"))
    secret = tmp_path / "credentials"
    secret.touch(mode=0o600)
    secret.write_text("u:first\n")
    try:
        async with connected(config_of(server, credentials_file=secret)) as (connection, states):
            await make_stream(connection)
            server.reload(users("second"))
            await states.reach("nats_rebuilt")
            secret.write_text("u:second\n")
            await publish(connection, b"1")
            assert "first" not in str(states.told)
            assert "second" not in str(states.told)
    finally:
        server.kill()


async def test_a_frozen_server_is_a_timeout(nats_server: NatsServer) -> None:
    async with connected(config_of(nats_server)) as (connection, _):
        await make_stream(connection)
        nats_server.pause()
        try:
            with pytest.raises(jetstream.Timeout):
                await connection.publish("s.x", b"1", {"Nats-Msg-Id": "1"}, 0.1)
        finally:
            nats_server.resume()
        assert (await connection.publish("s.x", b"1", {"Nats-Msg-Id": "1"}, WAIT_S)).seq == 1


async def test_tls_that_was_asked_for_is_never_given_up(nats_server: NatsServer) -> None:
    """nats-py would go on in the clear, credentials included."""
    url = nats_server.url.replace("nats://", "tls://")
    async with connected(config_of(nats_server, url=url)) as (connection, states):
        await states.reach("nats_error")
        with pytest.raises(jetstream.Unreachable):
            await connection.publish("s.x", b"", {}, 0.1)
        assert "nats_connected" not in [state for state, _ in states.told]


class OddServer:
    """Says one thing to each client, and counts them."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        self.clients = asyncio.Queue[int]()
        self._served: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> "OddServer":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._served)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.put_nowait(1)
        self._served.add(asyncio.create_task(self._serve(writer)))

    async def _serve(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self._said)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400\r\n", b"INFO \r\n", b"INFO {}\r\n", b"INFO []\r\n", b"INFO " + b"x" * 200_000, b"INFO {}\r\n-ERR 'no'\r\n"]
)
async def test_a_server_that_talks_nonsense_is_tried_again(said: bytes) -> None:
    states = States()
    async with OddServer(said) as server:
        connection = Connection(NatsConfig(url=server.url, reconnect_delay=0.01, max_reconnects=1), "test", states, jitter=lambda: 0.0)
        await connection.start()
        try:
            async with asyncio.timeout(WAIT_S):
                for _ in range(5):
                    await server.clients.get()
                await states.reach("nats_error")
        finally:
            await connection.close()
    assert "nats_connected" not in [state for state, _ in states.told]


async def test_a_client_that_is_stuck_is_given_up(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_WATCH_S", 0.01)
    monkeypatch.setattr(link, "_STUCK_S", 0.01)
    monkeypatch.setattr(link, "_CONNECT_TIMEOUT_S", 0.5)
    async with connected(config_of(nats_server, max_reconnects=1)) as (connection, states):
        client = await connection.client()
        client._status = client.RECONNECTING  # and no task that does it
        await states.reach("nats_rebuilt")
        assert await connection.client() is not client
        await connection.api("INFO")


async def test_replies_come_to_this_process_own_prefix(connection: Connection) -> None:
    client = await connection.client()
    replies: asyncio.Queue[str] = asyncio.Queue()

    async def note(message: object) -> None:
        await replies.put(message.reply)  # type: ignore[attr-defined]

    await client.subscribe("x.y", cb=note)
    with pytest.raises(jetstream.Timeout):
        await connection.publish("x.y", b"", {}, 0.05)
    assert (await replies.get()).startswith("_INBOX_test.")


async def test_credentials_that_cannot_be_used_stop_the_start(nats_server: NatsServer, tmp_path: Path) -> None:
    connection = Connection(config_of(nats_server, credentials_file=tmp_path / "none"), "test", States())
    with pytest.raises(ConfigError):
        await connection.start()
    await connection.close()


@pytest.mark.parametrize("away", [True, False])
async def test_close_is_quick_whether_the_server_is_there_or_away(nats_server: NatsServer, *, away: bool) -> None:
    states = States()
    connection = Connection(config_of(nats_server, reconnect_delay=60, max_reconnects=1000), "test", states)
    await connection.start()
    await states.reach("nats_connected")
    if away:
        nats_server.kill()
        await states.reach("nats_lost")
    async with asyncio.timeout(WAIT_S):
        await connection.close()
    assert not connection.is_connected


async def test_a_permission_that_is_missing_is_told(tmp_path: Path) -> None:
    rights = '{ publish: ["ok.>"], subscribe: ["_INBOX_test.>"] }'
    server = NatsServer(tmp_path / "nats", f'authorization {{ users: [ {{ user: "u", password: "p", permissions: {rights} }} ] }}')
    secret = tmp_path / "credentials"
    secret.touch(mode=0o600)
    secret.write_text("u:p")
    try:
        async with connected(config_of(server, credentials_file=secret)) as (connection, states):
            with pytest.raises(jetstream.Timeout, match="permitted"):
                await connection.publish("s.x", b"", {}, 0.2)
            assert "permissions violation" in await states.reach("nats_error")
    finally:
        server.kill()
