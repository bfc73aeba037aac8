"""Our copy of what a node has: its rows, its client.keys, and who is quiet there. Pure.

Every node of a cluster has a row for every agent and the same client.keys, so that ten nodes hold a million rows of a hundred thousand
agents. What is alike is held once: a key, and the row of an agent that was never in contact, are the very objects of another table.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeVar

from shared import models, wire
from shared.models import AgentRow, KeyEntry

_Held = TypeVar("_Held", AgentRow, KeyEntry)


@dataclass(slots=True)
class Table:
    """Our copy of a node's rows, client.keys and quiet list."""

    rows: dict[int, AgentRow] = field(default_factory=dict)
    keys: dict[int, KeyEntry] = field(default_factory=dict)
    quiet: dict[int, int] = field(default_factory=dict)
    digest: int = 0
    news: set[int] = field(default_factory=set)  # whose row changed after `quiet` was taken: it says nothing of them
    woken: dict[int, int] = field(default_factory=dict)  # (node's clock, ms) what was written of an id that nobody saw, if it was once
    silences: list[tuple[int, int]] = field(default_factory=list)  # (last_keepalive, id) of `quiet`, in order

    def hear(self, quiet: dict[int, int], taken_at: int) -> None:
        """Take over a new list of who is quiet."""
        if quiet != self.quiet:
            old = taken_at - 2 * models.quiet_after(models.UNKNOWN_PERIOD)
            left = dict.fromkeys(self.quiet.keys() - quiet.keys() - self.news, taken_at)
            awake = {n: at for n, at in (self.woken | left).items() if n not in quiet and at >= old}
            self.woken = awake | {n: moment * 1000 for n, moment in quiet.items() if self._is_one_write(n, moment)}
        for number in self.news & self.woken.keys():
            del self.woken[number]
        self.listen(quiet, (), self.woken)

    def _is_one_write(self, number: int, moment: int) -> bool:
        """Whether a single write explains that an id is named as quiet since `moment`: it was named before, as quiet for longer."""
        before, woken = self.quiet.get(number), self.woken.get(number)
        if before is None:
            return woken is not None and moment * 1000 <= woken
        return (woken is not None) == (before == moment)

    def listen(self, quiet: dict[int, int], news: Iterable[int], woken: dict[int, int]) -> None:
        """Take over who is quiet; `news`: whose row changed since."""
        self.quiet, self.news, self.woken = quiet, set(news), woken
        self.silences = sorted((moment, number) for number, moment in quiet.items())

    def silent(self, after: int, through: int) -> list[int]:
        """The quiet ids whose last keepalive (Unix s) is in (after, through]."""
        begin, end = (bisect_right(self.silences, moment, key=itemgetter(0)) for moment in (after, through))
        return [number for _, number in self.silences[begin:end]]


def absorb(table: Table, snapshot: wire.Snapshot, others: Sequence[Table] = (), digest: int | None = None) -> set[int]:
    """Bring a table to what the snapshot says; the ids whose row, key or silence changed. `others`: tables to share with; `digest`:
    what the table's is to be, where that is known."""
    changed = _absorb_rows(table, snapshot, [other.rows for other in others], digest)
    table.news |= changed
    touched = changed | _absorb_keys(table, snapshot, [other.keys for other in others])
    if snapshot.quiet is not None:
        quiet = dict(snapshot.quiet)
        touched |= {number for number, _ in table.quiet.items() ^ quiet.items()}
        table.hear(quiet, snapshot.taken_at)
    return touched


def _absorb_rows(table: Table, snapshot: wire.Snapshot, others: Sequence[Mapping[int, AgentRow]], known: int | None) -> set[int]:
    if snapshot.kind == "beat" or snapshot.source_state != "ok":
        return set()
    rows = {row.id: row for row in snapshot.rows if row.id != 0}  # id 0 is the manager itself, never an agent
    gone = table.rows.keys() - rows.keys() if snapshot.kind == "full" else table.rows.keys() & set(snapshot.gone)
    before = [table.rows.pop(number) for number in gone]
    touched, news = set(gone), list[AgentRow]()
    for number, row in rows.items():
        held = table.rows.get(number)
        if held == row:
            continue
        if held is not None:
            before.append(held)
        news.append(row)
        table.rows[number] = row if row.last_keepalive is not None else _alike(row, others)
        touched.add(number)
    table.digest = _summed(table.digest, before, news) if known is None else known
    return touched


def _summed(digest: int, before: Iterable[AgentRow], after: Iterable[AgentRow]) -> int:
    return (digest - sum(map(models.row_digest, before)) + sum(map(models.row_digest, after))) % models.DIGEST_MODULUS


def _absorb_keys(table: Table, snapshot: wire.Snapshot, others: Sequence[Mapping[int, KeyEntry]]) -> set[int]:
    if snapshot.kind == "beat" or snapshot.keys_state != "ok":
        return set()
    keys = {entry.id: entry for entry in snapshot.keys}
    gone = table.keys.keys() - keys.keys() if snapshot.kind == "full" else table.keys.keys() & set(snapshot.keys_gone)
    changed = {number for number, entry in keys.items() if table.keys.get(number) != entry}
    for number in gone:
        del table.keys[number]
    table.keys.update((number, _alike(keys[number], others)) for number in changed)
    return changed | gone


def _alike(new: _Held, others: Sequence[Mapping[int, _Held]]) -> _Held:
    """What equals it in another table, where there is such a thing; else itself."""
    for held in others:
        other = held.get(new.id)
        if other == new and other is not None:
            return other
    return new
