"""What a server does to a connection, by accident or by design: it is told, nothing waits for ever, and it works again."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.errors import NoServersError

from shared import jetstream, link, login
from shared.backoff import Backoff
from shared.config import NatsConfig
from shared.errors import Transient
from shared.guard import Guard, Words
from shared.jetstream import Connection, Message, Puller
from tests.guards import guard
from tests.nats_server import NatsServer
from tests.shared.jetstream_lab import WAIT_S, States, batch, config_of, connected, make_consumer, make_stream, publish, read
from tests.shared.test_jetstream import users

RAW = Words("raw", "publish_failed", "NATS takes nothing", "publish_resumed", "NATS takes snapshots again")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-open link is noticed in a blink."""
    monkeypatch.setattr(link, "_PING_INTERVAL_S", 0.05)
    monkeypatch.setattr(link, "_WATCH_S", 0.02)
    monkeypatch.setattr(link, "_CONNECT_TIMEOUT_S", 0.3)


async def test_a_link_ends_though_a_cancellation_is_swallowed_and_its_closing_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `check` would hang for ever as its event loop ends."""
    connecting = asyncio.Event()

    async def connect(*_: object, **__: object) -> None:
        connecting.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(WAIT_S)
        raise NoServersError

    monkeypatch.setattr(login.SecureClient, "connect", connect)
    made = Connection(NatsConfig(url="nats://127.0.0.1:1"), "test", lambda _state, _detail: None)
    await made.start()
    task = made._task
    assert task is not None
    await connecting.wait()
    closing = asyncio.create_task(made.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([task], timeout=WAIT_S)
    assert task.done()


# Half-open ----------------------------------------------------------------------------------------------------------


async def test_a_link_on_which_nothing_comes_back_is_given_up(nats_server: NatsServer, quick: None) -> None:
    async with connected(config_of(nats_server)) as (connection, states):
        await make_stream(connection)
        nats_server.pause()
        await states.reach("nats_lost")
        assert not connection.is_connected
        nats_server.resume()
        await states.reach("nats_connected", times=2)
        await publish(connection, b"1")


async def test_a_link_that_takes_no_bytes_any_more_holds_nobody_up(nats_server: NatsServer, quick: None) -> None:
    """The socket is full, so that nats-py's own pings cannot be sent and its closing of it would never end."""
    async with connected(config_of(nats_server)) as (connection, states):
        await make_stream(connection)
        nats_server.pause()
        large = [Message("s.x", bytes(500_000), {"Nats-Msg-Id": f"{n}"}) for n in range(100)]
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(Transient):
                await connection.publish_batch(large, 1.0, expected_last=0)
            await states.reach("nats_lost")
        nats_server.resume()
        await states.reach("nats_connected", times=2)
        assert (await connection.publish_batch(batch(2), WAIT_S, expected_last=0)).seq == 2


async def test_a_batch_that_the_socket_does_not_take_in_time_is_not_stored(nats_server: NatsServer) -> None:
    async with connected(config_of(nats_server)) as (connection, _):
        await make_stream(connection)
        nats_server.pause()
        large = [Message("s.x", bytes(500_000), {}) for _ in range(100)]
        try:
            async with asyncio.timeout(WAIT_S):
                with pytest.raises(jetstream.Unreachable, match="nothing of it is stored"):
                    await connection.publish_batch(large, 0.2)
        finally:
            nats_server.resume()
        assert (await connection.stream_info("S"))["state"]["messages"] == 0


async def test_pings_that_wait_behind_what_cannot_be_sent_do_not_hide_a_dead_link(nats_server: NatsServer, quick: None) -> None:
    """nats-py counts a ping only when it could be queued; the watch sees that no pong came."""
    async with connected(config_of(nats_server)) as (connection, states):
        client = await connection.client()
        assert client._ping_interval_task is not None
        client._ping_interval_task.cancel()
        client._pings_outstanding = 1
        await states.reach("nats_lost")
        await states.reach("nats_connected", times=2)


# A server that is odd -----------------------------------------------------------------------------------------------


async def test_a_server_that_says_nothing_is_tried_again(quick: None) -> None:
    """A port that only takes connections; a server that wants TLS before it speaks looks the same."""
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: accepted.put_nowait(writer), "127.0.0.1", 0)
    states = States()
    url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    connection = Connection(NatsConfig(url=url, reconnect_delay=0.01, max_reconnects=1), "test", states, jitter=lambda: 0.0)
    await connection.start()
    try:
        async with asyncio.timeout(WAIT_S):
            writers = [await accepted.get() for _ in range(3)]
            await states.reach("nats_error")
    finally:
        await connection.close()
        for writer in [*writers, *(accepted.get_nowait() for _ in range(accepted.qsize()))]:
            writer.close()
        server.close()
        await server.wait_closed()
    assert "nats_connected" not in [state for state, _ in states.told]


@contextlib.asynccontextmanager
async def dismissing(error: str) -> AsyncIterator[tuple[str, asyncio.Queue[int]]]:
    """A server that takes a client and then says an error: its URL, and an item for each client."""
    clients: asyncio.Queue[int] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.put_nowait(1)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(b'INFO {"max_payload":1048576,"headers":true}\r\n')
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
            await reader.readuntil(b"SUB ")
            writer.write(f"-ERR '{error}'\r\n".encode())
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", clients


@pytest.mark.parametrize("error", ["User Authentication Expired", "Account Authentication Expired", "Maximum Connections Exceeded"])
async def test_whatever_error_closes_a_client_for_good_it_is_replaced(error: str) -> None:
    """A JWT that ran out, a server that is full: nats-py gives up on any -ERR but two, also with endless reconnects."""
    states = States()
    async with dismissing(error) as (url, clients):
        connection = Connection(NatsConfig(url=url, reconnect_delay=0.01, max_reconnects=1000), "test", states, jitter=lambda: 0.0)
        await connection.start()
        try:
            async with asyncio.timeout(WAIT_S):
                for _ in range(3):
                    await clients.get()
            await states.reach("nats_rebuilt")
        finally:
            await connection.close()
    assert any(error.lower() in detail.lower() for state, detail in states.told if state == "nats_rebuilt")


async def test_a_credentials_file_that_is_empty_for_a_moment_is_read_again(tmp_path: Path) -> None:
    """Who rotates a password may write the file in two steps."""
    server = NatsServer(tmp_path / "nats", users("first"))
    secret = tmp_path / "credentials"
    secret.touch(mode=0o600)
    secret.write_text("u:first\n")
    try:
        async with connected(config_of(server, credentials_file=secret)) as (connection, states):
            await make_stream(connection)
            secret.write_text("")
            server.reload(users("second"))
            await states.reach("nats_rebuilt")
            async with asyncio.timeout(WAIT_S):
                while not any("credentials_file" in detail for _, detail in states.told):
                    await asyncio.sleep(0.01)
            secret.write_text("u:second\n")
            await publish(connection, b"1")
    finally:
        server.kill()


async def test_a_request_that_nobody_answers_leaves_nothing_behind(nats_server: NatsServer) -> None:
    async with connected(config_of(nats_server)) as (connection, _):
        client = await connection.client()
        await client.subscribe("x.y")
        for _ in range(20):
            with pytest.raises(jetstream.Timeout):
                await connection.publish("x.y", b"", {}, 0.001)
        assert connection._handlers == {}


async def test_a_server_that_ends_in_order_is_left_and_its_return_is_found(nats_server: NatsServer) -> None:
    async with connected(config_of(nats_server)) as (connection, states):
        await make_stream(connection)
        os.kill(nats_server.pid, signal.SIGTERM)
        await states.reach("nats_lost")
        await asyncio.to_thread(nats_server.terminate)
        await asyncio.to_thread(nats_server.start)
        await states.reach("nats_connected", times=2)
        await publish(connection, b"1")


# A server that has no room ------------------------------------------------------------------------------------------


def limited(directory: Path, limits: str) -> NatsServer:
    """A server whose JetStream has limits."""
    store = directory / "nats"
    return NatsServer(store, f'jetstream {{ store_dir: "{store}/jetstream", sync_interval: always, {limits} }}')


@pytest.fixture
def small(tmp_path: Path) -> Iterator[NatsServer]:
    server = limited(tmp_path, "max_file_store: 200KB")
    yield server
    server.kill()


async def test_a_disk_that_is_full_at_the_server_is_told_and_what_waits_is_stored_once_there_is_room(small: NatsServer) -> None:
    async with connected(config_of(small)) as (connection, _):
        await make_stream(connection)
        with pytest.raises(jetstream.StreamFull, match="insufficient resources"):
            await publish(connection, *[bytes(8000)] * 100)
        with pytest.raises(jetstream.StreamFull):
            await connection.publish_batch(batch(3), WAIT_S)
        with pytest.raises(jetstream.StreamFull):
            await make_stream(connection, "T", max_bytes=10 << 20)
        await connection.api("STREAM.PURGE.S")
        last = (await connection.stream_info("S"))["state"]["last_seq"]
        assert (await connection.publish_batch(batch(3), WAIT_S, expected_last=last)).seq == last + 3


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[NatsServer]:
    server = limited(tmp_path, 'limits: { batch: { max_inflight_per_stream: 2, timeout: "300ms" } }')
    yield server
    server.kill()


async def test_where_others_hold_too_many_batches_open_ours_waits_until_they_are_abandoned(crowded: NatsServer) -> None:
    async with connected(config_of(crowded)) as (connection, _):
        await make_stream(connection)
        client = await connection.client()
        for number in range(3):
            await client.publish("s.x", b"", headers={"Nats-Batch-Id": f"b{number}", "Nats-Batch-Sequence": "1"})
        with pytest.raises(jetstream.Refused) as refused:
            await connection.publish_batch(batch(3), WAIT_S, expected_last=0)
        assert not isinstance(refused.value, jetstream.DuplicateInBatch | jetstream.WrongLastSequence)
        ack = await persistent().insist(lambda: connection.publish_batch(batch(3), WAIT_S, expected_last=0))
        assert ack.seq == 3
        assert (await connection.stream_info("S"))["state"]["messages"] == 3


async def test_a_batch_that_was_abandoned_half_way_is_refused_and_stores_nothing(crowded: NatsServer) -> None:
    async with connected(config_of(crowded)) as (connection, _):
        await make_stream(connection)
        client = await connection.client()
        first, last = ({"Nats-Batch-Id": "b", "Nats-Batch-Sequence": str(number)} for number in (1, 2))
        await client.publish("s.x", b"", headers=first)
        async with asyncio.timeout(WAIT_S):
            while (
                b"batch" not in (await client.request("s.x", b"", headers=last | {"Nats-Batch-Commit": "1"})).data
                or (await connection.stream_info("S"))["state"]["messages"]
            ):
                await connection.api("STREAM.PURGE.S")
                await client.publish("s.x", b"", headers=first)
                await asyncio.sleep(0.4)
        with pytest.raises(jetstream.Refused):
            await connection.publish("s.x", b"", last | {"Nats-Batch-Commit": "1"}, WAIT_S)


def persistent() -> Guard:
    """As the services do it: again and again, with a pause between."""
    return guard(RAW, "collector", backoff=Backoff(first=0.05, highest=0.2, jitter=lambda: 1.0))


# A cluster ----------------------------------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[dict[str, NatsServer]]:
    ports = free_ports(3)
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    servers = {
        f"n{number}": NatsServer(
            tmp_path / f"n{number}",
            f'server_name: n{number}\ncluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{routes}] }}',
        )
        for number, port in enumerate(ports)
    }
    yield servers
    for server in servers.values():
        server.kill()


async def test_an_election_is_waited_out_and_each_message_is_stored_once(cluster: dict[str, NatsServer]) -> None:
    """The leader of stream and consumer is killed: for seconds there is none, and nobody answers."""
    config = NatsConfig(url=",".join(server.url for server in cluster.values()), reconnect_delay=0.05)
    async with connected(config) as (connection, _), asyncio.timeout(60):
        trying = persistent()
        await trying.insist(lambda: make_stream(connection, num_replicas=3))
        await trying.insist(lambda: make_consumer(connection, num_replicas=3))
        await trying.insist(lambda: publish_ids(connection, range(50)))
        puller = Puller(connection, "S", "c")
        assert len(await read(puller, 50)) == 50
        leader = (await connection.stream_info("S"))["cluster"]["leader"]
        await asyncio.to_thread(cluster[leader].kill)
        await trying.insist(lambda: publish_ids(connection, range(100)))

        async def again() -> list[jetstream.Delivered]:
            await connection.reset_consumer("S", "c", 51)
            return await read(puller, 50)

        found = await trying.insist(again)
        assert [one.headers["Nats-Msg-Id"] for one in found] == [f"id{number}" for number in range(50, 100)]


async def publish_ids(connection: Connection, numbers: range) -> None:
    for number in numbers:
        await connection.publish("s.x", b"", {"Nats-Msg-Id": f"id{number}"}, 1.0)


@pytest.mark.parametrize(
    ("role", "configured", "prefix"),
    [(None, None, "_INBOX_a%2Eb"), ("relay", None, "_INBOX_relay"), ("collector-w.1", "_INBOX_siem", "_INBOX_siem")],
)
async def test_answers_come_to_the_inbox_of_the_role_or_of_the_configuration(
    tmp_path: Path, role: str | None, configured: str | None, prefix: str
) -> None:
    """The server lets nobody listen elsewhere, and a request is answered."""
    rights = f'{{ subscribe: ["{prefix}.>"] }}'
    users_of = f'authorization {{ users: [ {{ user: "u", password: "p", permissions: {rights} }} ] }}'
    server, path = NatsServer(tmp_path / "nats", users_of), tmp_path / "credentials"
    path.touch(mode=0o600)
    path.write_text("u:p")
    states = States()
    connection = Connection(config_of(server, credentials_file=path, inbox_prefix=configured), "a.b", states, jitter=lambda: 0.1, role=role)
    await connection.start()
    try:
        await make_stream(connection)
        await make_consumer(connection)
        await publish(connection, b"1")
        assert len(await read(jetstream.Puller(connection, "S", "c"), 1)) == 1
    finally:
        await connection.close()
        server.kill()
    assert "nats_error" not in [state for state, _ in states.told]
