"""Our copy of what a node has: its rows, its client.keys, and who is quiet there. Pure."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeVar

from shared import models, wire
from shared.models import AgentRow, KeyEntry

from .byid import ById

_Held = TypeVar("_Held", AgentRow, KeyEntry)


@dataclass(slots=True)
class Table:
    """Our copy of a node's rows, client.keys and quiet list."""

    rows: ById[AgentRow] = field(default_factory=ById)
    keys: ById[KeyEntry] = field(default_factory=ById)
    quiet: dict[int, int] = field(default_factory=dict)
    digest: int = 0
    news: set[int] | None = None  # whose row changed after `quiet` was taken: it says nothing of them. None: there was no list yet
    woken: dict[int, int] = field(default_factory=dict)  # (node's clock, ms) what was written of an id that nobody saw, if it was once
    silences: list[tuple[int, int]] = field(default_factory=list)  # (last_keepalive, id) of `quiet`, in order

    def hear(self, quiet: dict[int, int], taken_at: int) -> None:
        """Take over a new list of who is quiet."""
        news = self.news or set()
        if quiet != self.quiet:
            old = taken_at - 2 * models.quiet_after(models.UNKNOWN_PERIOD)
            left = dict.fromkeys(self.quiet.keys() - quiet.keys() - news, taken_at)
            awake = {n: at for n, at in (self.woken | left).items() if n not in quiet and at >= old}
            self.woken = awake | {n: moment * 1000 for n, moment in quiet.items() if self._is_one_write(n, moment)}
        for number in news & self.woken.keys():
            del self.woken[number]
        self.listen(quiet, (), self.woken)

    def _is_one_write(self, number: int, moment: int) -> bool:
        """Whether a single write explains that an id is named as quiet since `moment`: it was named before, as quiet for longer."""
        before, woken = self.quiet.get(number), self.woken.get(number)
        if before is None:
            return woken is not None and moment * 1000 <= woken
        return (woken is not None) == (before == moment)

    def listen(self, quiet: dict[int, int], news: Iterable[int] | None, woken: dict[int, int]) -> None:
        """Take over who is quiet; `news`: whose row changed since."""
        self.quiet, self.news, self.woken = quiet, None if news is None else set(news), woken
        self.silences = sorted((moment, number) for number, moment in quiet.items())

    def silent(self, after: int, through: int) -> list[int]:
        """The quiet ids whose last keepalive (Unix s) is in (after, through]."""
        begin, end = (bisect_right(self.silences, moment, key=itemgetter(0)) for moment in (after, through))
        return [number for _, number in self.silences[begin:end]]


def absorb(table: Table, snapshot: wire.Snapshot, digest: int | None = None) -> set[int]:
    """Bring a table to what the snapshot says; the ids whose row, key or silence changed. `digest`: what the table's is to be, where
    that is known."""
    changed = _absorb_rows(table, snapshot, digest)
    if table.news is not None:
        table.news |= changed
    touched = changed | _absorb_keys(table, snapshot)
    if snapshot.quiet is not None:
        quiet = dict(snapshot.quiet)
        touched |= {number for number, _ in table.quiet.items() ^ quiet.items()}
        table.hear(quiet, snapshot.taken_at)
    return touched


def gone(table: Table, snapshot: wire.Snapshot) -> set[int]:
    """The ids whose rows a readable snapshot takes away."""
    return _left(table.rows, {row.id for row in snapshot.rows} if snapshot.kind == "full" else None, snapshot.gone)


def _left(held: ById[_Held], come: Collection[int] | None, gone: Iterable[int]) -> set[int]:
    """The ids held that are gone: where what has come is all there is, whoever is not in it."""
    if not held or come is None:
        return {number for number in gone if number in held}
    return {number for number in held if number not in come}


def _absorb_rows(table: Table, snapshot: wire.Snapshot, known: int | None) -> set[int]:
    if snapshot.kind == "beat" or snapshot.source_state != "ok":
        return set()
    come = {row.id: row for row in snapshot.rows if row.id != 0}  # id 0 is the manager itself, never an agent
    left = _left(table.rows, come if snapshot.kind == "full" else None, snapshot.gone)
    gone = [table.rows.pop(number) for number in left]
    news, before = _put(table.rows, come)
    table.digest = _summed(_summed(table.digest, gone, ()), *_digested(before, news.values())) if known is None else known
    return left | news.keys()


def _put(held: ById[_Held], come: Mapping[int, _Held]) -> tuple[Mapping[int, _Held], list[_Held | None]]:
    """Take over what has come; what of it is news, and what stood in its place."""
    pairs = zip(come.items(), held.of(list(come)), strict=True)
    news = {number: one for (number, one), old in pairs if one != old} if held else come
    before = held.of(list(news))
    held.fill(news)
    return news, before


def _digested(before: Iterable[AgentRow | None], after: Iterable[AgentRow]) -> tuple[list[AgentRow], list[AgentRow]]:
    """What of it a digest tells apart: of a full snapshot nearly nothing, for most of its news are keepalives."""
    pairs = [(old, new) for old, new in zip(before, after, strict=True) if old is None or not models.are_digested_alike(old, new)]
    return [old for old, _ in pairs if old is not None], [new for _, new in pairs]


def digest(rows: Iterable[AgentRow]) -> int:
    """The digest of a table with these rows (`shared.models.row_digest`)."""
    return _summed(0, (), rows)


def _summed(digest: int, before: Iterable[AgentRow], after: Iterable[AgentRow]) -> int:
    return (digest - sum(map(models.row_digest, before)) + sum(map(models.row_digest, after))) % models.DIGEST_MODULUS


def _absorb_keys(table: Table, snapshot: wire.Snapshot) -> set[int]:
    if snapshot.kind == "beat" or snapshot.keys_state != "ok":
        return set()
    come = {entry.id: entry for entry in snapshot.keys}
    left = _left(table.keys, come if snapshot.kind == "full" else None, snapshot.keys_gone)
    for number in left:
        del table.keys[number]
    return left | _put(table.keys, come)[0].keys()
