"""What has been told of Wazuh's table of agents: what a probe is compared with.

Pure. Rules
 * It holds what was delivered, not what a probe showed: what changes between a probe and the reading of the rows it points
   at shows in the next probe.
 * 25 bytes an agent, whatever its name, and some for whoever has not the usual mark.
"""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import Final

from . import rows

_UNKNOWN: Final = -1


class Known:
    """What has been told of a table so far: enough to see in a probe what moved since.

    `usual` is the mark that most rows had at first, and `ranges` are those of a probe (`rows.probe_ranges`).

    What an unreadable row shows and adds to the sum is not known here: as the next probe shows it, it is taken.
    """

    def __init__(self, decoded: rows.Decoded, own: str) -> None:
        rows_of = {row.id: row for row in decoded.rows}
        marks = {number: rows.mark(row, own) for number, row in rows_of.items()}
        self._own = own
        self.ids = array("q", sorted(rows_of))
        self._times = array("q", [rows_of[number].disconnection_time for number in self.ids])
        self._added = array("q", [rows_of[number].date_add for number in self.ids])
        self._marks = array("b", [marks[number] for number in self.ids])
        counts = Counter(marks.values())
        self.usual = max(counts, key=counts.__getitem__, default=0)
        self._names = {rows.named(number, mark) for number, mark in marks.items() if mark != self.usual}
        self._id_sum = sum(rows_of)
        self._sum = sum((row.disconnection_time + row.date_add) * _weight(row.id) for row in rows_of.values())
        self._unreadable: set[int] = set()
        self._blind = False
        self._seen: rows.Ranges | None = None  # what shows all that has been told and no more
        self.put(rows.Decoded((), decoded.unreadable))
        self.ranges = rows.probe_ranges(self._names)

    def put(self, decoded: rows.Decoded) -> None:
        """Rows that are being told."""
        for row in decoded.rows:
            self._set(row.id, row.disconnection_time, row.date_add, rows.mark(row, self._own))
        for number in decoded.unreadable:
            self._unreadable.add(number)
            self._set(number, 0, 0, _UNKNOWN)
        self._unreadable.difference_update(row.id for row in decoded.rows)

    def _set(self, number: int, time: int, added: int, mark: rows.Mark) -> None:
        at = bisect_left(self.ids, number)
        if at == len(self.ids) or self.ids[at] != number:
            self._insert(at, number)
        self._blind = self._blind or number in self._unreadable
        self._sum += (time + added - self._times[at] - self._added[at]) * _weight(number)
        self._times[at], self._added[at] = time, added
        self._name(at, mark)

    def _insert(self, at: int, number: int) -> None:
        self.ids.insert(at, number)
        self._times.insert(at, 0)
        self._added.insert(at, 0)
        self._marks.insert(at, _UNKNOWN)
        self._id_sum += number

    def _name(self, at: int, mark: rows.Mark) -> None:
        number, before, self._seen = self.ids[at], self._marks[at], None
        if before not in (self.usual, _UNKNOWN):
            self._names.remove(rows.named(number, before))
        if mark not in (self.usual, _UNKNOWN):
            self._names.add(rows.named(number, mark))
        self._marks[at] = mark

    def forget(self, ids: Iterable[int]) -> None:
        """Agents that are gone."""
        for number in ids:
            self._set(number, 0, 0, _UNKNOWN)
            self._unreadable.discard(number)
            at = bisect_left(self.ids, number)
            self._id_sum -= number
            del self.ids[at], self._times[at], self._added[at], self._marks[at]

    def is_at(self, ranges: rows.Ranges) -> bool:
        """Whether what a probe shows is, letter by letter, what it showed when that was all that had been told."""
        return ranges == self._seen

    def moved(self, new: rows.Probe) -> rows.Moved:
        """What differs in a probe from what has been told."""
        if self._blind and (len(self.ids), self._id_sum) == (new.count, new.id_sum):
            self._adopt(new)
        names = frozenset(self._names)
        moved = rows.moved(rows.Probe(len(self.ids), self._id_sum, self._sum, names), new)
        self._seen = new.ranges if moved == rows.Moved() else None
        return moved

    def has_times_of(self, probe: rows.Probe) -> bool:
        """Whether the times that were told are those that a probe showed; as far as a sum can tell."""
        return self._sum == probe.times

    def other_times(self, times: Iterable[tuple[int, int]]) -> list[int]:
        """The ids whose disconnection_time is known and not the one told; `times` names each that is not 0."""
        now = dict(times)
        known = zip(self.ids, self._times, strict=True)
        return [number for number, time in known if now.get(number, 0) != time and number not in self._unreadable]

    def _adopt(self, new: rows.Probe) -> None:
        marks = dict(map(rows.apart, new.names))
        for number in self._unreadable:
            at = bisect_left(self.ids, number)
            if self._marks[at] == _UNKNOWN:
                self._name(at, marks.get(number, self.usual))
        self._sum, self._blind = new.times, False


def _weight(number: int) -> int:
    return number % 1000 + 1
