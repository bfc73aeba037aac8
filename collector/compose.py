"""What is said after a look, and in which words. Pure.

Rules
 * The first snapshot of a boot that shows the table is a `full`, and so is the one that stands for what was given up
   (`gap`). News is a `delta`, also where a periodic full is due: a full may be dropped, news may not.
 * What nobody may miss goes through the spool: the first full, a gap's, every delta. Beats and periodic fulls are
   worth sending only while they are the newest.
 * A beat says that we live: at each poll_interval, and at once where the source was lost or came back.
 * `seq` grows by one with every snapshot made, sent or not, so that what was dropped shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.models import AgentRow, KeyEntry, KeysState, NodeType, SourceKind, SourceState
from shared.wire import Kind, Snapshot

from .mirror import NO_CHANGES, NO_KEY_CHANGES, Changes, KeyChanges


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: see `shared.wire.Snapshot`."""

    cluster: str
    node: str
    node_name: str
    node_type: NodeType


@dataclass(frozen=True, slots=True)
class Look:
    """What a look says whatever it found: see `shared.wire.Snapshot`."""

    taken_at: int
    as_of: int
    late: int
    source: SourceKind
    source_state: SourceState
    source_error: str
    db_version: int
    keys_state: KeysState
    quiet: tuple[tuple[int, int], ...] | None
    period: int
    count: int
    digest: int


@dataclass(frozen=True, slots=True)
class Saying:
    """One snapshot to make. `kept`: through the spool. `gap`: a full that stands for what was given up."""

    kind: Kind
    kept: bool
    gap: bool = False


BEAT: Final = Saying("beat", kept=False)
DELTA: Final = Saying("delta", kept=True)
FULL: Final = Saying("full", kept=False)
FIRST_FULL: Final = Saying("full", kept=True)
GAP_FULL: Final = Saying("full", kept=True, gap=True)


def sayings(*, whole: bool, first: bool, gap: bool, news: bool, full_due: bool, beat_due: bool) -> tuple[Saying, ...]:
    """What to say, in order. `whole`: the look showed the whole table; `first`: none of this boot did before; `gap`: one is
    owed; `beat_due`: also where the source was lost or came back."""
    if whole and gap:
        return (GAP_FULL,)
    if whole and first:
        return (FIRST_FULL,)
    said = ((DELTA,) if news else ()) + ((FULL,) if whole and full_due else ())
    return said or ((BEAT,) if beat_due else ())


class Composer:
    """Makes the snapshots of one boot."""

    def __init__(self, identity: Identity, boot: int) -> None:
        self._identity = identity
        self._boot = boot
        self._seq = 0

    def full(self, look: Look, rows: Sequence[AgentRow], keys: Sequence[KeyEntry], *, gap: bool = False) -> Snapshot:
        """The whole table and the whole of client.keys."""
        return self._compose("full", look, Changes(tuple(rows)), KeyChanges(tuple(keys)), gap=gap)

    def delta(self, look: Look, changes: Changes, keys: KeyChanges) -> Snapshot:
        """What changed."""
        return self._compose("delta", look, changes, keys)

    def beat(self, look: Look) -> Snapshot:
        """That nothing did."""
        return self._compose("beat", look, NO_CHANGES, NO_KEY_CHANGES)

    def _compose(self, kind: Kind, look: Look, changes: Changes, keys: KeyChanges, *, gap: bool = False) -> Snapshot:
        self._seq += 1
        who = self._identity
        return Snapshot(
            cluster=who.cluster,
            node=who.node,
            node_name=who.node_name,
            node_type=who.node_type,
            boot=self._boot,
            seq=self._seq,
            kind=kind,
            taken_at=look.taken_at,
            as_of=look.as_of,
            late=look.late,
            source=look.source,
            source_state=look.source_state,
            source_error=look.source_error,
            db_version=look.db_version,
            rows=changes.rows,
            gone=changes.gone,
            keys=keys.keys,
            keys_gone=keys.gone,
            keys_state=look.keys_state,
            quiet=look.quiet,
            period=look.period,
            count=look.count,
            digest=look.digest,
            gap=gap,
        )
