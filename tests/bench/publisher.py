"""publisher: deciding, recording and publishing taken apart, in one process, each beside its floor.

A round: 250 agents of 10,000 change with each input. The decisions are recorded in the ledger, then the full outbox is published. The
floors take the very rows by a bare executemany, and the very sealed messages in bare atomic batches.
"""

import itertools
import logging
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from relay import decide, seal, stored
from relay.books import LEDGER, Books
from relay.events import Message
from relay.fleet import Fleet, Heard, Policy
from relay.keeper import Keeper
from relay.ledger import Kept, Ledger
from relay.publish import EVENTS, Publisher
from relay.traces import Traces
from shared import health, jetstream, jsapi, telemetry, wire
from shared.backoff import Backoff
from shared.guard import Guard, Signs, Words
from shared.tracing import OFF
from tests.bench import floors, ledgers
from tests.bench.figures import Bar, Figure
from tests.bench.parts import Bench
from tests.bench.stage import SIGNATURES, Stage
from tests.bench.voices import CLOCK, Cluster
from tests.relay.rig import PREFIX

NAME: Final = "publisher"
HELP: Final = "deciding, recording and publishing apart, each beside its floor, on SQLite and PostgreSQL"

AGENTS: Final = 10_000
CHANGED: Final = 250  # agents of one input


@dataclass(slots=True)
class Timed:
    """What one kind of ledger measured, by round: things a second."""

    decided: list[float] = field(default_factory=list)
    recorded: list[float] = field(default_factory=list)
    inserted: list[float] = field(default_factory=list)
    published: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    in_turn: list[float] = field(default_factory=list)  # events, all three steps one after the other
    bare_in_turn: list[float] = field(default_factory=list)


class Desk:
    """A relay's fleet and ledger, fed by hand."""

    def __init__(self, book: Ledger) -> None:
        self.book, self.fleet, self.position = book, Fleet("bench", Policy()), 0

    def hear(self, snapshot: wire.Snapshot) -> tuple[float, float, Sequence[Message]]:
        """(seconds deciding, seconds recording, messages) of one snapshot."""
        self.position += 1
        payload = wire.encode(snapshot)
        began = time.perf_counter()
        given = Heard(self.position, snapshot.taken_at, snapshot.taken_at, wire.decode(payload))
        decision = decide.decide(self.fleet, given, self.fleet.fold(given), PREFIX)
        decided = time.perf_counter()
        self.book.record(decision, self.fleet, Kept(snapshot.node, given.position, given.now, given.sent_at, snapshot.kind, payload))
        recorded = time.perf_counter()
        self.fleet.settle(decision)
        return decided - began, recorded - decided, decision.messages


async def measure(bench: Bench) -> AsyncIterator[Figure]:
    """Each step's pace, and what the machine could do at best."""
    for kind, signature in itertools.product(ledgers.KINDS[:1] if bench.quick else ledgers.KINDS, SIGNATURES):
        directory = bench.place(f"publisher-{kind}-{signature}")
        with ledgers.opened(kind, directory) as url:
            timed = await _timed(bench, directory, url, f"{kind}, {signature}")
        if signature == "HMAC":
            if kind == "SQLite":
                yield Figure(NAME, "decide", "events/s", tuple(timed.decided))
            yield Figure(
                NAME, f"record, {kind}", "messages/s", tuple(timed.recorded), tuple(timed.inserted), "bare executemany",
                note="a recorded message also brings its agent, its history and its snapshot" if kind == "SQLite" else "",
            )  # fmt: skip
            yield Figure(
                NAME, f"decide, record and publish in turn, {kind}", "events/s", tuple(timed.in_turn), tuple(timed.bare_in_turn),
                "bare executemany, then bare batches", note="one process can do no better: nothing is decided or signed there",
            )  # fmt: skip
        yield Figure(
            NAME, f"publish, {signature}, {kind}", "messages/s", tuple(timed.published), tuple(timed.bare), "bare atomic batches",
            Bar("at least", 0.6, "ratio") if signature == "HMAC" else None,
        )  # fmt: skip


async def _timed(bench: Bench, directory: Path, url: str, what: str) -> Timed:
    agents, timed = (1_000, Timed()) if bench.quick else (AGENTS, Timed())
    async with Stage(directory, "node01", signature=what.rpartition(" ")[2]) as stage, stage.rig.client() as client:
        book = Ledger.open(url)
        book.lease.take()
        desk, cluster = Desk(book), Cluster(1, agents)
        for snapshot in cluster.fulls():
            desk.hear(snapshot)
        await _publish(stage, book)  # the baseline's one batch
        for number in range(bench.rounds + 1):
            bench.say(f"publisher: {what}: round {number} of {bench.rounds}")
            await _round(desk, cluster, stage, client, timed if number else Timed(), url, directory)  # the first is a warm-up
        book.close()
    return timed


async def _round(desk: Desk, cluster: Cluster, stage: Stage, client: Any, timed: Timed, url: str, directory: Path) -> None:
    before, deciding, recording = desk.book.last_sequence(), 0.0, 0.0
    messages: list[tuple[int, Message]] = []
    change = cluster.stop if cluster.voices[0].rows[1].status == "active" else cluster.back
    cluster.moment += 1
    for start in range(1, cluster.agents + 1, CHANGED):
        for snapshot in change(range(start, min(start + CHANGED, cluster.agents + 1))):
            decided, recorded, made = desk.hear(snapshot)
            deciding, recording = deciding + decided, recording + recorded
            messages += [(desk.position, message) for message in made]
    timed.decided.append(cluster.agents / deciding)
    timed.recorded.append(len(messages) / recording)
    rows = [(n, at, m.subject, m.message_id, stored.headers_text(m.headers), m.body) for n, (at, m) in enumerate(messages, before + 1)]
    timed.inserted.append(len(rows) / floors.insert(url, directory, rows, 2 * CHANGED + 1))
    sealed = [jsapi.Message(*seal.seal(m, number, at, stage.signer)) for number, (at, m) in enumerate(messages, before + 1)]
    await floors.stream(client, "floor.>")
    timed.bare.append(len(sealed) / await floors.publish(client, sealed, "floor."))
    timed.published.append(len(sealed) / await _publish(stage, desk.book))
    timed.in_turn.append(cluster.agents / (deciding + recording + len(sealed) / timed.published[-1]))
    timed.bare_in_turn.append(cluster.agents / (len(sealed) / timed.inserted[-1] + len(sealed) / timed.bare[-1]))


async def _publish(stage: Stage, book: Ledger) -> float:
    """Seconds from a full outbox to an empty one, by the product's own publisher."""
    metrics, readiness = telemetry.Telemetry("relay"), health.Readiness("events", "ledger")

    def guard(words: Words) -> Guard:
        return Guard(words, Signs(readiness, metrics, logging.getLogger("bench")), CLOCK, Backoff(jitter=random.random))

    connection = jetstream.Connection(stage.rig.settings.nats, "bench", lambda *_: None)
    await connection.start()
    await connection.client()
    books = Books(guard(LEDGER))
    publisher = Publisher(
        connection, books, book, Keeper(books, book, metrics, 1 << 30), stage.signer, ("WAZUH_EVENTS", "wazuh.security.manager_events"),
        guard(EVENTS), floors.BATCH, metrics, CLOCK, Traces(OFF, "wazuh", CLOCK),
    )  # fmt: skip
    publisher.finish()
    began = time.perf_counter()
    await publisher.run()
    spent = time.perf_counter() - began
    books.close()
    await connection.close()
    return spent
