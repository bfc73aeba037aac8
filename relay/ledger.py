"""The relay's memory: what is decided, what is still to be published, and up to where in RAW both are true.

For one thread; nothing here is asynchronous. A call that raises `Unreachable` changed nothing that a second call would not
find: the caller calls again with the very same values.

Rules
 * What an input leads to is written in ONE transaction with its position. A position is taken once: `record`, `skip` and
   `quarantine` of a position that is already there do nothing.
 * The outbox has one sequence: one more with each message, never the same twice, no number left out. A message whose
   number is known to be in EVENTS (`mark_sent`) is not stored at all: a ledger that lost its last transactions in a power
   failure decides them again, to the same numbers.
 * Each message is tied to the one before it (`relay.chain`) in the same transaction. What EVENTS is known to end with is the end
   of the chain, whatever deciding again comes to.
 * Of a node, that is stored from which `tables.absorb` makes its tables again: one full snapshot and the deltas since. The
   table itself is written as the full where a payload does not say all of it, or where the deltas become many.
 * `restore` gives exactly the fleet that was there. Small facts are stored as they are, never computed again.
 * Only the relay that leads writes (`relay.lease`): who does not is told so by every method that writes and by `outbox`.

Not here: which database it is (`relay.database`), what a row looks like (`relay.stored`), what is decided (`relay.decide`).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Connection, Insert, Table, Update, bindparam, delete, func, insert, select, update
from sqlalchemy import Row as Found

from shared import crashpoints
from shared.errors import ConfigError, Quarantine, Unreachable

from . import fleet, migrations, outbox, recall, stored, tables
from .chain import Head
from .database import Database, Prepared, execute
from .decided import Agent, Decision, Ghost, Manager
from .fleet import Fleet, Node
from .lease import NAMELESS, Lease, Terms
from .refold import Refold
from .schema import AGENTS, GHOSTS, HISTORY, MANAGERS, META, NODES, OUTBOX, QUARANTINE, QUIET, SNAPSHOTS
from .shelf import Shelf
from .stored import Kept, Outgoing, Past

__all__ = ["Kept", "Ledger", "Outgoing", "Past", "Pruned"]

CROWDED: Final = 2_000
"""Snapshots of a node after which its table is written whole: what drains from a spool may be hours without a full."""

NO_QUIET: Final[stored.Quiet] = ({}, None, {}, None)
PRUNED: Final = 10_000  # rows that one `prune` deletes at most of a table: a fraction of a second

_META: Final = select(META)
_DONE: Final = update(META).where(META.c.position < bindparam("to")).values(position=bindparam("to"))
_MET: Final = update(AGENTS).where(AGENTS.c.agent_id == bindparam("id")).values(last_keepalive=bindparam("seen"), contact=bindparam("at"))
_DECIDED: Final = _DONE.values(
    outbox_sequence=META.c.outbox_sequence + bindparam("messages"),
    began_at=bindparam("began"),
    heard_at=bindparam("heard"),
    settled=bindparam("now_settled"),
)


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows a `prune` deleted."""

    history: int
    quarantine: int


@dataclass(slots=True)
class _Seen:
    """What was stored of one node, so that only changes are written."""

    number: int
    node: Node
    quiet: stored.Quiet = NO_QUIET
    snapshots: int = 0


class Ledger:
    """A ledger, open. All times are Unix milliseconds by the stream's clock."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self.lease = lease
        self._database = database
        # Forgotten with every error: nobody knows then whether the transaction was committed.
        self._seen: dict[str, _Seen] | None = None
        self._upsert_nodes = _whole_rows(database, database.upsert(NODES))
        self._upsert_quiet = _whole_rows(database, database.upsert(QUIET))
        self._upsert_agents = _whole_rows(database, database.upsert(AGENTS))
        self._update_contacts = database.prepare(_MET, ["seen", "at", "id"])
        self._upsert_ghosts = _whole_rows(database, database.upsert(GHOSTS))
        self._delete_ghosts = database.prepare(delete(GHOSTS).where(GHOSTS.c.agent_id == bindparam("agent_id")), ["agent_id"])
        self._upsert_managers = _whole_rows(database, database.upsert(MANAGERS))
        self._delete_agents = database.prepare(delete(AGENTS).where(AGENTS.c.agent_id == bindparam("agent_id")), ["agent_id"])
        self._insert_snapshots = _whole_rows(database, insert(SNAPSHOTS))
        self._insert_history = database.prepare(insert(HISTORY), HISTORY.c.keys()[1:])  # but its number, which counts by itself
        self._insert_outbox = _whole_rows(database, insert(OUTBOX))
        self.shelf = Shelf(database.read, self._write)
        self._fresh = outbox.Fresh()  # forgotten with every error too

    @classmethod
    def open(cls, url: str, *, read_only: bool = False, terms: Terms = NAMELESS) -> Self:
        """Open, make or migrate the ledger of `relay.ledger_url`. Read-only it takes no lock and changes nothing.

        One on SQLite leads from here on; on PostgreSQL it writes once `lease.take` said so, in the name of `terms`.

        Raises ConfigError where the URL is wrong, the directory or a permission is missing, another relay uses it, it is no
        ledger or a newer one; Unreachable where it does not answer now.
        """
        database = Database.open(url, read_only=read_only)
        try:
            (migrations.require if read_only else migrations.migrate)(database)
            lease = Lease(database, terms)
            if database.alone:
                lease.take()
            return cls(database, lease)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Let go of it and of the lease. Nothing is lost by not closing: a lease that is not given back runs out."""
        with suppress(Unreachable):
            self.lease.release()
        self._database.close()

    def check(self) -> None:
        """Raise Unreachable or ConfigError, with one sentence, if it cannot be written."""
        with self._write() as connection:
            connection.execute(update(META).values(position=META.c.position))

    # Where it stands ------------------------------------------------------------------------------------------------

    def position(self) -> int:
        """RAW sequence up to which everything is decided; 0: nothing yet."""
        return int(self._meta().position)

    def last_sequence(self) -> int:
        """The outbox sequence that was given out last; 0: none."""
        return int(self._meta().outbox_sequence)

    def sent_through(self) -> int:
        """The outbox sequence up to which everything is known to be in EVENTS."""
        return int(self._meta().sent_through)

    def outbox_depth(self) -> int:
        """How many messages wait to be published."""
        meta = self._meta()
        return max(0, int(meta.outbox_sequence) - int(meta.sent_through))

    def _meta(self) -> Found[Any]:
        with self._database.read() as connection:
            return connection.execute(_META).one()

    # What was decided -----------------------------------------------------------------------------------------------

    def restore(self, cluster: str, policy: fleet.Policy) -> Fleet:
        """The fleet exactly as it was after the last position. Raises ConfigError where what is stored cannot be read."""
        restored = Fleet(cluster, policy)
        with self._database.read() as connection, self._readable():
            meta = connection.execute(_META).one()
            restored.began_at, restored.heard_at, restored.settled = meta.began_at, meta.heard_at, meta.settled
            self.shelf.doubt()
            self._fresh.forget()
            self._seen = _seen(connection)
            again = Refold()
            for seen in self._seen.values():
                restored.nodes[seen.node.node] = seen.node
                restored.tables[seen.node.node] = recall.table(connection, seen.number, seen.quiet, again)
            restored.adopt(recall.agents(connection, list(restored.tables.values())))
            restored.ghosts = {ghost.id: ghost for ghost in map(stored.ghost_of, connection.execute(select(GHOSTS)))}
            restored.managers = {manager.node: manager for manager in map(stored.manager_of, connection.execute(select(MANAGERS)))}
        return restored

    def record(self, decision: Decision, view: Fleet, kept: Kept | None, *, muted: bool = False, traceparent: str = "") -> None:
        """Take over what an input led to; after `fleet.fold` and `decide`, before `fleet.settle`.

        `kept` is the input's snapshot; None for a tick. `traceparent` is one more header of each message. Muted, for a ledger
        that is made anew, it stores no messages. Raises Unreachable; the same call again is then right, whatever came of it.
        """
        crashpoints.here("relay.before_record")
        messages = () if muted else decision.messages
        taken = {
            "to": decision.position,
            "messages": len(messages),
            "began": view.began_at,
            "heard": view.heard_at,
            "now_settled": decision.settled,
        }
        with self._write() as connection:
            meta = _moved(connection, _DECIDED, taken)
            if meta is not None:
                self._record_view(connection, view, kept if decision.refused is None else None)
                execute(connection, self._delete_agents, ((number,) for number in decision.removed))
                execute(connection, self._upsert_agents, map(stored.agent_row, decision.agents))
                execute(connection, self._update_contacts, map(stored.contact_row, decision.met))
                execute(connection, self._delete_ghosts, ((number,) for number in decision.laid))
                execute(connection, self._upsert_ghosts, map(stored.ghost_row, decision.ghosts))
                execute(connection, self._upsert_managers, map(stored.manager_row, decision.managers))
                execute(connection, self._insert_history, stored.history_rows(decision, muted=muted))
                self._fresh.add(outbox.put(connection, self._insert_outbox, meta, messages, decision.position, traceparent))
        crashpoints.here("relay.after_record")

    def skip(self, position: int) -> None:
        """A message that needs no decision is done with."""
        with self._write() as connection:
            _moved(connection, _DONE, {"to": position})

    def quarantine(
        self, position: int, now: int, subject: str, reason: str, sentence: str, headers: Mapping[str, str], payload: bytes
    ) -> None:
        """Keep a message that cannot be accepted, and be done with it."""
        with self._write() as connection:
            if _moved(connection, _DONE, {"to": position}) is not None:
                self.shelf.put(connection, position, now, subject, reason, sentence, headers, payload)

    # What is to be published ----------------------------------------------------------------------------------------

    def outbox(self, limit: int, after: int = 0) -> list[Outgoing]:
        """The first messages behind a sequence that are not known to be in EVENTS, in order. Raises Superseded: another relay
        publishes them."""
        fresh = self._fresh.after(after, limit)
        if fresh and self.lease.alone:
            return fresh
        with self._database.read() as connection:
            self.lease.check(connection)
            return fresh or outbox.waiting(connection, after, limit)

    def mark_sent(self, sequence: int, head: Head | None = None) -> None:
        """All messages up to and including this one are in EVENTS: also those that this ledger will give out only later,
        when it decides again what a power failure took from it; `head` is the chain up to there, as EVENTS has it then."""
        self._advance(sequence, META.c.outbox_sequence, head)

    def head(self) -> Head | None:
        """The chain up to the last message that is known to be in EVENTS; None where none has begun by then."""
        with self._database.read() as connection:
            return outbox.head(connection)

    def confirm_sent(self, sequence: int, message_id: str | None) -> int | None:
        """EVENTS ends with this message: mark it and all before it as sent. The sequence up to which that was known before;
        None where the message is not this ledger's."""
        with self._write() as connection:
            known = int(connection.execute(select(META.c.sent_through)).scalar_one())
            found = connection.scalar(select(OUTBOX.c.message_id).where(OUTBOX.c.sequence == sequence))
            if sequence > known and (found is None or found != message_id):
                return None
            outbox.advance(connection, sequence, META.c.outbox_sequence)
            self._fresh.forget(sequence)
            return known

    def start_sequence_at(self, sequence: int, head: Head | None = None) -> None:
        """For a ledger that is rebuilt: EVENTS holds all up to this sequence, the next message has the one after it, and is tied
        to `head`."""
        self._advance(sequence, outbox.at_least(META.c.outbox_sequence, sequence), head)

    def adopt_published(self, agents: Iterable[Agent], ghosts: Iterable[Ghost] = (), managers: Iterable[Manager] = ()) -> None:
        """For a new ledger: what EVENTS says was told last of these."""
        with self._write() as connection:
            execute(connection, self._upsert_agents, map(stored.agent_row, agents))
            execute(connection, self._upsert_ghosts, map(stored.ghost_row, ghosts))
            execute(connection, self._upsert_managers, map(stored.manager_row, managers))

    # For people -----------------------------------------------------------------------------------------------------

    def agents(self) -> Iterator[Agent]:
        """Every agent by id, as decided last. Nothing is held open between two of them."""
        after, page = -1, list[Agent]()
        while after < 0 or page:
            with self._database.read() as connection:
                found = recall.page(connection, after)
                page = stored.agents_of(found, [None] * len(found))
            yield from page
            after = page[-1].id if page else 0

    def history(self, agent_id: int | None, limit: int) -> list[Past]:
        """The last events of an agent, or of all, the newest first."""
        query = select(HISTORY).order_by(HISTORY.c.number.desc()).limit(limit)
        with self._database.read() as connection:
            return list(map(stored.past_of, connection.execute(query if agent_id is None else query.where(HISTORY.c.agent_id == agent_id))))

    def nodes(self) -> list[Node]:
        """Every node, in the order in which they were first heard."""
        with self._database.read() as connection, self._readable():
            return [seen.node for seen in _seen(connection).values()]

    def prune(self, now_ms: int, history_retention_ms: int, quarantine_retention_ms: int) -> Pruned:
        """Delete the oldest of what is older than its retention, PRUNED rows of each at most: call again while it gives any."""
        self.shelf.doubt()
        return Pruned(self._prune(HISTORY, now_ms - history_retention_ms), self._prune(QUARANTINE, now_ms - quarantine_retention_ms))

    # In a transaction -----------------------------------------------------------------------------------------------

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with self._database.write() as connection, self.lease.held(connection):
                yield connection
        except BaseException:
            self._seen = None
            self._fresh.forget()
            self.shelf.doubt()
            raise

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, KeyError, Quarantine) as error:
            raise ConfigError(
                f"what the ledger {self._database.where} holds of a node cannot be read; restore it, or move it away and the relay makes"
                " a new one from RAW and EVENTS"
            ) from error

    def _record_view(self, connection: Connection, view: Fleet, kept: Kept | None) -> None:
        """Write what changed of the nodes, and the snapshot that changed it."""
        if self._seen is None:
            with self._readable():
                self._seen = _seen(connection)
        for name in self._seen.keys() - view.nodes.keys():
            _forget(connection, name, self._seen.pop(name).number)
        changed = [node for name, node in view.nodes.items() if name not in self._seen or self._seen[name].node != node]
        for node in changed:
            seen = self._seen.setdefault(node.node, _Seen(1 + max((s.number for s in self._seen.values()), default=0), node))
            seen.node = node
        execute(connection, self._upsert_nodes, (stored.node_row(self._seen[node.node].number, node) for node in changed))
        if kept is not None:
            self._record_quiet(connection, self._seen[kept.node], view.tables[kept.node])
            self._record_snapshot(connection, self._seen[kept.node], view.tables[kept.node], kept)

    def _record_quiet(self, connection: Connection, seen: _Seen, table: tables.Table) -> None:
        quiet = (table.quiet, None if table.news is None else frozenset(table.news), dict(table.woken), table.digest)
        if seen.quiet != quiet:
            execute(connection, self._upsert_quiet, [(seen.number, stored.quiet_bytes(quiet))])
        seen.quiet = quiet

    def _record_snapshot(self, connection: Connection, seen: _Seen, table: tables.Table, kept: Kept) -> None:
        if kept.kind == "beat":
            return
        payload = _base(seen, table, kept)
        if payload is not None:
            connection.execute(delete(SNAPSHOTS).where(SNAPSHOTS.c.node_number == seen.number))
            seen.snapshots = 0
        kind = kept.kind if payload is None else "full"
        row = (seen.number, kept.position, kept.now, kept.sent_at, kind, kept.payload if payload is None else payload)
        execute(connection, self._insert_snapshots, [row])
        seen.snapshots += 1

    def _advance(self, sequence: int, last: ColumnElement[int], head: Head | None) -> None:
        with self._write() as connection:
            outbox.advance(connection, sequence, last, head)
            self._fresh.forget(sequence)

    def _prune(self, table: Table, before: int) -> int:
        oldest = select(table.c.number, table.c.now).order_by(table.c.number).limit(PRUNED).subquery()
        with self._write() as connection:
            last = connection.scalar(select(func.max(oldest.c.number)).where(oldest.c.now < before))
            return 0 if last is None else connection.execute(delete(table).where(table.c.number <= last, table.c.now < before)).rowcount


def _forget(connection: Connection, name: str, number: int) -> None:
    """A node left the fleet."""
    for column in (NODES.c.number, QUIET.c.node_number, SNAPSHOTS.c.node_number):
        connection.execute(delete(column.table).where(column == number))
    connection.execute(delete(MANAGERS).where(MANAGERS.c.node == stored.plain(name)))


def _whole_rows(database: Database, statement: Insert) -> Prepared:
    return database.prepare(statement, statement.table.c.keys())


def _moved(connection: Connection, statement: Update, values: Mapping[str, object]) -> Found[Any] | None:
    """Take a position; `meta` as it is then, or None where the position was taken before."""
    return connection.execute(_META).one() if connection.execute(statement, values).rowcount else None


def _seen(connection: Connection) -> dict[str, _Seen]:
    """What is stored of each node, in the order in which they were first heard."""
    quiet = {number: stored.quiet_of(packed) for number, packed in connection.execute(select(QUIET))}
    counted = select(SNAPSHOTS.c.node_number, func.count()).group_by(SNAPSHOTS.c.node_number)
    snapshots: dict[int, int] = dict(connection.execute(counted).all())
    found = connection.execute(select(NODES.c.number, NODES.c.facts).order_by(NODES.c.number))
    seen = (_Seen(number, stored.node_of(facts), quiet.get(number, NO_QUIET), snapshots.get(number, 0)) for number, facts in found)
    return {one.node.node: one for one in seen}


def _base(seen: _Seen, table: tables.Table, kept: Kept) -> bytes | None:
    """What takes the place of all that is stored of a node's table; None: this snapshot is one more.

    A full says all of it if its rows could be read and are the collector's (the digests agree), and no keys are held from
    before. Where it does not, or the deltas are many, the table itself does.
    """
    node = seen.node
    if kept.kind == "full" and node.source_state == "ok" and node.proved and (node.keys_state == "ok" or not table.keys):
        return kept.payload
    if (kept.kind == "full" or node.doubted or seen.snapshots >= CROWDED) and stored.fits(table):
        return stored.whole(node, table)
    return None
