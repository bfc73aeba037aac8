"""Silences: which `overdue` and `overdue_cleared` the agents' own contacts ask for.

Rules
 * A silence is the time between two contacts of an agent, with whatever manager, if it is three written periods or more and
   did not begin with a goodbye. Overdue is told of it once; of nobody else.
 * It must be told where it lasts until every node that could be heard has told all up to the third period, as the collector
   of its manager learnt it, and that manager was heard all the while and showed the agent as active.
 * Where a contact was on a manager that was not heard, nobody could tell: a silence by what was known may be told.
 * It is cleared by the next contact, if no change of the status was told before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.truth.contacts import FOREVER, Stay
from tests.truth.notices import Subject, Told, Want, Word
from tests.truth.scene import Scene
from tests.world.config import OLD

_PERIODS = 3
_ENDS = ("stopped", "removed", "died", "moved", "lost", "refused")
_ROUNDING = 2.0  # seconds: rows hold whole ones, on both sides of a difference
_WORD = 5.0  # seconds from a message that tells all to the decision, with the delay of the message that brings it to an end


@dataclass(frozen=True, slots=True)
class _Silence:
    agent: Subject
    stay: Stay
    last: float  # contact
    began: float  # when it fell silent
    next: Stay | None  # where the next contact is
    until: float  # its time
    cause: str


def overdue(scene: Scene) -> Iterator[Want]:
    """One want for each silence."""
    for agent in scene.stays:
        for silence in _silences(scene, agent):
            want = _overdue(scene, silence)
            if want is not None and want.due > scene.began:
                yield want


def _silences(scene: Scene, agent: Subject) -> Iterator[_Silence]:
    mine = scene.stays[agent]
    ends = {fact.at: fact.what for fact in scene.facts.get(agent, ()) if fact.what in _ENDS}
    for place, stay in enumerate(mine):
        for before, after in stay.gaps(scene.until):
            if after < FOREVER:
                yield _Silence(agent, stay, before, before + stay.period, stay, after, "missed")
        cause = ends.get(stay.end, "")
        following = mine[place + 1] if place + 1 < len(mine) else None
        if cause == "stopped" and _is_overwritten(scene, stay):
            cause = "overwritten"
        if stay.end < FOREVER and cause not in ("stopped", "removed", ""):
            until = following.begin if following else FOREVER
            yield _Silence(agent, stay, stay.last(stay.end), stay.end, following, until, cause)


def _is_overwritten(scene: Scene, stay: Stay) -> bool:
    """A goodbye to the master, lost to the sync of the worker that the agent had been on before (wazuh/wazuh#24401)."""
    if scene.world.master.schema in OLD:  # which does not say why: a worker's word may stand against it
        return stay.node == scene.world.master.name
    shown = scene.versions(stay.node, stay.agent, stay.end, stay.end + scene.behind)
    return stay.node == scene.world.master.name and not (shown and shown[-1].row is not None and shown[-1].row.status == "disconnected")


def _overdue(scene: Scene, silence: _Silence) -> Want | None:
    node, last = silence.stay.node, silence.last
    begin = last + _PERIODS * silence.stay.period - _ROUNDING
    # A plain keepalive shows only where the next list of who is quiet does not name the agent.
    plain = silence.next is silence.stay
    over = FOREVER if silence.next is None else scene.hearing.known_at(silence.next.node, silence.until, quiet=plain)
    if over < begin:
        return None
    patience = max(_PERIODS * scene.learnt[node], 1.5 * max(scene.learnt.values()) + _WORD)
    stamped = _stamped(scene, node)
    quiet = scene.hearing.known_at(node, last + stamped + patience + _ROUNDING, quiet=True)
    due = max(quiet, scene.hearing.all_known_at(last + stamped + patience + _ROUNDING)) + _WORD
    clocked = not scene.wrong.get(node)  # what was written while a clock was off cannot be told from what came after
    about = (last - _ROUNDING, last + stamped + _ROUNDING) if clocked else (-FOREVER, FOREVER)
    if silence.until >= due and due < scene.until and _must(scene, silence, due):
        by = "" if stamped else node
        return Want("overdue", silence.agent, "must", silence.began, begin, due, by, about, silence.cause)
    if silence.cause == "overwritten":
        begin, about = last - scene.behind, (last - scene.behind, last + _ROUNDING)  # by the worker's row it was silent before
    return Want("overdue", silence.agent, "may", silence.began, begin, over + _ROUNDING, about=about, why=silence.cause)


def _stamped(scene: Scene, node: str) -> float:
    """5.0 names no node in a row: the master's copy, stamped when it was synced, looks as if it were its own and the newest."""
    world = scene.world
    return world.config.sync_period + _ROUNDING if world.master.schema == "5.0" and node != world.master.name else 0.0


def _must(scene: Scene, silence: _Silence, due: float) -> bool:
    node, last = silence.stay.node, silence.last
    active = all(one.row is not None and one.row.status == "active" for one in scene.versions(node, silence.agent, last, due))
    told = scene.statuses(silence.agent, 0.0, due)
    return (
        silence.stay.accepted
        and silence.cause in ("died", "moved", "missed")
        and active
        and bool(scene.versions(node, silence.agent, last, due))
        and _is_known_active(scene, silence, told)
        and scene.names_itself(node, silence.agent, last, due)
        and not any(fact.what in ("refused", "removed") and last <= fact.at <= due for fact in scene.facts.get(silence.agent, ()))
        and scene.is_settled(node, begin=max(scene.began, last - _WORD), end=due)
        and last > scene.began
    )


def _is_known_active(scene: Scene, silence: _Silence, told: Sequence[Told]) -> bool:
    """Told as Active in time, or there at the baseline."""
    if told:
        return told[-1].kind == "connected" and told[-1].at <= silence.last + scene.behind
    return scene.is_known(silence.agent, silence.last)


# Cleared ------------------------------------------------------------------------------------------------------------


def cleared(scene: Scene) -> Iterator[Want]:
    """One want for each overdue that was told."""
    for agent, told in scene.told.items():
        for one in told:
            if one.kind == "overdue":
                want = _cleared(scene, agent, one)
                if want is not None:
                    yield want


def _cleared(scene: Scene, agent: Subject, overdue: Told) -> Want | None:
    back = next(((stay, at) for stay in scene.stays.get(agent, ()) if (at := _contact(stay, overdue.about + _ROUNDING)) < FOREVER), None)
    changed = next((one.at for one in scene.statuses(agent, overdue.at, FOREVER)), FOREVER)
    if back is None or changed < back[1]:
        return None
    stay, at = back
    steady = at if at > stay.first else stay.first + 30.0 + 1.5 * scene.learnt[stay.node]
    due = scene.hearing.all_known_at(max(steady, overdue.at) + _ROUNDING) + scene.hearing.known_at(stay.node, steady) - steady + _WORD
    must = (
        stay.accepted and stay.end > due and changed > due and due < scene.until
        and overdue.at > scene.began and at > scene.began
        and scene.is_settled(stay.node, begin=overdue.at, end=due)
    )  # fmt: skip
    word: Word = "must" if must else "may"
    return Want("overdue_cleared", agent, word, at, max(at, overdue.at), due if must else changed, why=f"back on {stay.node}")


def _contact(stay: Stay, after: float) -> float:
    """The first contact of a stay after a time."""
    return stay.begin if stay.begin > after else stay.after(after)
