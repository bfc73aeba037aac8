"""A ledger gives back exactly the fleet that was there, wherever the relay was interrupted."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay import ledger as ledger_module
from relay.byid import ById
from relay.database import Prepared
from relay.decided import Decision
from relay.events import Message
from relay.fleet import Fleet, Heard, Input, Ticked
from relay.ledger import Ledger
from relay.tables import Table
from shared import models, wire
from shared.errors import Stop
from shared.models import AgentRow, KeyEntry
from tests.relay import lab, ledgers
from tests.relay.lab import T0, Speaker

Interruption = Literal["", "restart", "again", "failure"]


@dataclass(frozen=True)
class Said:
    """One thing that a node says, or a tick where `node` is empty; and what befalls the relay after it."""

    node: str
    kind: wire.Kind
    rows: tuple[AgentRow, ...]
    gone: tuple[int, ...]
    keys: tuple[KeyEntry, ...]
    quiet: tuple[tuple[int, int], ...] | None
    keys_state: models.KeysState
    source_state: models.SourceState
    order: Literal["next", "repeat", "boot", "older"]
    honest: bool  # its digest is of its table
    passed: int  # seconds since what was said before
    then: Interruption
    muted: bool


IDS = st.integers(1, 4)
NEAR = st.integers(T0 - 200, T0 + 200)
ROWS = st.builds(
    AgentRow,
    id=st.integers(0, 4),
    name=st.sampled_from(["web", "db", "\0\\u0000", "ü"]),
    ip=st.sampled_from([None, "any", "10.0.0.1"]),
    status=st.sampled_from(models.CONNECTION_STATUSES),
    code=st.sampled_from([None, 0, 3, 4, 5]),
    disconnection_time=NEAR | st.just(0),
    last_keepalive=NEAR | st.none(),
    date_add=st.sampled_from([0, T0 - 1000, T0 - 10]),
    node_name=st.sampled_from(["m", "w", "unknown", None]),
)
KEYS = st.builds(KeyEntry, IDS, st.sampled_from(["web", "db"]), st.just("any"), st.booleans())


def mostly(common: str, *others: str) -> st.SearchStrategy[str]:
    return st.sampled_from([common] * 6 + list(others))


SAID = st.builds(
    Said,
    node=st.sampled_from(["m", "w", "w", "\0node", ""]),
    kind=st.sampled_from(["full", "delta", "delta", "beat"]),
    rows=st.lists(ROWS, max_size=4).map(tuple),
    gone=st.lists(IDS, max_size=2).map(tuple),
    keys=st.lists(KEYS, max_size=3).map(tuple),
    quiet=st.none() | st.lists(st.tuples(IDS, NEAR), max_size=2).map(tuple),
    keys_state=mostly("ok", "denied"),
    source_state=mostly("ok", "locked"),
    order=mostly("next", "repeat", "boot", "older"),
    honest=mostly("y", "").map(bool),
    passed=st.sampled_from([0, 1, 5, 31, 70]),
    then=mostly("", "restart", "again", "failure"),
    muted=mostly("", "y").map(bool),
)


class Node:
    """A node's collector: keeps its table, so that its digests are right."""

    def __init__(self, name: str) -> None:
        self.speaker = Speaker(name, "worker" if name == "w" else "master")

    def snapshot(self, said: Said, now: int) -> wire.Snapshot:
        speaker = self.speaker
        rows = {row.id: row for row in said.rows if row.id}
        if said.kind == "full":
            speaker.rows = rows
        elif said.kind == "delta":
            speaker.rows = {number: row for number, row in speaker.rows.items() if number not in said.gone} | rows
        speaker.boot += said.order == "boot"
        made = speaker.snapshot(said.kind, now, rows=said.rows, gone=said.gone, keys=said.keys, keys_gone=said.gone)
        return replace(
            made,
            quiet=said.quiet,
            keys_state=said.keys_state,
            source_state=said.source_state,
            boot=made.boot - (said.order == "older"),
            seq=made.seq - (said.order == "repeat"),
            digest=made.digest ^ (not said.honest),
        )


class Relay:
    """A relay that is interrupted, beside a fleet that never was."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ledger = ledgers.opened(url)
        self.view = self.ledger.restore("lab", ledgers.POLICY)
        self.memory = Fleet("lab", ledgers.POLICY)
        self.messages: list[Message] = []

    def take(self, heard: Input, then: Interruption, *, muted: bool) -> None:
        decision = ledgers.judged(self.memory, heard)
        assert ledgers.judged(self.view, heard) == decision
        kept = ledgers.kept(heard)
        if then == "failure":
            self.fail(lambda: self.ledger.record(decision, self.view, kept, muted=muted))
        for _ in range(2 if then == "again" else 1):
            self.ledger.record(decision, self.view, kept, muted=muted)
        for view in (self.memory, self.view):
            view.settle(decision)
        self.messages += () if muted else decision.messages
        if then == "restart":
            self.restart()

    def fail(self, record: Callable[[], None]) -> None:
        """The transaction breaks after the position is written, where a node's facts are written at all."""
        with mock.patch.object(self.ledger, "_upsert_nodes", Prepared("INSERT INTO nowhere VALUES (1)")), contextlib.suppress(Stop):
            record()

    def restart(self) -> None:
        self.ledger.close()
        self.ledger = ledgers.opened(self.url)
        self.view = self.ledger.restore("lab", ledgers.POLICY)
        assert self.view == self.memory
        assert list(self.view.nodes) == list(self.memory.nodes)

    def end(self) -> None:
        self.restart()
        outgoing = self.ledger.outbox(1_000_000)
        assert [out.message for out in outgoing] == self.messages
        assert [out.sequence for out in outgoing] == list(range(1, len(self.messages) + 1))
        self.ledger.close()


def everything_happens() -> list[Said]:
    """A course of events that comes by every way of storing a snapshot."""
    alive = AgentRow(1, "web", None, "active", 0, 0, T0, T0 - 1000, "m")
    entry = KeyEntry(1, "web", "any", False)
    first = Said("m", "full", (alive,), (), (entry,), ((1, T0),), "ok", "ok", "next", True, 0, "restart", False)
    stopped = alive._replace(status="disconnected", code=3, disconnection_time=T0 + 5)
    delta = replace(first, kind="delta", rows=(stopped,), keys=(), quiet=None, passed=6)
    return [
        first,
        delta,
        replace(delta, rows=(alive._replace(last_keepalive=T0 + 20),), passed=12),
        replace(first, kind="beat", quiet=()),
        replace(first, keys_state="denied", keys=(), quiet=None),
        replace(first, source_state="locked", rows=()),
        *[replace(delta, rows=(alive._replace(last_keepalive=T0 + 40 + n),), passed=5) for n in range(5)],
        replace(first, kind="delta", rows=(), gone=(1,)),
    ]


@pytest.mark.unmeasured
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(SAID, min_size=1, max_size=20))
@example(everything_happens())
def test_what_is_restored_is_the_fleet_that_was_there_and_decides_the_same(fresh: Callable[[], str], course: list[Said]) -> None:
    with mock.patch.object(ledger_module, "CROWDED", 3):
        relay, nodes, now = Relay(fresh()), dict[str, Node](), T0
        for position, said in enumerate(course, start=1):
            now += said.passed
            given_: Input = Ticked(position, now * 1000)
            if said.node:
                snapshot = nodes.setdefault(said.node, Node(said.node)).snapshot(said, now)
                given_ = Heard(position, now * 1000, snapshot.taken_at, snapshot)
            relay.take(given_, said.then, muted=said.muted)
        relay.end()


def test_what_is_stored_of_a_node_is_one_full_and_the_deltas_since_however_many_come(url: str) -> None:
    with mock.patch.object(ledger_module, "CROWDED", 4):
        desk = ledgers.settled(ledgers.opened(url))
        stored = []
        for second in range(1, 12):
            ledgers.stop(desk, 1 + second % 2, T0 + second)
            with desk.ledger._database.read() as connection:
                stored.append(connection.exec_driver_sql("SELECT count(*) FROM snapshots").scalar())
        assert stored == [2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4]
        assert desk.ledger.restore("lab", ledgers.POLICY) == desk.fleet
        desk.ledger.close()


@pytest.mark.parametrize("facts", [{"proved": False}, {"source_state": "locked"}])
def test_a_full_that_was_not_taken_at_its_word_is_stored_as_what_was_made_of_it(url: str, facts: dict[str, Any]) -> None:
    desk = ledgers.settled(ledgers.opened(url))
    speaker, view = desk.speakers["m"], desk.fleet
    believed = ById(view.tables["m"].rows)
    speaker.rows = {}
    heard = Heard(2, (T0 + 1) * 1000, (T0 + 1) * 1000, speaker.snapshot("full", T0 + 1))
    decision = ledgers.judged(view, heard)
    view.tables["m"] = Table(believed, digest=sum(map(models.row_digest, believed.values())) % models.DIGEST_MODULUS)
    view.nodes["m"] = replace(view.nodes["m"], **facts)
    desk.ledger.record(decision, view, ledgers.kept(heard))
    assert desk.ledger.restore("lab", ledgers.POLICY).tables == view.tables
    desk.ledger.close()


def test_a_fleet_that_nobody_spoke_of_is_empty(url: str) -> None:
    ledger = ledgers.opened(url)
    assert ledger.restore("lab", ledgers.POLICY) == Fleet("lab", ledgers.POLICY)
    ledger.close()


class Witnessed(ledgers.Desk):
    """A desk whose ledger is asked for the fleet after each step, and what that fleet held so far."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.seen: set[str] = set()

    def step(self, given: Input) -> Decision:
        decision = super().step(given)
        view = self.ledger.restore("lab", ledgers.POLICY)
        assert view == self.fleet
        self.seen |= {"move" for agent in view.agents.values() if agent.moving is not None}
        self.seen |= {"overdue" for agent in view.agents.values() if agent.overdue is not None}
        self.seen |= {"refused" for agent in view.agents.values() if agent.refused}
        self.seen |= {"told ghost" if ghost.told else "ghost" for ghost in view.ghosts.values()}
        for manager in view.managers.values():
            flags = (manager.reset_at, manager.unreachable, manager.clock_off, manager.twin_at, manager.last_event_id)
            names = ("reset", "unreachable", "clock off", "twin", "manager told")
            self.seen |= {name for name, flag in zip(names, flags, strict=True) if flag}
        return decision


def test_ghosts_managers_moves_silences_and_refusals_come_back_as_they_were(url: str) -> None:
    desk = Witnessed(ledgers.opened(url))
    desk.node("m", "master")
    desk.node("w1", "worker")
    desk.node("w\0", "worker", skew=40)
    here = [lab.row(n, "active", T0, node="w1", added=0) for n in (1, 2, 3)]
    desk.full("w1", here, T0)
    desk.full("w\0", [lab.row(n, "never_connected", added=0) for n in (1, 2, 3)], T0)
    desk.full("m", [lab.row(n, "active", T0, node="w1") for n in (1, 2, 3)], T0)
    desk.delta("w\0", lab.row(1, "active", T0 + 50, node="w\0", added=0), now=T0 + 10)  # a move in the making
    desk.delta("m", now=T0 + 12, gone=[2], gone_keys=[2])  # w1 does not know
    desk.delta("w1", lab.row(3, "active", T0 + 12, code=1, node="w1", added=0), now=T0 + 13)
    for now in range(T0 + 15, T0 + 100, 5):
        desk.beats(now, {"w1": {1: T0, 3: T0 + 12}, "w\0": {1: T0 + 50 + 40}, "m": {1: T0, 3: T0 + 12}})
    desk.speakers["w1"].boot, desk.speakers["w1"].seq = 0, 0
    desk.beat("w1", T0 + 100)
    desk.speakers["w1"].boot, desk.speakers["w1"].seq = 2, 0
    desk.delta("w1", lab.row(3, "disconnected", T0 + 12, code=5, dt=T0 + 101, node="w1", added=0), now=T0 + 101)
    for now in range(T0 + 105, T0 + 150, 5):
        desk.beat("m", now, {}), desk.tick(now)
    assert desk.seen == {
        "move", "overdue", "refused", "ghost", "told ghost", "reset", "unreachable", "clock off", "twin", "manager told",
    }  # fmt: skip
    desk.ledger.close()
