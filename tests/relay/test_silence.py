"""Laws of relay/silence.py: three missed keepalives are told once, on the owner's own word, and change no status."""

import pytest

from relay import claims, silence
from relay.decided import Hold
from tests.relay.lab import T0, Lab, cluster, row, told

LAST = T0 + 10  # the last keepalive
DUE = LAST + 30  # three periods of ten seconds later


def silent(lab: Lab, begin: int, end: int, **quiet: dict[int, int]) -> None:
    """Everybody beats each 5 s; agent 1 is silent since LAST where it lives, and in the master's copy."""
    for now in range(begin, end + 1, 5):
        lab.beats(now, {"m": {1: LAST + 2}, **(quiet or {"w1": {1: LAST}})})


def overdue() -> Lab:
    lab = cluster()
    silent(lab, LAST + 15, DUE)
    assert told(lab) == [(1, "overdue", "keepalive_overdue")]
    return lab


def test_three_missed_keepalives_are_told_once_and_change_no_status() -> None:
    lab = cluster()
    silent(lab, LAST + 15, DUE - 5)
    assert lab.events == []
    silent(lab, DUE, DUE + 300)
    [event] = lab.events
    assert (event.kind, event.previous, event.current) == ("overdue", "Active", "Active")
    assert (event.timestamp, event.last_keepalive, event.manager_node) == (LAST, LAST, "w1")
    assert lab.fleet.agents[1].overdue == LAST


def test_a_keepalive_clears_it_and_the_next_silence_is_told_again() -> None:
    lab = overdue()
    silent(lab, DUE + 5, DUE + 20, w1={})
    silent(lab, DUE + 25, DUE + 100, w1={1: DUE + 15})
    assert told(lab)[1:] == [(1, "overdue_cleared", "kept_alive"), (1, "overdue", "keepalive_overdue")]
    cleared, again = lab.events[1:]
    assert DUE - 15 <= cleared.timestamp <= DUE + 20
    assert again.timestamp == DUE + 15


def test_a_later_silence_that_ends_where_it_began_is_the_same_one() -> None:
    lab = overdue()
    lab.delta("w1", row(1, "active", LAST, node="w1", added=0, ip="10.9.9.9"), now=DUE + 1)
    silent(lab, DUE + 5, DUE + 50)
    assert len(lab.events) == 1


@pytest.mark.parametrize(("code", "reason"), [(3, "stopped"), (4, "silent")])
def test_what_wazuh_says_ends_the_silence_without_a_word_of_it(code: int, reason: str) -> None:
    lab = overdue()
    lab.delta("w1", row(1, "disconnected", LAST, code=code, dt=DUE + 10, node="w1", added=0), now=DUE + 10)
    assert told(lab)[1:] == [(1, "disconnected", reason)]
    assert lab.fleet.agents[1].overdue is None


def test_a_status_other_than_active_is_never_overdue() -> None:
    lab = overdue()
    agent, said = silence.judge(lab.fleet, lab.fleet.agents[1]._replace(status="Pending"), None, (), DUE * 1000)
    assert (agent.overdue, said) == (None, None)


def test_while_a_change_waits_for_its_grace_nothing_is_told_of_keepalives() -> None:
    lab = overdue()
    lab.delta("w1", row(1, "disconnected", LAST, code=5, dt=DUE + 10, node="w1", added=0), now=DUE + 10)
    waiting = lab.fleet.agents[1]
    assert waiting.hold is not None
    assert (waiting.hold.kind, waiting.overdue) == ("reset", LAST)
    lab.delta("w1", row(1, "active", DUE + 20, node="w1", added=0), now=DUE + 20)
    silent(lab, DUE + 22, DUE + 22, w1={})
    assert told(lab)[1:] == [(1, "overdue_cleared", "kept_alive")]


def test_an_agent_that_knocks_elsewhere_is_not_told_overdue_while_that_waits() -> None:
    lab = cluster()
    lab.delta("w2", row(1, "pending", LAST + 20, added=0), now=LAST + 20)
    silent(lab, LAST + 25, LAST + 70, w1={1: LAST}, w2={1: LAST + 20})
    assert lab.events == []
    waiting = lab.fleet.agents[1]
    assert waiting.hold is not None
    assert waiting.hold.kind == "pending"


def test_nobody_is_overdue_where_the_rhythm_is_not_learnt() -> None:
    lab = cluster()
    for now in range(LAST + 15, LAST + 300, 5):
        lab.beat("m", now, {1: LAST + 2}), lab.beat("w2", now, {}), lab.beat("w1", now, {1: LAST}, period=0)
    assert lab.events == []


def test_nobody_is_overdue_by_a_table_that_is_not_proved() -> None:
    lab = cluster()
    lab.speakers["w1"].seq += 1
    for now in range(LAST + 15, LAST + 300, 5):
        lab.beat("m", now, {1: LAST + 2}), lab.beat("w2", now, {}), lab.beat("w1", now, {1: LAST}, digest=1)
    assert lab.events == []


def test_nobody_is_overdue_by_a_node_that_is_not_heard_nor_by_a_copy() -> None:
    lab = cluster()
    lab.beat("w1", LAST + 20, {1: LAST})
    for now in range(LAST + 25, LAST + 300, 5):
        lab.beat("m", now, {1: LAST + 2}), lab.beat("w2", now, {})
    assert lab.events == []


def test_a_collector_that_was_late_itself_widens_its_threshold() -> None:
    lab = cluster()
    for now in range(LAST + 15, DUE + 8, 1):
        lab.beat("m", now, {1: LAST + 2}), lab.beat("w2", now, {}), lab.beat("w1", now, {1: LAST}, late=7_000)
        assert bool(lab.events) == (now >= DUE + 7)


def test_a_deadline_that_a_reachable_node_has_not_passed_is_waited_for() -> None:
    """Rule 9: w2 reads a file, and may have the agent."""
    lab = cluster()
    for now in range(LAST + 15, LAST + 60, 5):
        lab.beat("m", now, {1: LAST + 2}), lab.beat("w1", now, {1: LAST}), lab.beat("w2", now, {}, as_of=(DUE - 1) * 1000)
    assert lab.events == []
    lab.beat("w2", LAST + 60, {}), lab.tick(LAST + 61)
    assert told(lab) == [(1, "overdue", "keepalive_overdue")]


def test_who_may_live_on_another_manager_is_not_overdue() -> None:
    lab = cluster()
    lab.delta("w2", row(1, "active", T0, node="w2", added=0), now=T0 + 6, quiet=((1, T0),))
    silent(lab, LAST + 15, LAST + 100, w1={1: LAST}, w2={})
    assert told(lab) == [(1, "moved", "moved")]


def test_in_the_baseline_a_silence_is_taken_down_and_not_told() -> None:
    lab = Lab()
    lab.node("solo")
    lab.full("solo", [row(1, "active", T0 - 100)], T0, quiet=((1, T0 - 100),))
    assert (lab.events, lab.fleet.agents[1].overdue) == ([], T0 - 100)
    lab.beats(T0 + 5)
    assert told(lab) == [(1, "overdue_cleared", "kept_alive")]


def test_what_waits_is_left_as_it_is() -> None:
    lab = cluster()
    known = lab.fleet.agents[1]._replace(hold=Hold("reset", T0, T0 * 1000))
    assert silence.judge(lab.fleet, known, None, (), T0 * 1000) == (known, None)


def test_a_syncs_stamp_on_a_copy_clears_nothing_until_the_copy_goes_on() -> None:
    """w1 cannot be heard; a link that was cut kept its mark, and the sync stamps the master's clock on an agent that is dead."""
    lab = overdue()
    stamp = DUE + 60
    for now in range(DUE + 5, stamp, 5):
        lab.beat("m", now, {1: LAST + 2}), lab.beat("w2", now, {})
    lab.delta("m", row(1, "active", stamp, node="w1"), now=stamp)
    for now in range(stamp, stamp + 10, 5):
        lab.beat("m", now, {}), lab.beat("w2", now, {})
    lab.tick(stamp + 10)
    assert len(lab.events) == 1
    for now in range(stamp + 10, stamp + 40, 5):  # it would be named as quiet by now, if nothing had come since
        lab.beat("m", now, {}), lab.beat("w2", now, {})
    assert told(lab)[1:] == [(1, "overdue_cleared", "kept_alive")]


def test_a_syncs_stamp_on_a_copy_keeps_no_silence_from_being_told() -> None:
    lab = cluster()
    for now in range(LAST + 5, DUE + 10, 5):
        if now == LAST + 20:
            lab.delta("m", row(1, "active", LAST + 38, node="w1"), now=now)  # by a master's clock that is ahead
        lab.beat("m", now, {}), lab.beat("w1", now, {1: LAST} if now >= LAST + 15 else {}), lab.beat("w2", now, {})
    assert told(lab) == [(1, "overdue", "keepalive_overdue")]


def test_a_copy_that_left_the_quiet_list_by_one_stamp_clears_nothing_until_it_goes_on() -> None:
    """Its row is as it was but for the keepalive, and is not sent: all that shows is that the list names it no more."""
    lab = overdue()
    for now in range(DUE + 5, DUE + 30, 5):
        lab.beat("m", now, {1: LAST + 2}), lab.beat("w2", now, {}), lab.beat("w1", now, {1: LAST})
    for now in range(DUE + 30, DUE + 45, 5):
        lab.beat("m", now, {}), lab.beat("w2", now, {}), lab.beat("w1", now, {1: LAST})
    silent(lab, DUE + 45, DUE + 200, m={1: DUE + 28}, w1={1: LAST})
    assert len(lab.events) == 1


def test_who_knocks_at_the_master_is_overdue_nowhere_though_its_row_still_names_the_worker() -> None:
    lab = cluster()
    lab.delta("m", row(1, "pending", LAST + 6, node="w1"), now=LAST + 6)
    for now in range(LAST + 15, DUE + 100, 5):
        lab.beat("w1", now, {1: LAST}), lab.beat("w2", now, {})
    assert "overdue" not in [kind for _, kind, _ in told(lab)]


def test_a_node_with_a_gap_has_not_told_that_nothing_came() -> None:
    """Rule 7 and 9: its spool was given up, and the full that stands for it is still to come."""
    lab = cluster()
    for now in range(LAST + 15, DUE + 60, 5):
        lab.beat("m", now, {1: LAST + 2}), lab.beat("w1", now, {1: LAST}), lab.beat("w2", now, {}, digest=1)
    assert lab.events == []
    lab.full("w2", [*lab.speakers["w2"].rows.values()], DUE + 61)
    assert told(lab) == [(1, "overdue", "keepalive_overdue")]


def test_the_silence_of_a_copy_is_its_workers_though_it_names_another() -> None:
    """w2's late sync wrote its name onto the master's row for good; w1's keepalives are synced onto it as stamps (#24401)."""
    lab = cluster()
    lab.delta("m", row(1, "active", T0 - 300, node="w2"), now=T0 + 6)
    for now in range(T0 + 10, DUE + 20, 5):
        quiet = now >= LAST + 20
        lab.beat("m", now, {1: LAST + 6} if quiet else {})
        lab.beat("w1", now, {1: LAST} if quiet else {}), lab.beat("w2", now, {})
    assert told(lab) == [(1, "overdue", "keepalive_overdue")]
    assert lab.events[0].manager_node == "w1"


def test_who_is_synced_from_a_manager_that_cannot_be_heard_is_not_overdue_where_it_was_before() -> None:
    lab = cluster()
    for now in range(LAST + 5, DUE + 11, 5):
        if now == LAST + 20:
            lab.delta("m", row(1, "active", LAST + 12, node="w2"), now=now)
        lab.beat("m", now, {1: LAST + 12} if now >= LAST + 30 else {})
        lab.beat("w1", now, {1: LAST} if now >= LAST + 15 else {})
    assert not lab.fleet.nodes["w2"].fresh
    assert lab.events == []


def test_a_clock_that_is_set_back_ages_no_list() -> None:
    """By the new clock the last list of who is quiet would have been taken later than it was."""
    lab = cluster()
    silent(lab, LAST + 15, DUE - 5)
    lab.speakers["w1"].skew = -20
    for now in range(DUE, DUE + 60, 5):
        lab.beat("m", now, {1: LAST + 2}), lab.beat("w1", now), lab.beat("w2", now, {}), lab.tick(now)
    assert lab.fleet.nodes["w1"].offset == 20_000
    assert lab.events == []


def test_a_clock_that_is_set_back_makes_no_contact_later() -> None:
    """A list that does not name an agent proves it alive up to then, and not beyond."""
    lab = cluster()
    lab.speakers["w1"].skew = 40
    for now in range(T0 + 10, T0 + 60, 5):
        lab.beats(now)
    before = claims.of(lab.fleet, lab.fleet.nodes["w1"], 1)
    lab.speakers["w1"].skew = 0
    for now in range(T0 + 60, T0 + 120, 5):
        lab.beat("m", now, {}), lab.beat("w1", now), lab.beat("w2", now, {}), lab.tick(now)
    after = claims.of(lab.fleet, lab.fleet.nodes["w1"], 1)
    assert lab.fleet.nodes["w1"].offset == 0
    assert before is not None
    assert after is not None
    assert (after.contact, after.seconds) == (before.contact, before.seconds)


def test_a_clock_that_is_set_back_brings_nobody_back() -> None:
    """By the new clock who left the worker before its clock was set seems not quiet, until it has caught up."""
    lab = cluster()
    lab.speakers["w1"].skew = 40
    for now in range(T0 + 10, T0 + 60, 5):
        lab.beats(now)
    lab.delta("w2", row(1, "disconnected", T0 + 66, code=3, dt=T0 + 70, node="w2", added=0), now=T0 + 70)
    lab.speakers["w1"].skew = 0
    for now in range(T0 + 75, T0 + 95, 5):
        lab.beat("m", now, {}), lab.beat("w1", now), lab.beat("w2", now, {}), lab.tick(now)
    for now in range(T0 + 95, T0 + 115, 5):
        lab.beats(now)
    assert lab.fleet.nodes["w1"].offset == 0
    assert told(lab) == [(1, "disconnected", "stopped")]
    for now in range(T0 + 115, T0 + 180, 5):  # who is not named as quiet after that is there
        lab.beats(now)
    assert told(lab) == [(1, "disconnected", "stopped"), (1, "connected", "returned")]


@pytest.mark.parametrize("lists", [1, 2])
def test_a_stamp_that_shows_as_a_later_silence_hides_no_sweep(lists: int) -> None:
    """A sync stamped the dead agent's copy once, and every list names it as quiet: before that, after, and since the stamp."""
    lab = cluster()
    silent(lab, LAST + 15, LAST + 100)
    stamped = LAST + 105
    for now in range(stamped + 1, stamped + 15, 5):
        lab.beats(now, {"w1": {1: LAST}} | ({"m": {1: LAST + 2}} if lists == 1 else {}))
    silent(lab, stamped + 20, stamped + 100, m={1: stamped}, w1={1: LAST})
    lab.delta("w1", row(1, "disconnected", LAST, code=4, dt=stamped + 100, node="w1", added=0), now=stamped + 101)
    assert told(lab) == [(1, "overdue", "keepalive_overdue"), (1, "disconnected", "silent")]
