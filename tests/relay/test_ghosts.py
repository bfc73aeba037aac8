"""Laws of relay/ghosts.py: whoever was removed and is served all the same is told of once, a whole grace later."""

from relay import ghosts
from shared.models import AgentRow
from tests.relay.lab import T0, Lab, cluster, key, row, told

GONE = T0 + 10  # agent 1 of w1 is removed on the master
REMOVED = (1, "removed", "removed")
CONNECTED = (1, "removed_but_connected", "removed_but_connected")


def removed() -> Lab:
    """The master dropped agent 1, and w1 is cut off from it and does not know."""
    lab = cluster()
    lab.delta("m", now=GONE, gone=[1], gone_keys=[1])
    assert told(lab) == [REMOVED]
    return lab


def beats(lab: Lab, begin: int, end: int, quiet: dict[int, int] | None = None) -> None:
    for now in range(begin, end + 1, 5):
        lab.beats(now, {"w1": quiet or {}})


def test_who_is_kept_alive_a_whole_grace_after_the_removal_is_told_once() -> None:
    lab = removed()
    beats(lab, GONE + 5, GONE + 55)
    assert told(lab) == [REMOVED]
    beats(lab, GONE + 60, GONE + 600)
    assert told(lab) == [REMOVED, CONNECTED]
    event = lab.events[-1]
    assert (event.previous, event.current, event.agent_name, event.manager_node) == ("Unknown", "Unknown", "agent-1", "w1")
    assert 1 not in lab.fleet.agents
    assert lab.fleet.ghosts[1].told


def test_a_worker_that_hears_of_the_removal_lays_the_ghost() -> None:
    lab = removed()
    lab.delta("w1", now=GONE + 9, gone=[1], gone_keys=[1])
    beats(lab, GONE + 10, GONE + 100)
    assert told(lab) == [REMOVED]
    assert lab.fleet.ghosts == {}


def test_who_fell_silent_after_the_removal_is_no_ghost() -> None:
    lab = removed()
    beats(lab, GONE + 5, GONE + 30)
    beats(lab, GONE + 35, GONE + 100, quiet={1: GONE + 15})
    assert told(lab) == [REMOVED]
    assert lab.fleet.ghosts == {}


def test_a_contact_within_a_sync_of_the_removal_is_no_proof() -> None:
    lab = removed()
    lab.delta("w1", row(1, "active", GONE + 25, node="w1", added=0, ip="10.9.9.9"), now=GONE + 25)
    old = GONE + 25 + 15
    for now in range(GONE + 30, GONE + 90, 5):  # the quiet list is as old as its last look
        lab.beat("m", now, {}), lab.beat("w2", now, {})
        lab.beat("w1", now, {}) if now <= old else lab.beat("w1", now)
    assert told(lab) == [REMOVED]
    assert 1 in lab.fleet.ghosts


def test_what_was_told_is_told_again_only_of_another_ghost() -> None:
    lab = removed()
    beats(lab, GONE + 5, GONE + 200)
    lab.delta("w1", now=GONE + 201, gone=[1], gone_keys=[1])
    beats(lab, GONE + 205, GONE + 300)
    assert lab.fleet.ghosts == {}
    back = row(1, "active", GONE + 305, node="w1", added=0)
    lab.delta("w1", back, now=GONE + 305, new_keys=[key(back)])
    beats(lab, GONE + 310, GONE + 500)
    assert told(lab) == [REMOVED, CONNECTED, CONNECTED]
    assert len({event.event_id for event in lab.events}) == 3


def test_an_id_that_nobody_saw_registered_is_a_ghost_where_a_worker_serves_it() -> None:
    lab = cluster()
    stray = row(9, "active", T0 + 9, name="stray", node="w1", added=0)
    lab.delta("w1", stray, now=T0 + 10, new_keys=[key(stray)])
    assert lab.fleet.ghosts[9].name == "stray"
    beats(lab, T0 + 15, T0 + 100)
    assert told(lab) == [(9, "removed_but_connected", "removed_but_connected")]
    assert lab.events[0].agent_name == "stray"


def test_a_worker_that_knows_a_registration_before_the_master_does_makes_no_ghost_of_it() -> None:
    lab = cluster()
    early = row(9, "pending", T0 + 9, node="w1", added=0)
    lab.delta("w1", early, now=T0 + 10, new_keys=[key(early)])
    new = row(9, "never_connected", added=T0 + 9)
    lab.delta("m", new, now=T0 + 12, new_keys=[key(new)])
    beats(lab, T0 + 15, T0 + 40)
    lab.delta("w1", early._replace(status="active"), now=T0 + 41)
    beats(lab, T0 + 45, T0 + 300)
    assert [kind for _, kind, _ in told(lab)] == ["registered", "connected"]
    assert 9 not in lab.fleet.ghosts


def test_while_the_master_cannot_be_heard_nobody_is_said_to_be_removed_and_connected() -> None:
    lab = removed()
    for now in range(GONE + 5, GONE + 300, 5):
        lab.beat("w1", now, {}), lab.beat("w2", now, {}), lab.tick(now)
    assert told(lab) == [REMOVED]
    beats(lab, GONE + 300, GONE + 400)
    assert told(lab) == [REMOVED, CONNECTED]


def test_a_worker_that_cannot_be_heard_shows_nobody() -> None:
    lab = removed()
    for now in range(GONE + 5, GONE + 300, 5):
        lab.beat("m", now, {}), lab.beat("w2", now, {}), lab.tick(now)
    assert told(lab) == [REMOVED]


def test_a_reachable_node_that_has_not_told_all_is_waited_for() -> None:
    """Rule 9: the worker's file may say that it let the agent go."""
    lab = removed()
    for now in range(GONE + 5, GONE + 100, 5):
        lab.beat("m", now, {}), lab.beat("w2", now, {}), lab.beat("w1", now, {}, as_of=(GONE + 59) * 1000)
    assert told(lab) == [REMOVED]


def test_who_is_looked_at_in_vain_is_looked_at_again_a_grace_later_by_what_the_nodes_have_told() -> None:
    """And not a grace after the slowest of them told it: a file may be a minute late each time."""
    lab = removed()
    for now in range(GONE + 5, GONE + 111, 5):
        lab.beat("m", now, {}), lab.beat("w2", now, {}), lab.beat("w1", now, as_of=(now - 50) * 1000)
    assert lab.fleet.ghosts[1].until == (GONE + 120) * 1000


def reused(new: AgentRow) -> Lab:
    lab = cluster()
    lab.delta("m", new, now=GONE, new_keys=[key(new)])
    return lab


def test_the_former_holder_of_an_id_that_is_used_anew_is_a_ghost_too() -> None:
    lab = reused(row(1, "never_connected", name="newcomer", added=GONE))
    beats(lab, GONE + 5, GONE + 200)
    assert told(lab) == [REMOVED, (1, "registered", "registered"), CONNECTED]
    assert [event.agent_name for event in lab.events] == ["agent-1", "newcomer", "agent-1"]
    assert lab.status(1) == "NeverConnected"


def test_who_is_registered_again_under_the_same_id_and_name_is_no_ghost() -> None:
    lab = reused(row(1, "never_connected", added=GONE))
    beats(lab, GONE + 5, GONE + 200)
    assert [kind for _, kind, _ in told(lab)] == ["removed", "registered", "connected"]


def test_a_ghost_is_looked_at_again_each_grace_and_not_before() -> None:
    lab = removed()
    ghost = lab.fleet.ghosts[1]
    assert ghost.until == (GONE + 60) * 1000
    assert ghosts.judge(lab.fleet, ghost, ghost.until - 1).ghost is ghost
    assert ghosts.judge(lab.fleet, ghost, ghost.until).ghost is ghost  # nobody has told so much yet
    beats(lab, GONE + 5, GONE + 60)
    assert lab.fleet.ghosts[1].until == (GONE + 120) * 1000


def test_nobody_walks_where_the_master_still_has_row_or_key() -> None:
    lab = cluster()
    assert ghosts.walks(lab.fleet, 1, GONE * 1000) is None
    assert ghosts.walks(lab.fleet, 77, GONE * 1000) is None


def test_a_worker_that_could_not_be_heard_for_a_while_tells_nothing_new_of_a_ghost() -> None:
    lab = removed()
    beats(lab, GONE + 5, GONE + 100)
    for now in range(GONE + 105, GONE + 300, 5):
        lab.beat("m", now, {}), lab.beat("w2", now, {})
    assert not lab.fleet.nodes["w1"].fresh
    beats(lab, GONE + 300, GONE + 500)
    assert told(lab) == [REMOVED, CONNECTED]
