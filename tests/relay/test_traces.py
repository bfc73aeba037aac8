"""The relay's spans: whose they are below, what is traced at all, and that deciding again is the same trace."""

from dataclasses import replace

from relay import decide
from relay.admit import Raw
from relay.events import Message
from relay.fleet import Heard, Input, Policy, Ticked
from relay.mind import Step
from relay.stored import Outgoing
from relay.traces import Traces
from shared import trace, tracing
from shared.trace import Context
from tests.clock import ManualClock
from tests.relay.lab import T0, Lab, row


class Noted:
    """Notes every step; samples as it is told."""

    on = True

    def __init__(self, sample: bool = True) -> None:
        self.sample = sample
        self.steps: list[tracing.Step] = []

    def sampled(self, span: Context) -> Context:
        return replace(span, sampled=self.sample)

    def tell(self, step: tracing.Step) -> None:
        self.steps.append(step)

    def close(self) -> None:
        pass


class Bench:
    """A fleet of one node past its baseline, and its traces."""

    def __init__(self, told: tracing.Tracing) -> None:
        self.lab = Lab(Policy(reset_grace=0))
        self.lab.node("one", "standalone")
        self.lab.full("one", [row(1, "active", T0, node="one")], T0)
        self.traces = Traces(told, "wazuh", ManualClock())

    def step(self, given: Input) -> Step:
        folded = self.lab.fleet.fold(given)
        return Step(decide.decide(self.lab.fleet, given, folded, "wazuh"), None, False, given, (1.0, 2.0))

    def went(self, kind: str = "delta") -> Heard:
        gone = row(1, "disconnected", T0, code=3, dt=T0 + 1, node="one")
        changes = {"rows": (gone,)} if kind == "delta" else {}
        snapshot = self.lab.speakers["one"].snapshot(kind, T0 + 2, **changes)  # type: ignore[arg-type]
        return Heard(99, (T0 + 2) * 1000, (T0 + 2) * 1000, snapshot)


def raw(header: str | None = None, subject: str = "wazuh.raw.one") -> Raw:
    return Raw(subject, {} if header is None else {"traceparent": header}, b"", 99, 0)


PARENT = trace.step(replace(trace.root("wazuh.raw.one", 1, 2), sampled=True), "publish")


def test_it_goes_on_below_what_the_collector_recorded() -> None:
    noted = Noted()
    bench = Bench(noted)
    step = bench.traces.carried(raw(PARENT.header), bench.step(bench.went()))
    assert bench.traces.decided(raw(PARENT.header), step, 0.5, {}) == PARENT.trace_id
    spans = {told.name: told for told in noted.steps}
    assert list(spans) == ["relay.receive", "relay.decide", "relay.record"]
    assert {told.span.trace_id for told in noted.steps} == {PARENT.trace_id}
    assert spans["relay.receive"].parent == PARENT
    assert spans["relay.decide"].parent == spans["relay.record"].parent == spans["relay.receive"].span
    assert step.traceparent == spans["relay.record"].span.header
    assert (spans["relay.receive"].began, spans["relay.receive"].ended, spans["relay.decide"].ended) == (0.5, 1.0, 2.0)


def test_what_no_collector_recorded_begins_here_under_the_same_trace_id() -> None:
    silent = replace(PARENT, sampled=False)
    for header in (silent.header, None, "nonsense\r\nWazuh-Kind: x"):
        noted = Noted()
        bench = Bench(noted)
        given = bench.went()
        step = bench.traces.carried(raw(header), bench.step(given))
        bench.traces.decided(raw(header), step, 0.5, {})
        assert noted.steps[0].parent is None
        assert noted.steps[0].span == replace(trace.root("wazuh.raw.one", given.snapshot.boot, given.snapshot.seq), sampled=True)
        assert "\n" not in step.traceparent


def test_a_relay_that_exports_nothing_passes_on_what_it_was_given() -> None:
    bench = Bench(tracing.OFF)
    assert bench.traces.carried(raw(PARENT.header), bench.step(bench.went())).traceparent == PARENT.header
    bench = Bench(tracing.OFF)
    passed = trace.parse(bench.traces.carried(raw("nonsense"), bench.step(bench.went())).traceparent)
    assert passed is not None
    assert not passed.sampled


def test_deciding_again_gives_the_same_header() -> None:
    again = [Bench(Noted()) for _ in range(2)]
    headers = {bench.traces.carried(raw(PARENT.header), bench.step(bench.went())).traceparent for bench in again}
    assert len(headers) == 1


def test_beats_and_ticks_that_led_to_nothing_and_what_is_decided_again_are_not_traced() -> None:
    noted = Noted()
    bench = Bench(noted)
    for given in (bench.went("beat"), Ticked(99, (T0 + 3) * 1000)):
        step = bench.traces.carried(raw(), bench.step(given))
        assert step.traceparent == ""
        bench.traces.decided(raw(), step, 0.5, {})
    step = bench.step(bench.went())
    bench.traces.decided(raw(PARENT.header), replace(step, muted=True), 0.5, {})
    assert noted.steps == []


def test_a_tick_that_told_something_has_links_to_the_snapshots_it_rests_on() -> None:
    noted = Noted()
    bench = Bench(noted)
    told = bench.step(bench.went())
    at = Ticked(99, (T0 + 3) * 1000)
    step = bench.traces.carried(raw(subject="wazuh.raw._tick"), replace(told, given=at, outcome="tick"))
    bench.traces.decided(raw(subject="wazuh.raw._tick"), step, 0.5, bench.lab.fleet.nodes)
    node = bench.lab.fleet.nodes["one"]
    assert list(noted.steps[0].links) == [trace.step(trace.root("wazuh.raw.one", node.boot, node.seq), "publish")]
    assert noted.steps[0].parent is None


def test_a_batch_of_many_inputs_is_in_the_trace_of_each() -> None:
    noted = Noted()
    other = trace.step(replace(trace.root("wazuh.raw.two", 1, 2), sampled=True), "publish")
    headers = [PARENT.header, PARENT.header, other.header, replace(other, sampled=False).header, ""]
    batch = [Outgoing(n, 1, Message("s", str(n), b"", {"traceparent": header})) for n, header in enumerate(headers, 1)]
    Traces(noted, "wazuh", ManualClock()).published(batch, (1.0, 2.0), 3.0)
    assert [(told.name, told.span.trace_id) for told in noted.steps] == [
        ("relay.seal", PARENT.trace_id), ("relay.publish", PARENT.trace_id),
        ("relay.seal", other.trace_id), ("relay.publish", other.trace_id),
    ]  # fmt: skip
    assert [told.attributes["messaging.batch.message_count"] for told in noted.steps] == [2, 2, 1, 1]
    Traces(tracing.OFF, "wazuh", ManualClock()).published(batch, (1.0, 2.0), 3.0)
