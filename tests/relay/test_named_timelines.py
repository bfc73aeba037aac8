"""The named timelines that need their rows exactly so, on a bench; the others are played in tests/test_named_histories.py."""

from collections import Counter
from pathlib import Path

import pytest

from shared.models import AgentRow
from tests.relay import ledgers
from tests.relay.lab import T0, Lab, cluster, row, told, told_of_managers

STOPPED, RETURNED = (1, "disconnected", "stopped"), (1, "connected", "returned")
RESTARTED = ("m", "manager_restarted")


def beats(lab: Lab, begin: int, end: int, **quiet: dict[int, int]) -> None:
    for now in range(begin, end + 1, 5):
        lab.beats(now, quiet)


# Bar 4: a restart of the master with 2,000 agents ---------------------------------------------------------------------

AGENTS = 2_000


def big_cluster() -> Lab:
    """All agents with odd ids live on the master, the others on w1."""
    lab = Lab()
    lab.node("m", "master")
    lab.node("w1", "worker")
    lives = {n: "w1" if n % 2 == 0 else "m" for n in range(1, AGENTS + 1)}
    on_w1 = [row(n, "active", T0, node="w1", added=0) if home == "w1" else row(n, "never_connected", added=0) for n, home in lives.items()]
    lab.full("w1", on_w1, T0)
    lab.full("m", [row(n, "active", T0, node=home) for n, home in lives.items()], T0)
    beats(lab, T0 + 5, T0 + 5)
    assert lab.fleet.counts["Active"] == AGENTS
    return lab


def test_master_restart_with_2000_agents_is_one_manager_event_and_an_outage_for_each_that_does_not_return() -> None:
    lab = big_cluster()
    down = T0 + 10
    lost = set(range(1, AGENTS, 20))  # a hundred of the master's own that do not return
    reset = [row(n, "disconnected", T0 + 5, code=5, dt=down + n % 2, node="m" if n % 2 else "w1") for n in range(1, AGENTS + 1)]
    lab.delta("m", *reset, now=down + 1)
    beats(lab, down + 5, down + 5)
    lab.delta("m", *[row(n, "active", down + 8, node="w1") for n in range(2, AGENTS + 1, 2)], now=down + 9)  # the next sync
    returned = [n for n in range(1, AGENTS, 2) if n not in lost]
    for turn in range(4):
        now = down + 10 + 10 * turn
        lab.delta("m", *[row(n, "active", now, node="m") for n in returned[turn::4]], now=now)
        beats(lab, now + 5, now + 5)
    beats(lab, down + 50, down + 120)
    assert told_of_managers(lab) == [RESTARTED]
    assert lab.of_managers[0].details == {"agents_reset": AGENTS}
    assert Counter(told(lab)) == Counter({(n, "disconnected", "manager_reset"): 1 for n in lost})


# Shutdown and startup coalesced ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [("active",), ("pending", "active"), ("pending",)])
def test_shutdown_and_startup_coalesced_is_nothing_whatever_of_it_is_seen(seen: tuple[str, ...]) -> None:
    """remoted keeps the newest message of each agent (secure.c:896): neither the stop nor the knock need ever be written."""
    lab = cluster()
    for step, status in enumerate(seen):
        at = T0 + 20 + 10 * step
        lab.delta("w1", row(1, status, at, node="w1", added=0), now=at)  # type: ignore[arg-type]
    lab.delta("w1", row(1, "active", T0 + 50, node="w1", added=0, ip="10.9.9.9"), now=T0 + 50)
    beats(lab, T0 + 55, T0 + 300)
    assert (told(lab), told_of_managers(lab)) == ([], [])


# 5.0: no node_name, agents behind a balancer --------------------------------------------------------------------------


def balanced() -> Lab:
    """Three managers of 5.0; the agent's keepalives go to w1 and w2 in turn, and each is synced to the master."""
    lab = Lab()
    for name, node_type in (("w1", "worker"), ("w2", "worker"), ("m", "master")):
        lab.node(name, node_type)  # type: ignore[arg-type]
        lab.full(name, [row(1, "active", T0, node=None, added=0 if node_type == "worker" else T0 - 1000)], T0, period=60_000)
    lab.waited()
    assert lab.fleet.settled
    return lab


def alternate(lab: Lab, begin: int, end: int) -> None:
    for now in range(begin, end, 5):
        turn = now // 60 % 2
        if now % 60 < 5:
            name = ("w1", "w2")[turn]
            lab.delta(name, row(1, "active", now, node=None, added=0), now=now, period=60_000)
            lab.delta("m", row(1, "active", now + 4, node=None), now=now + 4, period=60_000)
        for name in lab.speakers:
            kept = lab.speakers[name].rows[1].last_keepalive or 0
            lab.beat(name, now + 4, {1: kept} if now + 4 - kept > 90 else {}, period=60_000)


def test_5_0_behind_a_balancer_keepalives_alternating_is_one_agent_that_is_active_all_the_while() -> None:
    lab = balanced()
    alternate(lab, T0 + 5, T0 + 3600)
    assert told(lab) == []
    assert (lab.status(1), told_of_managers(lab)) == ("Active", [])


def test_5_0_behind_a_balancer_a_stop_that_one_manager_hears_is_an_outage_though_the_other_still_says_active() -> None:
    lab = balanced()
    alternate(lab, T0 + 5, T0 + 600)
    before = len(lab.events)
    lab.delta("w1", row(1, "disconnected", T0 + 590, code=3, dt=T0 + 605, node=None, added=0), now=T0 + 605, period=60_000)
    lab.delta("m", row(1, "disconnected", T0 + 594, code=3, dt=T0 + 605, node=None), now=T0 + 610, period=60_000)
    kept = lab.speakers["w2"].rows[1].last_keepalive or 0
    for now in range(T0 + 615, T0 + 1200, 5):
        for name in lab.speakers:
            lab.beat(name, now, {1: kept} if name == "w2" and now - kept > 90 else {}, period=60_000)
        lab.tick(now)
    assert told(lab)[before:] == [STOPPED]


# The relay restarts with an hour of backlog ---------------------------------------------------------------------------


def hour(lab: Lab, begin: int) -> None:
    """What stands in RAW of an hour: stops, returns, a move, a restart, silences."""
    for now in range(begin, begin + 3600, 60):
        match (now - begin) // 60:
            case 5:
                lab.delta("w1", row(1, "disconnected", now - 5, code=3, dt=now, node="w1", added=0), now=now)
            case 10:
                lab.delta("w1", row(1, "active", now, node="w1", added=0), now=now)
            case 20:
                lab.delta("w2", row(1, "active", now, node="w2", added=0), now=now)
                lab.delta("m", row(1, "active", now + 3, node="w2"), now=now + 3)
            case 40:
                lab.delta("w2", row(3, "disconnected", now - 5, code=5, dt=now, node="w2", added=0), now=now)
            case _:
                pass
        for beat in range(now + 4, now + 60, 20):
            left = {1: begin + 1190} if now >= begin + 1200 else {}
            silent = {1: begin + 3000} if beat > begin + 3020 else {}
            lab.beats(beat, {"w1": left, "w2": silent, "m": silent | ({3: begin + 2390} if now >= begin + 2400 else {})})


def test_relay_restart_with_an_hour_of_backlog_tells_what_it_would_have_told_live(tmp_path: Path) -> None:
    live = cluster()
    half = len(live.log)
    hour(live, T0 + 10)
    assert told(live) == [
        STOPPED, RETURNED, (1, "moved", "moved"), (3, "disconnected", "manager_reset"), (1, "overdue", "keepalive_overdue"),
    ]  # fmt: skip
    assert told_of_managers(live) == [("w2", "manager_restarted")]
    ledger = ledgers.opened(ledgers.fresh_url(tmp_path))
    view = ledger.restore("lab", ledgers.POLICY)
    for given in live.log[:half]:
        decision = ledgers.judged(view, given)
        ledger.record(decision, view, ledgers.kept(given))
        view.settle(decision)
    ledger.close()
    ledger = ledgers.opened(ledgers.fresh_url(tmp_path))
    again = Lab()
    again.fleet = ledger.restore("lab", ledgers.POLICY)
    for given in live.log[half:]:
        again.step(given)
    ledger.close()
    assert (again.events, again.of_managers) == (live.events, live.of_managers)
    assert again.fleet == live.fleet


# #24401: a worker's queued stop reaches the master after the agent had come elsewhere ---------------------------------


def stopped_on_w1(lab: Lab) -> AgentRow:
    lab.delta("w1", row(1, "disconnected", T0 + 5, code=3, dt=T0 + 20, node="w1", added=0), now=T0 + 20)
    return row(1, "disconnected", T0 + 23, code=3, dt=T0 + 20, node="m")


def test_24401_a_workers_stop_synced_onto_an_agent_that_came_to_the_master_is_no_second_outage() -> None:
    lab = cluster()
    echo = stopped_on_w1(lab)
    lab.delta("m", row(1, "active", T0 + 23, node="m"), now=T0 + 23)
    lab.delta("m", echo, now=T0 + 30)
    lab.delta("m", row(1, "active", T0 + 33, node="m"), now=T0 + 33)
    beats(lab, T0 + 35, T0 + 300)
    assert (told(lab), told_of_managers(lab)) == ([STOPPED, RETURNED], [])
    assert lab.fleet.agents[1].manager_node == "m"


def test_24401_a_workers_stop_synced_after_the_agent_came_to_another_worker_is_no_second_outage() -> None:
    lab = cluster()
    stopped_on_w1(lab)
    lab.delta("w2", row(1, "active", T0 + 23, node="w2", added=0), now=T0 + 23)
    lab.delta("m", row(1, "active", T0 + 23, node="w2"), now=T0 + 24)
    lab.delta("m", row(1, "disconnected", T0 + 23, code=3, dt=T0 + 20, node="w2"), now=T0 + 30)  # w1's mark, queued since
    lab.delta("m", row(1, "active", T0 + 34, node="w2"), now=T0 + 34)
    beats(lab, T0 + 35, T0 + 300)
    assert (told(lab), told_of_managers(lab)) == ([STOPPED, RETURNED], [])
    assert lab.fleet.agents[1].manager_node == "w2"


def test_24401_the_other_way_a_stop_on_the_master_of_an_agent_whose_worker_still_says_active_is_an_outage() -> None:
    """It came to the master without a word to w1, kept alive there, and said goodbye there: w1's row will say active for half an hour."""
    lab = cluster()
    beats(lab, T0 + 10, T0 + 40, w1={1: T0 + 5}, m={1: T0 + 6})
    lab.delta("m", row(1, "active", T0 + 43, node="m"), now=T0 + 43)
    beats(lab, T0 + 45, T0 + 90, w1={1: T0 + 5})
    lab.delta("m", row(1, "disconnected", T0 + 83, code=3, dt=T0 + 92, node="m"), now=T0 + 92)
    beats(lab, T0 + 95, T0 + 300, w1={1: T0 + 5})
    assert told(lab)[-1] == STOPPED
    assert [event for event in told(lab) if event[1] == "disconnected"] == [STOPPED]
    assert told_of_managers(lab) == []
