"""Which rows may speak for an agent, and whose is right: rules 1, 2, 3 and 5 of `relay.decide`. Pure.

A *claim* is a row that may speak. Its *contact* is when the agent was last heard of by that row, by the stream's clock.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from shared import models
from shared.models import AgentRow, KeyEntry

from .decided import Agent
from .fleet import Fleet, Node
from .tables import Table

TIE: Final = 1_000
"""ms: Wazuh writes whole seconds, so two contacts within one second cannot be told apart."""

NOBODY: Final = ("unknown", "undefined", "")
"""node_name before an agent's first keepalive (schema_global.sql), and of a node without a name (cluster_utils.c)."""


class Claim(NamedTuple):
    """A row that may speak for an agent. A tuple, for deciding makes one of each row that it looks at."""

    node: Node
    row: AgentRow
    contact: int  # Unix ms by the stream's clock
    seconds: int  # the same in Unix s by the node's clock
    mirror: bool
    frozen: bool  # alive, but named in `quiet`: no keepalive since `contact`
    stamped_at: int  # Unix ms by the stream's clock: the newest time that one write of it explains

    @property
    def alive(self) -> bool:
        """Whether it says that the agent is there."""
        return self.row.status in ("active", "pending")

    @property
    def stopped(self) -> bool:
        """Whether it says that the agent said goodbye."""
        return self.row.status == "disconnected" and self.row.code == models.CODE_STOPPED

    @property
    def stamped(self) -> bool:
        """Whether it rests on one time that was written in the row: a sync may stamp a fresh one on an agent that is dead
        (a mark that a cut link had kept; endpointPostV1AgentsSync.hpp), but only once."""
        return self.contact <= self.stamped_at + TIE

    @property
    def stamp(self) -> bool:
        """Whether it is no more than a sync's stamp on a copy: no proof of life."""
        return self.mirror and self.row.status == "active" and self.stamped

    @property
    def advances_at(self) -> int:
        """The stream time (Unix ms) at which a row that is not named as quiet has advanced beyond its stamp."""
        return self.stamped_at + 2 * TIE + models.quiet_after(self.node.period)

    @property
    def surely(self) -> int:
        """The contact (Unix ms by the stream's clock), or the earlier one that it may be where its node's clock was set back: for as
        long as that was, whoever was heard of before seems not quiet, and a list tells them younger than they are. What a row
        itself says came when it changed."""
        listed = min(self.contact, self.node.clock.earliest(self.seconds * 1000))
        return max(listed, min(self.contact, self.node.at(self.row.last_keepalive or 0)))

    @property
    def worker(self) -> bool:
        """Whether a worker says so."""
        return self.node.node_type == "worker"


# Rules 1, 3 and 5: who may speak ------------------------------------------------------------------------------------


class Voices(NamedTuple):
    """The claims that speak, silent mirrors left out, and the stream time (Unix ms) at which one more may."""

    claims: tuple[Claim, ...]
    again_at: int | None
    heard: tuple[Claim, ...] = ()  # all rows that count, those that do not speak too
    disputed: tuple[Claim, ...] = ()  # stops on a master's row that may be a worker's older word (`relay.races`)


def first_hand(node: Node, row: AgentRow) -> bool:
    """Rule 1: whether this row was written by the remoted that the agent reports to."""
    if node.node_type == "master" and row.node_name is not None:
        return row.node_name == node.node_name
    return True


def contact_seconds(node: Node, table: Table, row: AgentRow) -> int | None:
    """When the agent was last heard of, in Unix s by the node's clock; None: never.

    A stop is a contact: the agent said goodbye. An agent that lives and is not in `quiet` was heard of at most
    `quiet_after` before that list was taken, though its row was shipped when it last changed.
    """
    if row.status == "disconnected" and row.code == models.CODE_STOPPED and row.disconnection_time:
        return row.disconnection_time
    if row.last_keepalive is None or row.status not in ("active", "pending"):
        return row.last_keepalive
    if row.id in table.quiet:
        return max(table.quiet[row.id], row.last_keepalive)
    # The row may be gone by now, or be younger than the list that does not name it.
    if not node.proved or table.news is None or row.id in table.news:
        return row.last_keepalive
    return max(row.last_keepalive, _listed(node))


def _listed(node: Node) -> int:
    """Since when (Unix s by its clock) who lives there and is not named as quiet was heard of."""
    return (node.quiet_at - models.quiet_after(node.period)) // 1000


Contact = tuple[int, int]
"""When an agent was last heard of: Unix s by its node's clock, Unix ms by the stream's."""


def contacts(node: Node, table: Table, rows: Sequence[AgentRow | None]) -> Iterator[Contact | None]:
    """What `says` says of rows that are active, without a code that says why (`relay.refusals`), and not named as quiet; None of all
    others. Of many rows at a third of the cost."""
    news, listed = table.news if node.proved else None, _listed(node)
    proof, at = (listed, _since_list(node, listed)), node.clock.stream_time
    for row in rows:
        if row is None or row.status != "active" or row.code or row.last_keepalive is None or row.id in table.quiet:
            yield None
        elif news is None or row.id in news or row.last_keepalive >= listed:
            yield row.last_keepalive, at(row.last_keepalive * 1000)
        else:
            yield (listed, at(listed * 1000)) if listed == row.disconnection_time else proof


def voices(fleet: Fleet, number: int, agent: tuple[str, int]) -> Voices:
    """Who may speak for an agent of this name and date_add."""
    found = [
        claim
        for node in fleet.nodes.values()
        if (row := fleet.tables[node.node].rows.get(number)) is not None
        and (claim := says(fleet, node, row)) is not None
        and counts(fleet, claim, agent)
    ]
    found = [claim._replace(mirror=False) if _knocked_here(fleet, claim, found) else claim for claim in found]
    copies = [(claim, _copy(fleet, claim, found)) for claim in found if claim.mirror]
    mirrors = [claim for claim, again_at in copies if again_at == 0]
    own = [c for c in found if not c.mirror and not _silenced(c, mirrors, fleet.policy.sync_jitter) and not _echoes(c, found)]
    # An active row without a node was never written by a remoted, which names itself: a sync met an id that is used anew.
    nameless = [claim for claim, _ in copies if claim.row.node_name in NOBODY and claim.row.status != "active"]
    stops = (c for c in found if c.stopped and not c.worker and c.node.fresh and c not in mirrors)
    disputed = tuple(stop for stop in stops if not _echoes(stop, found) and not _is_anothers(stop))
    return Voices(tuple(own + mirrors or nameless), min((at for _, at in copies if at), default=None), tuple(found), disputed)


def of(fleet: Fleet, node: Node, number: int) -> Claim | None:
    """What a node's row says of an agent, whether it may speak or not; None where it was never in contact."""
    row = fleet.tables[node.node].rows.get(number)
    return None if row is None else says(fleet, node, row)


def decided_contact(fleet: Fleet, known: Agent) -> int | None:
    """The contact that was decided on, in Unix ms by the stream's clock."""
    if known.contact is None or known.witness is None or known.witness not in fleet.nodes:
        return None
    return fleet.nodes[known.witness].at(known.contact)


def reports_to(fleet: Fleet, claim: Claim) -> str:
    """The display name of the node that the agent reports to."""
    if not claim.mirror or claim.row.node_name is None or claim.row.node_name in NOBODY:
        return claim.node.node
    named = fleet.named(claim.row.node_name)
    return claim.row.node_name if named is None else named.node


def says(fleet: Fleet, node: Node, row: AgentRow) -> Claim | None:
    """What a row of a node says; None where the agent was never in contact."""
    table = fleet.tables[node.node]
    seconds = contact_seconds(node, table, row)
    if seconds is None:
        return None
    quiet = table.quiet.get(row.id)  # older than the row, where that came after it
    frozen = quiet is not None and row.status in ("active", "pending") and quiet >= (row.last_keepalive or 0)
    mirror, stamped_at = not first_hand(node, row), node.at(row.last_keepalive or 0)
    if mirror and row.id in table.woken:  # what it was written that nobody saw, but that the list does not name it any more
        stamped_at = max(stamped_at, node.clock.stream_time(table.woken[row.id]))
    return Claim(node, row, _contact(node, table, row, seconds), seconds, mirror, frozen, stamped_at)


def _contact(node: Node, table: Table, row: AgentRow, seconds: int) -> int:
    """A contact by the stream's clock. One that a list of who is quiet proves is as far from that list as it is by the node's clock,
    however that was set since; what was recorded goes by the clock of then."""
    if seconds in (row.last_keepalive, row.disconnection_time, table.quiet.get(row.id)):
        return node.at(seconds)
    return _since_list(node, seconds)


def _since_list(node: Node, seconds: int) -> int:
    return node.quiet_through - node.quiet_at + seconds * 1000


def counts(fleet: Fleet, claim: Claim, agent: tuple[str, int]) -> bool:
    """Whether a claim is of the agent of this name and date_add."""
    key = fleet.tables[claim.node.node].keys.get(claim.row.id) if claim.worker else None
    return is_of(fleet, claim.node, claim.row, key, claim.contact, agent)


def is_of(fleet: Fleet, node: Node, row: AgentRow, key: KeyEntry | None, contact: int, agent: tuple[str, int]) -> bool:
    """Rule 5: a worker keeps the old name on a reused id, and an old row of it; client.keys is never late by more than 9 s."""
    name, date_add = agent
    if node.node_type != "worker":
        return True
    held = key is not None and key.name == name and not key.removed if node.keys_state == "ok" else row.name == name
    return held and contact >= date_add * 1000 - fleet.policy.sync_jitter


def _knocked_here(fleet: Fleet, claim: Claim, found: Sequence[Claim]) -> bool:
    """Rule 1: whether the master's own remoted wrote a row that looks like a copy. A knock writes a time and leaves the node's name as
    it was; a worker's knock is synced without its time. So one that is newer than all that the worker has said up to then is the
    master's own."""
    original = fleet.named(claim.row.node_name) if claim.mirror and claim.row.status == "pending" and claim.row.node_name else None
    said = next((other for other in found if other.node is original), None)
    if original is None or said is None:
        return False
    knocked = claim.node.at(claim.row.last_keepalive or 0)
    return said.contact + TIE + abs(original.offset - claim.node.offset) < knocked <= original.as_of


def _copy(fleet: Fleet, claim: Claim, found: Sequence[Claim]) -> int | None:
    """Rule 3: 0 where a copy speaks, None where it does not, else the stream time (Unix ms) at which it may.

    It speaks while it is read and its original is not; or where it knows what the original, that has told all up to then,
    does not. The master's own restart (5) is no copy.
    """
    row = claim.row
    if not claim.node.fresh or row.node_name in NOBODY or (row.status == "disconnected" and row.code == models.CODE_RESET):
        return None
    original = fleet.named(row.node_name)
    if original is None or not original.fresh:
        return 0
    said = next((other for other in found if other.node is original), None)
    if said is None or claim.stopped:  # a stop may be the master's own: `relay.races`
        return None
    if not knows_more(fleet, claim, said):
        return None
    if row.status == "active" and claim.stamped:
        return None if claim.frozen else claim.advances_at
    # A keepalive alone shows in nothing but the next list of who is quiet.
    return 0 if min(original.as_of, original.quiet_through) >= claim.contact else claim.contact


def knows_more(fleet: Fleet, copy: Claim, said: Claim) -> bool:
    """Whether a copy is newer than what its original says by more than a sync and two clocks explain: the master's own remoted wrote
    it, which names itself only with the first keepalive."""
    return copy.contact > said.contact + lag(fleet, copy.node, said.node)


def lag(fleet: Fleet, copy: Node, original: Node) -> int:
    """Milliseconds by which a copy may be newer than its original, for the sync stamps it and two clocks differ."""
    return fleet.policy.sync_jitter + abs(original.offset - copy.offset)


def _silenced(claim: Claim, mirrors: Sequence[Claim], sync_jitter: int) -> bool:
    """Rule 3: a node that cannot be heard, and for which a mirror speaks that knows as much: a stamp alone knows nothing."""
    if claim.node.fresh:
        return False
    copies = (mirror for mirror in mirrors if mirror.row.node_name == claim.node.node_name and not mirror.stamp)
    return any(mirror.contact >= claim.contact - sync_jitter for mirror in copies)


def _echoes(claim: Claim, found: Sequence[Claim]) -> bool:
    """A worker's stop, synced onto a master's row whose agent had come to the master meanwhile (wazuh/wazuh#24401)."""
    row = claim.row
    if claim.worker or not claim.stopped:
        return False
    return any(other.worker and (other.row.disconnection_time, other.row.code) == (row.disconnection_time, row.code) for other in found)


def _is_anothers(stop: Claim) -> bool:
    """Whether a stop was to come yet when its row was read: by a worker's clock, which is ahead of the master's."""
    return stop.contact > stop.node.as_of + 2 * TIE


# Rule 2: whose row is right -----------------------------------------------------------------------------------------


def owner(found: Sequence[Claim], sync_jitter: int) -> Claim | None:
    """The claim that is right: the newest contact, with a worker's before the master's within the jitter of a sync."""
    if not found:
        return None
    newest = max(claim.contact for claim in found)
    rivals = [claim for claim in found if claim.contact >= newest - TIE]
    if not any(claim.worker for claim in rivals):
        rivals = [c for c in found if c.worker and c.contact >= newest - sync_jitter and _outranks(c, rivals)] or rivals
    # Within a second nobody can say what was first: the living before the gone makes no false outage.
    return max(rivals, key=lambda claim: (claim.alive, claim.worker, claim.contact, claim.node.node))


def proves_life_at(found: Sequence[Claim], beyond: int, sync_jitter: int) -> int | None:
    """The stream time (Unix ms) at which a row may show that an agent lives, that was said to be gone at `beyond`: one that
    comes back to a row which was active all the while changes nothing there but its keepalives, and is named nowhere. Of a node
    that cannot be heard every row is looked at when it is heard again."""
    living = (claim for claim in found if claim.alive and not claim.frozen and claim.node.fresh)
    shown = ((_shows_at(claim, beyond, sync_jitter), claim.node.quiet_through) for claim in living)
    return min((at for at, told in shown if at > told), default=None)


def _shows_at(claim: Claim, beyond: int, sync_jitter: int) -> int:
    """The stream time (Unix ms) at which a list that does not name it as quiet proves a contact later than `beyond`."""
    later = beyond + TIE + (TIE if claim.worker else sync_jitter)
    return max(later + models.quiet_after(claim.node.period), claim.advances_at)


def lives_elsewhere(found: Sequence[Claim], gone: Claim) -> bool:
    """Whether another node, that was read after the agent is said to have gone, does not name it as quiet: it may be there."""
    return any(may_have(claim, gone) and claim.node.quiet_through >= gone.contact for claim in found)


def may_have(claim: Claim, gone: Claim) -> bool:
    """Whether a claim's node may have the agent that is said to have gone from another."""
    return claim.alive and not claim.frozen and not claim.mirror and claim.node is not gone.node and claim.node.fresh


def knocked_later(heard: Sequence[Claim], knock: Claim) -> bool:
    """Whether the agent knocked at the master after it did here: a worker's stop was synced over that, but for the time it left in
    last_keepalive (wazuh/wazuh#24401). A sync writes no such time on who is gone."""
    stops = (claim for claim in heard if claim.stopped and not claim.worker and claim.node.fresh and claim.node is not knock.node)
    return any(stop.node.at(stop.row.last_keepalive or 0) > knock.contact + TIE for stop in stops)


def known_at(claim: Claim, gone: Claim) -> int:
    """The stream time (Unix ms) by which its node has named the agent as quiet, or it is there."""
    return gone.contact + models.quiet_after(claim.node.period) + TIE


def _outranks(worker: Claim, masters: Sequence[Claim]) -> bool:
    """Whether a worker's row stands against the master's newer one: not once it alone is known to have fallen silent, and not
    against what the master's own remoted wrote (its node_name proves it) after the worker's agent left."""
    if worker.alive:
        return not worker.frozen or all(claim.frozen and claim.mirror for claim in masters)
    return not any(claim.row.node_name is not None and not claim.mirror and not may_have_said(worker, claim) for claim in masters)


def may_have_said(worker: Claim, stop: Claim) -> bool:
    """Whether a stop on a master's row may be a worker's older word (`relay.races`): by the worker's own clock, in which a copy
    is. What fell silent there since has not come back after it; and a newer word of it would be true."""
    return stop.stopped and not worker.frozen and stop.row.disconnection_time <= worker.seconds
