"""Laws of the reader: what it says, in virtual time, on a source that the test holds in its hands."""

import dataclasses
import logging
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.cadence import Plan
from collector.compose import Composer, Identity
from collector.lookout import SOURCE, Lookout
from collector.outbox import Outbox
from collector.spool import Spool
from collector.watch import Watch
from shared import wire
from shared.backoff import Backoff
from shared.errors import SourceUnavailable
from shared.models import CONNECTION_STATUSES, KeyEntry
from shared.telemetry import Telemetry
from shared.wire import Snapshot
from tests.clock import ManualClock
from tests.collector.fakes import FakeKeys, FakeSource, Receiver, agent, untraced
from tests.guards import guard

POLL, FULL = 5.0, 60.0
NOW_S = 1_750_000_000


class Rig:
    """A watch with everything real but the source, client.keys and the clock."""

    def __init__(self, path: Path, max_bytes: int = 1 << 20) -> None:
        self.clock = ManualClock()
        self.source = FakeSource(self.clock, [agent(1), agent(2)])
        self.keys = FakeKeys(KeyEntry(1, "agent-1", "any", False), KeyEntry(2, "agent-2", "any", False))
        self.telemetry = Telemetry("collector")
        self.path, self.max_bytes = path, max_bytes
        self.findings = 0
        self.start()

    def start(self) -> None:
        self.spool = Spool.open(self.path, self.max_bytes, self.clock.now_ms() // 1000, "node01")
        self.outbox = Outbox(self.spool, lambda: None)
        backoff = Backoff(highest=POLL, jitter=lambda: 1.0)
        self.lookout = Lookout(
            self.source,
            self.keys.open(),
            self.clock,
            guard(SOURCE, "collector", clock=self.clock, backoff=backoff),
            self.telemetry,
            self.spool.period,
        )
        composer = Composer(Identity("wazuh", "node01", "node01", "master"), self.spool.boot)
        plan = Plan(self.clock.monotonic(), POLL, FULL)
        self.watch = Watch(
            self.source, self.lookout, composer, self.outbox, plan, self.clock, self.telemetry, POLL, self.told, untraced(self.clock)
        )

    def told(self, finding: object) -> None:
        self.findings += 1

    def step(self, seconds: float = 0.0) -> list[Snapshot]:
        """Let time pass, look once, and give NATS everything; what it got."""
        self.look(seconds)
        return self.take()

    def look(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.watch.step()
        self.watch._plan.rest(self.clock.monotonic(), POLL)

    def take(self) -> list[Snapshot]:
        got = []
        while (item := self.outbox.next()) is not None:
            self.outbox.sent(item)
            got.append(wire.decode(item.payload))
        return got

    def metric(self, line: str) -> float:
        text = self.telemetry.text().decode()
        return next(float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "spool.db")
    yield made
    made.spool.close()


def kinds(snapshots: list[Snapshot]) -> list[str]:
    return [snapshot.kind for snapshot in snapshots]


def test_the_first_thing_said_is_a_full_through_the_spool(rig: Rig) -> None:
    rig.look()
    assert rig.spool.depth() == 1
    (full,) = rig.take()
    assert (full.kind, full.seq, full.boot, full.gap, full.source_state) == ("full", 1, rig.spool.boot, False, "ok")
    assert [row.id for row in full.rows] == [1, 2]
    assert [key.id for key in full.keys] == [1, 2]
    assert (full.quiet, full.period, full.taken_at, full.keys_state, full.db_version) == ((), 0, rig.clock.now_ms(), "ok", 7)


def test_a_change_is_a_delta_at_the_next_look_and_no_change_is_nothing(rig: Rig) -> None:
    rig.step()
    assert rig.step(0.1) == []
    rig.source.put(agent(2, "disconnected", code=3))
    rig.source.remove(1)
    (delta,) = rig.step(0.1)
    assert (delta.kind, [row.status for row in delta.rows], delta.gone, delta.quiet) == ("delta", ["disconnected"], (1,), None)
    assert rig.source.asked == ["keepalives", "read", "poll", "poll"]


def test_a_keepalive_alone_says_nothing(rig: Rig) -> None:
    rig.step()
    rig.source.put(agent(1, last_keepalive=NOW_S + 1))
    assert rig.step(0.1) == []


def test_a_beat_comes_each_poll_interval_with_quiet_and_a_full_each_full_interval(rig: Rig) -> None:
    rig.step()
    said = [kind for _ in range(241) for kind in kinds(rig.step(0.5))]
    assert said == (["beat"] * 11 + ["full"]) * 2


def test_a_delta_at_the_poll_interval_takes_the_beats_place_and_carries_quiet(rig: Rig) -> None:
    rig.step()
    rig.source.put(agent(2, "pending"))
    (delta,) = rig.step(POLL)
    assert delta.kind == "delta"
    assert delta.quiet == ()


def test_news_in_a_periodic_full_is_told_as_a_delta_first(rig: Rig) -> None:
    """A full may be dropped while NATS is away."""
    rig.step()
    rig.source.table[2] = agent(2, "disconnected")  # nothing a poll would see
    assert kinds(rig.step(FULL)) == ["delta", "full"]


def test_quiet_names_who_lives_and_was_not_heard_for_one_and_a_half_periods(rig: Rig) -> None:
    """90 s while no period is learnt; a disconnected agent is never quiet, not even one whose rhythm is followed."""
    rig.step()
    rig.source.put(
        agent(3, "pending", last_keepalive=NOW_S - 85), agent(4, "disconnected", last_keepalive=5), agent(5, last_keepalive=None)
    )
    rig.step(0.1)
    (beat,) = rig.step(5)
    assert beat.quiet == ((3, NOW_S - 85),)
    rig.source.put(agent(1, "disconnected"))
    rig.step(0.1)
    said = rig.step(95)[-1]
    assert dict(said.quiet or ()) == {2: NOW_S, 3: NOW_S - 85}


def test_who_falls_silent_between_the_questions_of_a_look_does_not_seem_alive(rig: Rig) -> None:
    """Whoever lives by the rows that were told, and is not named as quiet, was heard of lately; also where a sweep comes in between."""
    rig.source.put(agent(3, "pending"))  # not of the sample, which is always asked for
    rig.step()
    rig.step(200)
    rig.source.then = lambda: rig.source.put(agent(3, "disconnected", code=4))
    (said,) = rig.step(POLL)
    assert rig.source.then is None
    assert 3 in {number for number, _ in said.quiet or ()} | {row.id for row in said.rows if row.status == "disconnected"}


def test_the_period_is_learnt_and_quiet_follows_it(rig: Rig) -> None:
    rig.step()
    for _ in range(30):
        rig.source.put(agent(1, last_keepalive=rig.clock.now_ms() // 1000))
        said = rig.step(10)
    assert said[-1].period == 10_000
    assert said[-1].quiet == ((2, NOW_S),)
    assert rig.metric("wazuh_jetstream_collector_keepalive_period_seconds") == 10


def test_a_period_that_was_learnt_outlives_the_process(rig: Rig) -> None:
    rig.step()
    for _ in range(30):
        rig.source.put(agent(1, last_keepalive=rig.clock.now_ms() // 1000))
        rig.step(10)
    rig.spool.close()
    rig.start()
    (full,) = rig.step(16)
    assert (full.period, set(dict(full.quiet or ()))) == (10_000, {1, 2})
    rig.source.failure = SourceUnavailable("silent", "wazuh-db does not answer")
    rig.spool.close()
    rig.start()
    rig.step(1)
    assert rig.spool.period == 10_000, "who has learnt nothing forgets nothing"


def test_a_full_is_gathered_while_what_moves_is_told(rig: Rig) -> None:
    """Who is quiet is asked before the first page, and not again until all is there."""
    rig.step()
    rig.source.pages = 3
    rig.source.asked.clear()
    assert kinds(rig.step(FULL)) == ["beat"]
    rig.source.put(agent(2, "disconnected", code=3))
    assert kinds(rig.step(0.1)) == ["delta"]
    assert kinds(rig.step(POLL)) == ["beat"]
    (full,) = rig.step(0.1)
    assert (full.kind, [row.status for row in full.rows], [key.id for key in full.keys]) == ("full", ["active", "disconnected"], [1, 2])
    assert rig.source.asked == ["keepalives", "poll", "poll", "poll", "poll"]
    assert kinds(rig.step(POLL)) == ["beat"]
    assert rig.source.asked[-2:] == ["keepalives", "poll"]


def test_quiet_is_not_asked_of_a_source_that_shows_nothing_newer(rig: Rig) -> None:
    """The file between two commits: that nobody kept alive in it proves nothing."""
    rig.step()
    rig.source.stale = True
    (beat,) = rig.step(POLL)
    assert beat.quiet is None
    assert beat.as_of < beat.taken_at
    rig.source.stale = False
    (beat,) = rig.step(POLL)
    assert beat.quiet == ()


def test_who_is_quiet_is_told_again_at_once_where_the_clock_was_set_back(rig: Rig) -> None:
    rig.step()
    assert rig.step(POLL)[-1].quiet is not None
    rig.clock.set_back(3600)
    said = rig.step(POLL)[-1]
    assert said.quiet is not None
    assert said.taken_at < NOW_S * 1000


def test_a_lost_source_is_told_at_once_once_logged_and_counted_each_time(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A beat says why, with the table as last known; the log says it once per change of state."""
    caplog.set_level(logging.INFO)
    (full,) = rig.step()
    rig.source.failure = SourceUnavailable("silent", "wazuh-db does not answer")
    (lost,) = rig.step(0.1)
    assert (lost.kind, lost.source_state, lost.source_error) == ("beat", "silent", "wazuh-db does not answer")
    assert (lost.count, lost.digest, lost.as_of, lost.quiet, lost.db_version) == (full.count, full.digest, full.as_of, None, 7)
    said = [snapshot for _ in range(200) for snapshot in rig.step(0.1)]
    assert [(s.kind, s.source_state) for s in said] == [("beat", "silent")] * 4
    rig.source.failure = SourceUnavailable("missing", "no socket")
    said = [snapshot for _ in range(100) for snapshot in rig.step(0.1)]
    assert [s.source_state for s in said] == ["missing"] * len(said)
    assert 3 <= len(said) <= 4
    rig.source.failure = None
    back = [snapshot for _ in range(100) for snapshot in rig.step(0.1)]
    assert next((s.kind, s.source_state, s.source_error) for s in back if s.source_state == "ok") == ("beat", "ok", "")
    assert [record.message for record in caplog.records] == [
        "Wazuh's agents cannot be read: wazuh-db does not answer",
        "Wazuh's agents cannot be read: no socket",
        "Wazuh's agents can be read again",
    ]
    errors = 'wazuh_jetstream_collector_source_errors_total{state="silent"}'
    assert 4 <= rig.metric(errors) <= 12, "asked again with backoff, and not at each look"


def test_another_way_in_is_logged_and_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.step()
    rig.source.kind = "file"
    (beat,) = rig.step(POLL)
    assert beat.source == "file"
    assert [record.message for record in caplog.records] == ["Wazuh's agents are now read by the file"]


def test_rows_that_break_a_rule_are_counted_and_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    whole = rig.source._whole
    rig.source._whole = lambda: dataclasses.replace(whole(), refused=2, refusal="a row is refused")  # type: ignore[method-assign]
    rig.step()
    rig.step(FULL)
    assert rig.metric("wazuh_jetstream_collector_rows_refused_total") == 4
    assert [record.message for record in caplog.records] == ["a row is refused"]


def test_after_a_failure_everything_is_read_and_what_moved_meanwhile_is_a_delta(rig: Rig) -> None:
    rig.step()
    rig.source.failure = SourceUnavailable("silent", "no answer")
    rig.step(0.1)
    rig.source.table[1] = agent(1, "disconnected")
    del rig.source.table[2]
    rig.source.failure = None
    (delta,) = rig.step(POLL)
    assert ([row.id for row in delta.rows], delta.gone, rig.source.asked[-1]) == ([1], (2,), "read")


def test_a_source_that_was_never_there_is_client_keys_and_beats_until_its_full(rig: Rig) -> None:
    rig.source.failure = SourceUnavailable("missing", "no such file")
    (delta,) = rig.step()
    assert (delta.kind, delta.source_state, delta.count, len(delta.keys)) == ("delta", "missing", 0, 2)
    assert [kind for _ in range(30) for kind in kinds(rig.step(0.5))] == ["beat"] * 3
    rig.source.failure = None
    said = [snapshot for _ in range(12) for snapshot in rig.step(0.5)]
    assert said[0].kind == "full"
    assert said[0].seq == 5


def test_a_failure_of_the_question_for_quiet_loses_no_row_and_is_told_next(rig: Rig) -> None:
    rig.step()
    rig.source.put(agent(1, "disconnected"))
    rig.source.quiet_failure = SourceUnavailable("silent", "no answer")
    (delta,) = rig.step(POLL)
    assert (delta.kind, len(delta.rows), delta.quiet, delta.source_state) == ("delta", 1, None, "ok")
    rig.source.quiet_failure = None
    (beat,) = rig.step(0.1)
    assert (beat.kind, beat.source_state) == ("beat", "silent")


def test_a_fault_that_is_over_between_the_questions_of_a_look_is_not_told_again(rig: Rig) -> None:
    rig.step()
    rig.source.failure = rig.source.quiet_failure = SourceUnavailable("silent", "no answer")
    assert rig.step(POLL)[-1].source_state == "silent"
    rig.source.failure = None  # it answers again, just after who is quiet was asked
    assert rig.step(POLL)[-1].source_state == "ok"
    rig.source.quiet_failure = None
    assert {said.source_state for said in rig.step(POLL)} == {"ok"}


def test_client_keys_are_told_as_they_change_also_while_the_database_is_lost(rig: Rig) -> None:
    rig.step()
    rig.source.failure = SourceUnavailable("silent", "no answer")
    rig.step(0.1)
    rig.keys.write(KeyEntry(2, "agent-2", "any", True), KeyEntry(3, "agent-3", "any", False))
    (delta,) = rig.step(0.1)
    assert (delta.kind, [key.id for key in delta.keys], delta.keys_gone, delta.source_state) == ("delta", [2, 3], (1,), "silent")


def test_client_keys_that_cannot_be_read_keep_their_last_state_and_are_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig.step()
    rig.keys.state, rig.keys.error = "denied", "may not be read"
    said = [snapshot for _ in range(3) for snapshot in rig.step(POLL)]
    assert {(s.kind, s.keys_state, len(s.keys_gone)) for s in said} == {("beat", "denied", 0)}
    (full,) = rig.step(FULL)
    assert (full.kind, full.keys, full.keys_state) == ("full", (), "denied")
    assert rig.metric("wazuh_jetstream_collector_keys_up") == 0
    rig.keys.state, rig.keys.bad_lines = "ok", 2
    (beat,) = rig.step(POLL)
    assert (beat.kind, beat.keys_state) == ("beat", "ok")
    assert rig.metric("wazuh_jetstream_collector_keys_up") == 1
    assert [record.message for record in caplog.records][:2] == ["may not be read", "client.keys can be read again"]
    assert "2 lines" in caplog.records[2].message


def test_late_is_how_far_a_look_is_behind_the_plan(rig: Rig) -> None:
    rig.step()
    rig.step(POLL)
    (beat,) = rig.step(POLL + 1.25)
    assert beat.late == 1250
    assert rig.metric("wazuh_jetstream_collector_late_seconds") == 1.25


def test_what_was_dropped_while_nats_was_away_shows_in_seq_and_a_fresh_full_follows(rig: Rig) -> None:
    rig.step()
    for _ in range(30):
        rig.look(POLL)
    rig.source.put(agent(1, "disconnected"))
    rig.look(0.1)
    rig.look(POLL)
    said = rig.take()
    assert kinds(said) == ["delta", "beat"]
    assert said[-1].seq == 1 + 30 + 2
    (full,) = rig.step(0.1)
    assert (full.kind, full.gap) == ("full", False)
    assert rig.step(0.1) == []


def test_a_full_spool_is_one_full_flagged_as_a_gap_and_what_follows_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(tmp_path / "spool.db", max_bytes=4000)
    rig.look()
    for number in range(200):
        rig.source.put(agent(1, "disconnected", disconnection_time=number))
        rig.look(0.3)
    assert rig.spool.size() <= 4000
    said = rig.take()
    assert said[0].kind == "full"
    assert said[0].gap
    assert "delta" in kinds(said)
    receiver = Receiver()
    for snapshot in said:
        receiver.take(snapshot)
    assert receiver.rows == rig.source.table
    assert rig.metric("wazuh_jetstream_collector_spool_gaps_total") >= 1
    assert "the spool is full" in caplog.text
    rig.spool.close()


def test_with_a_full_disk_fulls_flagged_as_gaps_are_sent_from_memory(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """One sentence in the log; at most one full per poll_interval; when the disk is back, one more through the spool."""
    rig.step()
    rig.spool._connection.execute("PRAGMA query_only=1")
    rig.source.put(agent(1, "disconnected"))
    assert rig.step(0.1) == []
    fulls = [snapshot for _ in range(100) for snapshot in rig.step(0.2) if snapshot.kind != "beat"]
    assert {(s.kind, s.gap) for s in fulls} == {("full", True)}
    assert 3 <= len(fulls) <= 5
    assert fulls[0].rows[0].status == "disconnected"
    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1
    rig.spool._connection.execute("PRAGMA query_only=0")
    said = [snapshot for _ in range(30) for snapshot in rig.step(0.2)]
    assert [(s.kind, s.gap) for s in said if s.kind != "beat"] == [("full", True)]


def test_what_was_sent_is_on_the_disk_until_the_next_beat_and_a_disk_that_keeps_it_is_told_of_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def held() -> list[int]:
        return [seq for (seq,) in rig.spool._connection.execute("SELECT seq FROM items")]

    rig.step()
    assert held() == [1]
    rig.spool._connection.execute("PRAGMA query_only=1")
    for _ in range(100):
        rig.step(0.2)
    assert held() == [1]
    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1
    rig.spool._connection.execute("PRAGMA query_only=0")
    for _ in range(30):
        rig.step(0.2)
    assert held() == []
    assert not rig.outbox.gap


def test_a_restart_sends_what_was_kept_first_and_under_its_own_name(rig: Rig) -> None:
    rig.step()
    rig.source.put(agent(1, "disconnected"))
    rig.look(0.1)
    rig.spool.close()
    rig.source.put(agent(1, "active"))
    rig.start()
    rig.look()
    delta, full = rig.take()
    assert (delta.kind, delta.seq, full.kind, full.seq) == ("delta", 2, "full", 1)
    assert full.boot > delta.boot


def test_an_error_that_is_no_source_error_ends_the_reader(rig: Rig) -> None:
    rig.source.failure = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        rig.watch.run(threading.Event())
    assert rig.source.closed


@pytest.mark.parametrize("failing", [False, True])
def test_the_reader_ends_when_it_is_asked_to(rig: Rig, failing: bool) -> None:
    rig.source.failure = SourceUnavailable("missing", "not there") if failing else None
    stop = threading.Event()
    thread = threading.Thread(target=rig.watch.run, args=(stop,))
    thread.start()
    while not rig.source.asked:
        stop.wait(0.001)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert rig.source.closed


class Chaos:
    """Random changes, failures, outages of NATS, restarts and a spool that may be too small."""

    def __init__(self, path: Path, seed: int, max_bytes: int) -> None:
        self.chance = random.Random(seed)
        self.rig = Rig(path, max_bytes)
        self.receiver = Receiver()
        self.away = False
        self.gaps = 0
        self.told: list[tuple[int, str, int]] = []
        self.shown: list[tuple[int, str, int]] = []
        self.actions = [self.change] * 8 + [self.remove, self.register, self.fail, self.leave, self.restart]

    def change(self) -> None:
        row = agent(self.chance.randint(1, 6), self.chance.choice(CONNECTION_STATUSES), disconnection_time=self.chance.randint(0, 9))
        self.rig.source.put(row)

    def remove(self) -> None:
        if self.rig.source.table:
            self.rig.source.remove(self.chance.choice(list(self.rig.source.table)))

    def register(self) -> None:
        self.rig.keys.write(*(KeyEntry(n, f"agent-{n}", "any", False) for n in range(1, 7) if self.chance.random() < 0.7))

    def fail(self) -> None:
        self.rig.source.failure = self.chance.choice([None, SourceUnavailable("silent", "no answer")])

    def leave(self) -> None:
        self.away = not self.away

    def restart(self) -> None:
        self.rig.spool.close()
        self.rig.start()

    def look(self, seconds: float) -> None:
        before = dict(self.receiver.rows)
        self.rig.look(seconds)
        if self.rig.lookout.failing is False:
            table = self.rig.source.table.values()
            self.shown += [(row.id, row.status, row.disconnection_time) for row in table if before.get(row.id) != row]
        for snapshot in [] if self.away else self.rig.take():
            self.gaps += snapshot.gap
            self.receiver.take(snapshot)
            self.told += [(row.id, row.status, row.disconnection_time) for row in snapshot.rows]


@given(st.integers(0, 2**32), st.sampled_from([2000, 1 << 20]))
@settings(max_examples=12, deadline=None)
def test_whatever_happens_the_receiver_ends_with_the_table_and_each_status_that_was_seen_was_told(
    tmp_path_factory: pytest.TempPathFactory, seed: int, max_bytes: int
) -> None:
    """Every snapshot's digest is that of what was told in order (the receiver checks); without a gap nothing seen is missing."""
    chaos = Chaos(tmp_path_factory.mktemp("watch") / "spool.db", seed, max_bytes)
    for _ in range(120):
        chaos.chance.choice(chaos.actions)()
        chaos.look(chaos.chance.choice([0.02, 0.1, 1, 5, 20]))
    chaos.rig.source.failure, chaos.away = None, False
    for _ in range(4):
        chaos.look(POLL)
    assert chaos.receiver.proved
    assert chaos.receiver.rows == chaos.rig.source.table
    assert chaos.receiver.keys == {entry.id: entry for entry in chaos.rig.keys.entries}
    assert chaos.gaps or set(chaos.shown) <= set(chaos.told)
    chaos.rig.spool.close()
