"""Agents that are let in nowhere, or where they should not be: `version_refused` and `removed_but_connected`.

Rules
 * A refused version is told once, where a source showed status_code 1 or 2 before the agent did something else.
 * A removed agent is told as connected once, if its manager goes on serving it for the grace after the removal: a worker that
   is cut off and does not know.
"""

from collections.abc import Iterator
from itertools import pairwise

from shared import models
from tests.truth.contacts import Stay
from tests.truth.notices import Subject, Want
from tests.truth.scene import Scene
from tests.world.config import Fact

_REFUSED = (models.CODE_INVALID_VERSION, models.CODE_VERSION_UNREADABLE)
_WORD = 10.0  # seconds
_SWEPT = 2400.0  # seconds after which a refusal's code has surely been overwritten by a sweep
_NEVER = float("inf")


def version_refused(scene: Scene) -> Iterator[Want]:
    for agent, facts in scene.facts.items():
        for fact, following in pairwise([*facts, None]):
            if fact is not None and fact.what == "refused" and fact.at > scene.began:
                yield _refused(scene, agent, fact, following.at if following else _NEVER)


def _refused(scene: Scene, agent: Subject, fact: Fact, over: float) -> Want:
    versions = (one for one in scene.versions(fact.node, agent, fact.at) if fact.at <= one.look < over)
    seen = next((one for one in versions if one.row is not None and one.row.code in _REFUSED), None)
    if seen is None or seen.sent.at == _NEVER:
        return Want("version_refused", agent, "may" if seen is None else "never_shown", fact.at, fact.at, over + scene.behind)
    due = seen.sent.at + _WORD
    if any(other.what == "refused" and 0 < fact.at - other.at < _SWEPT for other in scene.facts[agent]):  # it may be the old code
        due = scene.hearing.known_at(fact.node, fact.at + 1.5 * scene.learnt[fact.node], quiet=True) + _WORD
    last = next((stay for stay in reversed(scene.stays.get(agent, ())) if stay.begin < fact.at), None)
    must = (
        over > due and due < scene.until and last is not None and last.node == fact.node and last.end <= fact.at
        and scene.is_known(agent, seen.sent.at) and scene.is_settled(fact.node, begin=fact.at, end=due)
        and scene.names_itself(fact.node, agent, fact.at, due)
    )  # fmt: skip
    late = _NEVER if over == _NEVER else over + scene.behind + scene.hearing.known_at(fact.node, over) - over
    return Want("version_refused", agent, "must" if must else "may", fact.at, fact.at, due if must else late)


def removed_but_connected(scene: Scene) -> Iterator[Want]:
    for agent, facts in scene.facts.items():
        removed = next((fact.at for fact in facts if fact.what == "removed"), _NEVER)
        for stay in scene.stays.get(agent, ()):
            if stay.begin <= removed < stay.end and removed > scene.began:
                yield _served(scene, agent, stay, removed)


def _served(scene: Scene, agent: Subject, stay: Stay, removed: float) -> Want:
    master = scene.world.master.name
    known = scene.hearing.known_at(master, removed + 1)
    looked = known + scene.grace + _WORD
    named = looked + 1.5 * scene.learnt[stay.node]
    due = max(scene.hearing.all_known_at(named), scene.hearing.known_at(stay.node, named, quiet=True)) + scene.grace + _WORD
    must = stay.end > due and due < scene.until and stay.accepted and scene.is_settled(stay.node, master, begin=removed, end=due)
    over = stay.end + scene.grace + scene.behind + scene.hearing.known_at(stay.node, stay.end) - stay.end if stay.end < _NEVER else _NEVER
    return Want("removed_but_connected", agent, "must" if must else "may", removed, removed + 0.9 * 60, due if must else over, stay.node)
