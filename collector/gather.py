"""The whole table of agents, gathered page by page while what moves is told meanwhile. Pure.

Rules
 * What comes later is newer: a page, or the rows that a probe pointed at.
 * Nobody is in it at the end who is not in what has been told by then, and whoever is missing is read by itself: of an id that left or
   came while its page was read the next probe tells.
"""

from collections.abc import Iterable, Sequence

from shared.models import AgentRow

from . import rows


class Gathering:
    """What has been read so far."""

    def __init__(self) -> None:
        self._rows: dict[int, AgentRow] = {}
        self._unreadable: set[int] = set()
        self._refused, self._refusal = 0, ""

    def put(self, decoded: rows.Decoded) -> None:
        """Rows that were read now."""
        come = {row.id: row for row in decoded.rows}
        self._rows |= come
        self._unreadable -= come.keys()
        self.forget(decoded.unreadable)
        self._unreadable.update(decoded.unreadable)
        self._refused += decoded.refused
        self._refusal = self._refusal or decoded.refusal

    def forget(self, ids: Iterable[int]) -> None:
        """Agents that are gone."""
        for number in ids:
            self._rows.pop(number, None)
            self._unreadable.discard(number)

    def missing(self, ids: Iterable[int]) -> list[int]:
        """Which of these ids were not read."""
        return [number for number in ids if number not in self._rows and number not in self._unreadable]

    def decoded(self, ids: Sequence[int]) -> rows.Decoded:
        """All of these ids that there are, in their order."""
        found = tuple(self._rows[number] for number in ids if number in self._rows)
        unreadable = tuple(number for number in ids if number in self._unreadable)
        return rows.Decoded(found, unreadable, self._refused, self._refusal)
