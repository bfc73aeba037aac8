"""Collectors without managers: signed snapshots of made-up fleets, put into RAW as fast as the server takes them.

A cluster is what Wazuh makes of it: each of its nodes has a row for every agent, the worker that an agent reports to has the true one,
the other workers a blank, and the master a copy.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client

from relay import admit
from shared import models, sealing, wire
from shared.clock import SystemClock
from shared.models import AgentRow, ConnectionStatus, KeyEntry, NodeType
from tests.relay.rig import PREFIX, Rig

CLOCK: Final = SystemClock()
PERIOD: Final = 10_000  # ms between keepalives
IN_FLIGHT: Final = 64  # messages that wait for their acks at once


@dataclass
class Voice:
    """One node's collector: numbers its snapshots and keeps the digest of its table, at the cost of what changes."""

    node: str
    node_type: NodeType
    rows: dict[int, AgentRow] = field(default_factory=dict)
    keys: tuple[KeyEntry, ...] = ()
    seq: int = 0
    digest: int = 0

    def full(self, rows: Iterable[AgentRow]) -> wire.Snapshot:
        """These rows and no other, all registered."""
        self.rows = {row.id: row for row in rows}
        self.digest = sum(map(models.row_digest, self.rows.values()))
        self.keys = tuple(KeyEntry(row.id, row.name, "any", removed=False) for row in self.rows.values())
        return self._snapshot("full", tuple(self.rows.values()), self.keys, ())

    def again(self) -> wire.Snapshot:
        """A periodic full: all who live have kept alive once more, and nobody is quiet."""
        self.rows = {
            number: row._replace(last_keepalive=row.last_keepalive and row.last_keepalive + 1) for number, row in self.rows.items()
        }
        return self._snapshot("full", tuple(self.rows.values()), self.keys, ())

    def delta(self, rows: Sequence[AgentRow]) -> wire.Snapshot:
        """What changed."""
        for row in rows:
            self.digest += models.row_digest(row) - models.row_digest(self.rows[row.id])
            self.rows[row.id] = row
        return self._snapshot("delta", tuple(rows), ())

    def beat(self) -> wire.Snapshot:
        """Nothing moved, and nobody is quiet."""
        return self._snapshot("beat", (), (), ())

    def _snapshot(
        self, kind: wire.Kind, rows: tuple[AgentRow, ...], keys: tuple[KeyEntry, ...], quiet: tuple[tuple[int, int], ...] | None = None
    ) -> wire.Snapshot:
        self.seq += 1
        now = CLOCK.now_ms()
        return wire.Snapshot(
            cluster="bench",
            node=self.node,
            node_name=self.node,
            node_type=self.node_type,
            boot=1,
            seq=self.seq,
            kind=kind,
            taken_at=now,
            as_of=now,
            late=0,
            source="socket",
            source_state="ok",
            source_error="",
            db_version=7,
            rows=rows,
            gone=(),
            keys=keys,
            keys_gone=(),
            keys_state="ok",
            quiet=quiet,
            period=PERIOD,
            count=len(self.rows),
            digest=self.digest % models.DIGEST_MODULUS,
            gap=False,
        )


def row(number: int, status: ConnectionStatus, seen: int | None, *, node: str, code: int = 0, gone_at: int = 0, added: int = 0) -> AgentRow:
    """An agent's row; times in Unix seconds."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return AgentRow(number, f"agent-{number}", address, status, code, gone_at, seen, added, node)


class Cluster:
    """`agents` active agents, spread over `nodes` nodes: the first is the master. One node is a standalone manager."""

    def __init__(self, nodes: int, agents: int) -> None:
        self.moment = CLOCK.now_ms() // 1000  # Unix seconds: when its agents were heard last
        kinds: Iterator[NodeType] = iter(("standalone",) if nodes == 1 else ("master", *["worker"] * (nodes - 1)))  # type: ignore[arg-type]
        self.voices = [Voice(f"node{number:02d}", kind) for number, kind in enumerate(kinds, start=1)]
        self.agents = agents

    def home(self, number: int) -> Voice:
        """The node that an agent reports to."""
        return self.voices[number % len(self.voices)]

    def fulls(self) -> Iterator[wire.Snapshot]:
        """The table of each node."""
        for voice in self.voices:
            yield voice.full(self._row(voice, number) for number in range(1, self.agents + 1))

    def _row(self, voice: Voice, number: int) -> AgentRow:
        home, added = self.home(number), self.moment - 100_000
        if voice is self.voices[0]:
            return row(number, "active", self.moment, node=home.node, added=added)
        if voice is home:
            return row(number, "active", self.moment, node=home.node)
        return row(number, "never_connected", None, node="unknown")

    def stop(self, numbers: Iterable[int], code: int = models.CODE_STOPPED) -> Iterator[wire.Snapshot]:
        """These agents are gone: a delta of each node that they report to."""
        self._pass()
        yield from self._deltas(
            row(n, "disconnected", self.moment, node=self.home(n).node, code=code, gone_at=self.moment, added=self._added(n))
            for n in numbers
        )

    def back(self, numbers: Iterable[int]) -> Iterator[wire.Snapshot]:
        """They are there again."""
        self._pass()
        yield from self._deltas(row(n, "active", self.moment, node=self.home(n).node, added=self._added(n)) for n in numbers)

    def copied(self, numbers: Sequence[int]) -> wire.Snapshot:
        """The master's copy of what its workers said of these agents."""
        master = self.voices[0]
        return master.delta([self.home(n).rows[n]._replace(date_add=master.rows[n].date_add) for n in numbers])

    def _pass(self) -> None:
        """Time goes on: Wazuh writes whole seconds, and a change is news if it is not older than the one before."""
        self.moment = max(self.moment, CLOCK.now_ms() // 1000)

    def _added(self, number: int) -> int:
        return self.home(number).rows[number].date_add

    def _deltas(self, rows: Iterable[AgentRow]) -> Iterator[wire.Snapshot]:
        changed: dict[str, list[AgentRow]] = {}
        for one in rows:
            changed.setdefault(self.home(one.id).node, []).append(one)
        for voice in self.voices:
            if voice.node in changed:
                yield voice.delta(changed[voice.node])


class Mouth:
    """Puts snapshots into RAW. Messages of one call are in order; call by call all are acked."""

    def __init__(self, rig: Rig, client: Client) -> None:
        self._rig, self._client = rig, client
        self._js = client.jetstream(publish_async_max_pending=IN_FLIGHT)

    async def say(self, snapshots: Iterable[wire.Snapshot]) -> None:
        """Publish them, each signed with its node's key."""
        for snapshot in snapshots:
            for message in self.signed(snapshot):
                await self._js.publish_async(message.subject, message.body, headers=dict(message.headers), wait_stall=60)
        await self._js.publish_async_completed()

    def signed(self, snapshot: wire.Snapshot) -> Iterator[admit.Raw]:
        """The messages of a snapshot."""
        yield from signed(snapshot, self._rig.signing.get(snapshot.node) or sealing.Key(self._rig.node_keys[snapshot.node]))


def signed(snapshot: wire.Snapshot, key: sealing.SigningKey) -> Iterator[admit.Raw]:
    """The messages of a snapshot; position and time are the stream's to give."""
    signer, subject = sealing.MessageSigner(key), f"{PREFIX}.raw.{snapshot.node}"
    for body in wire.split(wire.encode(snapshot), snapshot.node, snapshot.boot, snapshot.seq, snapshot.taken_at):
        yield admit.Raw(subject, {sealing.SIGNATURE_HEADER: signer.sign_header(subject, body, {})}, body, 0, 0)
