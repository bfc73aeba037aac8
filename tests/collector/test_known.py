"""What has been told is compared with probes of real SQLite, under changes of every kind."""

import sqlite3

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from collector import known, rows
from tests.collector import schemas
from tests.collector.test_rows import glance, learn, make, probe, read

STATUSES = st.sampled_from(["active", "disconnected", "pending", "never_connected"])
IDS = st.one_of(st.integers(1, 12), st.integers(99_999_990, 99_999_999))


def test_26_bytes_an_agent_are_enough_to_see_that_nothing_moved() -> None:
    table = make()
    table[0].executemany(schemas.INSERT, [schemas.agent(number) for number in range(1, 2000)])
    told = known.Known(read(table), "node01")
    table[0].execute("update agent set last_keepalive = last_keepalive + 20")
    assert told.moved(probe(table)) == rows.Moved()
    assert told.ids.itemsize == 8


def test_an_unreadable_row_hides_nothing_but_itself() -> None:
    """Its values are not known, so that the sums of the next probe are taken as they are; afterwards they count."""
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


def test_an_unreadable_row_that_goes_takes_its_unknown_part_of_the_sums_along() -> None:
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


def test_an_unreadable_row_counts_in_a_glance_once_a_probe_has_shown_it() -> None:
    table = make(checked=False)
    table[0].executemany(schemas.INSERT, [schemas.agent(1), schemas.agent(2, "pending")])
    told = known.Known(rows.Decoded(read(table).rows[:1], unreadable=(2,)), "node01")
    assert not told.is_at(glance(table))
    told.moved(probe(table))
    assert told.is_at(glance(table))
    table[0].execute("update agent set last_keepalive = last_keepalive + 20")
    assert told.is_at(glance(table))


class Told(RuleBasedStateMachine):
    """Follows a table as a source does; after each look it must know the table exactly."""

    @initialize()
    def begin(self) -> None:
        self.database = sqlite3.connect(":memory:")
        schemas.create(self.database)
        self.table = self.database, learn(self.database)
        self.told = known.Known(rows.Decoded(()), "node01")
        self.mirror: dict[int, object] = {}

    @rule(number=IDS, status=STATUSES)
    def register(self, number: int, status: str) -> None:
        if not self.database.execute("select 1 from agent where id = ?", (number,)).fetchone():
            self.database.execute(schemas.INSERT, schemas.agent(number, status))

    @rule(number=IDS)
    def remove(self, number: int) -> None:
        self.database.execute("delete from agent where id = ?", (number,))

    @rule(number=IDS, status=STATUSES, code=st.integers(0, 5), time=st.integers(0, 2**32))
    def change(self, number: int, status: str, code: int, time: int) -> None:
        values = (status, code, time, number)
        self.database.execute("update agent set connection_status = ?, status_code = ?, disconnection_time = ? where id = ?", values)

    @rule(number=IDS, time=st.integers(0, 2**32))
    def move_time_alone(self, number: int, time: int) -> None:
        self.database.execute("update agent set disconnection_time = ? where id = ?", (time, number))

    @invariant()
    def a_look_makes_it_whole(self) -> None:
        if not hasattr(self, "told"):
            return
        for _ in range(3):
            moved = self.told.moved(probe(self.table))
            assert not moved.everything
            assert moved == rows.Moved() or not self.told.is_at(glance(self.table))
            if moved.listing:
                self._listing()
                continue
            ids = [*moved.ids] if moved.ids else self._times() if moved.times else []
            self._fetch(ids)
        assert self.told.moved(probe(self.table)) == rows.Moved()
        assert self.told.is_at(glance(self.table))
        assert self.mirror == {row.id: row for row in read(self.table).rows}

    def _listing(self) -> None:
        now = {number for (number,) in self.database.execute(rows.id_page(0, 100))}
        gone = set(self.told.ids) - now
        self.told.forget(gone)
        for number in gone:
            del self.mirror[number]
        self._fetch(sorted(now - set(self.told.ids)))

    def _times(self) -> list[int]:
        return self.told.other_times(self.database.execute(rows.times_page(self.table[1], 0, 100)))

    def _fetch(self, ids: list[int]) -> None:
        decoded = rows.decode(self.database.execute(rows.chosen(self.table[1], ids, 0, 100)))
        self.told.put(decoded)
        self.mirror.update({row.id: row for row in decoded.rows})


Told.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestTold = Told.TestCase
