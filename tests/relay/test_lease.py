"""One relay writes: an epoch is given once, and who is not in the last one writes nothing."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from relay import database, migrations
from relay.events import Message
from relay.fleet import Fleet
from relay.lease import Superseded, Terms
from relay.ledger import Ledger
from relay.migrations import STEPS, Step
from relay.schema import LEASE, METADATA
from shared.clock import SystemClock
from shared.errors import ConfigError, Unreachable
from tests.relay import ledgers
from tests.relay.lab import T0
from tests.relay.test_ledger import agent, nothing

pytestmark = pytest.mark.unmeasured

CLOCK = SystemClock()
LONG = 3600.0


@pytest.fixture
def pg(fresh_postgres: Callable[[], str]) -> str:
    """A database that several relays may use."""
    return fresh_postgres()


def relay(url: str, name: str, duration: float = LONG) -> Ledger:
    return Ledger.open(url, terms=Terms(name, duration))


@pytest.fixture
def pair(pg: str) -> Iterator[tuple[Ledger, Ledger]]:
    """One that leads, and one beside it."""
    first, second = relay(pg, "first"), relay(pg, "second")
    assert first.lease.take()
    yield first, second
    first.close()
    second.close()


def run_out(ledger: Ledger) -> None:
    """The time of the lease is over."""
    with ledger._database.write() as connection:
        connection.exec_driver_sql("UPDATE lease SET until = 0")


def until(reached: Callable[[], bool]) -> None:
    """Ask until it is so."""
    deadline = CLOCK.monotonic() + 20
    while not reached():
        assert CLOCK.monotonic() < deadline


def left(ledger: Ledger) -> int:
    """How long the lease still lasts, in ms by the database's clock."""
    with ledger._database.read() as connection:
        return int(connection.exec_driver_sql(f"SELECT until - {ledger._database.now} FROM lease").scalar_one())


# Taking -------------------------------------------------------------------------------------------------------------


def test_each_relay_that_leads_does_so_in_an_epoch_of_its_own(url: str) -> None:
    epochs = []
    for _ in range(3):
        ledger = ledgers.opened(url)
        epochs.append(ledger.lease.epoch)
        ledger.skip(len(epochs))
        ledger.close()
    assert epochs == sorted(set(epochs))


def test_a_ledger_on_a_file_leads_from_the_start_and_keeps_leading(tmp_path: object) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", terms=Terms("alone", 0.001))
    ledger.skip(1)
    ledger.lease.renew()
    assert ledger.lease.take()
    ledger.skip(2)
    assert ledger.position() == 2
    ledger.close()


def test_the_lease_is_not_taken_from_whoever_has_it(pair: tuple[Ledger, Ledger]) -> None:
    first, second = pair
    assert not second.lease.take()
    assert second.lease.holder() == "first"
    first.skip(1)
    with pytest.raises(Superseded, match="does not lead"):
        second.skip(2)
    assert second.position() == 1


def test_the_lease_is_free_once_it_is_given_back(pair: tuple[Ledger, Ledger]) -> None:
    first, second = pair
    first.lease.release()
    assert second.lease.holder() == ""
    assert second.lease.take()
    first.lease.release()
    assert second.lease.holder() == "second"
    assert not first.lease.take()


def test_the_lease_is_free_once_its_time_is_over_by_the_databases_clock(pg: str) -> None:
    first, second = relay(pg, "first", 0.05), relay(pg, "second")
    assert first.lease.take()
    until(second.lease.take)
    with pytest.raises(Superseded, match=r"another relay leads in epoch \d+, after this one did in epoch"):
        first.skip(1)
    first.close()
    second.close()


def test_a_relay_whose_answer_was_lost_takes_the_lease_again(pg: str) -> None:
    """It cannot know whether it leads; its name says so."""
    first = relay(pg, "first")
    assert first.lease.take()
    again = relay(pg, "first")
    assert again.lease.take()
    first.close()
    assert again.lease.holder() == "first"
    again.close()


# Keeping ------------------------------------------------------------------------------------------------------------


def test_the_lease_lasts_from_its_last_renewal(pair: tuple[Ledger, Ledger]) -> None:
    first, second = pair
    run_out(first)
    first.lease.renew()
    assert LONG * 990 < left(first) <= LONG * 1000
    assert not second.lease.take()


def test_who_was_followed_cannot_renew(pair: tuple[Ledger, Ledger]) -> None:
    first, second = pair
    run_out(first)
    assert second.lease.take()
    with pytest.raises(Superseded):
        first.lease.renew()
    assert second.lease.holder() == "second"


def test_a_transaction_under_way_is_not_waited_for_and_renews_the_lease_as_it_ends(pg: str) -> None:
    first, second = relay(pg, "first", 0.0), relay(pg, "second")
    assert first.lease.take()
    with first._write():
        run_out_already = left(second)
        first.lease.renew()
        assert not second.lease.take()
    assert run_out_already <= 0
    first.close()
    second.close()


def test_a_transaction_longer_than_the_lease_does_not_cost_it(pair: tuple[Ledger, Ledger]) -> None:
    first, second = pair
    run_out(first)
    with first._write():
        assert left(second) < 0
        assert not second.lease.take()
    assert left(second) > 0
    assert not second.lease.take()


def test_whoever_writes_keeps_the_lease(pair: tuple[Ledger, Ledger]) -> None:
    first, second = pair
    first.skip(1)
    run_out(second)
    first.skip(2)
    assert not second.lease.take()


def test_whoever_takes_the_lease_finds_all_that_was_written_before(pair: tuple[Ledger, Ledger]) -> None:
    """A transaction of the old epoch ends before the new one begins, or does not happen."""
    first, second = pair
    run_out(first)
    inside, goes_on = threading.Event(), threading.Event()

    def write() -> None:
        with first._write() as connection:
            inside.set()
            assert goes_on.wait(20)
            connection.exec_driver_sql("UPDATE meta SET position = 7")

    writer = threading.Thread(target=write)
    writer.start()
    assert inside.wait(20)
    assert not second.lease.take()
    goes_on.set()
    writer.join()
    run_out(second)
    assert second.lease.take()
    assert second.position() == 7


def write_until_followed(first: Ledger, second: Ledger) -> None:
    with first._write() as connection:
        connection.exec_driver_sql("UPDATE meta SET position = 7")
        until(second.lease.take)


def test_a_relay_frozen_in_a_transaction_is_put_out(pg: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where PostgreSQL itself does not notice."""
    monkeypatch.setattr(database, "STUCK_S", 0.0)
    first, second = relay(f"{pg}&options=-c%20idle_in_transaction_session_timeout%3D0", "first", 0.0), relay(pg, "second")
    assert first.lease.take()
    with pytest.raises(Unreachable):
        write_until_followed(first, second)
    second.skip(1)
    with pytest.raises(Superseded):
        first.skip(2)
    assert second.position() == 1
    first.close()
    second.close()


def test_a_relay_that_works_on_a_long_transaction_is_not_put_out(pair: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair
    monkeypatch.setattr(database, "STUCK_S", 3600.0)
    run_out(first)
    with first._write() as connection:
        assert not second.lease.take()
        connection.exec_driver_sql("UPDATE meta SET position = 7")
    assert second.position() == 7


# What is refused ----------------------------------------------------------------------------------------------------


WRITES: list[Callable[[Ledger], object]] = [
    lambda ledger: ledger.record(nothing(9), Fleet(""), None),
    lambda ledger: ledger.skip(9),
    lambda ledger: ledger.quarantine(9, 0, "s", "malformed", "refused", {}, b""),
    lambda ledger: ledger.mark_sent(9),
    lambda ledger: ledger.confirm_sent(9, "id"),
    lambda ledger: ledger.start_sequence_at(9),
    lambda ledger: ledger.adopt_published([agent(9)]),
    lambda ledger: ledger.prune(2**62, 0, 0),
    lambda ledger: ledger.check(),
    lambda ledger: ledger.outbox(10),
]


@pytest.mark.parametrize("write", WRITES)
def test_who_was_followed_writes_nothing_and_publishes_nothing(pair: tuple[Ledger, Ledger], write: Callable[[Ledger], object]) -> None:
    first, second = pair
    desk = ledgers.settled(first)
    ledgers.stop(desk, 1, T0 + 5)
    before = everything(second)
    run_out(first)
    assert second.lease.take()
    with pytest.raises(Superseded):
        write(first)
    assert everything(second) == before


def everything(ledger: Ledger) -> list[object]:
    """All that a ledger holds but the lease."""
    with ledger._database.read() as connection:
        tables = (table for table in METADATA.sorted_tables if table is not LEASE)
        return [connection.execute(select(table).order_by(*table.primary_key)).all() for table in tables]


def test_what_was_published_is_confirmed_where_it_is_ours(url: str) -> None:
    ledger = ledgers.opened(url)
    messages = tuple(Message("wazuh.agent.001.status", f"id{number}", b"", {}) for number in (1, 2, 3))
    ledger.record(replace(nothing(1), messages=messages), Fleet(""), None)
    assert ledger.confirm_sent(2, "id1") is None
    assert ledger.confirm_sent(4, "id4") is None
    assert ledger.sent_through() == 0
    assert ledger.confirm_sent(2, "id2") == 0
    assert ledger.confirm_sent(1, "whatever") == 2
    assert ([out.sequence for out in ledger.outbox(10)], ledger.sent_through()) == ([3], 2)
    ledger.close()


# A change of the schema ---------------------------------------------------------------------------------------------


def test_a_newer_program_deposes_an_older_one_which_refuses_to_lead_on(pair: tuple[Ledger, Ledger]) -> None:
    first, second = pair
    newer = Step(len(STEPS) + 1, "newer", ("CREATE TABLE newer (number {big})",))
    migrations.migrate(second._database, (*STEPS, newer))
    with pytest.raises(Superseded):
        first.skip(1)
    with pytest.raises(ConfigError, match="this program knows versions up to"):
        first.lease.take()


# All of it, in any order --------------------------------------------------------------------------------------------


RELAYS = st.integers(0, 2)


class Relays(RuleBasedStateMachine):
    """Three relays on one ledger, and what must be true of them."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.started = 0
        self.relays = [self.start() for _ in range(3)]
        self.owner: Ledger | None = None  # who took the lease last, unless it was given back
        self.free = True
        run_out(self.relays[0])
        self.epoch, self.position = self.stored()

    def start(self) -> Ledger:
        self.started += 1
        return relay(self.url, f"relay {self.started}")

    def stored(self) -> tuple[int, int]:
        with self.relays[0]._database.read() as connection:
            row = connection.exec_driver_sql("SELECT epoch, position FROM lease, meta").one()
            return row.epoch, row.position

    @rule(number=RELAYS)
    def take(self, number: int) -> None:
        asking = self.relays[number]
        expected = self.free or asking is self.owner
        assert asking.lease.take() == expected
        if expected:
            self.owner, self.free, self.epoch = asking, False, self.epoch + 1
            assert asking.lease.epoch == self.epoch

    @rule(number=RELAYS)
    def write(self, number: int) -> None:
        if self.allowed(number, lambda ledger: ledger.skip(self.position + 1)):
            self.position += 1
            self.free = False  # what it writes renews a lease that has run out

    @rule(number=RELAYS)
    def renew(self, number: int) -> None:
        if self.allowed(number, lambda ledger: ledger.lease.renew()):
            self.free = False

    @rule(number=RELAYS)
    def release(self, number: int) -> None:
        self.relays[number].lease.release()
        if self.relays[number] is self.owner:
            self.owner, self.free = None, True

    @rule()
    def run_out(self) -> None:
        run_out(self.relays[0])
        self.free = True

    @rule(number=RELAYS)
    def crash(self, number: int) -> None:
        gone = self.relays[number]
        gone._database.close()
        self.relays[number] = self.start()

    def allowed(self, number: int, act: Callable[[Ledger], None]) -> bool:
        """Whether a relay may do this: the one that leads, and no other."""
        try:
            act(self.relays[number])
        except Superseded:
            assert self.relays[number] is not self.owner
            return False
        assert self.relays[number] is self.owner
        return True

    @invariant()
    def nothing_else_happened(self) -> None:
        assert self.stored() == (self.epoch, self.position)

    def teardown(self) -> None:
        for one in self.relays:
            one.close()


def test_only_the_relay_of_the_last_epoch_writes_whatever_happens(pg: str) -> None:
    class Here(Relays):
        url = pg

    run_state_machine_as_test(
        Here, settings=settings(max_examples=10, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow])
    )
