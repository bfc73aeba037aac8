"""The collector's part of a snapshot's trace: snapshot (read, spool), then publish, whose context travels in the header.

A beat says that nothing moved: it is not traced.
"""

from shared import trace
from shared.clock import Clock
from shared.trace import Context
from shared.tracing import Kind, Step, Tracing

from .spool import Item


class Traces:
    """Of one node. For two threads."""

    def __init__(self, tracing: Tracing, subject: str, clock: Clock) -> None:
        self._tracing, self._subject, self._clock = tracing, subject, clock
        self._last: tuple[tuple[int, int], Context] | None = None  # a snapshot is usually sent as soon as it is made

    def root(self, item: Item) -> Context:
        """The span of a snapshot, made in this life or in one before."""
        last = self._last
        if last is None or last[0] != item.order:
            span = trace.root(self._subject, item.boot, item.seq)
            last = self._last = item.order, span if item.kind == "beat" else self._tracing.sampled(span)
        return last[1]

    def header(self, item: Item) -> str:
        """What the relay goes on with."""
        return trace.step(self.root(item), "publish").header

    def made(self, item: Item, began: float, looked: float, composed: float) -> Context:
        """A snapshot lies ready: looked at from `began` to `looked`, put into the spool from `composed` to now (monotonic s)."""
        root, now = self.root(item), self._clock.monotonic()
        if root.sampled:
            self._tell("collector.snapshot", root, None, item, (began, now))
            self._tell("collector.read", trace.step(root, "read"), root, item, (began, looked))
            self._tell("collector.spool", trace.step(root, "spool"), root, item, (composed, now))
        return root

    def published(self, item: Item, began: float, failed: str = "") -> Context:
        """NATS has it, or will never take it; `began`: the first attempt."""
        root = self.root(item)
        if root.sampled:
            took = (began, self._clock.monotonic())
            self._tell("collector.publish", trace.step(root, "publish"), root, item, took, "producer", failed)
        return root

    def _tell(
        self,
        name: str,
        span: Context,
        parent: Context | None,
        item: Item,
        took: tuple[float, float],
        kind: Kind = "internal",
        failed: str = "",
    ) -> None:
        facts: dict[str, str | int] = {
            "wazuh.boot": item.boot,
            "wazuh.seq": item.seq,
            "wazuh.snapshot.kind": item.kind,
            "wazuh.snapshot.bytes": len(item.payload),
        }
        if kind == "producer":
            facts |= {"messaging.system": "nats", "messaging.operation.type": "publish", "messaging.destination.name": self._subject}
        self._tracing.tell(Step(name, span, parent, *took, kind, facts, failed=failed))
