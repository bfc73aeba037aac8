"""Moves: which `moved` the agents' own connections ask for.

Rules
 * Moved is told of an agent that stays with another manager than the one that was told last, never of one that does not.
 * It must be told where the change was no outage that was told or could be: no goodbye, back within the grace; and the agent
   stays there until both managers, heard all the while, have told of two keepalives here and of none there.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.truth.contacts import Stay
from tests.truth.notices import Subject, Want
from tests.truth.scene import Scene

_ROUNDING = 3.0  # seconds
_WORD = 45.0  # seconds: a sync's jitter, and what is asked again only then
_STATUSES = ("disconnected", "pending", "removed", "registered")


def moved(scene: Scene) -> Iterator[Want]:
    """One want for each stay on a manager other than the one told last."""
    for agent, mine in scene.stays.items():
        for before, stay in pairwise(mine):
            told = [one.at for one in scene.told.get(agent, ()) if one.kind == "moved" and one.node == stay.node and stay.begin <= one.at]
            if any(scene.reports_to(agent, at) != stay.node for at in (stay.begin, *told)):
                yield _want(scene, agent, before, stay, _came(scene, agent, mine, stay))


def _came(scene: Scene, agent: Subject, mine: Sequence[Stay], stay: Stay) -> float:
    """When the agent came to that manager, for all that is known: it may have been away from it, and with others that were not heard."""
    told = [one.at for one in scene.told.get(agent, ()) if one.at < stay.begin and one.kind in ("moved", "connected", *_STATUSES)]
    since = max(told, default=0.0) - scene.behind
    return min(other.begin for other in mine if other.node == stay.node and (other.begin >= since or other is stay))


def _want(scene: Scene, agent: Subject, before: Stay, stay: Stay, came: float) -> Want:
    # Of a row that was active there all the while nothing shows but that it is not quiet any more.
    about = (came - 1.5 * scene.learnt[stay.node] - _ROUNDING, stay.end)
    due = _due(scene, before, stay)
    if before.node != stay.node and due < scene.until and stay.end > due and _must(scene, agent, before, stay, due):
        return Want("moved", agent, "must", stay.begin, stay.begin, due, stay.node, about)
    over = stay.end + scene.behind + scene.grace + scene.hearing.known_at(stay.node, stay.begin) - stay.begin
    return Want("moved", agent, "may", stay.begin, stay.begin, over, stay.node, about)


def _due(scene: Scene, before: Stay, stay: Stay) -> float:
    shown = max(stay.first, min(scene.hearing.known_at(stay.node, stay.first), scene.until))
    proved = shown + 2 * stay.period + 1.5 * max(scene.learnt[before.node], scene.learnt[stay.node])
    return scene.hearing.all_known_at(proved, quiet=True) + _WORD


def _must(scene: Scene, agent: Subject, before: Stay, stay: Stay, due: float) -> bool:
    known = scene.learnt[before.node] * 2 + scene.behind
    outage = any(
        (one.kind in _STATUSES and before.first - 1 <= one.at <= due) or before.end <= min(one.at, one.earliest) <= due
        for one in scene.expected.get(agent, ())
        if one.kind != "connected"
    )
    return (
        before.accepted and stay.accepted
        and before.end - before.first > known
        and before.begin + known > scene.began - 3600
        and stay.begin > scene.began
        and scene.is_known(agent, before.end)
        and not outage
        and not scene.statuses(agent, before.end, due)
        and scene.reports_to(agent, stay.begin) == before.node
        and scene.is_settled(before.node, stay.node, begin=max(scene.began, before.end - known), end=due)
        and scene.names_itself(stay.node, agent, due, due)
        and not _by_itself(scene, before, stay)
    )  # fmt: skip


def _by_itself(scene: Scene, before: Stay, stay: Stay) -> bool:
    """5.0 names no node in a row: the master's copies cannot be told from its own rows."""
    return scene.world.master.schema == "5.0" and scene.world.master.name in (before.node, stay.node)
