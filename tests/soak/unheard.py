"""What may be told though the facts alone do not say so; it need not be told, and it is not false.

* Of an agent whose manager cannot be heard the others speak (rule 3), and they know less: it may be taken for away, and for
  back when its manager is heard again, or when who speaks changes in between.
* A worker that has not heard of a removal yet lets the agent in: until the master's table tells, it has come.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from tests.soak.raw import Span
from tests.truth.shown import Wanted
from tests.world.config import Fact
from tests.world.oracle import Expected

_LEAVES: Final = ("stopped", "moved", "lost", "refused", "removed", "died", "started")
_KNOCKS: Final = ("started", "moved", "lost")
_JUST: Final = 0.001  # seconds: before the removal, as it is told
_FOREVER: Final = float("inf")


def unheard(history: Sequence[Fact], deaf: Mapping[str, Sequence[Span]], baseline: float, patience: float) -> Iterator[Wanted]:
    """Times in Unix seconds. `patience`: how long after the end of a deafness something of it may still be told."""
    turns = sorted(at for spans in deaf.values() for span in spans for at in span)
    for fact, left in _presences(history):
        for begin, end in deaf.get(fact.node, ()):
            if begin < left and end > fact.at and end > baseline:
                first, last = max(begin, fact.at), min(end, left)
                between = [at for at in turns[bisect_right(turns, first) :] if at < last]
                for at in (first, *dict.fromkeys(between)):
                    yield from _three(fact, at, end + patience)


def served_after_removal(history: Sequence[Fact], patience: float) -> Iterator[Wanted]:
    """The world remembers nothing of an agent after its removal; one that was about to knock is about to knock still."""
    last: dict[int, Fact] = {}
    for fact in history:
        before = last.get(fact.agent)
        if fact.what == "removed" and before is not None and before.what in _KNOCKS:
            back = Expected(fact.agent, fact.name, "connected", "Disconnected", "Active", fact.at - _JUST, "removed", certain=False)
            yield Wanted(replace(back, node=before.node), "may", due=fact.at + patience)
        last[fact.agent] = fact


def _presences(history: Sequence[Fact]) -> Iterator[tuple[Fact, float]]:
    """Each knock or connection of an agent, and when it left what it came to."""
    following: dict[int, float] = {}
    found: list[tuple[Fact, float]] = []
    for fact in reversed(history):
        if fact.what in ("started", "connected"):
            found.append((fact, following.get(fact.agent, _FOREVER)))
        if fact.agent and fact.what in _LEAVES:
            following[fact.agent] = fact.at
    return reversed(found)


def _three(fact: Fact, at: float, due: float) -> Iterator[Wanted]:
    gone = Expected(fact.agent, fact.name, "disconnected", "Active", "Disconnected", at, "unheard", certain=False, node=fact.node)
    yield Wanted(replace(gone, kind="pending", current="Pending"), "may", due=due)
    yield Wanted(gone, "may", due=due)
    yield Wanted(replace(gone, kind="connected", previous="Disconnected", current="Active"), "may", due=due)
