"""Laws of publishing: the outbox's order, each message once, and nothing that holds up the rest."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client

from relay import publish, session
from relay.books import LEDGER, Books
from relay.decided import Decision
from relay.events import Message
from relay.fleet import Fleet
from relay.keeper import Keeper
from relay.ledger import Ledger
from relay.publish import Publisher, cut
from relay.stored import Outgoing
from relay.traces import Traces
from shared import jetstream, jsapi, sealing
from shared.clock import SystemClock
from shared.errors import Stop
from shared.telemetry import Telemetry
from shared.tracing import OFF
from tests.guards import guard
from tests.nats_server import NatsServer
from tests.relay.rig import DEADLINE_S, Rig
from tests.soak.links import Links

SIGNER = sealing.MessageSigner(sealing.Key(b"r" * 32))


@pytest.fixture
async def rig(tmp_path: Path, nats_server: NatsServer) -> Rig:
    made = Rig(tmp_path, nats_server)
    await made.provision()
    return made


def message(name: str, body: bytes | None = None) -> Message:
    return Message("wazuh.agent.001.status", name, body or b'{"event_id":"%s"}' % name.encode(), {})


class Bench:
    """A ledger with an outbox, and its publisher."""

    def __init__(self, rig: Rig, client: Client, connection: jetstream.Connection, batch_messages: int) -> None:
        self.rig = rig
        self.client = client
        self.metrics = Telemetry("relay")
        self.books = Books(guard(LEDGER))
        self.ledger = Ledger.open(rig.settings.relay.ledger_url)
        self.publisher = Publisher(
            connection, self.books, self.ledger, Keeper(self.books, self.ledger, self.metrics, 4 << 20), SIGNER,
            ("WAZUH_EVENTS", "wazuh.security.manager_events"), guard(publish.EVENTS), batch_messages, self.metrics, SystemClock(),
            Traces(OFF, "wazuh", SystemClock()),
        )  # fmt: skip
        self._position = 0

    def decided(self, *messages: Message) -> None:
        self._position += 1
        self.ledger.record(Decision(self._position, 0, (), (), (), messages, 0, None, True), Fleet(""), None)
        self.publisher.decided(self._position, SystemClock().now_ms(), SystemClock().now_ms())

    async def drain(self) -> list[str]:
        """The message ids in EVENTS, once the outbox is empty."""
        self.publisher.finish()
        async with asyncio.timeout(DEADLINE_S):
            await self.publisher.run()
        return await self.ids()

    async def ids(self) -> list[str]:
        return [one.headers["Nats-Msg-Id"] for one in await self.rig.stored(self.client)]


@asynccontextmanager
async def bench(rig: Rig, batch_messages: int = 4, kind: type[jetstream.Connection] | None = None) -> AsyncIterator[Bench]:
    async with rig.client() as client, session.connected(rig.settings, "test") as connection:
        if kind is not None:
            connection.__class__ = kind
        made = Bench(rig, client, connection, batch_messages)
        try:
            yield made
        finally:
            made.books.close()
            made.ledger.close()


async def test_the_outbox_is_published_in_its_order_and_forgotten(rig: Rig) -> None:
    names = [f"m{number}:status" for number in range(30)]
    async with bench(rig) as on:
        on.decided(*map(message, names[:20]))
        on.decided(*map(message, names[20:]))
        assert await on.drain() == names
        assert (on.ledger.outbox(10), on.ledger.sent_through()) == ([], 30)
        assert "relay_latency_seconds_count 2.0" in on.metrics.text().decode()


async def test_who_waits_is_woken(rig: Rig) -> None:
    async with bench(rig) as on:
        task = asyncio.create_task(on.publisher.run())
        on.decided(message("first"))
        async with asyncio.timeout(DEADLINE_S):
            while on.ledger.sent_through() < 1:
                await asyncio.sleep(0.01)
        on.decided(message("second"))
        on.publisher.finish()
        async with asyncio.timeout(DEADLINE_S):
            await task
        assert await on.ids() == ["first", "second"]


class LostAck(jetstream.Connection):
    """Stores every second batch without telling."""

    calls = 0

    async def publish_batch(self, messages: Sequence[jsapi.Message], timeout: float, expected_last: int | None = None) -> jsapi.PubAck:
        ack = await super().publish_batch(messages, timeout, expected_last)
        LostAck.calls += 1
        if LostAck.calls % 2:
            raise jsapi.Timeout("no answer")
        return ack


async def test_a_batch_whose_ack_was_lost_is_not_sent_again(rig: Rig) -> None:
    names = [f"m{number}" for number in range(20)]
    async with bench(rig, kind=LostAck) as on:
        on.decided(*map(message, names))
        assert await on.drain() == names
        assert [one.headers["Wazuh-Outbox-Sequence"] for one in await rig.stored(on.client)] == [str(n) for n in range(1, 21)]


class Watched(jetstream.Connection):
    """Notes what each batch expected."""

    expected: list[int | None] = []

    async def publish_batch(self, messages: Sequence[jsapi.Message], timeout: float, expected_last: int | None = None) -> jsapi.PubAck:
        self.expected.append(expected_last)
        return await super().publish_batch(messages, timeout, expected_last)


async def test_no_batch_is_sent_without_an_expectation_whenever_the_connection_was_lost(rig: Rig) -> None:
    """Not even one that was being made ready meanwhile: it may be a stale writer's."""
    names = [f"m{number}" for number in range(8 * publish.CHUNK)]
    Watched.expected.clear()
    async with bench(rig, 2 * publish.CHUNK, kind=Watched) as on:
        on.decided(*map(message, names))
        draining = asyncio.create_task(on.drain())
        for _ in range(3000):
            on.publisher.doubt()
            await asyncio.sleep(0)
        assert await draining == names
    assert Watched.expected
    assert None not in Watched.expected


class Doubled(jetstream.Connection):
    """Sends every batch twice, as one that believes itself lost."""

    async def publish_batch(self, messages: Sequence[jsapi.Message], timeout: float, expected_last: int | None = None) -> jsapi.PubAck:
        await super().publish_batch(messages, timeout, expected_last)
        return await super().publish_batch(messages, timeout, expected_last)


async def test_a_batch_sent_twice_is_stored_once(rig: Rig) -> None:
    names = [f"m{number}" for number in range(6)]
    async with bench(rig, kind=Doubled) as on:
        on.decided(*map(message, names))
        assert await on.drain() == names


async def in_one_chain(on: Bench) -> bool:
    """Also where one message stands for another."""
    links = Links()
    return not any(links.take(one.subject, one.headers, one.fields, follows=True) for one in await on.rig.stored(on.client))


async def test_what_should_stand_for_a_message_may_be_refused_too(rig: Rig) -> None:
    """Then there is a hole, and the rest goes on."""
    async with bench(rig) as on:
        node = b'{"manager_node":"%s"}' % (b"x" * (1 << 20))
        on.decided(message("a"), message("huge", node), message("b"))
        assert await on.drain() == ["a", "b"]
        assert on.ledger.sent_through() == 3
        assert len(on.ledger.shelf.kept(10)) == 1


async def test_a_message_too_large_is_left_out_and_the_rest_goes_on(rig: Rig) -> None:
    async with bench(rig) as on:
        on.decided(message("a"), message("huge", b'{"x":"%s"}' % (b"x" * (1 << 20))), message("b"), message("c"))
        assert await on.drain() == ["a", "huge:left_out", "b", "c"]
        assert await in_one_chain(on)
        assert 'publish_batches_total{outcome="too_large"} 1.0' in on.metrics.text().decode()
        assert on.ledger.sent_through() == 4
        (kept,) = on.ledger.shelf.kept(10)
        assert (kept.position, kept.subject, kept.reason) == (1, "wazuh.agent.001.status", "too_large")
        assert (kept.headers, len(kept.payload)) == ({"Nats-Msg-Id": "huge", "Wazuh-Outbox-Sequence": "2"}, 8 + (1 << 20))


async def test_a_message_that_the_stream_knows_already_is_left_out_alone(rig: Rig) -> None:
    async with bench(rig) as on:
        await on.client.jetstream().publish("wazuh.agent.001.status", b"", headers={"Nats-Msg-Id": "b", "Wazuh-Outbox-Sequence": "0"})
        on.decided(message("a"), message("b"), message("c"))
        assert await on.drain() == ["b", "a", "b:left_out", "c"]
        assert 'publish_batches_total{outcome="duplicate"} 1.0' in on.metrics.text().decode()


async def test_whose_sequence_another_ledger_wrote_stops(rig: Rig) -> None:
    """The same outbox sequence with another message: two ledgers publish."""
    async with bench(rig) as on:
        await on.client.jetstream().publish("wazuh.agent.001.status", b"", headers={"Nats-Msg-Id": "other", "Wazuh-Outbox-Sequence": "1"})
        on.decided(message("a"))
        with pytest.raises(Stop, match="is not of this relay's ledger"):
            await on.drain()
        assert await on.ids() == ["other"]


async def test_an_emptied_stream_goes_on_at_its_end(rig: Rig) -> None:
    """The oldest events leave the stream one day, and with them all, if nothing happens for so long."""
    async with bench(rig) as on:
        on.decided(message("a"), message("b"))
        await on.drain()
        await on.client.jetstream().delete_stream("WAZUH_EVENTS")
        await rig.provision()
        on.publisher.doubt()
        on.decided(message("c"))
        assert await on.drain() == ["c"]


async def test_what_is_decided_while_the_end_comes_is_still_published(rig: Rig) -> None:
    """The outbox was found empty, then a message came, then the end was asked for."""
    async with bench(rig) as on:
        outbox = on.ledger.outbox

        def late(limit: int, after: int = 0) -> list[Outgoing]:
            found = outbox(limit, after)
            if not found and on.ledger.last_sequence() == 0:
                on.decided(message("late"))
            return found

        on.ledger.outbox = late  # type: ignore[method-assign]
        assert await on.drain() == ["late"]


# cut ----------------------------------------------------------------------------------------------------------------


def outgoing(*bodies: bytes) -> list[Outgoing]:
    return [Outgoing(number, 1, Message("s", f"m{number}", body, {})) for number, body in enumerate(bodies, start=1)]


@pytest.mark.parametrize(
    ("bodies", "most", "expected"),
    [
        ((b"a", b"b", b"c"), 2, 2),
        ((b"a", b"b"), 5, 2),
        ((b"a", b"b", b"b"), 2, 1),  # the messages of one event stay together
        ((b"a", b"a", b"b"), 2, 2),
        ((b"a", b"a"), 1, 1),  # unless one by one is asked for
    ],
)
def test_a_batch_ends_between_events(bodies: tuple[bytes, ...], most: int, expected: int) -> None:
    assert len(cut(outgoing(*bodies), most)) == expected


def test_a_batch_is_bounded_in_bytes_and_never_empty() -> None:
    large = [bytes([number]) * (publish.BATCH_BYTES // 2) for number in range(4)]
    assert len(cut(outgoing(*large), 100)) == 1
    assert len(cut(outgoing(b"x" * (2 * publish.BATCH_BYTES)), 100)) == 1
