"""What must be told of the managers themselves: restarts, absences, returns, a second collector, a wrong clock.

Each once; nothing of a manager to which it did not happen.
"""

from collections.abc import Iterator

from shared import models
from tests.truth.notices import Subject, Want
from tests.truth.scene import Scene
from tests.world.config import Fact

_ROUNDING = 3.0  # seconds
_ANEW = 900.0  # seconds after which a second collector is surely news again
_COMMIT = 70.0  # seconds after which a collector has surely read a file
_WORD = 6.0  # seconds until a tick or a message brings it to light
_RIGHT = 1300.0  # seconds after which an estimate of a clock has surely followed it: twice ten minutes
_NEVER = float("inf")


def restarted(scene: Scene) -> Iterator[Want]:
    """Where remoted's start reset a row."""
    starts = [fact for fact in scene.world.history if fact.what in ("restarted", "up")]
    resets = _resets(scene)
    for fact in starts:
        if fact.at > scene.began:
            yield _restarted(scene, fact, resets.get(fact.node, []), starts)


def _resets(scene: Scene) -> dict[str, list[tuple[float, float]]]:
    """For each node, (when it was reset by its row, when the stream heard of it)."""
    found: dict[str, list[tuple[float, float]]] = {}
    for (node, _), versions in scene.log.rows.items():
        for version in versions:
            row = version.row
            if row is not None and row.code == models.CODE_RESET and row.status == "disconnected":
                found.setdefault(node, []).append((scene.world.nodes[node].world_time(row.disconnection_time), version.sent.at))
    return found


def _restarted(scene: Scene, fact: Fact, resets: list[tuple[float, float]], starts: list[Fact]) -> Want:
    subject: Subject = (0, fact.node)
    about = (fact.at - _ROUNDING, fact.at + _ROUNDING) if not scene.wrong.get(fact.node) else (-_NEVER, _NEVER)
    seen = min((sent for at, sent in resets if abs(at - fact.at) < _ROUNDING), default=_NEVER)
    if seen == _NEVER:
        return Want("manager_restarted", subject, "may", fact.at, fact.at, _NEVER, about=about)
    twice = any(other is not fact and other.node == fact.node and abs(other.at - fact.at) < _ROUNDING for other in starts)
    must = not twice and seen + _WORD < scene.until
    return Want("manager_restarted", subject, "must" if must else "may", fact.at, fact.at, seen + _WORD, about=about)


def unreachable(scene: Scene) -> Iterator[Want]:
    """Each silence of a node longer than what makes it stale, and its end."""
    stale = scene.hearing.stale
    for node in scene.hearing.nodes:
        for last, heard in scene.hearing.silences(node, stale - _ROUNDING):
            if heard > scene.began and last < scene.until - stale:
                yield from _unreachable(scene, node, last, heard)


def _unreachable(scene: Scene, node: str, last: float, heard: float) -> Iterator[Want]:
    stale, subject = scene.hearing.stale, (0, node)
    spared = any(since <= last + 2 * stale and until >= last for since, until in scene.away)
    begin, due = last + stale - _ROUNDING, last + stale + _ROUNDING + _WORD
    must = heard > due and due < scene.until and not spared and last > scene.began
    yield Want("manager_unreachable", subject, "must" if must else "may", last, begin, due if must else heard + _ROUNDING)
    if heard < _NEVER:
        back = must and heard + _WORD < scene.until
        yield Want("manager_back", subject, "must" if back else "may", heard, heard - _ROUNDING, heard + _WORD)


def duplicate_collector(scene: Scene, twins: list[tuple[float, float, str]]) -> Iterator[Want]:
    for begin, end, node in twins:
        again = any(other == node and begin - _ANEW < over <= begin for _, over, other in twins)
        must = not again and end - begin > _COMMIT and end + _WORD < scene.until
        yield Want("duplicate_collector", (0, node), "must" if must else "may", begin, begin, end + _WORD)


def clock_off(scene: Scene) -> Iterator[Want]:
    """A clock that was set more than the jitter off; where it was set back, the estimate follows in its own time."""
    for node, spans in scene.wrong.items():
        for begin, end in spans:
            due = begin + _RIGHT
            must = end > due and due < scene.until and scene.hearing.is_heard(node, begin + 1, due)
            yield Want("clock_off", (0, node), "must" if must else "may", begin, begin, due if must else end + _RIGHT)
