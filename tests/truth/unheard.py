"""What may be told of an agent whose own manager cannot be heard: what the rows of the others really say, and no more.

Rules, as somebody careful would judge who sees all those rows
 * An agent that was connected when its manager fell silent stays as it is, unless another row knows more of it: a contact not
   older than the last that was known of it (by more than a sync's jitter) and a status that says it is gone. A reset (code 5)
   in such a row is that manager's own restart and says nothing of an agent that was elsewhere.
 * Of an agent that came while its manager was silent what was known before counts in the same way.
 * A row that says it is gone is not believed where another, that is heard, shows it alive and later.
 * When the manager is heard again, or another row shows the agent, it may be told as back.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from shared import models
from tests.truth.collectors import Version
from tests.truth.contacts import FOREVER, Stay
from tests.truth.notices import Subject
from tests.truth.scene import Scene
from tests.truth.shown import Wanted
from tests.world.oracle import Expected

_JITTER = 31.0  # seconds: a copy's contact is stamped when it is synced
_MARGIN = 5.0  # seconds by which a node may be taken for unheard earlier or later
_BEFORE = 0.5  # seconds
_SOON = 40.0  # seconds: what waits for a sync's jitter, and a beat
_TITLES = {"active": "Active", "pending": "Pending", "disconnected": "Disconnected"}


@dataclass(frozen=True, slots=True)
class _Absence:
    """A stretch of a stay in which its manager could not be heard. `known`: the last contact that was heard of; None: none."""

    stay: Stay
    begin: float
    end: float
    heard: float  # when its manager was heard again
    over: float  # when all of it was known
    known: float | None
    before: str  # the manager it was with before, if it came while this one was silent


def unheard(scene: Scene) -> Iterator[Wanted]:
    """What may be told, in no order."""
    for stays in scene.stays.values():
        for stay, following in zip(stays, (*stays[1:], None), strict=True):
            gone = _over(scene, stay, following)
            for last, heard in scene.hearing.silences(stay.node, scene.hearing.stale - _MARGIN):
                begin, end = max(last + scene.hearing.stale - _MARGIN, stay.begin), min(heard, gone)
                if begin < end and end > scene.began:
                    again = min(heard, scene.until)
                    known_by = min(scene.hearing.known_at(stay.node, again), scene.until)
                    known, before = _known(scene, stay, last), _before(scene, stay, last)
                    yield from _of(scene, _Absence(stay, begin, end, again, known_by, known, before))


def _over(scene: Scene, stay: Stay, following: Stay | None) -> float:
    """When there was more to know of the agent than that it had been there: at its goodbye, or where it came to next."""
    ends = (fact.at for fact in scene.facts.get(stay.agent, ()) if fact.what in ("stopped", "removed") and fact.at >= stay.begin)
    return min(stay.end if stay.end == FOREVER else next(ends, FOREVER), following.begin if following else FOREVER)


def _known(scene: Scene, stay: Stay, last: float) -> float | None:
    """The last contact that was heard of when the manager fell silent, with it or with the one before; None: none."""
    if stay.begin <= scene.hearing.as_of(stay.node, last):
        return stay.last(scene.hearing.as_of(stay.node, last, quiet=True))
    earlier = [one for one in scene.stays[stay.agent] if one.begin < stay.begin]
    if not earlier:
        return None
    return earlier[-1].last(scene.hearing.as_of(earlier[-1].node, stay.begin, quiet=True))


def _before(scene: Scene, stay: Stay, last: float) -> str:
    earlier = [one.node for one in scene.stays[stay.agent] if one.begin < stay.begin]
    return earlier[-1] if earlier and stay.begin > scene.hearing.as_of(stay.node, last) else ""


def _of(scene: Scene, absence: _Absence) -> Iterator[Wanted]:
    seen = sorted(_said(scene, absence), key=lambda item: item[0])
    for at, version in seen:
        known = max(at, version.sent.at) if version.sent.at < FOREVER else at
        yield replace(_may(absence, at, _TITLES[version.row.status if version.row is not None else "active"], scene.behind), light=known)
    if any(version.row is not None and version.row.status != "active" for _, version in seen):
        yield from (_may(absence, at, "Active", scene.behind) for at in _heard_again(scene, absence))


def _heard_again(scene: Scene, absence: _Absence) -> Iterator[float]:
    """When it may be told as back: another manager is heard again, or its own."""
    for node in scene.hearing.nodes:
        spans = scene.hearing.silences(node, scene.hearing.stale - _MARGIN)
        yield from (heard for _, heard in spans if absence.begin < heard < absence.end)
    yield absence.end
    if absence.heard > absence.end:  # it was there, and is told of when that comes to light, before what came after
        yield absence.heard - _BEFORE


def _said(scene: Scene, absence: _Absence) -> Iterable[tuple[float, Version]]:
    """(from when on, version): the rows of the others that stood then and may be believed."""
    for node in scene.hearing.nodes:
        if node != absence.stay.node:
            for version in scene.versions(node, absence.stay.agent, absence.begin, absence.over):
                if _believable(scene, node, version, absence):
                    yield max(version.look, absence.begin), version


def _believable(scene: Scene, node: str, version: Version, absence: _Absence) -> bool:
    row = version.row
    if row is None or row.status not in _TITLES:
        return False
    if row.status == "disconnected" and row.code == models.CODE_RESET and node != absence.before:
        return False
    contact = _contact(scene, node, version)
    if contact is None:
        return absence.known is None
    if row.status == "disconnected" and _is_outdone(scene, max(version.look, absence.begin), contact, absence):
        return False
    return absence.known is None or contact >= absence.known - _JITTER


def _contact(scene: Scene, node: str, version: Version) -> float | None:
    row = version.row
    if row is None:
        return None
    stopped = row.status == "disconnected" and row.code == models.CODE_STOPPED
    seconds = row.disconnection_time if stopped and row.disconnection_time else row.last_keepalive
    return None if seconds is None else scene.world.nodes[node].world_time(seconds)


def _is_outdone(scene: Scene, at: float, contact: float, absence: _Absence) -> bool:
    """Whether another row that was known by then shows the agent alive, and later."""
    standing = (
        (node, versions[0])
        for node in scene.hearing.nodes
        if node != absence.stay.node and (versions := scene.versions(node, absence.stay.agent, at, at))
    )
    return any(
        one.row is not None and one.row.status in ("active", "pending") and one.sent.at <= at
        and (_contact(scene, node, one) or 0.0) > contact + (0.0 if one.row.node_name == absence.stay.node else _JITTER)
        for node, one in standing
    )  # fmt: skip


def _may(absence: _Absence, at: float, status: str, behind: float) -> Wanted:
    number, name = _subject(absence)
    kind = {"Active": "connected", "Pending": "pending", "Disconnected": "disconnected"}[status]
    previous = "Active" if status != "Active" else "Disconnected"
    expected = Expected(number, name, kind, previous, status, at, "unheard", certain=False, node=absence.stay.node)  # type: ignore[arg-type]
    return Wanted(expected, "may", due=absence.over + behind + _SOON)


def _subject(absence: _Absence) -> Subject:
    return absence.stay.agent
