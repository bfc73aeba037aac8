"""What has been told of Wazuh's table of agents: what a probe is compared with.

Pure. Rules
 * It holds what was delivered, not what a probe showed: what changes between a probe and the reading of the rows it points
   at shows in the next probe.
 * 25 bytes an agent, whatever its names.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable

from . import rows


class Known:
    """What has been told of a table so far: enough to see in a probe what moved since, 25 bytes an agent.

    What an unreadable row adds to the two sums is not known here: the next probe's sums are taken as they are.
    """

    def __init__(self, decoded: rows.Decoded, own: str) -> None:
        self._own = own
        self.ids = array("q")
        self._times = array("q")
        self._added = array("q")
        self._vector = bytearray()
        self._id_sum = self._disconnection_sum = self._added_sum = self._mark_sum = 0
        self._unreadable: set[int] = set()
        self._blind = False
        self.put(decoded)

    def put(self, decoded: rows.Decoded) -> None:
        """Rows that are being told."""
        for row in decoded.rows:
            self._set(row.id, row.disconnection_time, row.date_add, rows.mark(row, self._own))
        for number in decoded.unreadable:
            self._unreadable.add(number)
            self._set(number, 0, 0, rows.UNREAD)
        self._unreadable.difference_update(row.id for row in decoded.rows)

    def _set(self, number: int, time: int, added: int, mark: bytes) -> None:
        at = bisect_left(self.ids, number)
        if at == len(self.ids) or self.ids[at] != number:
            self._insert(at, number)
        self._blind = self._blind or number in self._unreadable
        self._disconnection_sum += (time - self._times[at]) * _weight(number)
        self._added_sum += (added - self._added[at]) * _weight(number)
        self._mark_sum += (rows.weighed(mark[0]) - rows.weighed(self._vector[at])) * _weight(number)
        self._times[at], self._added[at], self._vector[at : at + 1] = time, added, mark

    def _insert(self, at: int, number: int) -> None:
        self.ids.insert(at, number)
        self._times.insert(at, 0)
        self._added.insert(at, 0)
        self._vector[at:at] = rows.UNREAD
        self._id_sum += number

    def forget(self, ids: Iterable[int]) -> None:
        """Agents that are gone."""
        for number in ids:
            self._set(number, 0, 0, rows.UNREAD)
            self._unreadable.discard(number)
            at = bisect_left(self.ids, number)
            self._id_sum -= number
            del self.ids[at], self._times[at], self._added[at], self._vector[at]

    def is_at(self, table: str) -> bool:
        """Whether what a glance shows is what has been told. It is a sum: two changes that make it up show in the next probe."""
        total = self._disconnection_sum + self._added_sum + self._mark_sum
        return not self._blind and table == f"{len(self.ids)} {total}"

    def moved(self, new: rows.Probe) -> rows.Moved:
        """What differs in a probe from what has been told."""
        alike = (len(self.ids), self._id_sum, new.count) == (new.count, new.id_sum, len(new.vector))
        if self._blind and alike:
            self._adopt(new)
        mine = rows.Probe(bytes(self._vector), len(self.ids), self._id_sum, self._disconnection_sum, self._added_sum, 0)
        return rows.moved(mine, new, self.ids)

    def has_times_of(self, probe: rows.Probe) -> bool:
        """Whether the disconnection_times that were told are those that a probe showed; as far as a sum can tell."""
        return self._disconnection_sum == probe.disconnection_sum

    def other_times(self, times: Iterable[tuple[int, int]]) -> list[int]:
        """The known ids whose disconnection_time is not the one told; `times` names each that is not 0."""
        now = dict(times)
        return [number for number, time in zip(self.ids, self._times, strict=True) if now.get(number, 0) != time]

    def _adopt(self, new: rows.Probe) -> None:
        for at, byte in enumerate(new.vector):
            if self._vector[at] == rows.UNREAD[0]:
                self._mark_sum += rows.weighed(byte) * _weight(self.ids[at])
                self._vector[at] = byte
        self._disconnection_sum, self._added_sum, self._blind = new.disconnection_sum, new.added_sum, False


def _weight(number: int) -> int:
    return number % 1000 + 1
