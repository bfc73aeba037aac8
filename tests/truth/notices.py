"""What else is told besides changes of a status, held against what the world's facts ask for: the words, and the pairing.

An oracle of a kind gives a `Want` for each thing that happened: a window in which it may be told, and whether it must be.
A `Told` fits the wants of its kind and subject whose window it is in. What must be told and was not is missed; what was told
and fits nothing, or nothing that is not taken yet, is false.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Word = Literal["must", "may", "never_shown", "superseded"]
Subject = tuple[int, str]  # (agent, its name), or (0, node)


@dataclass(frozen=True, slots=True)
class Told:
    """One notice that was told at world time `at`, about `about` (world time by the record of `node`)."""

    kind: str
    subject: Subject
    node: str
    at: float
    about: float
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Want:
    """One that must or may be told between `begin` and `due`; `since`: what its delay is counted from. `node`: by whom, if
    that matters; `about`: the bounds of the time it is about. `why`: for who reads what went wrong."""

    kind: str
    subject: Subject
    word: Word
    since: float
    begin: float
    due: float
    node: str = ""
    about: tuple[float, float] = (float("-inf"), float("inf"))
    why: str = ""

    def fits(self, told: Told) -> bool:
        return self.begin <= told.at <= self.due and self.node in ("", told.node) and self.about[0] <= told.about <= self.about[1]


@dataclass(slots=True)
class Score:
    """What became of one kind, or of all."""

    pairs: list[tuple[Want, Told]] = field(default_factory=list)
    missed: list[Want] = field(default_factory=list)
    false: list[Told] = field(default_factory=list)
    untold: list[Want] = field(default_factory=list)  # never shown, or superseded

    @property
    def must(self) -> int:
        return self.found + len(self.missed)

    @property
    def found(self) -> int:
        return sum(want.word == "must" for want, _ in self.pairs)

    def count(self, word: Word) -> int:
        return sum(want.word == word for want in self.untold)

    def of(self, kind: str) -> "Score":
        return Score(
            [pair for pair in self.pairs if pair[0].kind == kind],
            [want for want in self.missed if want.kind == kind],
            [told for told in self.false if told.kind == kind],
            [want for want in self.untold if want.kind == kind],
        )


def score(wants: Iterable[Want], told: Iterable[Told]) -> Score:
    """Each told takes the want that is due first among those that must be told, else among the others."""
    waiting: dict[tuple[str, Subject], list[Want]] = {}
    for want in sorted(wants, key=lambda one: (one.word != "must", one.due)):
        waiting.setdefault((want.kind, want.subject), []).append(want)
    found = Score()
    for one in sorted(told, key=lambda one: one.at):
        mine = waiting.get((one.kind, one.subject), [])
        fitting = next((want for want in mine if want.fits(one)), None)
        if fitting is None:
            found.false.append(one)
        else:
            mine.remove(fitting)
            found.pairs.append((fitting, one))
    left = [want for wants_left in waiting.values() for want in wants_left]
    found.missed = [want for want in left if want.word == "must"]
    found.untold = [want for want in left if want.word in ("never_shown", "superseded")]
    return found


def delays(pairs: Sequence[tuple[Want, Told]]) -> list[float]:
    """Seconds from what happened until it was told, of what had to be."""
    return [max(0.0, told.at - want.since) for want, told in pairs if want.word == "must"]
