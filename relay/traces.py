"""The relay's part of a trace: receive, below it decide and record; below record, of each batch, seal and publish.

Rules
 * It goes on with what a collector recorded. What no collector did (it exports nothing, or a hold ripened at a tick) begins a
   trace here, with ids that are again made from facts: an input that is decided again is the same trace.
 * What travels in the header of every event is the span of the ledger's transaction, for that made it an event; where this
   relay exports nothing, it is what the collector sent.
 * A tick's trace has links to the last snapshots of the managers whose agents it tells of: they are what it was decided from.
 * Not traced: beats and ticks that led to nothing, and what is decided again for a ledger that was lost.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from shared import clock, subjects, trace
from shared.trace import Context
from shared.tracing import Kind, Step, Tracing, Value

from .admit import Raw
from .fleet import Heard, Node
from .stored import Outgoing

if TYPE_CHECKING:  # it comes to publish, which comes to here
    from . import mind

LINKS: Final = 16
NAMED: Final = 16  # event_ids that a span names


class Traces:
    """Of one relay."""

    def __init__(self, tracing: Tracing, prefix: str, watch: clock.Clock) -> None:
        self._tracing, self._prefix, self._clock = tracing, prefix, watch

    def carried(self, raw: Raw, step: "mind.Step") -> "mind.Step":
        """The step with what the headers of its messages are to say."""
        if not step.decision.messages:
            return step
        parent = trace.parse(raw.headers.get(trace.HEADER))
        if not self._tracing.on and parent is not None:
            return replace(step, traceparent=parent.header)
        return replace(step, traceparent=trace.step(self._receive(raw, step)[0], "record").header)

    def decided(self, raw: Raw, step: "mind.Step", began: float, nodes: Mapping[str, Node]) -> str:
        """An input that came at `began` (monotonic s) is recorded: the trace's id."""
        span, parent = self._receive(raw, step)
        if span.sampled and not step.muted:
            start, end = step.took
            links = [] if isinstance(step.given, Heard) else self._links(step, nodes)
            facts: dict[str, Value] = {"messaging.system": "nats", "messaging.operation.type": "process", **_input(step)}
            self._tell(
                "relay.receive", span, parent, (began, start), {**facts, "messaging.destination.name": raw.subject}, "consumer", links
            )
            self._tell("relay.decide", trace.step(span, "decide"), span, (start, end), _decision(step))
            self._tell("relay.record", trace.step(span, "record"), span, (end, self._clock.monotonic()), _decision(step))
        return span.trace_id

    def published(self, batch: Sequence[Outgoing], sealed: tuple[float, float], began: float) -> None:
        """The stream has acked a batch: sealed then, and sent from `began` to now (monotonic s)."""
        if not self._tracing.on:
            return
        now = self._clock.monotonic()
        for header, messages in _by_header(batch).items():
            parent = trace.parse(header)
            if parent is not None and parent.sampled:
                first, last = messages[0].sequence, messages[-1].sequence
                facts: dict[str, Value] = {
                    "messaging.system": "nats",
                    "messaging.operation.type": "publish",
                    "messaging.destination.name": messages[0].message.subject,
                    "messaging.batch.message_count": len(messages),
                    "wazuh.outbox.first": first,
                    "wazuh.outbox.last": last,
                }
                self._tell("relay.seal", trace.step(parent, f"seal {first}"), parent, sealed, facts)
                self._tell("relay.publish", trace.step(parent, f"publish {first}"), parent, (began, now), facts, "producer")

    def _receive(self, raw: Raw, step: "mind.Step") -> tuple[Context, Context | None]:
        """The first span here, and the one above it."""
        parent = trace.parse(raw.headers.get(trace.HEADER))
        if parent is not None and parent.sampled:
            return trace.step(parent, "receive"), parent
        given = step.given
        heard = given.snapshot if isinstance(given, Heard) else None
        own = trace.root(raw.subject, *((heard.boot, heard.seq) if heard else (0, given.position)))
        worth = bool(step.decision.messages) or (heard is not None and heard.kind != "beat")
        return (self._tracing.sampled(own) if worth else own), None

    def _links(self, step: "mind.Step", nodes: Mapping[str, Node]) -> list[Context]:
        named = dict.fromkeys(event.manager_node for event in step.decision.happened)
        found = (nodes[name] for name in named if name in nodes)
        roots = (trace.root(subjects.raw(self._prefix, node.node), node.boot, node.seq) for node in found)
        return [trace.step(root, "publish") for root in roots][:LINKS]

    def _tell(
        self,
        name: str,
        span: Context,
        parent: Context | None,
        took: tuple[float, float],
        facts: Mapping[str, Value],
        kind: Kind = "internal",
        links: Sequence[Context] = (),
    ) -> None:
        self._tracing.tell(Step(name, span, parent, *took, kind, facts, links))


def _input(step: "mind.Step") -> dict[str, Value]:
    given = step.given
    if not isinstance(given, Heard):
        return {"wazuh.raw.position": given.position, "wazuh.input": step.outcome}
    s = given.snapshot
    return {
        "wazuh.raw.position": given.position, "wazuh.input": s.kind, "wazuh.node": s.node, "wazuh.boot": s.boot, "wazuh.seq": s.seq,
        "wazuh.rows": len(s.rows),
    }  # fmt: skip


def _decision(step: "mind.Step") -> dict[str, Value]:
    decision = step.decision
    ids = [event.event_id for event in decision.happened[:NAMED]]
    return {
        "wazuh.raw.position": decision.position, "wazuh.events": len(decision.happened), "wazuh.messages": len(decision.messages),
        "wazuh.superseded": decision.superseded, "wazuh.refused": decision.refused or "", "wazuh.event_ids": " ".join(ids),
    }  # fmt: skip


def _by_header(batch: Iterable[Outgoing]) -> dict[str | None, list[Outgoing]]:
    found: dict[str | None, list[Outgoing]] = {}
    for out in batch:
        found.setdefault(out.message.headers.get(trace.HEADER), []).append(out)
    return found
