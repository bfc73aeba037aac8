"""What has been told is compared with probes of real SQLite, under changes of every kind."""

import sqlite3

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collector import known, rows
from tests.collector import schemas
from tests.collector.test_rows import ask, learn, make, probe, read

STATUSES = st.sampled_from(["active", "disconnected", "pending", "never_connected"])
NODES = st.sampled_from(["node01", "worker1", None])
IDS = st.one_of(st.integers(1, 12), st.integers(99_999_990, 99_999_999))


def test_25_bytes_an_agent_are_enough_to_see_that_nothing_moved() -> None:
    table = make()
    table[0].executemany(schemas.INSERT, [schemas.agent(number) for number in range(1, 2000)])
    told = known.Known(read(table), "node01")
    table[0].execute("update agent set last_keepalive = last_keepalive + 20")
    assert told.moved(probe(table)) == rows.Moved()
    assert sum(column.itemsize for column in (told.ids, told._times, told._added, told._marks)) == 25
    assert not told._names


@pytest.mark.parametrize("version", schemas.AGENT)
def test_the_usual_mark_is_the_most_common_and_only_who_has_another_takes_more(version: str) -> None:
    table = make(version)
    statuses = ("pending", "never_connected", "never_connected", "active")
    table[0].executemany(schemas.INSERT, [schemas.agent(number, status) for number, status in enumerate(statuses, 1)])
    told = known.Known(read(table), "node01")
    assert told.usual == 30
    assert told._names == probe(table, told.usual).names == {1_20, 4_00}
    assert told.moved(probe(table, told.usual)) == rows.Moved()


def test_the_usual_mark_stays_until_all_is_read_anew() -> None:
    table = make()
    table[0].executemany(schemas.INSERT, [schemas.agent(number) for number in (1, 2, 3)])
    told = known.Known(read(table), "node01")
    table[0].execute("update agent set connection_status = 'pending'")
    told.put(read(table))
    assert told.usual == 0
    assert told.moved(probe(table, told.usual)) == rows.Moved()
    assert known.Known(read(table), "node01").usual == 20


def test_a_large_fleet_of_many_marks_is_probed_in_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "NAMED", 3)
    table = make()
    table[0].executemany(schemas.INSERT, [schemas.agent(number, "pending" if number % 10 else "active") for number in range(1, 16)])
    table[0].executemany(schemas.INSERT, [schemas.agent(number) for number in range(100, 120)])
    told = known.Known(read(table), "node01")
    assert told.ranges == [(0, 3), (3, 6), (6, 9), (9, 13), (13, None)]
    assert told.moved(probe(table, told.usual, told.ranges)) == rows.Moved()
    table[0].execute("update agent set connection_status = 'active' where id in (3, 13, 119)")
    assert told.moved(probe(table, told.usual, told.ranges)).ids == (3, 13)


def test_a_table_is_as_it_was_told_where_a_probe_shows_the_very_text() -> None:
    table = make()
    table[0].executemany(schemas.INSERT, [schemas.agent(1), schemas.agent(2, "pending")])
    told = known.Known(read(table), "node01")

    def shown() -> rows.Ranges:
        return ask(table)[1]

    def is_at() -> bool:
        return told.is_at(shown())

    assert not is_at(), "no probe has shown yet that this is how it looks"
    assert told.moved(probe(table)) == rows.Moved()
    assert is_at()
    assert not told.is_at(())
    assert not told.is_at((*shown(), *shown()))
    assert not told.is_at((shown()[0] + " ",))
    told.put(rows.Decoded(()))
    table[0].execute("update agent set last_keepalive = 1")
    assert is_at()
    told.put(rows.Decoded(read(table).rows[:1]))
    assert not is_at()
    told.moved(probe(table))
    assert is_at()
    before = shown()
    table[0].execute("delete from agent where id = 2")
    assert told.moved(probe(table)) == rows.Moved(listing=True)
    assert not is_at()
    assert not told.is_at(before), "what showed last was something else"
    told.forget([2])
    assert not is_at()
    assert told.moved(probe(table)) == rows.Moved()
    assert is_at()


def test_a_date_that_moved_alone_shows_as_a_time_that_nobodys_disconnection_explains() -> None:
    table = make()
    table[0].executemany(schemas.INSERT, [schemas.agent(1), schemas.agent(2, "disconnected")])
    table[0].execute("update agent set disconnection_time = 77 where id = 2")
    told = known.Known(read(table), "node01")
    table[0].execute("update agent set date_add = date_add + 1 where id = 1")
    assert told.moved(probe(table)) == rows.Moved(times=True)
    assert not told.has_times_of(probe(table))
    assert told.other_times([(2, 77)]) == []
    assert told.other_times([(1, 5)]) == [1, 2]


def test_an_unreadable_row_hides_nothing_but_itself() -> None:
    """Its values are not known, so that the sum of the next probe is taken as it is; afterwards it counts."""
    table = make(checked=False)
    table[0].executemany(schemas.INSERT, [schemas.agent(1), schemas.agent(2, "quarantined"), schemas.agent(3, "disconnected")])
    table[0].execute("update agent set disconnection_time = 77 where id > 1")
    told = known.Known(read(table), "node01")
    assert told.moved(probe(table)) == rows.Moved()
    table[0].execute("update agent set disconnection_time = 78 where id = 3")
    assert told.moved(probe(table)) == rows.Moved(times=True)
    table[0].execute("update agent set connection_status = 'active', disconnection_time = 0 where id = 2")
    assert told.moved(probe(table)).ids == (2,)
    told.put(read(table))
    assert told.moved(probe(table)) == rows.Moved()
    table[0].execute("update agent set disconnection_time = 79 where id = 3")
    assert told.moved(probe(table)) == rows.Moved(times=True)


def test_an_unreadable_row_that_goes_takes_its_unknown_part_of_the_sum_along() -> None:
    table = make(checked=False)
    table[0].executemany(schemas.INSERT, [schemas.agent(1), schemas.agent(2, "quarantined")])
    told = known.Known(read(table), "node01")
    told.moved(probe(table))
    table[0].execute("delete from agent where id = 2")
    assert told.moved(probe(table)) == rows.Moved(listing=True)
    told.forget([2])
    assert told.moved(probe(table)) == rows.Moved()
    table[0].execute("update agent set disconnection_time = 5 where id = 1")
    assert told.moved(probe(table)) == rows.Moved(times=True)


@pytest.mark.parametrize("status", ["active", "pending"])
def test_an_unreadable_row_counts_once_a_probe_has_shown_it(status: str) -> None:
    table = make(checked=False)
    table[0].executemany(schemas.INSERT, [schemas.agent(1), schemas.agent(2, status)])
    told = known.Known(rows.Decoded(read(table).rows[:1], unreadable=(2,)), "node01")
    assert not told.is_at(ask(table)[1])
    told.moved(probe(table))
    assert told.is_at(ask(table)[1])
    table[0].execute("update agent set last_keepalive = last_keepalive + 20")
    assert told.is_at(ask(table)[1])
    table[0].execute("update agent set connection_status = 'disconnected' where id = 2")
    assert told.moved(probe(table)).ids == (2,)


def test_an_unreadable_row_that_can_be_read_again_shows_although_another_cannot_any_more() -> None:
    """Or goes: of what is not known, only what the next probe shows for the first time is taken as it is."""
    table = make(checked=False)
    table[0].executemany(schemas.INSERT, [schemas.agent(1), schemas.agent(2, "quarantined"), schemas.agent(3, "quarantined")])
    told = known.Known(read(table), "node01")
    assert told.moved(probe(table)) == rows.Moved()
    table[0].execute("delete from agent where id = 3")
    told.forget([3])
    table[0].execute("update agent set connection_status = 'active' where id = 2")
    assert told.moved(probe(table)).ids == (2,)


def test_an_unreadable_rows_time_explains_nothing() -> None:
    """It is not known, so that it always differs; who took it for what moved would never find another's date."""
    table = make(checked=False)
    table[0].executemany(schemas.INSERT, [schemas.agent(1), schemas.agent(2, "quarantined")])
    told = known.Known(read(table), "node01")
    assert told.other_times([(2, 77)]) == []


class Told(RuleBasedStateMachine):
    """Follows a table as a source does; after each look it must know the table exactly."""

    @initialize()
    def begin(self) -> None:
        self.database = sqlite3.connect(":memory:")
        schemas.create(self.database)
        self.table = self.database, learn(self.database)
        self.busy = False
        self.read_anew()

    @rule()
    def read_anew(self) -> None:
        decoded = read(self.table)
        self.told = known.Known(decoded, "node01")
        self.mirror: dict[int, object] = {row.id: row for row in decoded.rows}

    @rule()
    def much_moves_before_the_next_look(self) -> None:
        self.busy = True

    @precondition(lambda self: self.busy)
    @rule()
    def look(self) -> None:
        self.busy = False

    @rule(number=IDS, status=STATUSES)
    def register(self, number: int, status: str) -> None:
        if not self.database.execute("select 1 from agent where id = ?", (number,)).fetchone():
            self.database.execute(schemas.INSERT, schemas.agent(number, status))

    @precondition(lambda self: not self.busy)
    @rule(number=IDS)
    def remove(self, number: int) -> None:
        self.database.execute("delete from agent where id = ?", (number,))

    @rule(number=IDS, status=STATUSES, code=st.integers(0, 5), time=st.integers(0, 2**32), node=NODES)
    def change(self, number: int, status: str, code: int, time: int, node: str | None) -> None:
        values = (status, code, time, node, number)
        changed = "connection_status = ?, status_code = ?, disconnection_time = ?, node_name = ?"
        self.database.execute(f"update agent set {changed} where id = ?", values)

    @rule(number=IDS, time=st.integers(0, 2**32))
    def move_time_alone(self, number: int, time: int) -> None:
        self.database.execute("update agent set disconnection_time = ? where id = ?", (time, number))

    @rule(number=IDS, seconds=st.integers(1, 2**20))
    def use_again(self, number: int, seconds: int) -> None:
        self.database.execute("update agent set name = 'another', date_add = date_add + ? where id = ?", (seconds, number))

    @invariant()
    def a_look_makes_it_whole(self) -> None:
        if not hasattr(self, "told") or self.busy:
            return
        for _ in range(5):
            is_at = self.told.is_at(ask(self.table, self.told.usual, self.told.ranges)[1])
            moved = self._moved()
            assert moved == rows.Moved() or not is_at
            if moved.listing:
                self._listing()
            elif moved.ids:
                self._fetch([*moved.ids])
            elif moved.times:
                self._compare_times()
        assert self._moved() == rows.Moved()
        assert self.told.is_at(ask(self.table, self.told.usual, self.told.ranges)[1])
        assert self.mirror == {row.id: row for row in read(self.table).rows}

    def _moved(self) -> rows.Moved:
        return self.told.moved(probe(self.table, self.told.usual, self.told.ranges))

    def _listing(self) -> None:
        now = {number for (number,) in self.database.execute(rows.id_page(0, 100))}
        gone = set(self.told.ids) - now
        self.told.forget(gone)
        for number in gone:
            del self.mirror[number]
        self._fetch(sorted(now - set(self.told.ids)))

    def _compare_times(self) -> None:
        others = self.told.other_times(self.database.execute(rows.times_page(self.table[1], 0, 100)))
        if others:
            self._fetch(others)
        else:
            self.read_anew()

    def _fetch(self, ids: list[int]) -> None:
        decoded = rows.decode(self.database.execute(rows.chosen(self.table[1], ids, 0, 100)))
        self.told.put(decoded)
        self.mirror.update({row.id: row for row in decoded.rows})


Told.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestTold = Told.TestCase
