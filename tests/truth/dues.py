"""By when what was shown must be told, by what it has to wait for. Times in world seconds.

registered, removed   nothing
connected             a sync's jitter, and until it shows where the agent is not quiet
stopped, silent       until every node that can be heard has told that the agent is not there, and a sync's jitter
reset                 the grace, until every node that can be heard has told all up to then, the manager itself among them
"""

from collections.abc import Mapping

from tests.truth.hearing import NEVER, Hearing

JITTER = 31.0  # seconds: of a sync (30), and whole seconds
QUIET = 1.5  # periods after which an agent is named as quiet
_SOON = 12.0  # seconds: a beat, and the delay of its message
_GRACE = 60.0
_PERIODS = 3


class Dues:
    """`learnt`: seconds between keepalives of each node, as its collector learnt them."""

    def __init__(self, hearing: Hearing, learnt: Mapping[str, float]) -> None:
        self._hearing, self._learnt = hearing, learnt

    def registered(self, seen: float) -> float:
        return seen + _SOON

    def connected(self, node: str, seen: float) -> float:
        return seen + JITTER + self.quiet(node) + _SOON

    def quiet(self, node: str) -> float:
        """Seconds of silence after which an agent is named as quiet."""
        return QUIET * self._learnt[node]

    def gone(self, at: float, seen: float) -> float:
        return max(seen, self.quiet_is_known(at)) + JITTER + _SOON

    def quiet_is_known(self, at: float) -> float:
        """When every node that can be heard has told that an agent, last heard of at `at`, is quiet there."""
        return self._hearing.all_known_at(at + QUIET * max(self._learnt.values()), quiet=True)

    def reset(self, node: str, seen: float) -> float:
        over = seen + max(_GRACE, _PERIODS * self._learnt[node])
        for last, heard in self._hearing.silences(node, self._hearing.stale - 5):
            if last + self._hearing.stale - 5 < self._hearing.all_known_at(over) and heard > over:
                over = heard + max(_GRACE, _PERIODS * self._learnt[node])  # the copies took its word back meanwhile
        return self._hearing.all_known_at(over) + _SOON if over < NEVER else NEVER
