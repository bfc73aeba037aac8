"""What the oracles of `tests.truth` look at: a history that was played, what the sources showed of it, and what was told."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.truth.collectors import Log, Version
from tests.truth.contacts import Stay
from tests.truth.hearing import Hearing
from tests.truth.notices import Subject, Told
from tests.world.config import Fact
from tests.world.model import World
from tests.world.oracle import Expected

STATUSES = ("connected", "disconnected", "pending", "registered", "removed")
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scene:
    """Times in world seconds. `told`: everything, in order of time; of a manager under the subject (0, node)."""

    world: World
    log: Log
    hearing: Hearing
    stays: Mapping[Subject, Sequence[Stay]]
    facts: Mapping[Subject, Sequence[Fact]]
    expected: Mapping[Subject, Sequence[Expected]]
    told: Mapping[Subject, Sequence[Told]]
    learnt: Mapping[str, float]  # node -> seconds between keepalives as its collector learnt them
    began: float  # the baseline is over
    until: float
    grace: float
    behind: float  # seconds by which the slowest source is behind
    wrong: Mapping[str, Sequence[Span]]  # node -> when its clock was off
    away: Sequence[Span]  # when the relay did not tick

    def versions(self, node: str, agent: Subject, begin: float, end: float = float("inf")) -> Sequence[Version]:
        """The row's versions that stood at some time of that span, as the looks saw them."""
        rows = self.log.rows.get((node, agent[0]), [])
        first = max(0, bisect_right(rows, begin, key=lambda version: version.look) - 1)
        return rows[first : bisect_right(rows, end, key=lambda version: version.look)]

    def names_itself(self, node: str, agent: Subject, begin: float, end: float) -> bool:
        """Whether the row on the agent's own manager said so all the while: on the master a worker's late sync may name that worker
        for good, as the master's remoted names itself only with an agent's first keepalive (wazuh/wazuh#24401)."""
        return all(one.row is not None and one.row.node_name in (node, None) for one in self.versions(node, agent, begin, end))

    def statuses(self, agent: Subject, begin: float, end: float) -> Sequence[Told]:
        """Changes of the status that were told in (begin, end]."""
        return [one for one in self.told.get(agent, ()) if one.kind in STATUSES and begin < one.at <= end]

    def reports_to(self, agent: Subject, at: float) -> str:
        """The manager that was told last before `at`, by a change of the status or a move."""
        told = [one.node for one in self.told.get(agent, ()) if one.at < at and (one.kind in STATUSES or one.kind == "moved")]
        settled = self.stays.get(agent, ())
        return told[-1] if told else settled[0].node if settled else ""

    def is_known(self, agent: Subject, at: float) -> bool:
        """Whether its registration was told by then, or it was there at the baseline."""
        told = any(one.kind == "registered" and one.at <= at for one in self.told.get(agent, ()))
        return told or any(fact.what == "registered" and fact.at < self.began for fact in self.facts.get(agent, ()))

    def is_settled(self, *nodes: str, begin: float, end: float) -> bool:
        """Whether these nodes could be heard and had the right time, no clock was being set, and the relay ticked or heard of
        something else."""
        clocks = any(begin <= until + 1300 and since <= end for node in nodes for since, until in self.wrong.get(node, ()))
        clocks = clocks or any(begin - 120 <= at <= end for spans in self.wrong.values() for span in spans for at in span)
        alone = len(self.hearing.nodes) == 1 and any(since <= end and until >= begin for since, until in self.away)
        return not clocks and not alone and all(self.hearing.is_heard(node, begin, end) for node in nodes)
