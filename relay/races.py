"""A stop on a master's row that may be the older word of a worker which the agent had left (wazuh/wazuh#24401). Rule 2. Pure.

A worker's stop is synced within 10 s onto whatever the master's row says by then, with the worker's time. So a stop there is
either the master's own, and newer than all, or a copy. A copy's worker still says it, or something newer: where every worker
has told all up to then and none can have said it, it is the master's own. Clocks that are apart may leave that open; then it
counts if it stands: who is there keeps alive once more, and that is synced onto it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared import models

from . import claims
from .claims import TIE, Claim, Voices
from .decided import Agent, Hold
from .fleet import Fleet


@dataclass(frozen=True, slots=True)
class Race:
    """A disputed stop: believed now, or held."""

    stop: Claim
    hold: Hold | None


def judge(fleet: Fleet, known: Agent, owner: Claim, voices: Voices, now: int) -> Race | None:
    """The newest stop that is disputed, where it is newer than all that is known of the agent."""
    stops = [stop for stop in voices.disputed if _is_news(fleet, known, owner, stop)]
    if not stops:
        return None
    stop = max(stops, key=lambda stop: stop.contact)
    since = stop.row.disconnection_time
    same = known.hold is not None and (known.hold.kind, known.hold.since) == ("raced", since)
    began = known.hold.began if known.hold is not None and same else now
    waits = list(_waits(fleet, stop, began, voices.heard, now))
    return Race(stop, Hold("raced", since, min(waits), began) if waits else None)


def _is_news(fleet: Fleet, known: Agent, owner: Claim, stop: Claim) -> bool:
    decided = claims.decided_contact(fleet, known) or 0
    # A node's own row is told in order: what it says after a contact of the same second is after it.
    margin = -TIE if stop.node.node == known.witness else TIE
    return stop.contact > max(owner.contact + TIE, decided + margin)


def _waits(fleet: Fleet, stop: Claim, began: int, heard: Sequence[Claim], now: int) -> Iterator[int]:
    """The stream times (Unix ms) that have to pass before the stop is believed."""
    stands_at = began + max(fleet.policy.sync_jitter, models.quiet_after(stop.node.period))
    if min(now, fleet.through()) < stands_at and any(o.worker and o.node.fresh and claims.may_have_said(o, stop) for o in heard):
        yield stands_at
    for other in heard:
        known_at = claims.known_at(other, stop)
        if claims.may_have(other, stop) and other.node.quiet_through < known_at:
            yield known_at
